// SPDX-License-Identifier: GPL-2.0-only
/*
 * An actor becomes a process of another word size: it executes this program as
 * another compiler made it, which takes over its channel and answers for it.
 */
#include "become.h"
#include "agent.h"
#include "memory.h"
#include "seat.h"
#include "signals.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

static void keep_control_fds(bool keep)
{
	int fd;

	for (fd = FD_CHANNEL; fd < FD_CHANNEL + CONTROL_FDS; fd++)
		raw3(__NR_fcntl, fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

/* Returns only when it fails: -errno. */
long become(const char *path)
{
	char name[16] = "";
	const char *const argv[] = { name, NULL };
	const char *const envp[] = { NULL };
	long ret;

	raw2(__NR_prctl, PR_GET_NAME, name);
	keep_control_fds(true);
	ret = raw3(__NR_execve, path, argv, envp);
	keep_control_fds(false);
	return ret;
}

/* Whoever else executes us has none of an actor's descriptors: they are closed then. */
bool was_actor(void)
{
	return fcntl(FD_SHARED, F_GETFD) >= 0;
}

static uint32_t own_number(void)
{
	const uint32_t pid = raw0(__NR_getpid);
	uint32_t i;

	for (i = 0; i < ACTORS && READ(shared->slots[i].pid) != pid; i++)
		;
	return i;
}

/* The result of OP_BECOME, whose program began in the other. */
static void answer(uint32_t number, uint32_t program)
{
	const struct {
		struct frame frame;
		struct reply reply;
		struct call_result result;
	} out = {
		.frame = { MAGIC, FRAME_DONE, sizeof(out.reply) + sizeof(out.result), program, 0, 0 },
		.reply = { .calls = 1 },
		.result = { .completed = 1 },
	};

	channel_write(number, &out, sizeof(out), NULL, 0);
}

/* The ids, capabilities, session and signal mask are those that it has already. */
bool be_again(struct actor *me, const char *name)
{
	uint32_t number, program;
	void *at;

	keep_control_fds(false);
	at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, FD_SHARED, 0);
	if (at == MAP_FAILED)
		return false;
	shared = at;
	number = own_number();
	if (number == ACTORS)
		return false;
	program = shared->slots[number].program;
	raw2(__NR_prctl, PR_SET_NAME, name);
	signals_init();
	actor_begin(me, number);
	me->slots = memory_slots();
	answer(number, program);
	return true;
}
