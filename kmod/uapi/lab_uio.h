/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_uio.h - the two maps of lab_uio: the registers of QEMU's edu device, and a page
 * of the driver's own.
 */
#ifndef LAB_UAPI_UIO_H
#define LAB_UAPI_UIO_H

#include <linux/types.h>

/* Registers of 32 bits: docs/specs/edu.rst of QEMU. */
#define LAB_EDU_ID		0x00
#define LAB_EDU_LIVENESS	0x04	/* reads as the complement of what was written */
#define LAB_EDU_FACTORIAL	0x08	/* of what was written, some time later */
#define LAB_EDU_STATUS		0x20
#define LAB_EDU_IRQ_STATUS	0x24	/* the bits that were raised and not acknowledged */
#define LAB_EDU_IRQ_RAISE	0x60
#define LAB_EDU_IRQ_ACK		0x64

#define LAB_EDU_SIZE		0x100000

#define LAB_EDU_STATUS_IRQ	0x80	/* raise 1 when a factorial is there */

/* Map 1, what the driver has done since it was bound; user space may write there too. */
struct lab_uio_mailbox {
	__u32 interrupts;	/* that were the device's */
	__u32 controls;		/* that were asked for by writing to the file */
	__u32 note;		/* not the driver's */
};

#endif /* LAB_UAPI_UIO_H */
