/* SPDX-License-Identifier: GPL-2.0-only */
/* What may fault, and is survived. */
#ifndef LAB_GUARD_H
#define LAB_GUARD_H

#include "agent.h"

#include <setjmp.h>

#define SIGNAL_BIT(signo)	(1ul << ((signo) - 1))
#define ACCESS_FAULTS		(SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS))
#define CODE_FAULTS \
	(ACCESS_FAULTS | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGTRAP))

struct fault {
	int signal;
	int code;
	uint64_t address;
};

struct guard {
	unsigned int place;
	unsigned long mask[8 / sizeof(long)];	/* the scenario's */
	bool blocked;		/* some of the faults' signals are, and are not for now */
	bool faulted;
	struct fault *fault;	/* NULL: nothing is being done that may fault */
	sigjmp_buf back;
};

void guard_init(void);
bool guard_begin(struct guard *guard, uint32_t tid, unsigned long faults);
void guard_end(struct guard *guard);
bool guarded(struct guard *guard, void (*act)(void *what), void *what, struct fault *fault);
bool guard_fault(int signo, siginfo_t *info);

#endif
