// SPDX-License-Identifier: GPL-2.0-only
/*
 * genetlink.c - the generic netlink door: the family LAB_GENL_NAME in the initial
 * network namespace, its commands and attributes as in uapi/lab_genetlink.h.
 *
 * User space sees, from the generic netlink core: attributes checked against the
 * policy before any code here runs (EINVAL, ERANGE, and with NETLINK_EXT_ACK the
 * text, the offset of the attribute and the policy that it broke); EOPNOTSUPP for
 * a command that does not exist, or not as a dump; EPERM for CLEAR without
 * CAP_NET_ADMIN; ENOENT for the family's number when it is gone. A socket does not
 * pin this module, but a dump that is not finished does.
 *
 * By release: all but LOOSE refuse attributes that the policy does not know on
 * every kernel; reserved bytes and stray flags in the headers are refused from 6.1
 * on (resv_start_op, 9c5d03d36251), and a missing attribute is named by its number
 * since then (NLMSGERR_ATTR_MISS_TYPE, 690252f19f0e), by text before.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/minmax.h>
#include <linux/module.h>
#include <linux/netlink.h>
#include <linux/notifier.h>
#include <net/genetlink.h>
#include <net/net_namespace.h>
#include <net/netlink.h>

#include "compat.h"
#include "lab_genetlink.h"
#include "store.h"

/* For what a reply has more than its request: padding before a 64-bit number. */
#define LAB_GENL_SLACK 64

static struct genl_family lab_genl_family;

/* Never 0: changes of the store so far, so that a dump can tell that it was not alone. */
static atomic_t lab_genl_generation = ATOMIC_INIT(1);

static atomic64_t lab_genl_puts = ATOMIC64_INIT(0);

static const struct nla_policy lab_genl_policy[LAB_GENL_A_MAX + 1] = {
	[LAB_GENL_A_MESSAGE] = { .type = NLA_BINARY, .len = LAB_GENL_MAX_MESSAGE },
	[LAB_GENL_A_INDEX] = { .type = NLA_U32 },
};

static const struct nla_policy lab_genl_point_policy[LAB_GENL_POINT_MAX + 1] = {
	[LAB_GENL_POINT_X] = { .type = NLA_S32 },
	[LAB_GENL_POINT_Y] = { .type = NLA_S32 },
	[LAB_GENL_POINT_NAME] = { .type = NLA_NUL_STRING, .len = 7 },
};

static const struct nla_policy lab_genl_typed_policy[LAB_GENL_TYPED_MAX + 1] = {
	[LAB_GENL_TYPED_U8] = NLA_POLICY_RANGE(NLA_U8, 1, 100),
	[LAB_GENL_TYPED_U16] = { .type = NLA_U16 },
	[LAB_GENL_TYPED_U32] = { .type = NLA_U32 },
	[LAB_GENL_TYPED_U64] = { .type = NLA_U64 },
	[LAB_GENL_TYPED_S32] = NLA_POLICY_RANGE(NLA_S32, -10, 10),
	[LAB_GENL_TYPED_TEXT] = { .type = NLA_NUL_STRING, .len = 15 },
	[LAB_GENL_TYPED_BYTES] = { .type = NLA_BINARY, .len = 32 },
	[LAB_GENL_TYPED_MAC] = NLA_POLICY_EXACT_LEN(6),
	[LAB_GENL_TYPED_FLAG] = { .type = NLA_FLAG },
	[LAB_GENL_TYPED_BITS] = NLA_POLICY_BITFIELD32(0xf),
	[LAB_GENL_TYPED_POINT] = NLA_POLICY_NESTED(lab_genl_point_policy),
	[LAB_GENL_TYPED_POINTS] = NLA_POLICY_NESTED_ARRAY(lab_genl_point_policy),
	[LAB_GENL_TYPED_REFUSED] = { .type = NLA_REJECT, .reject_message = "refused on principle" },
};

/* --- typed attributes ------------------------------------------------------------ */

static int lab_genl_put_point(struct sk_buff *skb, int type, const struct nlattr *point,
			      struct netlink_ext_ack *extack)
{
	struct nlattr *tb[LAB_GENL_POINT_MAX + 1];
	struct nlattr *nest;
	int ret;

	ret = nla_parse_nested(tb, LAB_GENL_POINT_MAX, point, lab_genl_point_policy, extack);
	if (ret)
		return ret;
	if (NL_REQ_ATTR_CHECK(extack, point, tb, LAB_GENL_POINT_X) ||
	    NL_REQ_ATTR_CHECK(extack, point, tb, LAB_GENL_POINT_Y))
		return -EINVAL;

	nest = nla_nest_start(skb, type);
	if (!nest)
		return -EMSGSIZE;
	if (nla_put_s32(skb, LAB_GENL_POINT_X, nla_get_s32(tb[LAB_GENL_POINT_X])) ||
	    nla_put_s32(skb, LAB_GENL_POINT_Y, nla_get_s32(tb[LAB_GENL_POINT_Y])))
		goto err_cancel;
	if (tb[LAB_GENL_POINT_NAME] &&
	    nla_put_string(skb, LAB_GENL_POINT_NAME, nla_data(tb[LAB_GENL_POINT_NAME])))
		goto err_cancel;
	nla_nest_end(skb, nest);

	return 0;

err_cancel:
	nla_nest_cancel(skb, nest);
	return -EMSGSIZE;
}

static int lab_genl_put_points(struct sk_buff *skb, int type, const struct nlattr *points,
			       struct netlink_ext_ack *extack)
{
	const struct nlattr *point;
	struct nlattr *nest;
	int index = 0;
	int rem, ret;

	nest = nla_nest_start(skb, type);
	if (!nest)
		return -EMSGSIZE;
	/* An array's entries have their number for a type; nothing is said of what came. */
	nla_for_each_nested(point, points, rem) {
		ret = lab_genl_put_point(skb, ++index, point, extack);
		if (ret) {
			nla_nest_cancel(skb, nest);
			return ret;
		}
	}
	nla_nest_end(skb, nest);

	return 0;
}

static int lab_genl_put_simple(struct sk_buff *skb, struct nlattr **attrs)
{
	struct nlattr *attr;

	attr = attrs[LAB_GENL_TYPED_U8];
	if (attr && nla_put_u8(skb, LAB_GENL_TYPED_U8, nla_get_u8(attr)))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_U16];
	if (attr && nla_put_u16(skb, LAB_GENL_TYPED_U16, nla_get_u16(attr)))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_U32];
	if (attr && nla_put_u32(skb, LAB_GENL_TYPED_U32, nla_get_u32(attr)))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_U64];
	if (attr && nla_put_u64_64bit(skb, LAB_GENL_TYPED_U64, nla_get_u64(attr),
				      LAB_GENL_TYPED_PAD))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_S32];
	if (attr && nla_put_s32(skb, LAB_GENL_TYPED_S32, nla_get_s32(attr)))
		return -EMSGSIZE;
	/* The policy saw to the closing NUL. */
	attr = attrs[LAB_GENL_TYPED_TEXT];
	if (attr && nla_put_string(skb, LAB_GENL_TYPED_TEXT, nla_data(attr)))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_BYTES];
	if (attr && nla_put(skb, LAB_GENL_TYPED_BYTES, nla_len(attr), nla_data(attr)))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_MAC];
	if (attr && nla_put(skb, LAB_GENL_TYPED_MAC, nla_len(attr), nla_data(attr)))
		return -EMSGSIZE;
	if (nla_get_flag(attrs[LAB_GENL_TYPED_FLAG]) && nla_put_flag(skb, LAB_GENL_TYPED_FLAG))
		return -EMSGSIZE;
	attr = attrs[LAB_GENL_TYPED_BITS];
	if (attr) {
		struct nla_bitfield32 bits = nla_get_bitfield32(attr);

		if (nla_put_bitfield32(skb, LAB_GENL_TYPED_BITS, bits.value, bits.selector))
			return -EMSGSIZE;
	}

	return 0;
}

static int lab_genl_put_typed(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *attr;
	int ret;

	ret = lab_genl_put_simple(skb, info->attrs);
	if (ret)
		return ret;

	attr = info->attrs[LAB_GENL_TYPED_POINT];
	if (attr) {
		ret = lab_genl_put_point(skb, LAB_GENL_TYPED_POINT, attr, info->extack);
		if (ret)
			return ret;
	}

	attr = info->attrs[LAB_GENL_TYPED_POINTS];
	if (attr)
		ret = lab_genl_put_points(skb, LAB_GENL_TYPED_POINTS, attr, info->extack);

	return ret;
}

/* For LOOSE too: the answer has the command of the request. */
static int lab_genl_echo(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *text = info->attrs[LAB_GENL_TYPED_TEXT];
	struct sk_buff *reply;
	void *header;
	int ret;

	/* What no policy can say: user space sees our own words, and where. */
	if (text && !nla_strcmp(text, "no")) {
		NL_SET_ERR_MSG_ATTR(info->extack, text, "no is not an answer");
		return -EINVAL;
	}

	reply = genlmsg_new(nlmsg_len(info->nlhdr) + LAB_GENL_SLACK, GFP_KERNEL);
	if (!reply)
		return -ENOMEM;
	header = genlmsg_put_reply(reply, info, &lab_genl_family, 0, info->genlhdr->cmd);
	if (!header) {
		ret = -EMSGSIZE;
		goto err_free;
	}
	ret = lab_genl_put_typed(reply, info);
	if (ret)
		goto err_free;
	genlmsg_end(reply, header);

	return genlmsg_reply(reply, info);

err_free:
	nlmsg_free(reply);
	return ret;
}

/* --- the store --------------------------------------------------------------------- */

static int lab_genl_put(struct sk_buff *skb, struct genl_info *info)
{
	struct nlattr *message = info->attrs[LAB_GENL_A_MESSAGE];
	int ret;

	if (GENL_REQ_ATTR_CHECK(info, LAB_GENL_A_MESSAGE))
		return -EINVAL;

	ret = lab_store_put(nla_data(message), nla_len(message));
	if (ret) {
		if (ret == -ENOSPC)
			GENL_SET_ERR_MSG(info, "the store is full");
		return ret;
	}

	/* With NLM_F_ACK and NETLINK_EXT_ACK user space gets it as NLMSGERR_ATTR_COOKIE. */
	nl_set_extack_cookie_u64(info->extack, atomic64_inc_return(&lab_genl_puts));
	return 0;
}

static int lab_genl_get(struct sk_buff *skb, struct genl_info *info)
{
	struct lab_message *message;
	struct sk_buff *reply;
	void *header;
	int ret;

	message = lab_store_take();
	if (!message) {
		GENL_SET_ERR_MSG(info, "the store is empty");
		return -EAGAIN;
	}
	if (message->len > LAB_GENL_MAX_MESSAGE) {
		GENL_SET_ERR_MSG(info, "too long for an attribute: take it by another door");
		ret = -EMSGSIZE;
		goto err_message;
	}

	reply = genlmsg_new(nla_total_size(message->len) + nla_total_size(sizeof(u32)), GFP_KERNEL);
	if (!reply) {
		ret = -ENOMEM;
		goto err_message;
	}
	header = genlmsg_put_reply(reply, info, &lab_genl_family, 0, LAB_GENL_CMD_GET);
	if (!header ||
	    nla_put_u32(reply, LAB_GENL_A_LENGTH, message->len) ||
	    nla_put(reply, LAB_GENL_A_MESSAGE, message->len, message->data)) {
		ret = -EMSGSIZE;
		goto err_reply;
	}
	genlmsg_end(reply, header);

	/* Whether the answer arrives or not: it is sent, and the message with it. */
	lab_message_free(message);
	return genlmsg_reply(reply, info);

err_reply:
	nlmsg_free(reply);
err_message:
	lab_store_give_back(message);
	return ret;
}

static int lab_genl_stat(struct sk_buff *skb, struct genl_info *info)
{
	struct sk_buff *reply;
	void *header;

	reply = genlmsg_new(2 * nla_total_size(sizeof(u32)), GFP_KERNEL);
	if (!reply)
		return -ENOMEM;

	header = genlmsg_put_reply(reply, info, &lab_genl_family, 0, LAB_GENL_CMD_STAT);
	if (!header ||
	    nla_put_u32(reply, LAB_GENL_A_COUNT, lab_store_count()) ||
	    nla_put_u32(reply, LAB_GENL_A_DEPTH, lab_store_depth())) {
		nlmsg_free(reply);
		return -EMSGSIZE;
	}
	genlmsg_end(reply, header);

	return genlmsg_reply(reply, info);
}

/* The core has asked for CAP_NET_ADMIN. */
static int lab_genl_clear(struct sk_buff *skb, struct genl_info *info)
{
	lab_store_clear();
	return 0;
}

/* --- the dump ------------------------------------------------------------------------ */

static int lab_genl_list_start(struct netlink_callback *cb)
{
	struct nlattr **attrs = lab_genl_dump_attrs(cb);

	if (attrs && attrs[LAB_GENL_A_INDEX])
		cb->args[0] = nla_get_u32(attrs[LAB_GENL_A_INDEX]);

	return 0;
}

/*
 * One message of the store. EMSGSIZE: no room in this buffer; ENOENT: there is no
 * such message; EAGAIN: the store changed meanwhile.
 */
static int lab_genl_list_one(struct sk_buff *skb, struct netlink_callback *cb, u32 index)
{
	struct nlattr *attr;
	ssize_t len, shown;
	void *header;
	int ret = -EMSGSIZE;

	len = lab_store_length(index);
	if (len < 0)
		return len;

	header = genlmsg_put(skb, NETLINK_CB(cb->skb).portid, cb->nlh->nlmsg_seq, &lab_genl_family,
			     NLM_F_MULTI, LAB_GENL_CMD_LIST);
	if (!header)
		return -EMSGSIZE;
	/* NLM_F_DUMP_INTR when the store has changed since the last buffer was filled. */
	genl_dump_check_consistent(cb, header);

	if (nla_put_u32(skb, LAB_GENL_A_INDEX, index) ||
	    nla_put_u32(skb, LAB_GENL_A_LENGTH, len))
		goto err_cancel;

	shown = min_t(ssize_t, len, LAB_GENL_LIST_BYTES);
	attr = nla_reserve(skb, LAB_GENL_A_MESSAGE, shown);
	if (!attr)
		goto err_cancel;
	/* Less than reserved would show user space the kernel's memory. */
	if (lab_store_copy(index, nla_data(attr), shown) != shown) {
		ret = -EAGAIN;
		goto err_cancel;
	}
	genlmsg_end(skb, header);

	return 0;

err_cancel:
	genlmsg_cancel(skb, header);
	return ret;
}

/* Called for each buffer of user space's until it adds nothing; args[0] is where it was. */
static int lab_genl_list(struct sk_buff *skb, struct netlink_callback *cb)
{
	u32 index = cb->args[0];
	int ret;

	cb->seq = atomic_read(&lab_genl_generation);
	for (;;) {
		ret = lab_genl_list_one(skb, cb, index);
		if (!ret)
			index++;
		else if (ret != -EAGAIN)
			break;
	}
	cb->args[0] = index;

	return skb->len;
}

static const struct genl_ops lab_genl_ops[] = {
	{
		.cmd = LAB_GENL_CMD_LOOSE,
		.doit = lab_genl_echo,
		.policy = lab_genl_typed_policy,
		.maxattr = LAB_GENL_TYPED_MAX,
		.validate = GENL_DONT_VALIDATE_STRICT,
	},
	{
		.cmd = LAB_GENL_CMD_ECHO,
		.doit = lab_genl_echo,
		.policy = lab_genl_typed_policy,
		.maxattr = LAB_GENL_TYPED_MAX,
	},
	{
		.cmd = LAB_GENL_CMD_PUT,
		.doit = lab_genl_put,
		.policy = lab_genl_policy,
		.maxattr = LAB_GENL_A_MAX,
	},
	{
		.cmd = LAB_GENL_CMD_GET,
		.doit = lab_genl_get,
		.policy = lab_genl_policy,
		.maxattr = LAB_GENL_A_MAX,
	},
	{
		.cmd = LAB_GENL_CMD_LIST,
		.start = lab_genl_list_start,
		.dumpit = lab_genl_list,
		.policy = lab_genl_policy,
		.maxattr = LAB_GENL_A_MAX,
	},
	{
		.cmd = LAB_GENL_CMD_STAT,
		.doit = lab_genl_stat,
		.policy = lab_genl_policy,
		.maxattr = LAB_GENL_A_MAX,
	},
	{
		.cmd = LAB_GENL_CMD_CLEAR,
		.doit = lab_genl_clear,
		.flags = GENL_ADMIN_PERM,
		.policy = lab_genl_policy,
		.maxattr = LAB_GENL_A_MAX,
	},
};

enum lab_genl_group {
	LAB_GENL_GROUP_INDEX_STORE,
};

static const struct genl_multicast_group lab_genl_groups[] = {
	[LAB_GENL_GROUP_INDEX_STORE] = { .name = LAB_GENL_GROUP_STORE },
};

static struct genl_family lab_genl_family __ro_after_init = {
	.name = LAB_GENL_NAME,
	.version = LAB_GENL_VERSION,
	.module = THIS_MODULE,
	.ops = lab_genl_ops,
	.n_ops = ARRAY_SIZE(lab_genl_ops),
	.mcgrps = lab_genl_groups,
	.n_mcgrps = ARRAY_SIZE(lab_genl_groups),
	lab_genl_resv_start_op(LAB_GENL_CMD_ECHO)
};

/* --- events ---------------------------------------------------------------------------- */

static int lab_genl_store_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	struct sk_buff *skb;
	void *header;
	u32 what;
	int ret;

	switch (event) {
	case LAB_STORE_PUT:
		what = LAB_GENL_WHAT_PUT;
		break;
	case LAB_STORE_TAKEN:
		what = LAB_GENL_WHAT_TAKEN;
		break;
	case LAB_STORE_CLEARED:
		what = LAB_GENL_WHAT_CLEARED;
		break;
	default:
		return NOTIFY_DONE;
	}
	if (!atomic_inc_return(&lab_genl_generation))
		atomic_inc(&lab_genl_generation);
	if (!genl_has_listeners(&lab_genl_family, &init_net, LAB_GENL_GROUP_INDEX_STORE))
		return NOTIFY_OK;

	skb = genlmsg_new(2 * nla_total_size(sizeof(u32)), GFP_KERNEL);
	if (!skb)
		goto err_lost;
	header = genlmsg_put(skb, 0, 0, &lab_genl_family, 0, LAB_GENL_CMD_EVENT);
	if (!header ||
	    nla_put_u32(skb, LAB_GENL_A_WHAT, what) ||
	    nla_put_u32(skb, LAB_GENL_A_COUNT, lab_store_count())) {
		nlmsg_free(skb);
		goto err_lost;
	}
	genlmsg_end(skb, header);

	/* A member without room gets ENOBUFS by the core; ESRCH: the last one just left. */
	ret = genlmsg_multicast(&lab_genl_family, skb, 0, LAB_GENL_GROUP_INDEX_STORE, GFP_KERNEL);
	if (ret && ret != -ESRCH && ret != -ENOBUFS)
		pr_warn_ratelimited("event not sent: %d\n", ret);

	return NOTIFY_OK;

err_lost:
	/* The members' next receive says ENOBUFS, and so they know that they missed something. */
	genl_set_err(&lab_genl_family, &init_net, 0, LAB_GENL_GROUP_INDEX_STORE, -ENOBUFS);
	return NOTIFY_OK;
}

static struct notifier_block lab_genl_store_nb = {
	.notifier_call = lab_genl_store_changed,
};

static int __init lab_genetlink_init(void)
{
	int ret;

	ret = genl_register_family(&lab_genl_family);
	if (ret)
		return ret;

	ret = lab_store_notify_register(&lab_genl_store_nb);
	if (ret)
		goto err_family;

	return 0;

err_family:
	WARN_ON(genl_unregister_family(&lab_genl_family));
	return ret;
}

static void __exit lab_genetlink_exit(void)
{
	lab_store_notify_unregister(&lab_genl_store_nb);
	/* Fails only for a family that was never registered. */
	WARN_ON(genl_unregister_family(&lab_genl_family));
}

module_init(lab_genetlink_init);
module_exit(lab_genetlink_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: a generic netlink family");
