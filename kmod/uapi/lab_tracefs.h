/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_tracefs.
 */
#ifndef LAB_UAPI_TRACEFS_H
#define LAB_UAPI_TRACEFS_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LAB_TRACEFS_MAX_TEXT 64

/* LAB_TRACEFS_IOC_PRINTK */
struct lab_tracefs_text {
	char text[LAB_TRACEFS_MAX_TEXT];	/* EINVAL unless a NUL ends it */
};

#define LAB_TRACEFS_IOC_MAGIC 0xc9

/* trace_printk() of a text. */
#define LAB_TRACEFS_IOC_PRINTK	_IOW(LAB_TRACEFS_IOC_MAGIC, 1, struct lab_tracefs_text)
/*
 * So many lab_message events (the argument itself, not its address), of no length,
 * with nothing put into the store.
 */
#define LAB_TRACEFS_IOC_BURST	_IO(LAB_TRACEFS_IOC_MAGIC, 2)

#endif /* LAB_UAPI_TRACEFS_H */
