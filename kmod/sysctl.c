// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysctl.c - the sysctl door: one table, /proc/sys/lab, with
 *
 *   level     0644  one int, 0 to 100: EINVAL beyond (proc_dointvec_minmax)
 *   vector    0644  four ints, -1000 to 1000, set one by one: what came before a bad
 *                   one stays set, what is left out stays as it is
 *   limits    0644  two ints, low and high, by a handler of the module's own: both or
 *                   none are set, EINVAL when low would pass high
 *   total     0660  two unsigned longs up to LAB_SYSCTL_MAX_TOTAL
 *   name      0644  a string of at most LAB_SYSCTL_NAME_SIZE - 1 bytes; longer ones are
 *                   cut, and nobody is told
 *   flag      0644  0 or 1; every other number is 1
 *   message   0666  read: takes the oldest message off the store, ENODATA when there is
 *                   none; write: puts one without its closing newline, ENOSPC, EMSGSIZE
 *   next      0444  the same read, but it sleeps until there is a message; O_NONBLOCK
 *                   changes nothing, because a handler does not see the open file
 *   count     0444  messages in the store; poll() for POLLPRI tells of changes
 *   clear     0200  "1" empties the store
 *
 * Who may do what is asked at every read and write again, by user and group and not by
 * capability: EACCES at open, EPERM later.
 *
 * An open file pins neither its table nor this module. When the table goes, calls that
 * are in a handler are waited for; later ones get ENOENT, and poll() POLLERR|POLLHUP.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysctl.h>
#include <linux/wait.h>

#include "compat.h"
#include "store.h"

#define LAB_SYSCTL_PATH "lab"
#define LAB_SYSCTL_NAME_SIZE 16
#define LAB_SYSCTL_MAX_TOTAL 4000000000UL

static int lab_level = 50;
static int lab_vector[4] = { 1, 2, 3, 4 };
static int lab_vector_min = -1000;
static int lab_vector_max = 1000;
static int lab_limits[2] = { 0, 100 };	/* low, high; under lab_limits_lock */
static unsigned long lab_total[2];
static unsigned long lab_total_max = LAB_SYSCTL_MAX_TOTAL;
static char lab_name[LAB_SYSCTL_NAME_SIZE] = "lab";
static bool lab_flag;

static DEFINE_MUTEX(lab_limits_lock);
static bool lab_leaving;		/* who sleeps in next must go */

/*
 * proc_dointvec() stores number by number into where the table points, so the table
 * that it gets points to a copy.
 */
static int limits_handler(lab_ctl_table *table, int write, void *buffer, size_t *lenp,
			  loff_t *ppos)
{
	struct ctl_table copy = *table;
	int values[ARRAY_SIZE(lab_limits)];
	int ret;

	mutex_lock(&lab_limits_lock);
	memcpy(values, lab_limits, sizeof(values));
	copy.data = values;
	ret = proc_dointvec(&copy, write, buffer, lenp, ppos);
	if (!ret && values[0] > values[1])
		ret = -EINVAL;
	if (!ret)
		memcpy(lab_limits, values, sizeof(values));
	mutex_unlock(&lab_limits_lock);

	return ret;
}

/* --- the store --------------------------------------------------------------- */

/*
 * A read that begins at the file's start is a new one, any other is at the end: who
 * reads until nothing comes gets one message. @buffer is the kernel's; that it cannot
 * be copied to user space turns out when the message is gone already.
 */
static int lab_sysctl_take(void *buffer, size_t *lenp, loff_t *ppos, bool wait)
{
	struct lab_message *message;
	size_t len;
	int ret;

	if (*ppos || !*lenp) {
		*lenp = 0;
		return 0;
	}

	for (;;) {
		if (READ_ONCE(lab_leaving))
			return -ENODEV;
		message = lab_store_take();
		if (message)
			break;
		if (!wait)
			return -ENODATA;
		ret = wait_event_interruptible(*lab_store_wait(),
					       lab_store_count() || READ_ONCE(lab_leaving));
		if (ret)
			return ret;
	}

	len = min(message->len, *lenp);
	memcpy(buffer, message->data, len);
	lab_message_free(message);
	if (len < *lenp)
		((char *)buffer)[len++] = '\n';
	*lenp = len;
	*ppos += len;

	return 0;
}

static int message_handler(lab_ctl_table *table, int write, void *buffer, size_t *lenp,
			   loff_t *ppos)
{
	const char *text = buffer;
	size_t len = *lenp;
	int ret;

	if (!write)
		return lab_sysctl_take(buffer, lenp, ppos, false);

	/* `echo` adds it; only the last one goes. */
	if (len && text[len - 1] == '\n')
		len--;

	ret = lab_store_put(text, len);
	if (!ret)
		*ppos += *lenp;

	return ret;
}

static int next_handler(lab_ctl_table *table, int write, void *buffer, size_t *lenp, loff_t *ppos)
{
	/* The mode has no write. */
	return lab_sysctl_take(buffer, lenp, ppos, true);
}

static int count_handler(lab_ctl_table *table, int write, void *buffer, size_t *lenp, loff_t *ppos)
{
	struct ctl_table copy = *table;
	unsigned int count = lab_store_count();

	copy.data = &count;
	copy.maxlen = sizeof(count);

	return proc_douintvec(&copy, write, buffer, lenp, ppos);
}

static int clear_handler(lab_ctl_table *table, int write, void *buffer, size_t *lenp, loff_t *ppos)
{
	struct ctl_table copy = *table;
	int yes = 0;
	int ret;

	copy.data = &yes;
	copy.maxlen = sizeof(yes);
	copy.extra1 = SYSCTL_ZERO;
	copy.extra2 = SYSCTL_ONE;
	ret = proc_dointvec_minmax(&copy, write, buffer, lenp, ppos);
	if (!ret && yes)
		lab_store_clear();

	return ret;
}

/* --- the table --------------------------------------------------------------- */

/*
 * What poll() waits in. Not const and not freed with the table: a poller sleeps in it
 * without being in any call that the table's removal waits for.
 */
static DEFINE_CTL_TABLE_POLL(lab_count_poll);

static struct ctl_table lab_table[] = {
	{
		.procname = "level",
		.data = &lab_level,
		.maxlen = sizeof(lab_level),
		.mode = 0644,
		.proc_handler = proc_dointvec_minmax,
		.extra1 = SYSCTL_ZERO,
		.extra2 = SYSCTL_ONE_HUNDRED,
	}, {
		.procname = "vector",
		.data = lab_vector,
		.maxlen = sizeof(lab_vector),
		.mode = 0644,
		.proc_handler = proc_dointvec_minmax,
		.extra1 = &lab_vector_min,
		.extra2 = &lab_vector_max,
	}, {
		.procname = "limits",
		.maxlen = sizeof(lab_limits),
		.mode = 0644,
		.proc_handler = limits_handler,
	}, {
		.procname = "total",
		.data = lab_total,
		.maxlen = sizeof(lab_total),
		.mode = 0660,
		.proc_handler = proc_doulongvec_minmax,
		.extra2 = &lab_total_max,
	}, {
		.procname = "name",
		.data = lab_name,
		.maxlen = sizeof(lab_name),
		.mode = 0644,
		.proc_handler = proc_dostring,
	}, {
		.procname = "flag",
		.data = &lab_flag,
		.maxlen = LAB_DOBOOL_MAXLEN,
		.mode = 0644,
		.proc_handler = proc_dobool,
	}, {
		.procname = "message",
		.mode = 0666,
		.proc_handler = message_handler,
	}, {
		.procname = "next",
		.mode = 0444,
		.proc_handler = next_handler,
	}, {
		.procname = "count",
		.mode = 0444,
		.proc_handler = count_handler,
		.poll = &lab_count_poll,
	}, {
		.procname = "clear",
		.mode = 0200,
		.proc_handler = clear_handler,
	},
	LAB_SYSCTL_SENTINEL
};

static struct ctl_table_header *lab_header;

/* What proc_sys_poll_notify() does, which the kernel keeps to itself. */
static int lab_store_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	atomic_inc(&lab_count_poll.event);
	wake_up_interruptible(&lab_count_poll.wait);
	return NOTIFY_OK;
}

static struct notifier_block lab_store_nb = {
	.notifier_call = lab_store_changed,
};

/*
 * The table has gone, so nobody new comes. Who sleeps in poll() is woken, finds no table
 * and leaves; an epoll instance would stay in the queue until it is closed, but takes
 * itself off when it sees POLLFREE. RCU is for epoll, which may still look at the queue.
 */
static void lab_pollers_leave(void)
{
	wake_up_poll(&lab_count_poll.wait, EPOLLHUP | POLLFREE);
	while (waitqueue_active(&lab_count_poll.wait))
		schedule_timeout_uninterruptible(1);
	synchronize_rcu();
}

static int __init lab_sysctl_init(void)
{
	int ret;

	ret = lab_store_notify_register(&lab_store_nb);
	if (ret)
		return ret;

	lab_header = register_sysctl(LAB_SYSCTL_PATH, lab_table);
	if (!lab_header) {
		lab_store_notify_unregister(&lab_store_nb);
		return -ENOMEM;
	}

	return 0;
}

static void __exit lab_sysctl_exit(void)
{
	/*
	 * unregister_sysctl_table() waits, uninterruptibly, until nobody is in a handler:
	 * who sleeps in one is sent away first.
	 */
	WRITE_ONCE(lab_leaving, true);
	wake_up_all(lab_store_wait());
	unregister_sysctl_table(lab_header);
	lab_store_notify_unregister(&lab_store_nb);
	lab_pollers_leave();
}

module_init(lab_sysctl_init);
module_exit(lab_sysctl_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: values in /proc/sys, with limits and handlers");
