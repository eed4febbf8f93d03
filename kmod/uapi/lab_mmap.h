/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * What user space knows of /dev/lab_mmap: four pieces of memory, each at an offset
 * of the file and LAB_MMAP_PAGES pages long (the last: one page). The same offsets
 * serve mmap, pread, pwrite and the requests.
 */
#ifndef LAB_UAPI_MMAP_H
#define LAB_UAPI_MMAP_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define LAB_MMAP_PAGES		4

#define LAB_MMAP_FAULT		0x000000	/* page by page, when touched */
#define LAB_MMAP_PFN		0x100000	/* at once, by page frame numbers */
#define LAB_MMAP_VMALLOC	0x200000	/* at once, from vmalloc memory */
#define LAB_MMAP_INFO		0x300000	/* struct lab_mmap_info, read only */

struct lab_mmap_info {
	__u32 files;		/* open file descriptions */
	__u32 mappings;		/* mappings there are, of any process */
	__u32 opened;		/* mappings that came by fork or by a split, ever */
	__u32 closed;		/* mappings that went, ever */
	__u32 faults;		/* calls of the fault handler, ever */
	__u32 syncs;		/* msync and fsync, ever */
	__u64 sync_start;	/* the last one's first byte */
	__u64 sync_end;		/* and its last */
};

struct lab_mmap_range {
	__u64 offset;		/* in the file; EINVAL unless within one piece */
	__u32 len;		/* bytes; GET: room in, the message's length out */
	__u32 pad;		/* EINVAL unless 0 */
};

/* The bytes there become a message of the store. ENOSPC when it is full. */
#define LAB_MMAP_IOC_PUT	_IOW(0xc7, 1, struct lab_mmap_range)
/*
 * The oldest message goes there. EAGAIN when there is none, EMSGSIZE when it does
 * not fit (and stays). EPERM for the read-only page.
 */
#define LAB_MMAP_IOC_GET	_IOWR(0xc7, 2, struct lab_mmap_range)

/* What the read-only page holds, at one moment. */
#define LAB_MMAP_IOC_INFO	_IOR(0xc7, 3, struct lab_mmap_info)

#endif /* LAB_UAPI_MMAP_H */
