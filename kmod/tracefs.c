// SPDX-License-Identifier: GPL-2.0-only
/*
 * tracefs.c - two tracepoints of the module's own, which user space enables, filters and
 * reads in /sys/kernel/tracing:
 *
 *   events/lab_tracefs/lab_message   a write to /dev/lab_tracefs: "number=N len=L text=T",
 *                                    N from 0 on, T cut to 63 bytes
 *   events/lab_tracefs/lab_store     a change of the store by whichever door:
 *                                    "change=put|taken|cleared count=N"
 *
 * /dev/lab_tracefs (0666): a write puts a message into the store (EMSGSIZE, ENOSPC) and
 * is traced; for its ioctls see uapi/lab_tracefs.h.
 *
 * An enabled event does not pin this module: it goes away with it, and with all that
 * was recorded.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/sched.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/tracepoint.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "store.h"
#include "lab_tracefs.h"

/* In one file of the module only: this makes the tracepoints themselves. */
#define CREATE_TRACE_POINTS
#include "tracefs_trace.h"

static atomic64_t lab_number = ATOMIC64_INIT(0);

static void lab_trace_message(const void *data, size_t len)
{
	u64 number = atomic64_fetch_inc(&lab_number);
	char text[LAB_TRACEFS_MAX_TEXT];
	size_t part = min(len, sizeof(text) - 1);

	/* A branch that is patched in when the event is enabled: else this costs nothing. */
	if (!trace_lab_message_enabled())
		return;

	memcpy(text, data, part);
	text[part] = '\0';
	trace_lab_message(number, len, text);
}

static ssize_t lab_tracefs_write(struct file *file, const char __user *ubuf, size_t len,
				 loff_t *pos)
{
	void *data;
	int ret;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;

	data = vmemdup_user(ubuf, len);
	if (IS_ERR(data))
		return PTR_ERR(data);

	ret = lab_store_put(data, len);
	if (!ret)
		lab_trace_message(data, len);
	kvfree(data);

	return ret ? ret : len;
}

static long lab_tracefs_printk(const void __user *argp)
{
	struct lab_tracefs_text arg;

	if (copy_from_user(&arg, argp, sizeof(arg)))
		return -EFAULT;
	if (strnlen(arg.text, sizeof(arg.text)) == sizeof(arg.text))
		return -EINVAL;

	/* For debugging only: loading this module makes the kernel say so, at length. */
	trace_printk("%s\n", arg.text);
	return 0;
}

static long lab_tracefs_burst(unsigned long count)
{
	while (count--) {
		if (signal_pending(current))
			return -EINTR;
		lab_trace_message("", 0);
		cond_resched();
	}

	return 0;
}

static long lab_tracefs_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LAB_TRACEFS_IOC_PRINTK:
		return lab_tracefs_printk((const void __user *)arg);
	case LAB_TRACEFS_IOC_BURST:
		return lab_tracefs_burst(arg);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations lab_tracefs_fops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.write = lab_tracefs_write,
	.unlocked_ioctl = lab_tracefs_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
};

static struct miscdevice lab_tracefs_misc = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab_tracefs",
	.fops = &lab_tracefs_fops,
	.mode = 0666,
};

static int lab_store_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	trace_lab_store(event, lab_store_count());
	return NOTIFY_OK;
}

static struct notifier_block lab_store_nb = {
	.notifier_call = lab_store_changed,
};

static int __init lab_tracefs_init(void)
{
	int ret;

	ret = lab_store_notify_register(&lab_store_nb);
	if (ret)
		return ret;

	ret = misc_register(&lab_tracefs_misc);
	if (ret)
		lab_store_notify_unregister(&lab_store_nb);

	return ret;
}

static void __exit lab_tracefs_exit(void)
{
	misc_deregister(&lab_tracefs_misc);
	lab_store_notify_unregister(&lab_store_nb);
}

module_init(lab_tracefs_init);
module_exit(lab_tracefs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: tracepoints and trace_printk");
