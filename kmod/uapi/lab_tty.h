/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/ttyLAB*, besides what every terminal does. All
 * structs have the same layout for 32-bit and 64-bit callers.
 */
#ifndef LAB_UAPI_TTY_H
#define LAB_UAPI_TTY_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* LAB_TTY_IOC_STATUS: what the driver was told, and what it holds. */
struct lab_tty_status {
	__u32 speed;		/* as termios said last */
	__u32 bits;		/* of a character: 5 to 8 */
	__u32 set;		/* how often termios was set since the line was opened */
	__u32 waiting;		/* bytes that were written and have not left */
	__u32 stopped;		/* 1: by ^S, or tcflow() */
	__u32 throttled;	/* 1: what is read has no room, the other end waits */
};

#define LAB_TTY_MAGIC 0xca

#define LAB_TTY_IOC_STATUS	_IOR(LAB_TTY_MAGIC, 1, struct lab_tty_status)
/*
 * The oldest message of the store arrives as if somebody had typed it; returns its
 * length. EAGAIN when there is none, ENOSPC (and it stays) when it does not fit.
 */
#define LAB_TTY_IOC_FEED	_IO(LAB_TTY_MAGIC, 2)

/* What a line holds of what was written to it. */
#define LAB_TTY_BUFFER 1024

#endif /* LAB_UAPI_TTY_H */
