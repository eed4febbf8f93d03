// SPDX-License-Identifier: MIT OR GPL-2.0-only
/*
 * @name@.c - a mailbox for one message, /dev/@name@: something to begin with.
 *
 * A write puts a message in place of the one that is there; a read takes it, and sleeps
 * until there is one.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "uapi/@name@.h"

static DEFINE_MUTEX(@name@_lock); /* what follows */
static char @name@_message[@NAME@_MAX];
static size_t @name@_length;
static bool @name@_full;

static DECLARE_WAIT_QUEUE_HEAD(@name@_arrived);

static ssize_t @name@_read(struct file *file, char __user *buf, size_t count, loff_t *ppos)
{
	ssize_t ret;

	if (mutex_lock_interruptible(&@name@_lock))
		return -ERESTARTSYS;
	while (!@name@_full) {
		mutex_unlock(&@name@_lock);
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(@name@_arrived, READ_ONCE(@name@_full)))
			return -ERESTARTSYS;
		if (mutex_lock_interruptible(&@name@_lock))
			return -ERESTARTSYS;
	}
	ret = min(count, @name@_length);
	if (copy_to_user(buf, @name@_message, ret))
		ret = -EFAULT;
	else
		WRITE_ONCE(@name@_full, false);
	mutex_unlock(&@name@_lock);
	return ret;
}

static ssize_t @name@_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	char message[@NAME@_MAX];

	if (count > sizeof(message))
		return -EMSGSIZE;
	if (copy_from_user(message, buf, count))
		return -EFAULT;
	if (mutex_lock_interruptible(&@name@_lock))
		return -ERESTARTSYS;
	memcpy(@name@_message, message, count);
	@name@_length = count;
	WRITE_ONCE(@name@_full, true);
	mutex_unlock(&@name@_lock);
	wake_up_interruptible(&@name@_arrived);
	return count;
}

static long @name@_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct @name@_stat stat = { .max = @NAME@_MAX };

	if (cmd != @NAME@_IOC_STAT)
		return -ENOTTY;
	if (mutex_lock_interruptible(&@name@_lock))
		return -ERESTARTSYS;
	stat.length = @name@_full ? @name@_length : 0;
	mutex_unlock(&@name@_lock);
	return copy_to_user((void __user *)arg, &stat, sizeof(stat)) ? -EFAULT : 0;
}

static const struct file_operations @name@_fops = {
	.owner		= THIS_MODULE,
	.read		= @name@_read,
	.write		= @name@_write,
	.unlocked_ioctl	= @name@_ioctl,
};

static struct miscdevice @name@_dev = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "@name@",
	.fops	= &@name@_fops,
	.mode	= 0666,
};

module_misc_device(@name@_dev);

MODULE_DESCRIPTION("A mailbox for one message");
MODULE_LICENSE("Dual MIT/GPL");
