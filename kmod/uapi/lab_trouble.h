/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_trouble.h - the words that may be written to /dev/lab_trouble. Each makes one
 * kind of trouble, in the writer's own context unless said otherwise.
 */
#ifndef LAB_TROUBLE_H
#define LAB_TROUBLE_H

/* The kernel reports it; the write returns unless said otherwise. */
#define LAB_TROUBLE_WARN		"warn"
#define LAB_TROUBLE_WARN_ONCE		"warn_once"	/* reported the first time only */
#define LAB_TROUBLE_NULL		"null"		/* kills the writer */
#define LAB_TROUBLE_BUG			"bug"		/* kills the writer */
#define LAB_TROUBLE_NULL_KTHREAD	"null_kthread"	/* kills a kernel thread instead */
#define LAB_TROUBLE_REFCOUNT		"refcount"	/* one put too many, noticed */

/* The kernel is gone. */
#define LAB_TROUBLE_PANIC		"panic"
#define LAB_TROUBLE_NULL_TIMER		"null_timer"	/* soon after the write has returned */

/* A CPU is busy for ever; nothing but the end of the machine ends it. */
#define LAB_TROUBLE_LOOP		"loop"		/* others may run there */
#define LAB_TROUBLE_LOOP_ATOMIC		"loop_atomic"	/* only interrupts may */
#define LAB_TROUBLE_LOOP_IRQS_OFF	"loop_irqs_off"	/* nobody may */
#define LAB_TROUBLE_LOOP_EVERYWHERE	"loop_everywhere" /* all CPUs, interrupts off */
#define LAB_TROUBLE_SPIN_SELF		"spin_self"	/* takes a spinlock twice */

/* The writer sleeps for ever. */
#define LAB_TROUBLE_MUTEX_SELF		"mutex_self"	/* takes a mutex twice */
#define LAB_TROUBLE_LOCK_AB		"lock_ab"	/* takes A, waits for lock_ba to have B, takes B */
#define LAB_TROUBLE_LOCK_BA		"lock_ba"	/* and the reverse */
#define LAB_TROUBLE_SLEEP		"sleep"		/* until ready: a signal ends it (EINTR) */
#define LAB_TROUBLE_SLEEP_DEEP		"sleep_deep"	/* until ready: nothing else ends it */
#define LAB_TROUBLE_READY		"ready"		/* now it is ready, but nobody is woken */
#define LAB_TROUBLE_WAKE		"wake"		/* the remedy: wakes them */

/* A reference to the module is never put: it cannot be unloaded. */
#define LAB_TROUBLE_LEAK		"leak"
#define LAB_TROUBLE_UNLEAK		"unleak"	/* the remedy; EINVAL when nothing leaked */

/* The write, or the module's init, returns 1: neither success nor an error. */
#define LAB_TROUBLE_ONE			"one"

#endif /* LAB_TROUBLE_H */
