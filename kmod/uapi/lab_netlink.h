/* SPDX-License-Identifier: GPL-2.0-only WITH Linux-syscall-note */
/*
 * lab_netlink.h - what user space says to lab_netlink: socket(AF_NETLINK, SOCK_RAW,
 * LAB_NETLINK_PROTOCOL) and messages of the types below, with NLM_F_REQUEST.
 */
#ifndef _UAPI_LAB_NETLINK_H
#define _UAPI_LAB_NETLINK_H

#include <linux/types.h>

/* The last one that there is (MAX_LINKS - 1), and nobody's in the kernel. */
#define LAB_NETLINK_PROTOCOL 31

/* The multicast group (a number for NETLINK_ADD_MEMBERSHIP), and its bit for nl_groups. */
#define LAB_NETLINK_GROUP_STORE 1
#define LAB_NETLINK_GROUP_STORE_BIT (1 << (LAB_NETLINK_GROUP_STORE - 1))

enum lab_netlink_type {
	LAB_NL_PUT = 0x10,	/* in: a message's bytes */
	LAB_NL_GET,		/* in: nothing; out: LAB_NL_MESSAGE */
	LAB_NL_MESSAGE,		/* out: a message's bytes */
	LAB_NL_STAT,		/* in: nothing; out: struct lab_nl_stat */
	LAB_NL_LIST,		/* with NLM_F_DUMP; out: many struct lab_nl_entry, then NLMSG_DONE */
	LAB_NL_CLEAR,		/* wants CAP_NET_ADMIN */
	LAB_NL_WATCH,		/* events to this socket alone, until it closes; EBUSY */
	LAB_NL_UNWATCH,		/* ENOENT when somebody else watches */
	LAB_NL_EVENT,		/* out: struct lab_nl_event, to the group and the watcher */
	LAB_NL_ECHO,		/* in: anything; out: the same */
};

struct lab_nl_stat {
	__u32 count;		/* messages in the store */
	__u32 depth;		/* how many it can hold */
	__u32 watcher;		/* the port that watches, 0 for none */
	__u32 lost;		/* events that the watcher had no room for */
};

struct lab_nl_entry {
	__u32 index;		/* 0 is the oldest */
	__u32 length;
};

enum lab_nl_what {
	LAB_NL_WHAT_PUT = 1,
	LAB_NL_WHAT_TAKEN,
	LAB_NL_WHAT_CLEARED,
};

struct lab_nl_event {
	__u32 what;		/* enum lab_nl_what */
	__u32 count;		/* messages in the store, when this was written */
};

#endif /* _UAPI_LAB_NETLINK_H */
