/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_input.h - the input device "lab_input", and /dev/lab_input, which stands for
 * the hardware behind it.
 */
#ifndef LAB_UAPI_INPUT_H
#define LAB_UAPI_INPUT_H

#include <linux/ioctl.h>
#include <linux/input.h>
#include <linux/types.h>

#define LAB_INPUT_VENDOR	0x1ab
#define LAB_INPUT_PRODUCT	0x2
#define LAB_INPUT_VERSION	0x3

/* The axis ABS_X. */
#define LAB_INPUT_ABS_MIN	-100
#define LAB_INPUT_ABS_MAX	1000
#define LAB_INPUT_ABS_FUZZ	8
#define LAB_INPUT_ABS_FLAT	16
#define LAB_INPUT_ABS_RES	12

/* Whoever opens the event node can be behind by less than so many events. */
#define LAB_INPUT_QUEUE		128
#define LAB_INPUT_HALF		64

/* Written to /dev/lab_input, one or several at once: what the hardware has seen. */
struct lab_input_event {
	__u64 stamp;	/* when, in ns of CLOCK_MONOTONIC; 0: now */
	__u16 type;
	__u16 code;
	__s32 value;
};

#define LAB_INPUT_MAX_EVENTS	256	/* in one write */

/* What the device was told by those who write to its event node. */
struct lab_input_status {
	__u32 told;	/* how often since this was last asked */
	__u16 type;	/* the last time */
	__u16 code;
	__s32 value;
};

#define LAB_INPUT_IOC_STATUS	_IOR('l', 0x70, struct lab_input_status)

/* Bits are told in words of the kernel's; all that are set here fit in the first. */
struct lab_input_word {
	unsigned long bits;
};

/* Requests of the event node that <linux/input.h> has with an array or a parameter. */
#define LAB_INPUT_EVIOCGREP		_IOC(_IOC_READ, 'E', 0x03, 2 * sizeof(__u32))
#define LAB_INPUT_EVIOCSREP		_IOC(_IOC_WRITE, 'E', 0x03, 2 * sizeof(__u32))
#define LAB_INPUT_EVIOCGKEYCODE		_IOC(_IOC_READ, 'E', 0x04, 2 * sizeof(__u32))
#define LAB_INPUT_EVIOCGNAME		EVIOCGNAME(64)
#define LAB_INPUT_EVIOCGNAME_SHORT	EVIOCGNAME(4)
#define LAB_INPUT_EVIOCGPHYS		EVIOCGPHYS(64)
#define LAB_INPUT_EVIOCGUNIQ		EVIOCGUNIQ(64)
#define LAB_INPUT_EVIOCGPROP		EVIOCGPROP(sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGKEY		EVIOCGKEY(sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGLED		EVIOCGLED(sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGSW		EVIOCGSW(sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGMTSLOTS		EVIOCGMTSLOTS(64)
#define LAB_INPUT_EVIOCGBIT		EVIOCGBIT(0, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGBIT_KEY		EVIOCGBIT(EV_KEY, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGBIT_REL		EVIOCGBIT(EV_REL, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGBIT_ABS		EVIOCGBIT(EV_ABS, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGBIT_LED		EVIOCGBIT(EV_LED, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGBIT_REP		EVIOCGBIT(EV_REP, sizeof(struct lab_input_word))
#define LAB_INPUT_EVIOCGABS_X		EVIOCGABS(ABS_X)
#define LAB_INPUT_EVIOCSABS_X		EVIOCSABS(ABS_X)

#endif /* LAB_UAPI_INPUT_H */
