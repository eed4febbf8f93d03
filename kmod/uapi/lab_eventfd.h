/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* What user space knows of /dev/lab_eventfd. */
#ifndef LAB_UAPI_EVENTFD_H
#define LAB_UAPI_EVENTFD_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* Of one open file. */
struct lab_eventfd_info {
	__u64 told;	/* messages that were counted into its eventfd */
	__u64 rung;	/* what user space counted into its bell */
	__u64 lost;	/* messages of the bell's that the store had no room for */
};

/*
 * Both take a descriptor: EBADF when there is none, EINVAL when it is no eventfd,
 * EBUSY when the file has one already. -1 takes it back, ENOENT when there is none.
 */
#define LAB_EVENTFD_IOC_TELL	_IOW(0xc9, 1, __s32)	/* count each message into it */
#define LAB_EVENTFD_IOC_BELL	_IOW(0xc9, 2, __s32)	/* each count of it makes a message, a __u64 */

#define LAB_EVENTFD_IOC_INFO	_IOR(0xc9, 3, struct lab_eventfd_info)

#endif /* LAB_UAPI_EVENTFD_H */
