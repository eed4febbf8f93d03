/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_uio.h - the two maps of lab_uio: the registers of QEMU's edu device, and a page
 * of the driver's own.
 */
#ifndef LAB_UAPI_UIO_H
#define LAB_UAPI_UIO_H

#include <linux/swab.h>
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

/*
 * Values of registers. The device has the byte order of the target that QEMU was
 * built for, and one QEMU serves both of POWER's: little-endian ones see it swapped.
 */
#if defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define LAB_EDU_VALUE(value)	___constant_swab32(value)
#else
#define LAB_EDU_VALUE(value)	(value)
#endif

#define LAB_EDU_IDENT		LAB_EDU_VALUE(0x010000ed)
#define LAB_EDU_STATUS_IRQ	LAB_EDU_VALUE(0x80)	/* interrupt when a factorial is there */
#define LAB_EDU_IRQ_FACTORIAL	LAB_EDU_VALUE(0x01)	/* that one */
#define LAB_EDU_TEN		LAB_EDU_VALUE(10)
#define LAB_EDU_TEN_FACTORIAL	LAB_EDU_VALUE(3628800)

/* Map 1, what the driver has done since it was bound; user space may write there too. */
struct lab_uio_mailbox {
	__u32 interrupts;	/* that were the device's */
	__u32 controls;		/* that were asked for by writing to the file */
	__u32 note;		/* not the driver's */
};

#endif /* LAB_UAPI_UIO_H */
