/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_signal_to_kthread.h - what user space needs for /dev/lab_signal_to_kthread:
 * a kernel thread that takes signals and tells what it took.
 */
#ifndef LAB_SIGNAL_TO_KTHREAD_H
#define LAB_SIGNAL_TO_KTHREAD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Which queue a signal came from. The private one is emptied first. */
#define LAB_SIG_PRIVATE	1	/* sent to the thread: tgkill(), rt_tgsigqueueinfo() */
#define LAB_SIG_SHARED	2	/* sent to the process: kill(), rt_sigqueueinfo() */

/*
 * What read() returns, whole ones only, in the order in which the thread took the
 * signals. For a kernel thread the kernel keeps no code, pid, uid and value: they
 * are 0, as with kill() by nobody. LAB_SIG_TAKE has them.
 */
struct lab_sig_record {
	__u32 number;		/* counts from 1 */
	__s32 signo;
	__s32 code;
	__s32 pid;
	__u32 uid;
	__s32 value;
	__u32 queue;		/* LAB_SIG_PRIVATE or LAB_SIG_SHARED */
};

struct lab_sig_state {
	__s32 pid;		/* whom to send the signals to; its only thread has the same id */
	__u32 held;		/* 1: it takes none at the moment */
	__u32 interrupted;	/* how often a signal ended its sleep */
	__u32 taken;		/* how many signals it took so far */
	__u32 lost;		/* how many of them nobody read in time */
	__u32 reserved;
	__u64 pending_private;	/* bit signo-1, like SigPnd in /proc/PID/status */
	__u64 pending_shared;	/* and ShdPnd */
};

#define LAB_SIG_STATE	_IOR('K', 1, struct lab_sig_state)

/*
 * Make the thread leave its signals pending, until the same open file releases it
 * or is closed. EBUSY: another one holds it. After the call no signal is taken.
 */
#define LAB_SIG_HOLD	_IO('K', 2)
/* EINVAL: this open file does not hold it (the module parameter `held` is released by anyone). */
#define LAB_SIG_RELEASE	_IO('K', 3)

/*
 * Take a signal of the caller's own, which should have blocked it, in the kernel:
 * one of those that the thread allows. number is 0. EAGAIN: none is pending.
 */
#define LAB_SIG_TAKE	_IOR('K', 4, struct lab_sig_record)

#endif /* LAB_SIGNAL_TO_KTHREAD_H */
