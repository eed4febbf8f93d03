/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* What user space knows of /dev/lab_fasync. */
#ifndef LAB_UAPI_FASYNC_H
#define LAB_UAPI_FASYNC_H

#include <linux/ioctl.h>

/*
 * Tell whoever asked for signals about something that is no message: the argument
 * is POLL_IN to POLL_HUP. EBADF unless open for writing, EINVAL for another number.
 */
#define LAB_FASYNC_IOC_TELL	_IO(0xc8, 1)

#endif /* LAB_UAPI_FASYNC_H */
