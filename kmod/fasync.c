// SPDX-License-Identifier: GPL-2.0-only
/*
 * fasync.c - /dev/lab_fasync (0666), which sends a signal when the store can be read
 * or written, to whom the owner of an open file is (F_SETOWN) once the file has
 * O_ASYNC.
 *
 *   signal  a file that is open for reading: POLL_IN for each message that is put
 *           through any door. One that is open for writing: POLL_OUT for each that
 *           leaves it, and when the store is cleared. SIGIO without more, or what
 *           F_SETSIG says, with si_code, si_band and si_fd.
 *   read    takes one message, cut to the buffer (the rest is lost, as with a
 *           datagram); EFAULT leaves it in the store.
 *   write   puts one message; EMSGSIZE over 64 KiB.
 *           Both wait, or EAGAIN with O_NONBLOCK.
 *   ioctl   sends a signal of any other kind, see uapi/lab_fasync.h.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/signal.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "store.h"
#include "lab_fasync.h"

/* The files with O_ASYNC: those that may read, and those that may write. */
static struct fasync_struct *lab_fasync_readers;
static struct fasync_struct *lab_fasync_writers;

/*
 * F_SETFL and FIOASYNC, and the last close of a file that has O_ASYNC still. @fd is
 * what the caller calls the file, and what its signals will call it: -1 at the close.
 */
static int lab_fasync_fasync(int fd, struct file *file, int on)
{
	int ret = 0;

	if (file->f_mode & FMODE_READ)
		ret = fasync_helper(fd, file, on, &lab_fasync_readers);
	if (ret >= 0 && file->f_mode & FMODE_WRITE) {
		ret = fasync_helper(fd, file, on, &lab_fasync_writers);
		/* Half of it is nothing: O_ASYNC will not be set. */
		if (ret < 0 && file->f_mode & FMODE_READ)
			fasync_helper(-1, file, 0, &lab_fasync_readers);
	}
	return ret;
}

static int lab_fasync_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event == LAB_STORE_PUT)
		kill_fasync(&lab_fasync_readers, SIGIO, POLL_IN);
	else
		kill_fasync(&lab_fasync_writers, SIGIO, POLL_OUT);
	return NOTIFY_OK;
}

static struct notifier_block lab_fasync_notifier = {
	.notifier_call = lab_fasync_changed,
};

static ssize_t lab_fasync_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct lab_message *message;
	size_t len;

	for (;;) {
		message = lab_store_take();
		if (message)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(*lab_store_wait(), lab_store_count()))
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

static ssize_t lab_fasync_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	ssize_t ret;
	void *data;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;
	data = vmemdup_user(buf, len);
	if (IS_ERR(data))
		return PTR_ERR(data);

	for (;;) {
		ret = lab_store_put(data, len);
		if (ret != -ENOSPC)
			break;
		ret = -EAGAIN;
		if (file->f_flags & O_NONBLOCK)
			break;
		ret = -ERESTARTSYS;
		if (wait_event_interruptible(*lab_store_wait(),
					     lab_store_count() < lab_store_depth()))
			break;
	}
	kvfree(data);
	return ret ? ret : len;
}

static long lab_fasync_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	if (cmd != LAB_FASYNC_IOC_TELL)
		return -ENOTTY;
	if (!(file->f_mode & FMODE_WRITE))
		return -EBADF;
	/* Whatever is no POLL_* is a BUG() of the kernel's own when the signal is sent. */
	if (arg < POLL_IN || arg > POLL_HUP)
		return -EINVAL;

	if (arg == POLL_OUT)
		kill_fasync(&lab_fasync_writers, SIGIO, POLL_OUT);
	else
		kill_fasync(&lab_fasync_readers, SIGIO, arg);
	return 0;
}

static int lab_fasync_open(struct inode *inode, struct file *file)
{
	return stream_open(inode, file);
}

/* No .release: the last close of a file takes it out of the lists before. */
static const struct file_operations lab_fasync_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_fasync_open,
	.read		= lab_fasync_read,
	.write		= lab_fasync_write,
	.fasync		= lab_fasync_fasync,
	.unlocked_ioctl	= lab_fasync_ioctl,
	/* The argument is a number, small enough to pass unharmed. */
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_fasync_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_fasync",
	.fops	= &lab_fasync_fops,
	.mode	= 0666,
};

static int __init lab_fasync_init(void)
{
	int ret;

	ret = lab_store_notify_register(&lab_fasync_notifier);
	if (ret)
		return ret;
	ret = misc_register(&lab_fasync_misc);
	if (ret)
		lab_store_notify_unregister(&lab_fasync_notifier);
	return ret;
}

static void __exit lab_fasync_exit(void)
{
	/* Open files pin the module, so the lists are empty. */
	misc_deregister(&lab_fasync_misc);
	lab_store_notify_unregister(&lab_fasync_notifier);
}

module_init(lab_fasync_init);
module_exit(lab_fasync_exit);

MODULE_DESCRIPTION("chanlab: signals for an open file");
MODULE_LICENSE("GPL");
