// SPDX-License-Identifier: GPL-2.0-only
/*
 * core.c - the store that all the doors share (see store.h).
 *
 * User space sees none of this directly but the parameter `depth`, also in
 * /sys/module/lab_core/parameters/depth: how many messages fit.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/list.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "store.h"

static unsigned int depth = 64;
module_param(depth, uint, 0444);
MODULE_PARM_DESC(depth, "how many messages the store holds (1 to 65536, default 64)");

#define LAB_STORE_MAX_DEPTH 65536

static DEFINE_MUTEX(store_lock);	/* the list, and changes of the count */
static LIST_HEAD(store_messages);	/* oldest first */
static unsigned int store_count;	/* read without the lock by pollers */

static DECLARE_WAIT_QUEUE_HEAD(store_wait);
static BLOCKING_NOTIFIER_HEAD(store_notifiers);

static void store_changed(enum lab_store_event event)
{
	/* Everybody is woken: waiters of different doors want different things. */
	wake_up_interruptible_poll(&store_wait, event == LAB_STORE_PUT ?
				   EPOLLIN | EPOLLRDNORM : EPOLLOUT | EPOLLWRNORM);
	blocking_notifier_call_chain(&store_notifiers, event, NULL);
}

int lab_store_put(const void *data, size_t len)
{
	struct lab_message *message;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;

	message = kvmalloc(struct_size(message, data, len), GFP_KERNEL);
	if (!message)
		return -ENOMEM;
	message->len = len;
	memcpy(message->data, data, len);

	mutex_lock(&store_lock);
	if (store_count >= depth) {
		mutex_unlock(&store_lock);
		kvfree(message);
		return -ENOSPC;
	}
	list_add_tail(&message->link, &store_messages);
	WRITE_ONCE(store_count, store_count + 1);
	mutex_unlock(&store_lock);

	store_changed(LAB_STORE_PUT);
	return 0;
}
EXPORT_SYMBOL_GPL(lab_store_put);

struct lab_message *lab_store_take(void)
{
	struct lab_message *message;

	mutex_lock(&store_lock);
	message = list_first_entry_or_null(&store_messages, struct lab_message, link);
	if (message) {
		list_del(&message->link);
		WRITE_ONCE(store_count, store_count - 1);
	}
	mutex_unlock(&store_lock);

	if (message)
		store_changed(LAB_STORE_TAKEN);
	return message;
}
EXPORT_SYMBOL_GPL(lab_store_take);

void lab_message_free(struct lab_message *message)
{
	kvfree(message);
}
EXPORT_SYMBOL_GPL(lab_message_free);

void lab_store_give_back(struct lab_message *message)
{
	mutex_lock(&store_lock);
	list_add(&message->link, &store_messages);
	WRITE_ONCE(store_count, store_count + 1);
	mutex_unlock(&store_lock);

	store_changed(LAB_STORE_PUT);
}
EXPORT_SYMBOL_GPL(lab_store_give_back);

ssize_t lab_store_length(unsigned int index)
{
	struct lab_message *message;
	ssize_t len = -ENOENT;

	mutex_lock(&store_lock);
	list_for_each_entry(message, &store_messages, link) {
		if (index--)
			continue;
		len = message->len;
		break;
	}
	mutex_unlock(&store_lock);
	return len;
}
EXPORT_SYMBOL_GPL(lab_store_length);

ssize_t lab_store_copy(unsigned int index, void *buf, size_t size)
{
	struct lab_message *message;
	ssize_t len = -ENOENT;

	mutex_lock(&store_lock);
	list_for_each_entry(message, &store_messages, link) {
		if (index--)
			continue;
		len = min(message->len, size);
		memcpy(buf, message->data, len);
		break;
	}
	mutex_unlock(&store_lock);
	return len;
}
EXPORT_SYMBOL_GPL(lab_store_copy);

unsigned int lab_store_count(void)
{
	return READ_ONCE(store_count);
}
EXPORT_SYMBOL_GPL(lab_store_count);

unsigned int lab_store_depth(void)
{
	return depth;
}
EXPORT_SYMBOL_GPL(lab_store_depth);

void lab_store_clear(void)
{
	struct lab_message *message, *next;
	LIST_HEAD(dropped);

	mutex_lock(&store_lock);
	list_splice_init(&store_messages, &dropped);
	WRITE_ONCE(store_count, 0);
	mutex_unlock(&store_lock);

	list_for_each_entry_safe(message, next, &dropped, link)
		lab_message_free(message);
	store_changed(LAB_STORE_CLEARED);
}
EXPORT_SYMBOL_GPL(lab_store_clear);

wait_queue_head_t *lab_store_wait(void)
{
	return &store_wait;
}
EXPORT_SYMBOL_GPL(lab_store_wait);

int lab_store_notify_register(struct notifier_block *nb)
{
	return blocking_notifier_chain_register(&store_notifiers, nb);
}
EXPORT_SYMBOL_GPL(lab_store_notify_register);

void lab_store_notify_unregister(struct notifier_block *nb)
{
	/* Fails only for one that never registered: a mistake of the door's. */
	WARN_ON(blocking_notifier_chain_unregister(&store_notifiers, nb));
}
EXPORT_SYMBOL_GPL(lab_store_notify_unregister);

static int __init lab_core_init(void)
{
	if (!depth || depth > LAB_STORE_MAX_DEPTH) {
		pr_err("depth %u is not in 1..%d\n", depth, LAB_STORE_MAX_DEPTH);
		return -EINVAL;
	}
	return 0;
}

static void __exit lab_core_exit(void)
{
	/* The doors use our symbols, so they are gone, and so are their waiters. */
	lab_store_clear();
}

module_init(lab_core_init);
module_exit(lab_core_exit);

MODULE_DESCRIPTION("chanlab: the message store behind the doors");
MODULE_LICENSE("GPL");
