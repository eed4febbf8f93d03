// SPDX-License-Identifier: GPL-2.0-only
/*
 * anon_inode.c - /dev/lab_anon_inode (0666), whose requests return descriptors of files
 * that no path leads to: see uapi/lab_anon_inode.h.
 *
 *   anon_inode:[lab_message]  a message that left the store, as a file to read:
 *                             read, pread, lseek, mmap (also private and written to),
 *                             ioctl. Writing gives EBADF.
 *   anon_inode:[lab_watch]    readable once messages were put, through any door; a
 *                             read gives their number since the last one as a __u64,
 *                             EINVAL with less room. It waits, or EAGAIN with
 *                             O_NONBLOCK. No position: ESPIPE.
 *
 * They outlive the device's file that they came from, and the process if another has
 * them; each pins the module. /proc/PID/fdinfo tells their size and number.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/anon_inodes.h>
#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/notifier.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "store.h"
#include "lab_anon_inode.h"

static atomic_t lab_anon_messages = ATOMIC_INIT(0);
static atomic_t lab_anon_watches = ATOMIC_INIT(0);

/* --- a message as a file ---------------------------------------------------- */

struct lab_anon_message {
	size_t len;
	u8 *data;	/* whole pages, which user space may map */
};

static void lab_anon_message_free(struct lab_anon_message *message)
{
	vfree(message->data);
	kfree(message);
	atomic_dec(&lab_anon_messages);
}

static struct lab_anon_message *lab_anon_message_new(const struct lab_message *from)
{
	struct lab_anon_message *message = kzalloc(sizeof(*message), GFP_KERNEL);

	if (!message)
		return NULL;
	/* Zeroed: what is behind the message in its last page is mapped too. */
	message->data = vmalloc_user(max_t(size_t, from->len, 1));
	if (!message->data) {
		kfree(message);
		return NULL;
	}
	message->len = from->len;
	memcpy(message->data, from->data, from->len);
	atomic_inc(&lab_anon_messages);
	return message;
}

static ssize_t lab_anon_message_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct lab_anon_message *message = file->private_data;

	return simple_read_from_buffer(buf, size, pos, message->data, message->len);
}

static loff_t lab_anon_message_llseek(struct file *file, loff_t offset, int whence)
{
	struct lab_anon_message *message = file->private_data;

	return fixed_size_llseek(file, offset, whence, message->len);
}

static int lab_anon_message_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct lab_anon_message *message = file->private_data;

	/* EINVAL beyond its last page; a file that cannot be written has no shared writing. */
	return remap_vmalloc_range(vma, message->data, vma->vm_pgoff);
}

static long lab_anon_message_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lab_anon_message *message = file->private_data;

	switch (cmd) {
	case LAB_ANON_IOC_SIZE:
		return put_user((u32)message->len, (u32 __user *)arg);
	case LAB_ANON_IOC_PUT:
		return lab_store_put(message->data, message->len);
	default:
		return -ENOTTY;
	}
}

static void lab_anon_message_show_fdinfo(struct seq_file *seq, struct file *file)
{
	struct lab_anon_message *message = file->private_data;

	seq_printf(seq, "lab_size:\t%zu\n", message->len);
}

static int lab_anon_message_release(struct inode *inode, struct file *file)
{
	lab_anon_message_free(file->private_data);
	return 0;
}

static const struct file_operations lab_anon_message_fops = {
	.owner		= THIS_MODULE,
	.read		= lab_anon_message_read,
	.llseek		= lab_anon_message_llseek,
	.mmap		= lab_anon_message_mmap,
	.unlocked_ioctl	= lab_anon_message_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
	.show_fdinfo	= lab_anon_message_show_fdinfo,
	.release	= lab_anon_message_release,
};

/*
 * Not anon_inode_getfd(): its file would have no position in 5.10, and the descriptor
 * is had before the message, so that there is nothing to undo when there is none left.
 */
static long lab_anon_take(unsigned int flags)
{
	struct lab_anon_message *message;
	struct lab_message *taken;
	struct file *file;
	int fd;

	fd = get_unused_fd_flags(O_RDONLY | flags);
	if (fd < 0)
		return fd;

	taken = lab_store_take();
	if (!taken) {
		put_unused_fd(fd);
		return -EAGAIN;
	}
	message = lab_anon_message_new(taken);
	if (!message) {
		file = ERR_PTR(-ENOMEM);
		goto err_give_back;
	}
	file = anon_inode_getfile("[lab_message]", &lab_anon_message_fops, message,
				  O_RDONLY | flags);
	if (IS_ERR(file))
		goto err_free;

	file->f_mode |= FMODE_LSEEK | FMODE_PREAD;
	lab_message_free(taken);
	/* From here on another thread may use it, and close it. */
	fd_install(fd, file);
	return fd;

err_free:
	lab_anon_message_free(message);
err_give_back:
	lab_store_give_back(taken);
	put_unused_fd(fd);
	return PTR_ERR(file);
}

/* --- a watch ------------------------------------------------------------------ */

struct lab_anon_watch {
	spinlock_t lock;	/* of seen */
	u64 seen;		/* of lab_anon_puts */
};

static atomic64_t lab_anon_puts = ATOMIC64_INIT(0);
static DECLARE_WAIT_QUEUE_HEAD(lab_anon_wait);

static int lab_anon_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	if (event == LAB_STORE_PUT) {
		atomic64_inc(&lab_anon_puts);
		wake_up_interruptible_poll(&lab_anon_wait, EPOLLIN | EPOLLRDNORM);
	}
	return NOTIFY_OK;
}

static struct notifier_block lab_anon_notifier = {
	.notifier_call = lab_anon_changed,
};

static u64 lab_anon_watch_pending(struct lab_anon_watch *watch)
{
	u64 count;

	spin_lock(&watch->lock);
	count = atomic64_read(&lab_anon_puts) - watch->seen;
	spin_unlock(&watch->lock);
	return count;
}

static u64 lab_anon_watch_take(struct lab_anon_watch *watch)
{
	u64 count;

	spin_lock(&watch->lock);
	count = atomic64_read(&lab_anon_puts) - watch->seen;
	watch->seen += count;
	spin_unlock(&watch->lock);
	return count;
}

static ssize_t lab_anon_watch_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	struct lab_anon_watch *watch = file->private_data;
	u64 count;

	if (size < sizeof(count))
		return -EINVAL;

	for (;;) {
		count = lab_anon_watch_take(watch);
		if (count)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		if (wait_event_interruptible(lab_anon_wait, lab_anon_watch_pending(watch)))
			return -ERESTARTSYS;
	}

	if (copy_to_user(buf, &count, sizeof(count))) {
		spin_lock(&watch->lock);
		watch->seen -= count;
		spin_unlock(&watch->lock);
		return -EFAULT;
	}
	return sizeof(count);
}

static __poll_t lab_anon_watch_poll(struct file *file, poll_table *wait)
{
	poll_wait(file, &lab_anon_wait, wait);
	return lab_anon_watch_pending(file->private_data) ? EPOLLIN | EPOLLRDNORM : 0;
}

static void lab_anon_watch_show_fdinfo(struct seq_file *seq, struct file *file)
{
	seq_printf(seq, "lab_count:\t%llu\n", lab_anon_watch_pending(file->private_data));
}

static void lab_anon_watch_free(struct lab_anon_watch *watch)
{
	kfree(watch);
	atomic_dec(&lab_anon_watches);
}

static int lab_anon_watch_release(struct inode *inode, struct file *file)
{
	lab_anon_watch_free(file->private_data);
	return 0;
}

static const struct file_operations lab_anon_watch_fops = {
	.owner		= THIS_MODULE,
	.read		= lab_anon_watch_read,
	.poll		= lab_anon_watch_poll,
	.show_fdinfo	= lab_anon_watch_show_fdinfo,
	.release	= lab_anon_watch_release,
};

static long lab_anon_watch(unsigned int flags)
{
	struct lab_anon_watch *watch = kzalloc(sizeof(*watch), GFP_KERNEL);
	int fd;

	if (!watch)
		return -ENOMEM;
	atomic_inc(&lab_anon_watches);
	spin_lock_init(&watch->lock);
	watch->seen = atomic64_read(&lab_anon_puts);

	/* Where this fails, .release was not and will not be called. */
	fd = anon_inode_getfd("[lab_watch]", &lab_anon_watch_fops, watch, O_RDONLY | flags);
	if (fd < 0)
		lab_anon_watch_free(watch);
	return fd;
}

/* --- the device -------------------------------------------------------------- */

static long lab_anon_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	struct lab_anon_info info;
	u32 flags;

	switch (cmd) {
	case LAB_ANON_IOC_TAKE:
	case LAB_ANON_IOC_WATCH:
		if (get_user(flags, (u32 __user *)argp))
			return -EFAULT;
		if (flags & ~(O_CLOEXEC | O_NONBLOCK))
			return -EINVAL;
		return cmd == LAB_ANON_IOC_TAKE ? lab_anon_take(flags) : lab_anon_watch(flags);
	case LAB_ANON_IOC_INFO:
		info.messages = atomic_read(&lab_anon_messages);
		info.watches = atomic_read(&lab_anon_watches);
		return copy_to_user(argp, &info, sizeof(info)) ? -EFAULT : 0;
	default:
		return -ENOTTY;
	}
}

static const struct file_operations lab_anon_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= lab_anon_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_anon_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_anon_inode",
	.fops	= &lab_anon_fops,
	.mode	= 0666,
};

static int __init lab_anon_init(void)
{
	int ret;

	ret = lab_store_notify_register(&lab_anon_notifier);
	if (ret)
		return ret;
	ret = misc_register(&lab_anon_misc);
	if (ret)
		lab_store_notify_unregister(&lab_anon_notifier);
	return ret;
}

static void __exit lab_anon_exit(void)
{
	/* Files of any of the three kinds pin the module, so there are none. */
	misc_deregister(&lab_anon_misc);
	lab_store_notify_unregister(&lab_anon_notifier);
}

module_init(lab_anon_init);
module_exit(lab_anon_exit);

MODULE_DESCRIPTION("chanlab: files that came out of an ioctl");
MODULE_LICENSE("GPL");
