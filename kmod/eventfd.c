// SPDX-License-Identifier: GPL-2.0-only
/*
 * eventfd.c - /dev/lab_eventfd (0666): an open file of it is handed eventfds, by the
 * requests in uapi/lab_eventfd.h.
 *
 *   LAB_EVENTFD_IOC_TELL  from then on the kernel adds 1 for each message that is put
 *                         into the store, through any door. Who reads the eventfd,
 *                         or waits for it by poll, learns of it.
 *   LAB_EVENTFD_IOC_BELL  the other way: what user space writes to that eventfd is
 *                         taken off it and becomes a message, its value as a __u64.
 *                         One with EFD_SEMAPHORE gives a message of 1 for each.
 *
 * Both end when the eventfd is taken back and when the file is closed, not when user
 * space closes its descriptors of the eventfd: the kernel has a reference of its own.
 * One eventfd as both feeds itself, until the store is full.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/eventfd.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/uio.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "store.h"
#include "lab_eventfd.h"

struct lab_eventfd {
	struct list_head link;
	struct eventfd_ctx *told;	/* NULL for none */
	struct lab_bell *bell;		/* NULL for none */
	struct lab_eventfd_info info;
};

/* An eventfd that user space counts into. */
struct lab_bell {
	struct lab_eventfd *lab;
	struct file *file;		/* holds the eventfd, and the queue with it */
	wait_queue_head_t *queue;
	struct wait_queue_entry entry;
	poll_table table;
	struct work_struct work;
};

static DEFINE_MUTEX(lab_eventfd_lock);	/* the list, and all of a struct lab_eventfd */
static LIST_HEAD(lab_eventfd_files);

/* --- kernel to user --------------------------------------------------------- */

static int lab_eventfd_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	struct lab_eventfd *lab;

	if (event != LAB_STORE_PUT)
		return NOTIFY_DONE;

	mutex_lock(&lab_eventfd_lock);
	list_for_each_entry(lab, &lab_eventfd_files, link) {
		if (!lab->told)
			continue;
		lab_eventfd_signal(lab->told);
		lab->info.told++;
	}
	mutex_unlock(&lab_eventfd_lock);
	return NOTIFY_OK;
}

static struct notifier_block lab_eventfd_notifier = {
	.notifier_call = lab_eventfd_changed,
};

static int lab_eventfd_tell(struct lab_eventfd *lab, int fd)
{
	struct eventfd_ctx *ctx = eventfd_ctx_fdget(fd);
	int ret = 0;

	if (IS_ERR(ctx))
		return PTR_ERR(ctx);

	mutex_lock(&lab_eventfd_lock);
	if (lab->told)
		ret = -EBUSY;
	else
		lab->told = ctx;
	mutex_unlock(&lab_eventfd_lock);

	if (ret)
		eventfd_ctx_put(ctx);
	return ret;
}

static int lab_eventfd_untell(struct lab_eventfd *lab)
{
	struct eventfd_ctx *ctx;

	mutex_lock(&lab_eventfd_lock);
	ctx = lab->told;
	lab->told = NULL;
	mutex_unlock(&lab_eventfd_lock);
	if (!ctx)
		return -ENOENT;

	eventfd_ctx_put(ctx);
	return 0;
}

/* --- user to kernel ----------------------------------------------------------- */

/* What the eventfd counts, which then is 0, or one of it with EFD_SEMAPHORE. 0 for nothing. */
static u64 lab_bell_take(struct lab_bell *bell)
{
	u64 count = 0;
	struct kvec vec = { .iov_base = &count, .iov_len = sizeof(count) };
	struct iov_iter iter;
	loff_t pos = 0;

	iov_iter_kvec(&iter, READ, &vec, 1, sizeof(count));
	/* Somebody else may have been faster: never wait for it. */
	if (vfs_iter_read(bell->file, &iter, &pos, RWF_NOWAIT) != sizeof(count))
		return 0;
	return count;
}

static void lab_bell_work(struct work_struct *work)
{
	struct lab_bell *bell = container_of(work, struct lab_bell, work);
	u64 count;
	int ret;

	while ((count = lab_bell_take(bell))) {
		ret = lab_store_put(&count, sizeof(count));

		mutex_lock(&lab_eventfd_lock);
		bell->lab->info.rung += count;
		if (ret)
			bell->lab->info.lost++;
		mutex_unlock(&lab_eventfd_lock);
	}
}

/* By whoever writes to the eventfd, with the lock of its queue held: nothing can be done here. */
static int lab_bell_wake(struct wait_queue_entry *entry, unsigned int mode, int sync, void *key)
{
	struct lab_bell *bell = container_of(entry, struct lab_bell, entry);

	if (key_to_poll(key) & EPOLLIN)
		schedule_work(&bell->work);
	return 0;
}

static void lab_bell_queued(struct file *file, wait_queue_head_t *queue, poll_table *table)
{
	struct lab_bell *bell = container_of(table, struct lab_bell, table);

	bell->queue = queue;
	add_wait_queue(queue, &bell->entry);
}

static void lab_bell_free(struct lab_bell *bell)
{
	/* In this order: nobody rings any more, and what was rung before is done. */
	if (bell->queue)
		remove_wait_queue(bell->queue, &bell->entry);
	flush_work(&bell->work);
	fput(bell->file);
	kfree(bell);
}

static struct lab_bell *lab_bell_new(struct lab_eventfd *lab, int fd)
{
	struct eventfd_ctx *ctx;
	struct lab_bell *bell;
	struct file *file;

	file = fget(fd);
	if (!file)
		return ERR_PTR(-EBADF);
	/* Is it one? The reference is not needed beside the file's. */
	ctx = eventfd_ctx_fileget(file);
	if (IS_ERR(ctx)) {
		fput(file);
		return ERR_CAST(ctx);
	}
	eventfd_ctx_put(ctx);

	bell = kzalloc(sizeof(*bell), GFP_KERNEL);
	if (!bell) {
		fput(file);
		return ERR_PTR(-ENOMEM);
	}
	bell->lab = lab;
	bell->file = file;
	INIT_WORK(&bell->work, lab_bell_work);
	init_waitqueue_func_entry(&bell->entry, lab_bell_wake);
	init_poll_funcptr(&bell->table, lab_bell_queued);
	return bell;
}

static int lab_eventfd_bell(struct lab_eventfd *lab, int fd)
{
	struct lab_bell *bell = lab_bell_new(lab, fd);
	int ret = 0;

	if (IS_ERR(bell))
		return PTR_ERR(bell);

	mutex_lock(&lab_eventfd_lock);
	if (lab->bell) {
		ret = -EBUSY;
	} else {
		lab->bell = bell;
		/* Whatever it counted before wakes nobody now. */
		if (vfs_poll(bell->file, &bell->table) & EPOLLIN)
			schedule_work(&bell->work);
	}
	mutex_unlock(&lab_eventfd_lock);

	if (ret)
		lab_bell_free(bell);
	return ret;
}

static int lab_eventfd_unbell(struct lab_eventfd *lab)
{
	struct lab_bell *bell;

	mutex_lock(&lab_eventfd_lock);
	bell = lab->bell;
	lab->bell = NULL;
	mutex_unlock(&lab_eventfd_lock);
	if (!bell)
		return -ENOENT;

	/* Without the lock: the work that this waits for takes it. */
	lab_bell_free(bell);
	return 0;
}

/* --- the device -------------------------------------------------------------- */

static long lab_eventfd_info(struct lab_eventfd *lab, void __user *argp)
{
	struct lab_eventfd_info info;

	mutex_lock(&lab_eventfd_lock);
	info = lab->info;
	mutex_unlock(&lab_eventfd_lock);
	return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
}

static long lab_eventfd_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lab_eventfd *lab = file->private_data;
	void __user *argp = (void __user *)arg;
	s32 fd;

	if (cmd == LAB_EVENTFD_IOC_INFO)
		return lab_eventfd_info(lab, argp);
	if (cmd != LAB_EVENTFD_IOC_TELL && cmd != LAB_EVENTFD_IOC_BELL)
		return -ENOTTY;
	if (get_user(fd, (s32 __user *)argp))
		return -EFAULT;

	if (cmd == LAB_EVENTFD_IOC_TELL)
		return fd == -1 ? lab_eventfd_untell(lab) : lab_eventfd_tell(lab, fd);
	return fd == -1 ? lab_eventfd_unbell(lab) : lab_eventfd_bell(lab, fd);
}

static int lab_eventfd_open(struct inode *inode, struct file *file)
{
	struct lab_eventfd *lab = kzalloc(sizeof(*lab), GFP_KERNEL);

	if (!lab)
		return -ENOMEM;
	file->private_data = lab;
	mutex_lock(&lab_eventfd_lock);
	list_add_tail(&lab->link, &lab_eventfd_files);
	mutex_unlock(&lab_eventfd_lock);
	return 0;
}

static int lab_eventfd_release(struct inode *inode, struct file *file)
{
	struct lab_eventfd *lab = file->private_data;

	mutex_lock(&lab_eventfd_lock);
	list_del(&lab->link);
	mutex_unlock(&lab_eventfd_lock);
	/* ENOENT where there is none, which is as good. */
	lab_eventfd_untell(lab);
	lab_eventfd_unbell(lab);
	kfree(lab);
	return 0;
}

static const struct file_operations lab_eventfd_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_eventfd_open,
	.release	= lab_eventfd_release,
	.unlocked_ioctl	= lab_eventfd_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_eventfd_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_eventfd",
	.fops	= &lab_eventfd_fops,
	.mode	= 0666,
};

static int __init lab_eventfd_init(void)
{
	int ret;

	ret = lab_store_notify_register(&lab_eventfd_notifier);
	if (ret)
		return ret;
	ret = misc_register(&lab_eventfd_misc);
	if (ret)
		lab_store_notify_unregister(&lab_eventfd_notifier);
	return ret;
}

static void __exit lab_eventfd_exit(void)
{
	/* Open files pin the module, so there are none. */
	misc_deregister(&lab_eventfd_misc);
	lab_store_notify_unregister(&lab_eventfd_notifier);
}

module_init(lab_eventfd_init);
module_exit(lab_eventfd_exit);

MODULE_DESCRIPTION("chanlab: eventfd, both ways");
MODULE_LICENSE("GPL");
