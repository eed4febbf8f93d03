// SPDX-License-Identifier: GPL-2.0-only
/*
 * netlink.c - the netlink door: a protocol of its own, LAB_NETLINK_PROTOCOL, in the
 * initial network namespace. uapi/lab_netlink.h lists the messages.
 *
 * User space sees, from the netlink core: one NLMSG_ERROR for each request with
 * NLM_F_ACK or with an error, in the order of the requests in the datagram;
 * nothing at all for a message without NLM_F_REQUEST or NLM_F_ACK; EPERM for joining the
 * group, and for sending to another process, without CAP_NET_ADMIN; and ENOBUFS
 * once, on the next receive, for a member of the group that reads too slowly.
 *
 * A socket of this protocol pins the module: unloading gets EAGAIN until the last
 * is closed.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/capability.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/netlink.h>
#include <linux/notifier.h>
#include <linux/spinlock.h>
#include <net/net_namespace.h>
#include <net/netlink.h>
#include <net/sock.h>

#include "compat.h"
#include "lab_netlink.h"
#include "store.h"

static DEFINE_MUTEX(lab_nl_request_lock);
static struct sock *lab_nl_sock;

/* The one port that gets events by itself, and what it missed. */
static DEFINE_SPINLOCK(lab_nl_watch_lock);
static u32 lab_nl_watcher;
static u32 lab_nl_lost;

static struct sk_buff *lab_nl_build(u32 portid, u32 seq, u16 type, u16 flags, const void *payload,
				    size_t len)
{
	struct nlmsghdr *nlh;
	struct sk_buff *skb;

	skb = nlmsg_new(len, GFP_KERNEL);
	if (!skb)
		return NULL;

	nlh = nlmsg_put(skb, portid, seq, type, len, flags);
	if (!nlh) {
		nlmsg_free(skb);
		return NULL;
	}
	memcpy(nlmsg_data(nlh), payload, len);

	return skb;
}

/*
 * Answer a request: its sequence number, its sender. ENOBUFS: no memory; EAGAIN:
 * the sender's receive buffer is full (the kernel does not wait for it).
 */
static int lab_nl_reply(struct sk_buff *request, const struct nlmsghdr *nlh, u16 type,
			const void *payload, size_t len)
{
	u32 portid = NETLINK_CB(request).portid;
	struct sk_buff *skb;

	skb = lab_nl_build(portid, nlh->nlmsg_seq, type, 0, payload, len);
	if (!skb)
		return -ENOBUFS;

	return nlmsg_unicast(lab_nl_sock, skb, portid);
}

/* --- requests ------------------------------------------------------------------ */

static int lab_nl_put(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	int ret;

	ret = lab_store_put(nlmsg_data(nlh), nlmsg_len(nlh));
	if (ret == -EMSGSIZE)
		NL_SET_ERR_MSG_MOD(extack, "message over 64 KiB");
	else if (ret == -ENOSPC)
		NL_SET_ERR_MSG_MOD(extack, "the store is full");

	return ret;
}

/* The message stays lost when the answer cannot be delivered. */
static int lab_nl_get(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	struct lab_message *message;
	int ret;

	message = lab_store_take();
	if (!message) {
		NL_SET_ERR_MSG_MOD(extack, "the store is empty");
		return -EAGAIN;
	}

	ret = lab_nl_reply(skb, nlh, LAB_NL_MESSAGE, message->data, message->len);
	lab_message_free(message);

	return ret;
}

static int lab_nl_stat(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	struct lab_nl_stat stat = {
		.count = lab_store_count(),
		.depth = lab_store_depth(),
	};

	spin_lock(&lab_nl_watch_lock);
	stat.watcher = lab_nl_watcher;
	stat.lost = lab_nl_lost;
	spin_unlock(&lab_nl_watch_lock);

	return lab_nl_reply(skb, nlh, LAB_NL_STAT, &stat, sizeof(stat));
}

/* Called again for each buffer of user space's until it returns 0; args[0] is where it was. */
static int lab_nl_dump(struct sk_buff *skb, struct netlink_callback *cb)
{
	struct lab_nl_entry entry = { .index = cb->args[0] };
	struct nlmsghdr *nlh;
	ssize_t len;

	for (; entry.index < lab_store_count(); entry.index++) {
		len = lab_store_length(entry.index);
		if (len < 0)		/* taken since the loop looked: the list has ended */
			break;
		entry.length = len;

		nlh = nlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, LAB_NL_LIST,
				sizeof(entry), NLM_F_MULTI);
		if (!nlh)		/* the buffer is full: go on from here next time */
			break;
		memcpy(nlmsg_data(nlh), &entry, sizeof(entry));
	}
	cb->args[0] = entry.index;

	return skb->len;
}

static int lab_nl_list(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	struct netlink_dump_control control = {
		.dump = lab_nl_dump,
	};

	if ((nlh->nlmsg_flags & NLM_F_DUMP) != NLM_F_DUMP) {
		NL_SET_ERR_MSG_MOD(extack, "a list is asked for with NLM_F_DUMP");
		return -EOPNOTSUPP;
	}

	/* Answers from within the receivers' calls; -EINTR tells the core not to acknowledge. */
	return netlink_dump_start(lab_nl_sock, skb, nlh, &control);
}

static int lab_nl_clear(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	/* The sender's and the opener's: a socket that was handed on does not help. */
	if (!netlink_capable(skb, CAP_NET_ADMIN)) {
		NL_SET_ERR_MSG_MOD(extack, "clearing wants CAP_NET_ADMIN");
		return -EPERM;
	}
	lab_store_clear();

	return 0;
}

static int lab_nl_watch(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	int ret = 0;

	spin_lock(&lab_nl_watch_lock);
	if (lab_nl_watcher && lab_nl_watcher != NETLINK_CB(skb).portid) {
		NL_SET_ERR_MSG_MOD(extack, "another port watches");
		ret = -EBUSY;
	} else {
		lab_nl_watcher = NETLINK_CB(skb).portid;
		lab_nl_lost = 0;
	}
	spin_unlock(&lab_nl_watch_lock);

	return ret;
}

/* Whether @portid was the watcher. */
static bool lab_nl_forget(u32 portid)
{
	bool was;

	spin_lock(&lab_nl_watch_lock);
	was = lab_nl_watcher == portid;
	if (was)
		lab_nl_watcher = 0;
	spin_unlock(&lab_nl_watch_lock);

	return was;
}

static int lab_nl_unwatch(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	return lab_nl_forget(NETLINK_CB(skb).portid) ? 0 : -ENOENT;
}

static int lab_nl_echo(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	return lab_nl_reply(skb, nlh, LAB_NL_ECHO, nlmsg_data(nlh), nlmsg_len(nlh));
}

typedef int (*lab_nl_handler)(struct sk_buff *skb, struct nlmsghdr *nlh,
			      struct netlink_ext_ack *extack);

static const struct {
	lab_nl_handler handle;
	bool payload;		/* may have one */
} lab_nl_requests[] = {
	[LAB_NL_PUT - NLMSG_MIN_TYPE] = { .handle = lab_nl_put, .payload = true },
	[LAB_NL_GET - NLMSG_MIN_TYPE] = { .handle = lab_nl_get },
	[LAB_NL_STAT - NLMSG_MIN_TYPE] = { .handle = lab_nl_stat },
	[LAB_NL_LIST - NLMSG_MIN_TYPE] = { .handle = lab_nl_list },
	[LAB_NL_CLEAR - NLMSG_MIN_TYPE] = { .handle = lab_nl_clear },
	[LAB_NL_WATCH - NLMSG_MIN_TYPE] = { .handle = lab_nl_watch },
	[LAB_NL_UNWATCH - NLMSG_MIN_TYPE] = { .handle = lab_nl_unwatch },
	[LAB_NL_ECHO - NLMSG_MIN_TYPE] = { .handle = lab_nl_echo, .payload = true },
};

/* One message of a datagram; the core has checked its length and answers with what this returns. */
static int lab_nl_message(struct sk_buff *skb, struct nlmsghdr *nlh, struct netlink_ext_ack *extack)
{
	unsigned int request = nlh->nlmsg_type - NLMSG_MIN_TYPE;

	if (request >= ARRAY_SIZE(lab_nl_requests) || !lab_nl_requests[request].handle) {
		NL_SET_ERR_MSG_MOD(extack, "unknown message type");
		return -EOPNOTSUPP;
	}
	if (nlmsg_len(nlh) && !lab_nl_requests[request].payload) {
		NL_SET_ERR_MSG_MOD(extack, "this type takes no payload");
		return -EINVAL;
	}

	return lab_nl_requests[request].handle(skb, nlh, extack);
}

/*
 * Runs in the sender's sendmsg(). The mutex is for those who come while the module
 * is being loaded: netlink_kernel_create() lets them in before it has returned the
 * socket that they are answered by.
 */
static void lab_nl_input(struct sk_buff *skb)
{
	mutex_lock(&lab_nl_request_lock);
	netlink_rcv_skb(skb, lab_nl_message);
	mutex_unlock(&lab_nl_request_lock);
}

/* --- events ---------------------------------------------------------------------- */

static void lab_nl_tell_watcher(const struct lab_nl_event *event)
{
	struct sk_buff *skb;
	u32 portid;
	int ret;

	spin_lock(&lab_nl_watch_lock);
	portid = lab_nl_watcher;
	spin_unlock(&lab_nl_watch_lock);
	if (!portid)
		return;

	skb = lab_nl_build(0, 0, LAB_NL_EVENT, 0, event, sizeof(*event));
	ret = skb ? nlmsg_unicast(lab_nl_sock, skb, portid) : -ENOBUFS;
	if (!ret || ret == -ECONNREFUSED)	/* closing: NETLINK_URELEASE comes */
		return;

	spin_lock(&lab_nl_watch_lock);
	if (lab_nl_watcher == portid)
		lab_nl_lost++;
	spin_unlock(&lab_nl_watch_lock);
}

static void lab_nl_tell_group(const struct lab_nl_event *event)
{
	struct sk_buff *skb;
	int ret;

	if (!netlink_has_listeners(lab_nl_sock, LAB_NETLINK_GROUP_STORE))
		return;

	skb = lab_nl_build(0, 0, LAB_NL_EVENT, 0, event, sizeof(*event));
	if (!skb) {
		/* The members get ENOBUFS and so know that they missed something. */
		netlink_set_err(lab_nl_sock, 0, LAB_NETLINK_GROUP_STORE, -ENOBUFS);
		return;
	}

	/* A member without room gets ENOBUFS by the core; ESRCH: the last one just left. */
	ret = nlmsg_multicast(lab_nl_sock, skb, 0, LAB_NETLINK_GROUP_STORE, GFP_KERNEL);
	if (ret && ret != -ESRCH && ret != -ENOBUFS)
		pr_warn_ratelimited("event not sent: %d\n", ret);
}

static int lab_nl_store_changed(struct notifier_block *nb, unsigned long what, void *data)
{
	struct lab_nl_event event = { .count = lab_store_count() };

	switch (what) {
	case LAB_STORE_PUT:
		event.what = LAB_NL_WHAT_PUT;
		break;
	case LAB_STORE_TAKEN:
		event.what = LAB_NL_WHAT_TAKEN;
		break;
	case LAB_STORE_CLEARED:
		event.what = LAB_NL_WHAT_CLEARED;
		break;
	default:
		return NOTIFY_DONE;
	}
	lab_nl_tell_watcher(&event);
	lab_nl_tell_group(&event);

	return NOTIFY_OK;
}

static struct notifier_block lab_nl_store_nb = {
	.notifier_call = lab_nl_store_changed,
};

/* A socket has closed, by close() or because its process died: its port may be another's soon. */
static int lab_nl_released(struct notifier_block *nb, unsigned long event, void *data)
{
	const struct netlink_notify *notify = data;

	/* Ours is a socket of the first network namespace: in another one a port is somebody else's. */
	if (event == NETLINK_URELEASE && notify->protocol == LAB_NETLINK_PROTOCOL &&
	    net_eq(notify->net, &init_net))
		lab_nl_forget(notify->portid);

	return NOTIFY_DONE;
}

static struct notifier_block lab_nl_release_nb = {
	.notifier_call = lab_nl_released,
};

/* User space joins @group, counted from 1: the core knows 32 at least, ENOENT for all but ours. */
static int lab_nl_bind(struct net *net, int group)
{
	return group == LAB_NETLINK_GROUP_STORE ? 0 : -ENOENT;
}

static int __init lab_netlink_init(void)
{
	struct netlink_kernel_cfg config = {
		.groups = LAB_NETLINK_GROUP_STORE,
		.input = lab_nl_input,
		.bind = lab_nl_bind,
	};
	int ret;

	ret = netlink_register_notifier(&lab_nl_release_nb);
	if (ret)
		return ret;

	mutex_lock(&lab_nl_request_lock);
	lab_nl_sock = netlink_kernel_create(&init_net, LAB_NETLINK_PROTOCOL, &config);
	mutex_unlock(&lab_nl_request_lock);
	if (!lab_nl_sock) {
		ret = -ENOMEM;
		goto err_notifier;
	}

	ret = lab_store_notify_register(&lab_nl_store_nb);
	if (ret)
		goto err_socket;

	return 0;

err_socket:
	netlink_kernel_release(lab_nl_sock);
err_notifier:
	netlink_unregister_notifier(&lab_nl_release_nb);
	return ret;
}

static void __exit lab_netlink_exit(void)
{
	lab_store_notify_unregister(&lab_nl_store_nb);
	netlink_kernel_release(lab_nl_sock);
	netlink_unregister_notifier(&lab_nl_release_nb);
}

module_init(lab_netlink_init);
module_exit(lab_netlink_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: a netlink protocol of its own");
