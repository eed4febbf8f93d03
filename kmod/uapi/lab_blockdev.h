/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_blockdev beside what it knows of every block
 * device, and of /dev/lab_blockdev_ctl. All structs have the same layout for 32-bit
 * and 64-bit callers.
 */
#ifndef LAB_UAPI_BLOCKDEV_H
#define LAB_UAPI_BLOCKDEV_H

#include <linux/blkpg.h>
#include <linux/ioctl.h>
#include <linux/types.h>

/* LAB_BLK_IOC_STATS: what has come to the driver since the device was inserted. */
struct lab_blk_stats {
	__u64 reads;		/* requests, of any size */
	__u64 writes;
	__u64 flushes;
	__u64 discards;
	__u64 zeroes;		/* requests to write zeroes, which bring no data */
	__u32 held;		/* how many wait for a release */
	__u32 pad;
};

/* LAB_BLK_IOC_FAIL: the next @times reads and writes fail as @how says. */
struct lab_blk_fail {
	__u32 times;
	__u32 how;
};

#define LAB_BLK_FAIL_IO		0	/* EIO */
#define LAB_BLK_FAIL_SPACE	1	/* ENOSPC */
#define LAB_BLK_FAIL_MEDIUM	2	/* ENODATA */

/* On /dev/lab_blockdev. All but STATS want CAP_SYS_ADMIN (EPERM). */
#define LAB_BLK_IOC_STATS	_IOR(0xcb, 1, struct lab_blk_stats)
#define LAB_BLK_IOC_FAIL	_IOW(0xcb, 2, struct lab_blk_fail)	/* EINVAL: no such @how */
#define LAB_BLK_IOC_HOLD	_IO(0xcb, 3)	/* reads and writes wait from now on ... */
#define LAB_BLK_IOC_RELEASE	_IO(0xcb, 4)	/* ... until now; done also by a removal */

/*
 * On /dev/lab_blockdev_ctl: as if the disk were plugged out or in again, with its data.
 * poll() tells of a request that is held (POLLIN): who made it may sleep before it has
 * come to the driver, since a worker of the kernel's brings it there.
 */
#define LAB_BLK_IOC_REMOVE	_IO(0xcb, 5)	/* ENODEV when it is out */
#define LAB_BLK_IOC_INSERT	_IO(0xcb, 6)	/* EEXIST when it is in */

/* The kernel's own request to add and delete partitions, for who knows only this header. */
#define LAB_BLKPG		BLKPG
#define LAB_BLKPG_ADD		BLKPG_ADD_PARTITION
#define LAB_BLKPG_DELETE	BLKPG_DEL_PARTITION

struct lab_blkpg {
	struct blkpg_ioctl_arg arg;
};

struct lab_blkpg_partition {
	struct blkpg_partition partition;
};

#endif /* LAB_UAPI_BLOCKDEV_H */
