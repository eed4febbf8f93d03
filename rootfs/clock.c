// SPDX-License-Identifier: GPL-2.0-only
/* What time it is, without a trace in errno: several actors may share one memory. */
#include "clock.h"
#include "agent.h"

#include <time.h>

uint64_t now_raw(int clock)
{
	struct timespec now;

	/* vDSO or system call, neither sets errno when it succeeds. */
	clock_gettime(clock, &now);
	return now.tv_sec * NSEC + now.tv_nsec;
}

void sleep_raw(uint64_t ns)
{
	struct timespec t = { .tv_sec = ns / NSEC, .tv_nsec = ns % NSEC };

	raw2(__NR_nanosleep, &t, NULL);
}

uint64_t now_ns(void)
{
	return now_raw(CLOCK_MONOTONIC);
}
