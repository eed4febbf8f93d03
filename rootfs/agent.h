/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The agent of chanlab: the guest's init, its actors and its helper, one static
 * program. Three kinds of processes run it:
 *
 *   supervisor  PID 1. One poll loop; makes no call that could block in a module
 *               under test. (supervisor.c, host.c, port.c, hello.c, peers.c, upcalls.c,
 *               waits.c, watch.c, boot.c)
 *   actor       forked by it, or a thread of such a process. Reads a program from
 *               its channel, runs it, writes the reply. Every system call is raw.
 *               (actor.c, program.c, operations.c, touch.c, reply.c, memory.c, guard.c,
 *               signals.c, seat.c, clock.c)
 *   helper      started by the kernel as /lab/helper; reports how it was started,
 *               then is an actor like the others. (helper.c)
 *
 * Compiled for another word size it is what an actor executes to go on as a process
 * of that size. What two programs share has the same layout in both: no long and no
 * pointer in wire.h, in struct slot and in struct shared. (become.c)
 *
 * A file's header says what others may use of it, and no file uses itself by a detour.
 */
#ifndef LAB_AGENT_H
#define LAB_AGENT_H

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "arch.h"
#include "wire.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PADDED(n) (((n) + 7) & ~(size_t)7)
#define READ(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define WRITE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)
#define NSEC 1000000000ull
#define MSEC 1000000ull
#define FOREVER UINT64_MAX

/*
 * An actor's control descriptors lie high, so that a scenario's first is 3, and
 * below 1024, the usual limit.
 */
#define MAILBOXES	12
#define FD_LOW		3
#define FD_CHANNEL	804			/* + 2 * number: requests; + 1: replies */
#define FD_MAIL		(FD_CHANNEL + 2 * ACTORS)	/* + 2 * box: in; + 1: out */
#define FD_SHARED	(FD_MAIL + 2 * MAILBOXES)
#define FD_HELPER	(FD_SHARED + 1)		/* a helper's connection */
#define FD_SPARE	(FD_HELPER + 1)
#define CONTROL_FDS	(FD_HELPER - FD_CHANNEL)	/* what a helper is given */
#define UPCALL_ADDRESS	"chanlab.upcalls"	/* in the abstract namespace */

#define BARRIERS	64

#endif
