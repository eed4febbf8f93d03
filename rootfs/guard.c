// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an actor does with its own instructions may fault, and it goes on: the
 * signal's handler jumps back to where that began.
 */
#include "guard.h"
#include "agent.h"

#include <string.h>

/* Who is just doing it, of all the threads of this process. */
static struct {
	uint32_t tid;
	struct guard *guard;
} guards[ACTORS];

void guard_init(void)
{
	memset(guards, 0, sizeof(guards));
}

/*
 * A fault while its signal is blocked would kill us, so that it is not until
 * guard_end(). One that is blocked and waits stays so: it is the scenario's.
 */
static void let_through(struct guard *guard, unsigned long faults)
{
	unsigned long signals[8 / sizeof(long)] = { 0 };
	unsigned long waiting[8 / sizeof(long)] = { 0 };

	raw4(__NR_rt_sigprocmask, SIG_BLOCK, NULL, guard->mask, 8);
	guard->blocked = guard->mask[0] & faults;
	if (!guard->blocked)
		return;
	raw2(__NR_rt_sigpending, waiting, 8);
	signals[0] = faults & ~waiting[0];
	raw4(__NR_rt_sigprocmask, SIG_UNBLOCK, signals, NULL, 8);
}

/* False when all places are taken, which they cannot be: there is one for each actor. */
bool guard_begin(struct guard *guard, uint32_t tid, unsigned long faults)
{
	uint32_t nobody = 0;

	guard->place = 0;
	while (guard->place < ACTORS &&
	       !__atomic_compare_exchange_n(&guards[guard->place].tid, &nobody, tid, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		nobody = 0;
		guard->place++;
	}
	if (guard->place == ACTORS)
		return false;
	guard->faulted = false;
	guard->fault = NULL;
	WRITE(guards[guard->place].guard, guard);
	let_through(guard, faults);
	return true;
}

void guard_end(struct guard *guard)
{
	WRITE(guards[guard->place].guard, NULL);
	WRITE(guards[guard->place].tid, 0);
	/* We came back from the handler's middle, where its signal is blocked. */
	if (guard->blocked || guard->faulted)
		raw4(__NR_rt_sigprocmask, SIG_SETMASK, guard->mask, NULL, 8);
}

/* False when it faulted, and then `fault` says how. */
bool guarded(struct guard *guard, void (*act)(void *what), void *what, struct fault *fault)
{
	fault->signal = 0;
	if (!sigsetjmp(guard->back, 0)) {
		WRITE(guard->fault, fault);
		act(what);
	}
	WRITE(guard->fault, NULL);
	return !fault->signal;
}

/* In the signal handler. False when it is nobody's doing; else it does not return. */
bool guard_fault(int signo, siginfo_t *info)
{
	const uint32_t tid = raw0(__NR_gettid);
	unsigned int i;

	if (info->si_code <= 0)
		return false;
	for (i = 0; i < ACTORS; i++) {
		struct guard *guard = READ(guards[i].guard);

		if (READ(guards[i].tid) != tid || !guard || !guard->fault)
			continue;
		guard->fault->signal = signo;
		guard->fault->code = info->si_code;
		guard->fault->address = (uintptr_t)info->si_addr;
		guard->faulted = true;
		siglongjmp(guard->back, 1);
	}
	return false;
}
