/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* What user space knows of /dev/lab_poll and of /dev/lab_poll_ctl. */
#ifndef LAB_UAPI_POLL_H
#define LAB_UAPI_POLL_H

#include <linux/ioctl.h>

/* On /dev/lab_poll_ctl: as if the device were plugged out or in again. */
#define LAB_POLL_IOC_REMOVE	_IO(0xc6, 1)	/* ENODEV when it is out */
#define LAB_POLL_IOC_INSERT	_IO(0xc6, 2)	/* EEXIST when it is in */

#endif /* LAB_UAPI_POLL_H */
