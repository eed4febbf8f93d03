/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/* What user space knows of lab_chardev: two nodes of one cdev region. */
#ifndef LAB_UAPI_CHARDEV_H
#define LAB_UAPI_CHARDEV_H

/* /dev/lab_chardev: the store. One write is one message, of at most this size. */
#define LAB_CHARDEV_MAX_MESSAGE 65536

/* /dev/lab_chardev_mem: memory of this size, with positions. */
#define LAB_CHARDEV_MEM_SIZE 65536

#endif /* LAB_UAPI_CHARDEV_H */
