// SPDX-License-Identifier: GPL-2.0-only
/*
 * QEMU 10.0 restores the registers of a loongarch CPU's timer, but does not set
 * the timer: what was to go off next never does, and as the kernel takes it for
 * set, nothing later does either. The kernel sets a CPU's timer anew, whatever it
 * takes for set, when the clock is moved past one that is due on that CPU: see
 * clock_was_set() in kernel/time/hrtimer.c. It leaves out the CPU that moved the
 * clock, so each does it once.
 */
#include "timers.h"
#include "agent.h"
#include "boot.h"

#ifdef ARCH_TIMERS_ARE_LOST

#include <sched.h>
#include <sys/timerfd.h>
#include <time.h>

#define CPUS_MAX	8
#define AHEAD	1000		/* seconds; no guest is frozen for that long after it was asked to be */

static int fds[CPUS_MAX];
static cpu_set_t all;

/* A CPU that is off has no timer. */
static bool move_to(size_t cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	return CPU_ISSET(cpu, &all) && !sched_setaffinity(0, sizeof(one), &one);
}

static void move_back(void)
{
	if (sched_setaffinity(0, sizeof(all), &all))
		die("cannot run on", "every CPU");
}

void timers_remember(void)
{
	struct itimerspec then = { 0 };
	struct timespec now;

	if (sched_getaffinity(0, sizeof(all), &all) || clock_gettime(CLOCK_REALTIME, &now))
		die("cannot ask for", "CPUs and clock");
	then.it_value.tv_sec = now.tv_sec + AHEAD;
	for (size_t cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (!move_to(cpu))
			continue;
		if (!fds[cpu])
			fds[cpu] = timerfd_create(CLOCK_REALTIME, TFD_CLOEXEC);
		if (fds[cpu] < 0 || timerfd_settime(fds[cpu], TFD_TIMER_ABSTIME, &then, NULL))
			die("cannot set", "a timer");
	}
	move_back();
}

void timers_set(void)
{
	struct timespec now;

	if (!CPU_COUNT(&all) || clock_gettime(CLOCK_REALTIME, &now))
		return;
	for (size_t cpu = 0; cpu < CPUS_MAX; cpu++) {
		if (!move_to(cpu))
			continue;
		now.tv_sec += 2 * AHEAD;
		if (clock_settime(CLOCK_REALTIME, &now))
			die("cannot set", "the clock");
	}
	move_back();
}

#else

void timers_remember(void)
{
}

void timers_set(void)
{
}

#endif
