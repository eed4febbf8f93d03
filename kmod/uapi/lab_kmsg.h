/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_kmsg: what it asks the module to print. All
 * structs have the same layout for 32-bit and 64-bit callers.
 */
#ifndef LAB_UAPI_KMSG_H
#define LAB_UAPI_KMSG_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* By which of the kernel's functions. Those with a level of their own take 0 to 7. */
enum lab_kmsg_how {
	LAB_KMSG_PR,			/* pr_emerg() … pr_info(), printk(KERN_DEBUG) */
	LAB_KMSG_DEV,			/* dev_emerg() …, on /dev/lab_kmsg's own device */
	LAB_KMSG_DEV_PLATFORM,		/* the same on a device that has no node */
	LAB_KMSG_ONCE,			/* pr_info_once() */
	LAB_KMSG_CONT,			/* all @times in one line, by pr_info() and pr_cont() */
	LAB_KMSG_PR_DEBUG,		/* pr_debug(): off until dynamic debug turns it on */
	LAB_KMSG_DEV_DEBUG,		/* dev_dbg(), likewise */
	LAB_KMSG_PR_RATELIMITED,	/* pr_info_ratelimited() */
	LAB_KMSG_DEV_RATELIMITED,	/* dev_info_ratelimited() */
	LAB_KMSG_OWN_LIMIT,		/* pr_info() under a limit that the module's parameters set */
};

struct lab_kmsg_print {
	__u64 text;		/* its address */
	__u32 len;		/* EMSGSIZE over LAB_KMSG_MAX_TEXT; a NUL ends the text too */
	__u32 level;		/* 0 emergency … 7 debug; EINVAL beyond */
	__u32 how;		/* enum lab_kmsg_how; EINVAL beyond */
	__u32 times;		/* EINVAL for 0 and over LAB_KMSG_MAX_TIMES */
	__u32 pause_ms;		/* between two lines; a signal ends it, and the call with EINTR */
	__u32 pad;		/* EINVAL unless 0 */
};

#define LAB_KMSG_MAX_TEXT 4096
#define LAB_KMSG_MAX_TIMES 1000

/* What begins a line that the module takes off the log and into the store. */
#define LAB_KMSG_INWARD "to lab_kmsg: "

#define LAB_KMSG_MAGIC 0xc9

#define LAB_KMSG_IOC_PRINT	_IOW(LAB_KMSG_MAGIC, 1, struct lab_kmsg_print)
/* Take all messages off the store and print each by pr_notice(); returns how many. */
#define LAB_KMSG_IOC_DRAIN	_IO(LAB_KMSG_MAGIC, 2)

#endif /* LAB_UAPI_KMSG_H */
