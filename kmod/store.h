/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * store.h - the store: a bounded first-in-first-out queue of messages that all
 * the doors share. What goes in by one door comes out by any other. A message is
 * 0 to LAB_STORE_MAX_MESSAGE bytes and is put and taken whole.
 *
 * All calls are for process context and may sleep unless said otherwise; the
 * data is kernel memory, copying from and to user space is the doors' work.
 */
#ifndef LAB_STORE_H
#define LAB_STORE_H

#include <linux/notifier.h>
#include <linux/types.h>
#include <linux/wait.h>

#define LAB_STORE_MAX_MESSAGE 65536

/* A message that was taken off the store and now belongs to the taker. */
struct lab_message {
	struct list_head link;	/* the store's; not for the taker */
	size_t len;
	u8 data[];
};

/*
 * Append a copy. 0; -EMSGSIZE when @len is over LAB_STORE_MAX_MESSAGE, -ENOSPC
 * when the store holds lab_store_depth() messages, -ENOMEM. Wakes the waiters
 * with EPOLLIN, then calls the notifiers with LAB_STORE_PUT.
 */
int lab_store_put(const void *data, size_t len);

/*
 * Take the oldest message off: NULL when there is none. Free with lab_message_free().
 * Wakes with EPOLLOUT, notifies with LAB_STORE_TAKEN.
 */
struct lab_message *lab_store_take(void);
void lab_message_free(struct lab_message *message);

/*
 * Undo lab_store_take(): the message becomes the oldest again, even above the
 * depth. For a taker that could not deliver it. Wakes and notifies like a put.
 */
void lab_store_give_back(struct lab_message *message);

/* Length of the @index-th oldest message, which stays; -ENOENT when there are not that many. */
ssize_t lab_store_length(unsigned int index);

/*
 * Copy the @index-th oldest message, which stays. Its length as copied (cut to
 * @size); -ENOENT when there are not that many.
 */
ssize_t lab_store_copy(unsigned int index, void *buf, size_t size);

/* How many messages there are, and how many there may be. Never sleep. */
unsigned int lab_store_count(void);
unsigned int lab_store_depth(void);

/* Drop all messages. Wakes with EPOLLOUT, notifies with LAB_STORE_CLEARED. */
void lab_store_clear(void);

/*
 * Woken on every put (EPOLLIN) and whenever there is room again (EPOLLOUT). A
 * waiter must look again: somebody else may have been faster.
 */
wait_queue_head_t *lab_store_wait(void);

/*
 * Tell @nb about every change, after it happened and without any lock of the
 * store held, so that the notifier may use the store (and must not recurse for
 * ever). The data pointer is NULL. Concurrent changes may be told in any order.
 */
enum lab_store_event {
	LAB_STORE_PUT = 1,
	LAB_STORE_TAKEN,
	LAB_STORE_CLEARED,
};

int lab_store_notify_register(struct notifier_block *nb);
void lab_store_notify_unregister(struct notifier_block *nb);

#endif /* LAB_STORE_H */
