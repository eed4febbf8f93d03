// SPDX-License-Identifier: GPL-2.0-only
/*
 * debugfs.c - the debugfs door: a directory /sys/kernel/debug/lab_debugfs with
 *
 *   values/      a directory of typed files, which debugfs itself reads and writes:
 *     u8 u16 u32 u64 ulong size_t    0644  a number, shown in decimal; a number that is
 *                  too big for the variable is cut to its low bits
 *     x8 x16 x32 x64                 0644  the same variables, shown in hexadecimal
 *     signed       0644  an atomic_t
 *     bool         0644  Y or N
 *     blob         0444  a few bytes with zeroes among them
 *     array        0444  u32s, which can be read only
 *     locked       0444  a number that is shown only
 *     hidden       0200  a number that is set only
 *   link         a symbolic link to values/u32
 *   percent      0644  DEFINE_DEBUGFS_ATTRIBUTE: 0 to 100, ERANGE beyond
 *   balance      0644  the same with a sign: -100 to 100
 *   messages     0444  a seq_file over the store: one line a message, its index, its
 *                      length and its bytes, escaped
 *   next         0666  file operations of the module's own: a read takes the oldest
 *                      message off and sleeps until there is one, a write puts one and
 *                      sleeps until there is room (EAGAIN with O_NONBLOCK), poll
 *   loose        0600  the same without poll and without an owner, where the kernel
 *                      has operations that need none (6.13)
 *   stubborn     0400  a read sleeps until "release", come what may
 *   patient      0400  a read sleeps until the file is removed, which debugfs itself
 *                      tells it (6.7; else there is no such file): ECANCELED
 *   control      0200  "remove NAME" and "create NAME" take one of the above away, open
 *                      or not, and bring it back; "release"
 *
 * Of a file that was removed while it is open, read, write, lseek and ioctl fail with
 * EIO, and poll reports POLLHUP. Who is inside one of its operations is waited for. An
 * open file of debugfs pins the module of its operations: of values/, and of loose with
 * operations that have no owner, that is not this one.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "store.h"

#define LAB_DEBUGFS_DIR "lab_debugfs"
#define LAB_DEBUGFS_MAX_COMMAND 64

/* One entry of the directory, there or not. */
struct lab_entry {
	const char *name;
	struct dentry *(*create)(struct lab_entry *entry, struct dentry *dir);
	struct dentry *dentry;		/* NULL while removed; under lab_entries_lock */
	bool leaving;			/* who sleeps in it must go */
};

static struct dentry *lab_dir;

/* --- values: variables that debugfs shows and sets --------------------------- */

static u8 value8 = 8;
static u16 value16 = 16;
static u32 value32 = 32;
static u64 value64 = 64;
static u32 value_locked = 5;
static u32 value_hidden;
static unsigned long value_ulong = 7;
static size_t value_size = 9;
static atomic_t value_signed = ATOMIC_INIT(-1);
static bool value_bool;
static u32 value_array[] = { 1, 2, 4000000000U };
static char value_blob[] = { 'l', 'a', 'b', '\0', '\xff' };

static struct debugfs_blob_wrapper lab_blob = {
	.data = value_blob,
	.size = sizeof(value_blob),
};

static struct debugfs_u32_array lab_array = {
	.array = value_array,
	.n_elements = ARRAY_SIZE(value_array),
};

/* Most of these return nothing: who asks debugfs for a file goes on without it. */
static struct dentry *values_create(struct lab_entry *entry, struct dentry *parent)
{
	struct dentry *dir = debugfs_create_dir(entry->name, parent);

	if (IS_ERR(dir))
		return dir;

	debugfs_create_u8("u8", 0644, dir, &value8);
	debugfs_create_u16("u16", 0644, dir, &value16);
	debugfs_create_u32("u32", 0644, dir, &value32);
	debugfs_create_u64("u64", 0644, dir, &value64);
	debugfs_create_x8("x8", 0644, dir, &value8);
	debugfs_create_x16("x16", 0644, dir, &value16);
	debugfs_create_x32("x32", 0644, dir, &value32);
	debugfs_create_x64("x64", 0644, dir, &value64);
	debugfs_create_u32("locked", 0444, dir, &value_locked);
	debugfs_create_u32("hidden", 0200, dir, &value_hidden);
	debugfs_create_ulong("ulong", 0644, dir, &value_ulong);
	debugfs_create_size_t("size_t", 0644, dir, &value_size);
	debugfs_create_atomic_t("signed", 0644, dir, &value_signed);
	debugfs_create_bool("bool", 0644, dir, &value_bool);
	debugfs_create_blob("blob", 0444, dir, &lab_blob);
	debugfs_create_u32_array("array", 0444, dir, &lab_array);

	return dir;
}

static struct dentry *link_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_symlink(entry->name, dir, "values/u32");
}

/* --- percent and balance: a number with a range ------------------------------- */

static int lab_percent = 50;
static int lab_balance;

static int percent_get(void *data, u64 *value)
{
	*value = READ_ONCE(lab_percent);
	return 0;
}

static int percent_set(void *data, u64 value)
{
	if (value > 100)
		return -ERANGE;
	WRITE_ONCE(lab_percent, value);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE(percent_ops, percent_get, percent_set, "%llu\n");

static int balance_get(void *data, u64 *value)
{
	*value = READ_ONCE(lab_balance);
	return 0;
}

static int balance_set(void *data, u64 value)
{
	s64 number = value;

	if (number < -100 || number > 100)
		return -ERANGE;
	WRITE_ONCE(lab_balance, number);
	return 0;
}
DEFINE_DEBUGFS_ATTRIBUTE_SIGNED(balance_ops, balance_get, balance_set, "%lld\n");

/*
 * Nothing unsafe: what DEFINE_DEBUGFS_ATTRIBUTE made keeps the removal out by itself,
 * so that the wrapper which does it for other operations is not needed.
 */
static struct dentry *percent_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file_unsafe(entry->name, 0644, dir, NULL, &percent_ops);
}

static struct dentry *balance_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file_unsafe(entry->name, 0644, dir, NULL, &balance_ops);
}

/* --- messages: what is in the store, left there ------------------------------- */

static int messages_show(struct seq_file *m, void *v)
{
	unsigned int index;
	ssize_t len;
	void *data;

	data = kvmalloc(LAB_STORE_MAX_MESSAGE, GFP_KERNEL);
	if (!data)
		return -ENOMEM;

	for (index = 0; ; index++) {
		len = lab_store_copy(index, data, LAB_STORE_MAX_MESSAGE);
		if (len < 0)
			break;
		seq_printf(m, "%u %zd %*pE\n", index, len, (int)len, data);
	}
	kvfree(data);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(messages);

static struct dentry *messages_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file(entry->name, 0444, dir, NULL, &messages_fops);
}

/* --- next and loose: a queue ---------------------------------------------------- */

static int next_open(struct inode *inode, struct file *file)
{
	file->private_data = inode->i_private;

	/* No position: lseek, pread and pwrite get ESPIPE. */
	return stream_open(inode, file);
}

/*
 * One message a read. What does not fit into @size is lost; a bad buffer (EFAULT)
 * loses nothing. ENODEV for who slept here while the file was removed.
 */
static ssize_t next_read(struct file *file, char __user *ubuf, size_t size, loff_t *pos)
{
	struct lab_entry *entry = file->private_data;
	struct lab_message *message;
	ssize_t len;
	int ret;

	if (!size)
		return 0;

	for (;;) {
		if (READ_ONCE(entry->leaving))
			return -ENODEV;
		message = lab_store_take();
		if (message)
			break;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		ret = wait_event_interruptible(*lab_store_wait(),
					       lab_store_count() || READ_ONCE(entry->leaving));
		if (ret)
			return ret;
	}

	len = min(size, message->len);
	if (copy_to_user(ubuf, message->data, len)) {
		lab_store_give_back(message);
		return -EFAULT;
	}
	lab_message_free(message);

	return len;
}

static ssize_t next_write(struct file *file, const char __user *ubuf, size_t len, loff_t *pos)
{
	struct lab_entry *entry = file->private_data;
	ssize_t ret;
	void *data;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;

	data = vmemdup_user(ubuf, len);
	if (IS_ERR(data))
		return PTR_ERR(data);

	for (;;) {
		ret = READ_ONCE(entry->leaving) ? -ENODEV : lab_store_put(data, len);
		if (ret != -ENOSPC)
			break;
		ret = -EAGAIN;
		if (file->f_flags & O_NONBLOCK)
			break;
		ret = wait_event_interruptible(*lab_store_wait(),
					       lab_store_count() < lab_store_depth() ||
					       READ_ONCE(entry->leaving));
		if (ret)
			break;
	}
	kvfree(data);

	return ret ? ret : len;
}

static __poll_t next_poll(struct file *file, struct poll_table_struct *table)
{
	struct lab_entry *entry = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, lab_store_wait(), table);
	/* What debugfs reports by itself when the file has gone. */
	if (READ_ONCE(entry->leaving))
		return EPOLLHUP;
	if (lab_store_count())
		mask |= EPOLLIN | EPOLLRDNORM;
	if (lab_store_count() < lab_store_depth())
		mask |= EPOLLOUT | EPOLLWRNORM;

	return mask;
}

/* debugfs looks into this when the file is closed, removed or not: it needs its owner. */
static const struct file_operations next_ops = {
	.owner = THIS_MODULE,
	.open = next_open,
	.read = next_read,
	.write = next_write,
	.poll = next_poll,
};

static struct dentry *next_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file(entry->name, 0666, dir, entry, &next_ops);
}

static const struct lab_debugfs_short_fops loose_ops = {
	LAB_DEBUGFS_SHORT_FOPS
	.read = next_read,
	.write = next_write,
};

static struct dentry *loose_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file(entry->name, 0600, dir, entry, &loose_ops);
}

/* --- stubborn: an operation that nobody sends away ------------------------------- */

static DECLARE_COMPLETION(stubborn_released);

static ssize_t stubborn_read(struct file *file, char __user *ubuf, size_t size, loff_t *pos)
{
	int ret;

	ret = wait_for_completion_interruptible(&stubborn_released);
	return ret ? ret : simple_read_from_buffer(ubuf, size, pos, "released\n", 9);
}

static const struct file_operations stubborn_ops = {
	.owner = THIS_MODULE,
	.read = stubborn_read,
};

static struct dentry *stubborn_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file(entry->name, 0400, dir, entry, &stubborn_ops);
}

/* --- patient: an operation that debugfs sends away ---------------------------------- */

#ifdef LAB_HAVE_DEBUGFS_CANCELLATION
static void patient_cancel(struct dentry *dentry, void *data)
{
	complete(data);
}

static ssize_t patient_read(struct file *file, char __user *ubuf, size_t size, loff_t *pos)
{
	DECLARE_COMPLETION_ONSTACK(cancelled);
	struct debugfs_cancellation cancellation = {
		.cancel = patient_cancel,
		.cancel_data = &cancelled,
	};
	int ret;

	debugfs_enter_cancellation(file, &cancellation);
	ret = wait_for_completion_interruptible(&cancelled);
	debugfs_leave_cancellation(file, &cancellation);

	return ret ? ret : -ECANCELED;
}

static const struct file_operations patient_ops = {
	.owner = THIS_MODULE,
	.read = patient_read,
};

static struct dentry *patient_create(struct lab_entry *entry, struct dentry *dir)
{
	return debugfs_create_file(entry->name, 0400, dir, entry, &patient_ops);
}
#endif

/* --- the directory ---------------------------------------------------------- */

static struct lab_entry lab_entries[] = {
	{ .name = "values", .create = values_create },
	{ .name = "link", .create = link_create },
	{ .name = "percent", .create = percent_create },
	{ .name = "balance", .create = balance_create },
	{ .name = "messages", .create = messages_create },
	{ .name = "next", .create = next_create },
	{ .name = "loose", .create = loose_create },
	{ .name = "stubborn", .create = stubborn_create },
#ifdef LAB_HAVE_DEBUGFS_CANCELLATION
	{ .name = "patient", .create = patient_create },
#endif
};

static DEFINE_MUTEX(lab_entries_lock);

/* A name that is there already: EEXIST, and debugfs logs it. */
static int lab_entry_create(struct lab_entry *entry)
{
	struct dentry *dentry;

	lockdep_assert_held(&lab_entries_lock);

	dentry = entry->create(entry, lab_dir);
	if (IS_ERR(dentry))
		return PTR_ERR(dentry);

	entry->dentry = dentry;
	return 0;
}

/*
 * debugfs_remove() waits, uninterruptibly, until nobody is inside one of the file's
 * operations, so whoever sleeps in one has to be sent away first.
 */
static int lab_entry_remove(struct lab_entry *entry)
{
	lockdep_assert_held(&lab_entries_lock);

	if (!entry->dentry)
		return -ENOENT;

	WRITE_ONCE(entry->leaving, true);
	wake_up_all(lab_store_wait());
	debugfs_remove(entry->dentry);
	entry->dentry = NULL;
	WRITE_ONCE(entry->leaving, false);

	return 0;
}

static struct lab_entry *lab_entry_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(lab_entries); i++)
		if (!strcmp(lab_entries[i].name, name))
			return &lab_entries[i];

	return NULL;
}

/* EINVAL: not a command; ENOENT: no such file; EEXIST: it is there already. */
static int control_do(char *command)
{
	char *name = strim(command);
	struct lab_entry *entry;
	char *verb;
	int ret;

	/* Without the lock, which who removes stubborn is holding. */
	if (!strcmp(name, "release")) {
		complete(&stubborn_released);
		return 0;
	}

	verb = strsep(&name, " ");
	if (!name || (strcmp(verb, "remove") && strcmp(verb, "create")))
		return -EINVAL;

	entry = lab_entry_find(skip_spaces(name));
	if (!entry)
		return -ENOENT;

	mutex_lock(&lab_entries_lock);
	ret = *verb == 'r' ? lab_entry_remove(entry) : lab_entry_create(entry);
	mutex_unlock(&lab_entries_lock);

	return ret;
}

static ssize_t control_write(struct file *file, const char __user *ubuf, size_t len, loff_t *pos)
{
	char *command;
	int ret;

	if (len > LAB_DEBUGFS_MAX_COMMAND)
		return -EINVAL;

	command = memdup_user_nul(ubuf, len);
	if (IS_ERR(command))
		return PTR_ERR(command);

	ret = control_do(command);
	kfree(command);

	return ret ? ret : len;
}

static const struct file_operations control_ops = {
	.owner = THIS_MODULE,
	.open = nonseekable_open,
	.write = control_write,
};

static void lab_entries_remove(void)
{
	size_t i;

	mutex_lock(&lab_entries_lock);
	for (i = 0; i < ARRAY_SIZE(lab_entries); i++)
		lab_entry_remove(&lab_entries[i]);	/* ENOENT: control was faster */
	mutex_unlock(&lab_entries_lock);
}

static int __init lab_debugfs_init(void)
{
	struct dentry *control;
	size_t i;
	int ret = 0;

	lab_dir = debugfs_create_dir(LAB_DEBUGFS_DIR, NULL);
	if (IS_ERR(lab_dir))
		return PTR_ERR(lab_dir);

	mutex_lock(&lab_entries_lock);
	for (i = 0; i < ARRAY_SIZE(lab_entries) && !ret; i++)
		ret = lab_entry_create(&lab_entries[i]);
	mutex_unlock(&lab_entries_lock);
	if (ret)
		goto err_entries;

	/* Last, so that its commands meet a directory that is complete. */
	control = debugfs_create_file("control", 0200, lab_dir, NULL, &control_ops);
	if (IS_ERR(control)) {
		ret = PTR_ERR(control);
		goto err_entries;
	}

	return 0;

err_entries:
	lab_entries_remove();
	debugfs_remove(lab_dir);
	return ret;
}

static void __exit lab_debugfs_exit(void)
{
	/* First those where somebody may sleep, then all that is left. */
	lab_entries_remove();
	debugfs_remove(lab_dir);
}

module_init(lab_debugfs_init);
module_exit(lab_debugfs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: files in debugfs, typed ones and others");
