// SPDX-License-Identifier: GPL-2.0-only
/*
 * One program: as PID 1 it is init, executed by an actor it is that actor, started
 * by anybody else it is a helper.
 */
#include "agent.h"
#include "actor.h"
#include "become.h"
#include "boot.h"
#include "helper.h"
#include "supervisor.h"

#include <unistd.h>

int main(int argc, char **argv, char **envp)
{
	if (getpid() != 1 && was_actor()) {
		struct actor me;

		if (!be_again(&me, argc ? argv[0] : ""))
			return 1;
		actor_serve(&me);
	}
	if (getpid() != 1)
		return helper(argc, argv, envp);
	boot();
	supervise();
}
