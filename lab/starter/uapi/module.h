/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* What programs know of /dev/@name@. */
#ifndef _UAPI_@NAME@_H
#define _UAPI_@NAME@_H

#include <linux/ioctl.h>
#include <linux/types.h>

#define @NAME@_MAX	128 /* bytes of a message */

struct @name@_stat {
	__u32 length; /* of the message that is there, or 0 */
	__u32 max;
};

#define @NAME@_IOC_STAT	_IOR('m', 0xa0, struct @name@_stat)

#endif
