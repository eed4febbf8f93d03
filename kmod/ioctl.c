// SPDX-License-Identifier: GPL-2.0-only
/*
 * ioctl.c - /dev/lab_ioctl (0666): requests of each direction, with and without
 * structs, on the store. uapi/lab_ioctl.h says what each of them does.
 *
 * In general: ENOTTY for a number that is not ours (a struct of another size
 * makes another number, unless the struct is one that may grow); EFAULT for a
 * struct that cannot be read or written, with nothing changed; EINTR or a restart
 * when a signal ends a wait, with nothing taken.
 *
 * A 32-bit program on a 64-bit kernel comes in by .compat_ioctl. Its arguments are
 * translated there where they have to be; a number that only the other word size
 * has is ENOTTY.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "store.h"
#include "lab_ioctl.h"

struct lab_ioctl_file {
	struct mutex lock;		/* of setup */
	struct lab_setup setup;
};

static atomic_t lab_ioctl_files = ATOMIC_INIT(0);

static u32 lab_ioctl_max_message(struct lab_ioctl_file *lab)
{
	u32 max;

	mutex_lock(&lab->lock);
	max = lab->setup.max_message;
	mutex_unlock(&lab->lock);
	return max ? max : LAB_STORE_MAX_MESSAGE;
}

static long lab_ioctl_wait(struct file *file, unsigned long wanted)
{
	if (!wanted || wanted > lab_store_depth())
		return -EINVAL;

	if (file->f_flags & O_NONBLOCK) {
		if (lab_store_count() < wanted)
			return -EAGAIN;
	} else if (wait_event_interruptible(*lab_store_wait(), lab_store_count() >= wanted)) {
		return -ERESTARTSYS;
	}
	return lab_store_count();
}

static long lab_ioctl_status(struct lab_ioctl_file *lab, void __user *argp)
{
	struct lab_status status = {
		.count = lab_store_count(),
		.depth = lab_store_depth(),
		.max_message = lab_ioctl_max_message(lab),
		.files = atomic_read(&lab_ioctl_files),
	};

	return copy_to_user(argp, &status, sizeof(status)) ? -EFAULT : 0;
}

static long lab_ioctl_put(struct lab_ioctl_file *lab, void __user *argp)
{
	struct lab_put put;
	void *data;
	long ret;

	if (copy_from_user(&put, argp, sizeof(put)))
		return -EFAULT;
	if (put.flags)
		return -EINVAL;
	if (put.len > lab_ioctl_max_message(lab))
		return -EMSGSIZE;

	data = vmemdup_user(u64_to_user_ptr(put.data), put.len);
	if (IS_ERR(data))
		return PTR_ERR(data);
	ret = lab_store_put(data, put.len);
	kvfree(data);
	return ret;
}

static struct lab_message *lab_ioctl_take(struct file *file)
{
	struct lab_message *message;

	for (;;) {
		message = lab_store_take();
		if (message)
			return message;
		if (file->f_flags & O_NONBLOCK)
			return ERR_PTR(-EAGAIN);
		if (wait_event_interruptible(*lab_store_wait(), lab_store_count()))
			return ERR_PTR(-ERESTARTSYS);
	}
}

static long lab_ioctl_get(struct file *file, void __user *argp)
{
	struct lab_message *message;
	struct lab_get get;
	long ret = 0;

	if (copy_from_user(&get, argp, sizeof(get)))
		return -EFAULT;
	if (get.flags || get.pad)
		return -EINVAL;

	message = lab_ioctl_take(file);
	if (IS_ERR(message))
		return PTR_ERR(message);

	get.len = message->len;
	if (get.len > get.size)
		ret = -EMSGSIZE;
	else if (copy_to_user(u64_to_user_ptr(get.data), message->data, get.len))
		ret = -EFAULT;
	/* The length goes out even then: the caller learns what room it takes. */
	if (copy_to_user(argp, &get, sizeof(get)))
		ret = -EFAULT;

	if (ret)
		lab_store_give_back(message);
	else
		lab_message_free(message);
	return ret;
}

static long lab_ioctl_square(void __user *argp)
{
	struct lab_square square;

	if (copy_from_user(&square, argp, sizeof(square)))
		return -EFAULT;
	square.square = (u64)square.n * square.n;
	return copy_to_user(argp, &square, sizeof(square)) ? -EFAULT : 0;
}

static long lab_ioctl_setup(struct lab_ioctl_file *lab, size_t size, void __user *argp)
{
	struct lab_setup setup;
	int ret;

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (size < sizeof(struct lab_setup_v0))
		return -EINVAL;
	ret = copy_struct_from_user(&setup, sizeof(setup), argp, size);
	if (ret)
		return ret;
	if (setup.flags || setup.max_message > LAB_STORE_MAX_MESSAGE)
		return -EINVAL;

	mutex_lock(&lab->lock);
	lab->setup = setup;
	mutex_unlock(&lab->lock);
	return 0;
}

static long lab_ioctl_get_setup(struct lab_ioctl_file *lab, size_t size, void __user *argp)
{
	size_t ours = min(size, sizeof(struct lab_setup));
	struct lab_setup setup;

	if (size < sizeof(struct lab_setup_v0))
		return -EINVAL;

	mutex_lock(&lab->lock);
	setup = lab->setup;
	mutex_unlock(&lab->lock);

	if (copy_to_user(argp, &setup, ours) || clear_user(argp + ours, size - ours))
		return -EFAULT;
	return 0;
}

/* @peek is ours already; its size is the message's length where it returns 0 or -EMSGSIZE. */
static long lab_ioctl_do_peek(struct lab_peek *peek)
{
	ssize_t len;
	void *data;
	long ret = 0;

	if (peek->index > UINT_MAX)
		return -ENOENT;
	len = lab_store_length(peek->index);
	if (len < 0)
		return len;
	if (len > peek->size) {
		peek->size = len;
		return -EMSGSIZE;
	}

	data = kvmalloc(len, GFP_KERNEL);
	if (!data)
		return -ENOMEM;
	/* Another one may have that index meanwhile: a longer one is cut. */
	len = lab_store_copy(peek->index, data, len);
	if (len < 0)
		ret = len;
	else if (copy_to_user((__force void __user *)peek->data, data, len))
		ret = -EFAULT;
	else
		peek->size = len;
	kvfree(data);
	return ret;
}

static long lab_ioctl_peek(void __user *argp)
{
	struct lab_peek peek;
	long ret;

	if (copy_from_user(&peek, argp, sizeof(peek)))
		return -EFAULT;
	ret = lab_ioctl_do_peek(&peek);
	if (ret && ret != -EMSGSIZE)
		return ret;
	return copy_to_user(argp, &peek, sizeof(peek)) ? -EFAULT : ret;
}

static void lab_ioctl_count(u32 *count, u64 *bytes)
{
	ssize_t len;

	*bytes = 0;
	for (*count = 0; (len = lab_store_length(*count)) >= 0; ++*count)
		*bytes += len;
}

static long lab_ioctl_total(void __user *argp)
{
	struct lab_total total;
	u32 count;
	u64 bytes;

	lab_ioctl_count(&count, &bytes);
	memset(&total, 0, sizeof(total));	/* the padding goes out too */
	total.count = count;
	total.bytes = bytes;
	return copy_to_user(argp, &total, sizeof(total)) ? -EFAULT : 0;
}

/* Whether @cmd is @known but for the size of its struct. */
static bool lab_ioctl_is(unsigned int cmd, unsigned int known)
{
	return !((cmd ^ known) & ~IOCSIZE_MASK);
}

static long lab_ioctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lab_ioctl_file *lab = file->private_data;
	void __user *argp = (void __user *)arg;

	switch (cmd) {
	case LAB_IOC_CLEAR:
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		lab_store_clear();
		return 0;
	case LAB_IOC_WAIT:
		return lab_ioctl_wait(file, arg);
	case LAB_IOC_STATUS:
		return lab_ioctl_status(lab, argp);
	case LAB_IOC_PUT:
		if (!(file->f_mode & FMODE_WRITE))
			return -EBADF;
		return lab_ioctl_put(lab, argp);
	case LAB_IOC_GET:
		return lab_ioctl_get(file, argp);
	case LAB_IOC_SQUARE:
		return lab_ioctl_square(argp);
	case LAB_IOC_PEEK:
		return lab_ioctl_peek(argp);
	case LAB_IOC_TOTAL:
		return lab_ioctl_total(argp);
	}

	if (lab_ioctl_is(cmd, LAB_IOC_SETUP))
		return lab_ioctl_setup(lab, _IOC_SIZE(cmd), argp);
	if (lab_ioctl_is(cmd, LAB_IOC_GET_SETUP))
		return lab_ioctl_get_setup(lab, _IOC_SIZE(cmd), argp);
	return -ENOTTY;
}

/* --- 32-bit callers ------------------------------------------------------- */

#ifdef CONFIG_COMPAT

/* struct lab_peek as they have it. */
struct lab_peek32 {
	compat_ulong_t index;
	compat_uptr_t data;
	compat_ulong_t size;
};

/* struct lab_total: a compat_u64 is aligned as their compiler does it. */
struct lab_total32 {
	u32 count;
	compat_u64 bytes;
};

#define LAB_IOC_PEEK32	_IOWR(LAB_IOC_MAGIC, 9, struct lab_peek32)
#define LAB_IOC_TOTAL32	_IOR(LAB_IOC_MAGIC, 10, struct lab_total32)

static long lab_ioctl_peek32(void __user *argp)
{
	struct lab_peek32 peek32;
	struct lab_peek peek;
	long ret;

	if (copy_from_user(&peek32, argp, sizeof(peek32)))
		return -EFAULT;
	peek.index = peek32.index;
	peek.data = (__force void *)compat_ptr(peek32.data);
	peek.size = peek32.size;

	ret = lab_ioctl_do_peek(&peek);
	if (ret && ret != -EMSGSIZE)
		return ret;
	peek32.size = peek.size;
	return copy_to_user(argp, &peek32, sizeof(peek32)) ? -EFAULT : ret;
}

static long lab_ioctl_total32(void __user *argp)
{
	struct lab_total32 total32;
	u32 count;
	u64 bytes;

	lab_ioctl_count(&count, &bytes);
	memset(&total32, 0, sizeof(total32));
	total32.count = count;
	total32.bytes = bytes;
	return copy_to_user(argp, &total32, sizeof(total32)) ? -EFAULT : 0;
}

static long lab_ioctl_compat_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = compat_ptr(arg);

	switch (cmd) {
	case LAB_IOC_PEEK32:
		return lab_ioctl_peek32(argp);
	case LAB_IOC_TOTAL32:
		return lab_ioctl_total32(argp);
	case LAB_IOC_WAIT:
		/* A number is no pointer. */
		return lab_ioctl_ioctl(file, cmd, arg);
	}

	/* No 32-bit program's header has these, unless they are the same and dealt with above. */
	if (cmd == LAB_IOC_PEEK || cmd == LAB_IOC_TOTAL)
		return -ENOTTY;
	return lab_ioctl_ioctl(file, cmd, (unsigned long)argp);
}

#endif /* CONFIG_COMPAT */

static int lab_ioctl_open(struct inode *inode, struct file *file)
{
	struct lab_ioctl_file *lab = kzalloc(sizeof(*lab), GFP_KERNEL);

	if (!lab)
		return -ENOMEM;
	mutex_init(&lab->lock);
	file->private_data = lab;
	atomic_inc(&lab_ioctl_files);
	return 0;
}

static int lab_ioctl_release(struct inode *inode, struct file *file)
{
	atomic_dec(&lab_ioctl_files);
	kfree(file->private_data);
	return 0;
}

static const struct file_operations lab_ioctl_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_ioctl_open,
	.release	= lab_ioctl_release,
	.unlocked_ioctl	= lab_ioctl_ioctl,
#ifdef CONFIG_COMPAT
	.compat_ioctl	= lab_ioctl_compat_ioctl,
#endif
};

static struct miscdevice lab_ioctl_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_ioctl",
	.fops	= &lab_ioctl_fops,
	.mode	= 0666,
};
module_misc_device(lab_ioctl_misc);

MODULE_DESCRIPTION("chanlab: ioctl");
MODULE_LICENSE("GPL");
