/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_ioctl: a call of the module's own making. The
 * structs have the same layout for 32-bit and 64-bit callers, as they should. Only
 * the last two do not, as many old ones that cannot be changed any more.
 */
#ifndef LAB_UAPI_IOCTL_H
#define LAB_UAPI_IOCTL_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* LAB_IOC_SQUARE: @n goes in, its square comes out beside it. */
struct lab_square {
	__u32 n;
	__u32 pad;		/* not looked at, comes back as it was */
	__u64 square;
};

/* LAB_IOC_STATUS */
struct lab_status {
	__u32 count;		/* messages in the store */
	__u32 depth;		/* how many there may be */
	__u32 max_message;	/* bytes that this open file may put at once */
	__u32 files;		/* how many open files of the device there are */
};

/* LAB_IOC_PUT: the message lies elsewhere in the caller's memory. */
struct lab_put {
	__u64 data;		/* its address */
	__u32 len;
	__u32 flags;		/* none defined: EINVAL unless 0 */
};

/* LAB_IOC_GET */
struct lab_get {
	__u64 data;		/* in: where the message shall go */
	__u32 size;		/* in: room there */
	__u32 len;		/* out: the message's length, also with EMSGSIZE */
	__u32 flags;		/* none defined: EINVAL unless 0 */
	__u32 pad;		/* EINVAL unless 0 */
};

/*
 * LAB_IOC_SETUP, LAB_IOC_GET_SETUP: a struct that grows at its end. Its size is
 * part of the request's number, and the module takes all of them: what a shorter
 * (older) struct lacks is 0, what a longer (newer) one has beyond must be 0 on
 * the way in (E2BIG) and is 0 on the way out.
 */
struct lab_setup_v0 {
	__u32 max_message;	/* 0: as many as the store takes */
	__u32 flags;		/* none defined: EINVAL unless 0 */
};

struct lab_setup {
	__u32 max_message;
	__u32 flags;
	__u64 cookie;		/* the caller's own, kept with the open file */
};

/*
 * LAB_IOC_PEEK: longs and a pointer, which are half as wide in a 32-bit caller. So is
 * the struct, and by that its request has another number there.
 */
struct lab_peek {
	unsigned long index;	/* in: of the message, 0 is the oldest */
	void *data;		/* in: where it shall go */
	unsigned long size;	/* in: room there; out: its length, also with EMSGSIZE */
};

/*
 * LAB_IOC_TOTAL: the widths are fixed, but the padding is left to the compiler. i386
 * has none: there a __u64 may begin at any multiple of 4.
 */
struct lab_total {
	__u32 count;		/* messages in the store */
	__u64 bytes;		/* all of theirs */
};

#define LAB_IOC_MAGIC 0xc5

/* Drop all messages. EBADF when the file is not open for writing. */
#define LAB_IOC_CLEAR		_IO(LAB_IOC_MAGIC, 1)
/*
 * Wait until there are at least so many messages (the argument itself, not its
 * address) and return how many. EINVAL for 0 and for more than fit; EAGAIN with
 * O_NONBLOCK.
 */
#define LAB_IOC_WAIT		_IO(LAB_IOC_MAGIC, 2)
#define LAB_IOC_STATUS		_IOR(LAB_IOC_MAGIC, 3, struct lab_status)
/* EBADF when the file is not open for writing; EMSGSIZE; ENOSPC in a full store. */
#define LAB_IOC_PUT		_IOW(LAB_IOC_MAGIC, 4, struct lab_put)
/*
 * Take the oldest message; waits for one, or EAGAIN with O_NONBLOCK. EMSGSIZE and
 * EFAULT leave it in the store.
 */
#define LAB_IOC_GET		_IOWR(LAB_IOC_MAGIC, 5, struct lab_get)
#define LAB_IOC_SQUARE		_IOWR(LAB_IOC_MAGIC, 6, struct lab_square)
/* EPERM without CAP_SYS_ADMIN. Holds for this open file. */
#define LAB_IOC_SETUP		_IOW(LAB_IOC_MAGIC, 7, struct lab_setup)
#define LAB_IOC_SETUP_V0	_IOW(LAB_IOC_MAGIC, 7, struct lab_setup_v0)
#define LAB_IOC_GET_SETUP	_IOR(LAB_IOC_MAGIC, 8, struct lab_setup)
#define LAB_IOC_GET_SETUP_V0	_IOR(LAB_IOC_MAGIC, 8, struct lab_setup_v0)
/* Copy a message, which stays where it is. ENOENT when there are not that many; EMSGSIZE. */
#define LAB_IOC_PEEK		_IOWR(LAB_IOC_MAGIC, 9, struct lab_peek)
#define LAB_IOC_TOTAL		_IOR(LAB_IOC_MAGIC, 10, struct lab_total)

#endif /* LAB_UAPI_IOCTL_H */
