// SPDX-License-Identifier: GPL-2.0-only
/*
 * chardev.c - two character devices in one region, with nodes made by devtmpfs.
 *
 * /dev/lab_chardev (0666) is the store as a stream of messages, without
 * positions (lseek and pread: ESPIPE):
 *   write  appends one message, all of its iovecs together; an empty one too.
 *          EMSGSIZE over 64 KiB; EFAULT puts nothing; waits while the store is
 *          full, or EAGAIN with O_NONBLOCK.
 *   read   gives the rest of the message that this open file is in, else of the
 *          oldest one in the store: never more than one message, so reads are
 *          short; a short buffer leaves the rest for the next read of this file.
 *          An empty message reads as end of file. Waits while there is nothing,
 *          or EAGAIN with O_NONBLOCK. EFAULT loses nothing.
 *
 * /dev/lab_chardev_mem (0644) is 64 KiB of memory with an end that writes move:
 * read gives what lies before the end, write past the memory is short, then
 * ENOSPC; a gap reads as zeros. O_APPEND writes at the end, O_TRUNC empties it,
 * SEEK_END is the end.
 *
 * O_EXCL on either: EBUSY when somebody else has it open, and for everybody else
 * until it is closed. splice and sendfile work on both.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cdev.h>
#include <linux/fs.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uio.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "store.h"
#include "lab_chardev.h"

/* --- open and exclusive open, the same for both --------------------------- */

struct lab_chardev {
	const char *name;
	umode_t mode;
	const struct file_operations *fops;
	struct cdev cdev;
	struct mutex lock;		/* the two below */
	unsigned int openers;
	bool exclusive;			/* the one opener said O_EXCL */
};

static int lab_chardev_claim(struct lab_chardev *dev, const struct file *file)
{
	bool exclusive = file->f_flags & O_EXCL;
	int ret = 0;

	mutex_lock(&dev->lock);
	if (dev->exclusive || (exclusive && dev->openers)) {
		ret = -EBUSY;
	} else {
		dev->openers++;
		dev->exclusive = exclusive;
	}
	mutex_unlock(&dev->lock);
	return ret;
}

static void lab_chardev_unclaim(struct lab_chardev *dev)
{
	mutex_lock(&dev->lock);
	dev->openers--;
	dev->exclusive = false;		/* if it was, that opener was the only one */
	mutex_unlock(&dev->lock);
}

static struct lab_chardev *lab_chardev_of(struct inode *inode)
{
	return container_of(inode->i_cdev, struct lab_chardev, cdev);
}

/* --- the stream ------------------------------------------------------------ */

struct lab_stream {
	struct mutex lock;		/* the two below; never held while waiting */
	struct lab_message *message;	/* the one being read, or NULL */
	size_t done;			/* so much of it was read */
};

static int lab_stream_open(struct inode *inode, struct file *file)
{
	struct lab_chardev *dev = lab_chardev_of(inode);
	struct lab_stream *stream;
	int ret;

	stream = kzalloc(sizeof(*stream), GFP_KERNEL);
	if (!stream)
		return -ENOMEM;
	mutex_init(&stream->lock);

	ret = lab_chardev_claim(dev, file);
	if (ret)
		goto err_free;

	file->private_data = stream;
	return stream_open(inode, file);	/* no positions; never fails */

err_free:
	kfree(stream);
	return ret;
}

static int lab_stream_release(struct inode *inode, struct file *file)
{
	struct lab_stream *stream = file->private_data;

	/* What was begun is lost with its reader; what was not goes to the next. */
	if (stream->message && !stream->done)
		lab_store_give_back(stream->message);
	else if (stream->message)
		lab_message_free(stream->message);

	lab_chardev_unclaim(lab_chardev_of(inode));
	kfree(stream);
	return 0;
}

/* Wait for a message; on success it is there and stream->lock is held. */
static int lab_stream_lock_message(struct lab_stream *stream, bool wait)
{
	for (;;) {
		/* Its holder may be copying to memory that is slow to come. */
		if (mutex_lock_interruptible(&stream->lock))
			return -ERESTARTSYS;
		if (!stream->message) {
			stream->message = lab_store_take();
			stream->done = 0;
		}
		if (stream->message)
			return 0;
		mutex_unlock(&stream->lock);

		if (!wait)
			return -EAGAIN;
		/* Restarted or EINTR, as the signal's handler asks: nothing was taken. */
		if (wait_event_interruptible(*lab_store_wait(),
					     lab_store_count() || READ_ONCE(stream->message)))
			return -ERESTARTSYS;
	}
}

static ssize_t lab_stream_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	struct file *file = iocb->ki_filp;
	struct lab_stream *stream = file->private_data;
	size_t left, copied;
	int ret;

	if (!iov_iter_count(to))
		return 0;

	ret = lab_stream_lock_message(stream, !(file->f_flags & O_NONBLOCK));
	if (ret)
		return ret;

	left = stream->message->len - stream->done;
	copied = copy_to_iter(stream->message->data + stream->done, left, to);
	stream->done += copied;
	if (copied == left) {
		lab_message_free(stream->message);
		stream->message = NULL;
	}
	mutex_unlock(&stream->lock);

	if (copied == left)
		return copied;
	/* Somebody who shares this open file may be asleep for want of a message. */
	wake_up_interruptible_poll(lab_store_wait(), EPOLLIN | EPOLLRDNORM);
	return copied ? copied : -EFAULT;
}

static ssize_t lab_stream_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	bool wait = !(iocb->ki_filp->f_flags & O_NONBLOCK);
	size_t len = iov_iter_count(from);
	ssize_t ret;
	void *data;

	if (len > LAB_CHARDEV_MAX_MESSAGE)
		return -EMSGSIZE;

	data = kvmalloc(len, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	if (!copy_from_iter_full(data, len, from)) {
		ret = -EFAULT;
		goto out;
	}

	while ((ret = lab_store_put(data, len)) == -ENOSPC) {
		if (!wait) {
			ret = -EAGAIN;
			goto out;
		}
		if (wait_event_interruptible(*lab_store_wait(),
					     lab_store_count() < lab_store_depth())) {
			ret = -ERESTARTSYS;
			goto out;
		}
	}
	if (!ret)
		ret = len;
out:
	kvfree(data);
	return ret;
}

static const struct file_operations lab_stream_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_stream_open,
	.release	= lab_stream_release,
	.read_iter	= lab_stream_read_iter,
	.write_iter	= lab_stream_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
};

/* --- the memory ------------------------------------------------------------ */

static DEFINE_MUTEX(mem_lock);	/* the two below */
static u8 *mem_data;		/* zeros from mem_end on */
static loff_t mem_end;

static int lab_mem_open(struct inode *inode, struct file *file)
{
	int ret = lab_chardev_claim(lab_chardev_of(inode), file);

	if (ret)
		return ret;

	/* The VFS acts on O_TRUNC for regular files only, and checks the mode for all. */
	if (file->f_flags & O_TRUNC && file->f_mode & FMODE_WRITE) {
		mutex_lock(&mem_lock);
		memset(mem_data, 0, LAB_CHARDEV_MEM_SIZE);
		mem_end = 0;
		mutex_unlock(&mem_lock);
	}
	return 0;
}

static int lab_mem_release(struct inode *inode, struct file *file)
{
	lab_chardev_unclaim(lab_chardev_of(inode));
	return 0;
}

static ssize_t lab_mem_read_iter(struct kiocb *iocb, struct iov_iter *to)
{
	loff_t pos = iocb->ki_pos;
	size_t wanted, copied = 0;
	ssize_t ret = 0;

	if (mutex_lock_interruptible(&mem_lock))
		return -ERESTARTSYS;
	if (pos < mem_end) {
		wanted = min_t(loff_t, iov_iter_count(to), mem_end - pos);
		copied = copy_to_iter(mem_data + pos, wanted, to);
		ret = copied || !wanted ? copied : -EFAULT;
	}
	mutex_unlock(&mem_lock);

	iocb->ki_pos = pos + copied;
	return ret;
}

static ssize_t lab_mem_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	size_t wanted, copied;
	ssize_t ret;
	loff_t pos;

	if (!iov_iter_count(from))
		return 0;

	if (mutex_lock_interruptible(&mem_lock))
		return -ERESTARTSYS;
	/* O_APPEND wins over the position, that of pwrite() too. */
	pos = iocb->ki_flags & IOCB_APPEND ? mem_end : iocb->ki_pos;
	if (pos >= LAB_CHARDEV_MEM_SIZE) {
		ret = -ENOSPC;
		goto out;
	}
	wanted = min_t(loff_t, iov_iter_count(from), LAB_CHARDEV_MEM_SIZE - pos);
	copied = copy_from_iter(mem_data + pos, wanted, from);
	if (!copied) {
		ret = -EFAULT;
		goto out;
	}
	iocb->ki_pos = pos + copied;
	mem_end = max(mem_end, iocb->ki_pos);
	ret = copied;
out:
	mutex_unlock(&mem_lock);
	return ret;
}

static loff_t lab_mem_llseek(struct file *file, loff_t offset, int whence)
{
	loff_t end;

	mutex_lock(&mem_lock);
	end = mem_end;
	mutex_unlock(&mem_lock);
	/* EINVAL before the start and past the memory; past the end is allowed. */
	return generic_file_llseek_size(file, offset, whence, LAB_CHARDEV_MEM_SIZE, end);
}

static const struct file_operations lab_mem_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_mem_open,
	.release	= lab_mem_release,
	.read_iter	= lab_mem_read_iter,
	.write_iter	= lab_mem_write_iter,
	.splice_read	= copy_splice_read,
	.splice_write	= iter_file_splice_write,
	.llseek		= lab_mem_llseek,
};

/* --- the region, the class and the nodes ------------------------------------ */

static struct lab_chardev lab_chardevs[] = {
	{ .name = "lab_chardev", .mode = 0666, .fops = &lab_stream_fops },
	{ .name = "lab_chardev_mem", .mode = 0644, .fops = &lab_mem_fops },
};

static dev_t lab_chardev_first;
static struct class *lab_chardev_class;

static char *lab_chardev_devnode(lab_devnode_device *device, umode_t *mode)
{
	if (mode)
		*mode = lab_chardevs[MINOR(device->devt) - MINOR(lab_chardev_first)].mode;
	return NULL;	/* the device's own name */
}

static int lab_chardev_add(struct lab_chardev *dev, dev_t number)
{
	struct device *device;
	int ret;

	mutex_init(&dev->lock);
	cdev_init(&dev->cdev, dev->fops);
	dev->cdev.owner = THIS_MODULE;
	ret = cdev_add(&dev->cdev, number, 1);
	if (ret)
		return ret;

	device = device_create(lab_chardev_class, NULL, number, NULL, "%s", dev->name);
	if (IS_ERR(device)) {
		cdev_del(&dev->cdev);
		return PTR_ERR(device);
	}
	return 0;
}

static void lab_chardev_remove(struct lab_chardev *dev)
{
	device_destroy(lab_chardev_class, dev->cdev.dev);
	cdev_del(&dev->cdev);
}

static int __init lab_chardev_init(void)
{
	int i, ret;

	mem_data = vzalloc(LAB_CHARDEV_MEM_SIZE);
	if (!mem_data)
		return -ENOMEM;

	ret = alloc_chrdev_region(&lab_chardev_first, 0, ARRAY_SIZE(lab_chardevs), "lab_chardev");
	if (ret)
		goto err_free;

	lab_chardev_class = lab_class_create("lab_chardev");
	if (IS_ERR(lab_chardev_class)) {
		ret = PTR_ERR(lab_chardev_class);
		goto err_region;
	}
	lab_chardev_class->devnode = lab_chardev_devnode;

	for (i = 0; i < ARRAY_SIZE(lab_chardevs); i++) {
		ret = lab_chardev_add(&lab_chardevs[i], lab_chardev_first + i);
		if (ret)
			goto err_remove;
	}
	return 0;

err_remove:
	while (i--)
		lab_chardev_remove(&lab_chardevs[i]);
	class_destroy(lab_chardev_class);
err_region:
	unregister_chrdev_region(lab_chardev_first, ARRAY_SIZE(lab_chardevs));
err_free:
	vfree(mem_data);
	return ret;
}

static void __exit lab_chardev_exit(void)
{
	int i;

	/* Open files pin the module, so there are none. */
	for (i = ARRAY_SIZE(lab_chardevs); i--;)
		lab_chardev_remove(&lab_chardevs[i]);
	class_destroy(lab_chardev_class);
	unregister_chrdev_region(lab_chardev_first, ARRAY_SIZE(lab_chardevs));
	vfree(mem_data);
}

module_init(lab_chardev_init);
module_exit(lab_chardev_exit);

MODULE_DESCRIPTION("chanlab: character devices");
MODULE_LICENSE("GPL");
