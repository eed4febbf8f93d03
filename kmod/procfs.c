// SPDX-License-Identifier: GPL-2.0-only
/*
 * procfs.c - the procfs door: a directory /proc/lab_procfs with
 *
 *   status    0444  made with single_open(): "count N" and "depth N"
 *   numbers   0444  a seq_file of several pages: the module parameter lines says
 *                   how many records of 16 bytes ("000000000000042\n"); may be
 *                   read in any sizes and from any offset, and spliced
 *   messages  0666  a seq_file over the store: one line a message, its index, its
 *                   length and its bytes, escaped; a write puts one message
 *   next      0666  read, write and poll of its own: a read takes the oldest
 *                   message off and sleeps until there is one, a write sleeps
 *                   until there is room; O_NONBLOCK gets EAGAIN
 *   control   0200  "remove NAME" and "create NAME" take one of the above away,
 *                   open or not, and bring it back
 *
 * An open file of procfs pins neither its entry nor this module. What is open
 * while its entry goes away, by control or because the module is unloaded, is
 * closed by procfs itself: from then on read, write and lseek fail as procfs has
 * it (EIO, EIO, EINVAL), and poll reports the file ready.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/proc_fs.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/string_helpers.h>
#include <linux/uaccess.h>

#include "compat.h"
#include "store.h"

#define LAB_PROCFS_DIR "lab_procfs"
#define LAB_PROCFS_MAX_COMMAND 64

static unsigned int lines = 2000;
module_param(lines, uint, 0444);
MODULE_PARM_DESC(lines, "records in /proc/lab_procfs/numbers");

/* One entry of the directory, there or not. */
struct lab_entry {
	const char *name;
	umode_t mode;
	const struct proc_ops *ops;
	struct proc_dir_entry *pde;	/* NULL while removed; under lab_entries_lock */
	bool leaving;			/* who sleeps in it must go */
};

/* A whole message from user space, in one piece. */
static ssize_t lab_procfs_put(const char __user *ubuf, size_t len)
{
	void *data;
	int ret;

	if (len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;

	data = vmemdup_user(ubuf, len);
	if (IS_ERR(data))
		return PTR_ERR(data);

	ret = lab_store_put(data, len);
	kvfree(data);

	return ret ? ret : len;
}

/* --- status: everything in one show ------------------------------------- */

static int status_show(struct seq_file *m, void *v)
{
	seq_printf(m, "count %u\ndepth %u\n", lab_store_count(), lab_store_depth());
	return 0;
}

static int status_open(struct inode *inode, struct file *file)
{
	return single_open(file, status_show, NULL);
}

static const struct proc_ops status_ops = {
	.proc_open = status_open,
	.proc_read_iter = seq_read_iter,
	.proc_lseek = seq_lseek,
	.proc_release = single_release,
};

/* --- numbers: one record a show, more than fit into seq_file's page ------ */

static void *numbers_start(struct seq_file *m, loff_t *pos)
{
	return *pos < lines ? pos : NULL;
}

static void *numbers_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return numbers_start(m, pos);
}

static void numbers_stop(struct seq_file *m, void *v)
{
}

static int numbers_show(struct seq_file *m, void *v)
{
	const loff_t *pos = v;

	/* 16 bytes, so that user space knows what stands at every offset. */
	seq_printf(m, "%015lld\n", *pos);
	return 0;
}

static const struct seq_operations numbers_seq_ops = {
	.start = numbers_start,
	.next = numbers_next,
	.stop = numbers_stop,
	.show = numbers_show,
};

static int numbers_open(struct inode *inode, struct file *file)
{
	return seq_open(file, &numbers_seq_ops);
}

static const struct proc_ops numbers_ops = {
	.proc_open = numbers_open,
	.proc_read_iter = seq_read_iter,
	.proc_lseek = seq_lseek,
	.proc_release = seq_release,
};

/* --- messages: what is in the store, left there -------------------------- */

/* Room for one message, for as long as the file is open. */
struct messages_private {
	u8 data[LAB_STORE_MAX_MESSAGE];
};

static void *messages_start(struct seq_file *m, loff_t *pos)
{
	return *pos < lab_store_count() ? pos : NULL;
}

static void *messages_next(struct seq_file *m, void *v, loff_t *pos)
{
	++*pos;
	return messages_start(m, pos);
}

static void messages_stop(struct seq_file *m, void *v)
{
}

/*
 * The store is not locked between two lines: who reads while messages come and
 * go sees each line whole, and the list as it was at several moments. A line that
 * does not fit (64 KiB may become 256 KiB when escaped) makes seq_file take a
 * buffer of twice the size and ask again.
 */
static int messages_show(struct seq_file *m, void *v)
{
	struct messages_private *private = m->private;
	unsigned int index = *(loff_t *)v;
	ssize_t len;

	len = lab_store_copy(index, private->data, sizeof(private->data));
	if (len == -ENOENT)	/* taken by somebody since start or next */
		return SEQ_SKIP;
	if (len < 0)
		return len;

	seq_printf(m, "%u %zd %*pE\n", index, len, (int)len, private->data);
	return 0;
}

static const struct seq_operations messages_seq_ops = {
	.start = messages_start,
	.next = messages_next,
	.stop = messages_stop,
	.show = messages_show,
};

static int messages_open(struct inode *inode, struct file *file)
{
	return seq_open_private(file, &messages_seq_ops, sizeof(struct messages_private));
}

static ssize_t messages_write(struct file *file, const char __user *ubuf, size_t len, loff_t *pos)
{
	return lab_procfs_put(ubuf, len);
}

static const struct proc_ops messages_ops = {
	.proc_open = messages_open,
	.proc_read_iter = seq_read_iter,
	.proc_write = messages_write,
	.proc_lseek = seq_lseek,
	.proc_release = seq_release_private,
};

/* --- next: a queue, without seq_file -------------------------------------- */

static int next_open(struct inode *inode, struct file *file)
{
	/* No position: lseek, pread and pwrite get ESPIPE. */
	return stream_open(inode, file);
}

/*
 * One message a read. What does not fit into @size is lost; a bad buffer (EFAULT)
 * loses nothing. ENODEV for who slept here while the entry was removed.
 */
static ssize_t next_read(struct file *file, char __user *ubuf, size_t size, loff_t *pos)
{
	struct lab_entry *entry = pde_data(file_inode(file));
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
	struct lab_entry *entry = pde_data(file_inode(file));
	ssize_t ret;

	for (;;) {
		if (READ_ONCE(entry->leaving))
			return -ENODEV;
		ret = lab_procfs_put(ubuf, len);
		if (ret != -ENOSPC)
			return ret;
		if (file->f_flags & O_NONBLOCK)
			return -EAGAIN;
		ret = wait_event_interruptible(*lab_store_wait(),
					       lab_store_count() < lab_store_depth() ||
					       READ_ONCE(entry->leaving));
		if (ret)
			return ret;
	}
}

/*
 * The wait queue is lab_core's. A poller that sleeps while this module goes is
 * woken by lab_entry_remove() and leaves the queue on its own time, which lab_core
 * must live to see: epoll on a procfs file does not pin it.
 */
static __poll_t next_poll(struct file *file, struct poll_table_struct *table)
{
	struct lab_entry *entry = pde_data(file_inode(file));
	__poll_t mask = 0;

	poll_wait(file, lab_store_wait(), table);
	if (READ_ONCE(entry->leaving))
		return EPOLLHUP | EPOLLERR;
	if (lab_store_count())
		mask |= EPOLLIN | EPOLLRDNORM;
	if (lab_store_count() < lab_store_depth())
		mask |= EPOLLOUT | EPOLLWRNORM;

	return mask;
}

static const struct proc_ops next_ops = {
	.proc_open = next_open,
	.proc_read = next_read,
	.proc_write = next_write,
	.proc_poll = next_poll,
};

/* --- the directory ---------------------------------------------------------- */

static struct lab_entry lab_entries[] = {
	{ .name = "status", .mode = 0444, .ops = &status_ops },
	{ .name = "numbers", .mode = 0444, .ops = &numbers_ops },
	{ .name = "messages", .mode = 0666, .ops = &messages_ops },
	{ .name = "next", .mode = 0666, .ops = &next_ops },
};

static DEFINE_MUTEX(lab_entries_lock);
static struct proc_dir_entry *lab_dir;

static int lab_entry_create(struct lab_entry *entry)
{
	lockdep_assert_held(&lab_entries_lock);

	if (entry->pde)
		return -EEXIST;

	entry->pde = proc_create_data(entry->name, entry->mode, lab_dir, entry->ops, entry);
	return entry->pde ? 0 : -ENOMEM;
}

/*
 * proc_remove() waits until nobody is inside one of the entry's operations, so
 * whoever sleeps in one has to be sent away first: otherwise the remover would
 * sleep, uninterruptibly, until the next message.
 */
static int lab_entry_remove(struct lab_entry *entry)
{
	lockdep_assert_held(&lab_entries_lock);

	if (!entry->pde)
		return -ENOENT;

	WRITE_ONCE(entry->leaving, true);
	wake_up_all(lab_store_wait());
	proc_remove(entry->pde);
	entry->pde = NULL;
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
	char *verb = strsep(&name, " ");
	struct lab_entry *entry;
	int ret;

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

	if (len > LAB_PROCFS_MAX_COMMAND)
		return -EINVAL;

	command = memdup_user_nul(ubuf, len);
	if (IS_ERR(command))
		return PTR_ERR(command);

	ret = control_do(command);
	kfree(command);

	return ret ? ret : len;
}

static const struct proc_ops control_ops = {
	.proc_write = control_write,
	.proc_lseek = noop_llseek,
};

static void lab_entries_remove(void)
{
	size_t i;

	mutex_lock(&lab_entries_lock);
	for (i = 0; i < ARRAY_SIZE(lab_entries); i++)
		lab_entry_remove(&lab_entries[i]);	/* ENOENT: control was faster */
	mutex_unlock(&lab_entries_lock);
}

static int __init lab_procfs_init(void)
{
	struct proc_dir_entry *control;
	size_t i;
	int ret = 0;

	lab_dir = proc_mkdir(LAB_PROCFS_DIR, NULL);
	if (!lab_dir)
		return -ENOMEM;

	mutex_lock(&lab_entries_lock);
	for (i = 0; i < ARRAY_SIZE(lab_entries) && !ret; i++)
		ret = lab_entry_create(&lab_entries[i]);
	mutex_unlock(&lab_entries_lock);
	if (ret)
		goto err_entries;

	/* Last, so that its commands meet a directory that is complete. */
	control = proc_create("control", 0200, lab_dir, &control_ops);
	if (!control) {
		ret = -ENOMEM;
		goto err_entries;
	}

	return 0;

err_entries:
	lab_entries_remove();
	proc_remove(lab_dir);
	return ret;
}

static void __exit lab_procfs_exit(void)
{
	/* First what could bring the others back, then they, then the directory. */
	remove_proc_entry("control", lab_dir);
	lab_entries_remove();
	proc_remove(lab_dir);
}

module_init(lab_procfs_init);
module_exit(lab_procfs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: files in procfs, seq_file and not");
