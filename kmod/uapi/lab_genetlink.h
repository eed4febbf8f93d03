/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_genetlink.h - the generic netlink family "lab": commands and attributes. Its
 * number is asked for by name (CTRL_CMD_GETFAMILY), and so is the number of its
 * multicast group.
 */
#ifndef _UAPI_LAB_GENETLINK_H
#define _UAPI_LAB_GENETLINK_H

#define LAB_GENL_NAME "lab"
#define LAB_GENL_VERSION 1
#define LAB_GENL_GROUP_STORE "store"

enum lab_genl_cmd {
	LAB_GENL_CMD_UNSPEC,
	LAB_GENL_CMD_LOOSE,	/* ECHO as old families validate: what is unknown is passed over */
	LAB_GENL_CMD_ECHO,	/* in: any LAB_GENL_TYPED_*; out: the same, made anew */
	LAB_GENL_CMD_PUT,	/* in: MESSAGE; the acknowledgement's cookie: how many were put */
	LAB_GENL_CMD_GET,	/* out: MESSAGE, LENGTH: the oldest is taken off */
	LAB_GENL_CMD_LIST,	/* a dump; in: INDEX to begin at; out: INDEX, LENGTH, MESSAGE (its head) */
	LAB_GENL_CMD_STAT,	/* out: COUNT, DEPTH */
	LAB_GENL_CMD_CLEAR,	/* wants CAP_NET_ADMIN */
	LAB_GENL_CMD_EVENT,	/* out, to the group: WHAT, COUNT */

	__LAB_GENL_CMD_MAX,
};
#define LAB_GENL_CMD_MAX (__LAB_GENL_CMD_MAX - 1)

/* Attributes of all the commands but LOOSE and ECHO. */
enum lab_genl_attr {
	LAB_GENL_A_UNSPEC,
	LAB_GENL_A_MESSAGE,	/* binary, at most LAB_GENL_MAX_MESSAGE */
	LAB_GENL_A_INDEX,	/* u32, 0 is the oldest */
	LAB_GENL_A_LENGTH,	/* u32, of the whole message */
	LAB_GENL_A_COUNT,	/* u32, messages in the store */
	LAB_GENL_A_DEPTH,	/* u32, how many it can hold */
	LAB_GENL_A_WHAT,	/* u32, enum lab_genl_what */

	__LAB_GENL_A_MAX,
};
#define LAB_GENL_A_MAX (__LAB_GENL_A_MAX - 1)

/* An attribute's length has 16 bits; longer messages need another door (GET: EMSGSIZE). */
#define LAB_GENL_MAX_MESSAGE 65000
/* How much of each message LIST shows. */
#define LAB_GENL_LIST_BYTES 512

enum lab_genl_what {
	LAB_GENL_WHAT_PUT = 1,
	LAB_GENL_WHAT_TAKEN,
	LAB_GENL_WHAT_CLEARED,
};

/* Attributes of LOOSE and ECHO: one of each kind. */
enum lab_genl_typed {
	LAB_GENL_TYPED_UNSPEC,
	LAB_GENL_TYPED_U8,	/* 1 to 100 */
	LAB_GENL_TYPED_U16,
	LAB_GENL_TYPED_U32,
	LAB_GENL_TYPED_U64,
	LAB_GENL_TYPED_S32,	/* -10 to 10 */
	LAB_GENL_TYPED_TEXT,	/* with its closing NUL, at most 15 before it; "no" is refused */
	LAB_GENL_TYPED_BYTES,	/* binary, at most 32 */
	LAB_GENL_TYPED_MAC,	/* binary, 6 exactly */
	LAB_GENL_TYPED_FLAG,	/* there or not */
	LAB_GENL_TYPED_BITS,	/* struct nla_bitfield32, of the bits 0 to 3 */
	LAB_GENL_TYPED_POINT,	/* nested: LAB_GENL_POINT_* */
	LAB_GENL_TYPED_POINTS,	/* nested: an array of points, numbered from 1 */
	LAB_GENL_TYPED_PAD,	/* out: aligns the 64-bit number */
	LAB_GENL_TYPED_REFUSED,	/* refused whenever it is there */

	__LAB_GENL_TYPED_MAX,
};
#define LAB_GENL_TYPED_MAX (__LAB_GENL_TYPED_MAX - 1)

enum lab_genl_point {
	LAB_GENL_POINT_UNSPEC,
	LAB_GENL_POINT_X,	/* s32, must be there */
	LAB_GENL_POINT_Y,	/* s32, must be there */
	LAB_GENL_POINT_NAME,	/* text, at most 7 and its NUL */

	__LAB_GENL_POINT_MAX,
};
#define LAB_GENL_POINT_MAX (__LAB_GENL_POINT_MAX - 1)

#endif /* _UAPI_LAB_GENETLINK_H */
