// SPDX-License-Identifier: GPL-2.0-only
/*
 * poll.c - /dev/lab_poll (0666), which tells when the store can be read or
 * written, and which can be removed while it is open.
 *
 *   poll   POLLIN while there is a message, POLLOUT while there is room for one;
 *          POLLERR and POLLHUP, and both of those too, once the device is removed:
 *          no call would wait any more.
 *   read   takes one message, cut to the buffer (the rest is lost, as with a
 *          datagram); EFAULT leaves it in the store. ENODEV after removal.
 *   write  puts one message; EMSGSIZE over 64 KiB, ENODEV after removal.
 * Both wait, or EAGAIN with O_NONBLOCK; a removal ends the wait with ENODEV.
 *
 * An open file pins the module, so unloading cannot be what removes the device
 * under a file: /dev/lab_poll_ctl (0600) does, by the requests in
 * uapi/lab_poll.h. What is inserted again is a new device: files of the old one
 * stay dead.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/kref.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "store.h"
#include "lab_poll.h"

/* --- the device -------------------------------------------------------------- */

struct lab_poll {
	struct kref ref;		/* one while it is in, one for each open file */
	struct miscdevice misc;
	bool gone;			/* never false again */
};

static void lab_poll_free(struct kref *ref)
{
	kfree(container_of(ref, struct lab_poll, ref));
}

static int lab_poll_open(struct inode *inode, struct file *file)
{
	/*
	 * misc_open() left the miscdevice there and holds the lock that
	 * misc_deregister() takes: the device is in, and so is its reference.
	 */
	struct lab_poll *lab = container_of(file->private_data, struct lab_poll, misc);

	kref_get(&lab->ref);
	file->private_data = lab;
	return stream_open(inode, file);
}

static int lab_poll_release(struct inode *inode, struct file *file)
{
	struct lab_poll *lab = file->private_data;

	kref_put(&lab->ref, lab_poll_free);
	return 0;
}

static bool lab_poll_gone(const struct lab_poll *lab)
{
	return READ_ONCE(lab->gone);
}

static ssize_t lab_poll_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct lab_poll *lab = file->private_data;
	struct lab_message *message;
	size_t len;

	for (;;) {
		if (lab_poll_gone(lab))
			return -ENODEV;
		message = lab_store_take();
		if (message)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(*lab_store_wait(),
					     lab_store_count() || lab_poll_gone(lab)))
			return -ERESTARTSYS;
	}

	len = min(size, message->len);
	if (copy_to_user(buf, message->data, len)) {
		lab_store_give_back(message);
		return -EFAULT;
	}
	lab_message_free(message);
	return len;
}

static ssize_t lab_poll_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct lab_poll *lab = file->private_data;
	ssize_t ret;
	void *data;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;
	data = vmemdup_user(buf, len);
	if (IS_ERR(data))
		return PTR_ERR(data);

	for (;;) {
		ret = lab_poll_gone(lab) ? -ENODEV : lab_store_put(data, len);
		if (ret != -ENOSPC)
			break;
		ret = -EAGAIN;
		if (file->f_flags & O_NONBLOCK)
			break;
		ret = -ERESTARTSYS;
		if (wait_event_interruptible(*lab_store_wait(),
					     lab_store_count() < lab_store_depth() ||
					     lab_poll_gone(lab)))
			break;
	}
	kvfree(data);
	return ret ? ret : len;
}

static __poll_t lab_poll_poll(struct file *file, poll_table *wait)
{
	struct lab_poll *lab = file->private_data;
	__poll_t events = 0;

	/* First wait, then look: what happens in between is not missed. */
	poll_wait(file, lab_store_wait(), wait);

	if (lab_poll_gone(lab))
		return EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLRDNORM | EPOLLOUT | EPOLLWRNORM;
	if (lab_store_count())
		events |= EPOLLIN | EPOLLRDNORM;
	if (lab_store_count() < lab_store_depth())
		events |= EPOLLOUT | EPOLLWRNORM;
	return events;
}

static const struct file_operations lab_poll_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_poll_open,
	.release	= lab_poll_release,
	.read		= lab_poll_read,
	.write		= lab_poll_write,
	.poll		= lab_poll_poll,
};

/* --- plugging it in and out ------------------------------------------------- */

static DEFINE_MUTEX(plug_lock);
static struct lab_poll *plugged;	/* NULL while it is out */

static int lab_poll_insert(void)
{
	struct lab_poll *lab;
	int ret = -EEXIST;

	mutex_lock(&plug_lock);
	if (plugged)
		goto out;

	ret = -ENOMEM;
	lab = kzalloc(sizeof(*lab), GFP_KERNEL);
	if (!lab)
		goto out;
	kref_init(&lab->ref);
	lab->misc.minor = MISC_DYNAMIC_MINOR;
	lab->misc.name = "lab_poll";
	lab->misc.fops = &lab_poll_fops;
	lab->misc.mode = 0666;

	ret = misc_register(&lab->misc);
	if (ret)
		kref_put(&lab->ref, lab_poll_free);
	else
		plugged = lab;
out:
	mutex_unlock(&plug_lock);
	return ret;
}

static int lab_poll_remove(void)
{
	struct lab_poll *lab;

	mutex_lock(&plug_lock);
	lab = plugged;
	plugged = NULL;
	/* The node vanishes: no open file can be added from here on. */
	if (lab)
		misc_deregister(&lab->misc);
	mutex_unlock(&plug_lock);
	if (!lab)
		return -ENODEV;

	WRITE_ONCE(lab->gone, true);
	wake_up_interruptible_all(lab_store_wait());
	kref_put(&lab->ref, lab_poll_free);
	return 0;
}

static long lab_poll_ctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LAB_POLL_IOC_REMOVE:
		return lab_poll_remove();
	case LAB_POLL_IOC_INSERT:
		return lab_poll_insert();
	default:
		return -ENOTTY;
	}
}

static const struct file_operations lab_poll_ctl_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= lab_poll_ctl_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_poll_ctl = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_poll_ctl",
	.fops	= &lab_poll_ctl_fops,
	.mode	= 0600,
};

static int __init lab_poll_init(void)
{
	int ret;

	ret = lab_poll_insert();
	if (ret)
		return ret;
	ret = misc_register(&lab_poll_ctl);
	if (ret)
		lab_poll_remove();
	return ret;
}

static void __exit lab_poll_exit(void)
{
	misc_deregister(&lab_poll_ctl);
	/* ENODEV when it is out already, which is as good. */
	lab_poll_remove();
}

module_init(lab_poll_init);
module_exit(lab_poll_exit);

MODULE_DESCRIPTION("chanlab: poll, select and epoll");
MODULE_LICENSE("GPL");
