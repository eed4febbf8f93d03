/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_upcall.h - what user space needs for /dev/lab_upcall: the kernel runs a
 * program of user space's.
 */
#ifndef LAB_UPCALL_H
#define LAB_UPCALL_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* How long the call waits. */
#define LAB_UPCALL_NO_WAIT	0	/* not at all: what becomes of it is not told */
#define LAB_UPCALL_WAIT_EXEC	1	/* until the program runs, or cannot be run */
#define LAB_UPCALL_WAIT_PROC	2	/* until it has ended */
/*
 * Or-ed to one of the two that wait: SIGKILL ends the waiting, the program goes on.
 * Without it nothing ends it.
 */
#define LAB_UPCALL_KILLABLE	4

/* What the module does in the new process, before the program: LAB_UPCALL_EXEC only. */
#define LAB_UPCALL_DROP		1	/* give up all capabilities, and become gid */
#define LAB_UPCALL_REFUSE	2	/* say no: the program is not run, EACCES */
/* Append the store's oldest message (which stays) to argv; EAGAIN when there is none. */
#define LAB_UPCALL_MESSAGE	4

#define LAB_UPCALL_ARGS		32	/* how many strings argv and envp hold at most */

struct lab_upcall {
	char path[128];		/* ends with a zero byte; an empty one runs nothing and succeeds */
	char argv[1024];	/* argc strings one after the other, each ends with a zero byte */
	char envp[1024];	/* envc strings likewise */
	__u32 argc;		/* at least 1 */
	__u32 envc;
	__u32 wait;
	__u32 flags;
	__u32 gid;		/* for LAB_UPCALL_DROP */
};

struct lab_upcall_counters {
	__u32 started;		/* how many LAB_UPCALL_EXEC (and store events) got as far as the kernel's call */
	__u32 inits;		/* how many new processes ran the module's init */
	__u32 cleanups;		/* how many are over and done with, as the kernel sees it */
	__u32 pending;		/* started - cleanups; each keeps the module loaded */
	__s32 retval;		/* of the last one cleaned up: -errno, or the wait status after WAIT_PROC */
	__u32 init_uid;		/* who the last new process was, as init saw it */
};

/*
 * Both return what the kernel's call returns: 0; after WAIT_PROC the program's wait
 * status (exit(3) is 3 << 8, SIGKILL is 9); ENOENT, EACCES, ENOEXEC and so on of the exec.
 * Before that: EPERM without CAP_SYS_ADMIN, EFAULT, EINVAL for strings that do not
 * end, argc 0, an unknown wait or flag, E2BIG for too many strings or too long a message.
 */

/*
 * By call_usermodehelper(): only LAB_UPCALL_WAIT_EXEC and LAB_UPCALL_WAIT_PROC. The
 * other modes may return while the kernel still needs the strings, and without a
 * cleanup nobody says when they may be freed. No flags but LAB_UPCALL_MESSAGE.
 */
#define LAB_UPCALL_CALL		_IOW('U', 1, struct lab_upcall)
/* By call_usermodehelper_setup() with init and cleanup, and call_usermodehelper_exec(). */
#define LAB_UPCALL_EXEC		_IOW('U', 2, struct lab_upcall)
#define LAB_UPCALL_COUNTERS	_IOR('U', 3, struct lab_upcall_counters)
/* Sleep until nothing is pending; EINTR, and EAGAIN with O_NONBLOCK. */
#define LAB_UPCALL_DRAIN	_IO('U', 4)

#endif /* LAB_UPCALL_H */
