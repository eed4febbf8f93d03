/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_anon_inode, and of the files that come out of its
 * requests: they have no name in any directory.
 */
#ifndef LAB_UAPI_ANON_INODE_H
#define LAB_UAPI_ANON_INODE_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct lab_anon_info {
	__u32 messages;		/* open files that hold a message */
	__u32 watches;		/* open files that tell of messages */
};

/*
 * On the device. The first two return a new descriptor and take flags: O_CLOEXEC,
 * O_NONBLOCK, EINVAL for others. EMFILE when there is none left. Nothing is taken
 * where they fail.
 */
#define LAB_ANON_IOC_TAKE	_IOW(0xca, 1, __u32)	/* the oldest message; EAGAIN for none */
#define LAB_ANON_IOC_WATCH	_IOW(0xca, 2, __u32)	/* the messages that are put from now on */
#define LAB_ANON_IOC_INFO	_IOR(0xca, 3, struct lab_anon_info)

/* On a message's file. */
#define LAB_ANON_IOC_SIZE	_IOR(0xca, 16, __u32)
#define LAB_ANON_IOC_PUT	_IO(0xca, 17)		/* a copy into the store; ENOSPC */

#endif /* LAB_UAPI_ANON_INODE_H */
