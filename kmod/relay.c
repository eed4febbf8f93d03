// SPDX-License-Identifier: GPL-2.0-only
/*
 * relay.c - a relay channel in debugfs: much data out of the kernel, each CPU into a
 * buffer of its own, without a lock. /sys/kernel/debug/lab_relay/ has
 *
 *   cpu0, cpu1 ...  0400  a CPU's buffer, by relay's own file operations: read never
 *                waits (0 when there is nothing), poll reports POLLIN while there is a
 *                sub-buffer that is full and not consumed, POLLERR after the channel
 *                was closed; mmap takes the whole buffer or nothing. What a read
 *                delivered is consumed.
 *   control      0200  "write CPU COUNT"     log so many records there; wait for room
 *                      "log CPU COUNT"       the same, but lose what does not fit
 *                      "put CPU TEXT"        log a text
 *                      "flush"               start new sub-buffers, pad the old ones
 *                      "consumed CPU COUNT"  sub-buffers that were read by mmap
 *                      "reset"               empty all, and number from 0 again
 *                      "close", "open"       take the channel away, bring it back
 *   status       0444  one line a CPU: "cpu 0 produced P consumed C lost L", the first
 *                      two in sub-buffers since the last reset, the third in records
 *
 * A record is eight 64-bit words, and all words of a buffer count from 0: word 8 of
 * record 1, and so on, with the CPU in the topmost byte. A record that was lost took its
 * words with it, so who reads sees what is missing.
 *
 * Parameters: the size of a sub-buffer and how many there are; overwrite: the oldest
 * is lost where otherwise the newest would be; proxied: debugfs keeps its hand on the
 * files, which costs them mmap on most kernels.
 *
 * An open file pins this module, which relay's own operations would not do.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/cpu.h>
#include <linux/cpumask.h>
#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/percpu.h>
#include <linux/relay.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/wait.h>
#include <linux/workqueue.h>

#include "compat.h"

#define LAB_RELAY_DIR "lab_relay"
#define LAB_RELAY_MAX_COMMAND 256
#define LAB_RELAY_WORDS 8		/* of a record */
#define LAB_RELAY_CHUNK 4096		/* records between two looks at signals */
#define LAB_RELAY_MAX_RECORDS (1U << 20)

static unsigned int subbuf_size = 4096;
module_param(subbuf_size, uint, 0444);
MODULE_PARM_DESC(subbuf_size, "bytes in a sub-buffer (default 4096)");

static unsigned int n_subbufs = 4;
module_param(n_subbufs, uint, 0444);
MODULE_PARM_DESC(n_subbufs, "sub-buffers for each CPU (default 4)");

static bool overwrite;
module_param(overwrite, bool, 0444);
MODULE_PARM_DESC(overwrite, "lose the oldest records and not the newest");

static bool proxied;
module_param(proxied, bool, 0444);
MODULE_PARM_DESC(proxied, "let debugfs wrap the file operations");

/* What is beside each buffer. */
struct lab_cpu {
	u64 next;			/* number of the next word */
	unsigned long lost;		/* records */
};

static DEFINE_PER_CPU(struct lab_cpu, lab_cpus);

static struct dentry *lab_dir;
static struct rchan *lab_chan;		/* NULL while closed */
static DEFINE_MUTEX(lab_lock);		/* the above, and one writer at a time */
static DECLARE_WAIT_QUEUE_HEAD(lab_room);
static atomic_t lab_moves = ATOMIC_INIT(0);	/* how often there may have become room */

/* After a sub-buffer was consumed, or the channel changed: writers look again. */
static void lab_moved(void)
{
	atomic_inc_return(&lab_moves);		/* a full barrier, too */
	wake_up_all(&lab_room);
}

/* --- the channel --------------------------------------------------------------- */

/*
 * relay counts a sub-buffer as produced a little before it knows that there is no room
 * for the next one: who reads on another CPU in between takes it for overwritten, and
 * skips the oldest. So nobody reads while something is written. Taken after lab_lock;
 * read() takes the file's inode lock after it.
 */
static DEFINE_MUTEX(lab_switching);

/* relay_file_operations, with our owner and our read. */
static struct file_operations lab_relay_fops;

/*
 * relay tells nobody that something was consumed, so here is where the writers learn of
 * it. What goes into a pipe by splice is consumed when that is read, which they do not.
 */
static ssize_t lab_relay_read(struct file *file, char __user *ubuf, size_t size, loff_t *pos)
{
	struct rchan_buf *buf = file->private_data;
	size_t before = READ_ONCE(buf->subbufs_consumed);
	ssize_t ret;

	mutex_lock(&lab_switching);
	ret = relay_file_operations.read(file, ubuf, size, pos);
	mutex_unlock(&lab_switching);
	if (READ_ONCE(buf->subbufs_consumed) != before)
		lab_moved();

	return ret;
}

static struct dentry *lab_create_buf_file(const char *name, struct dentry *parent, umode_t mode,
					  struct rchan_buf *buf, int *is_global)
{
	struct dentry *dentry;

	/* relay counts the references to its buffer itself: it needs no protection. */
	if (proxied)
		dentry = debugfs_create_file(name, mode, parent, buf, &lab_relay_fops);
	else
		dentry = debugfs_create_file_unsafe(name, mode, parent, buf, &lab_relay_fops);

	return IS_ERR(dentry) ? NULL : dentry;
}

static int lab_remove_buf_file(struct dentry *dentry)
{
	struct rchan_buf *buf = d_inode(dentry)->i_private;

	/* From here on poll tells that the channel was closed; relay wakes nobody for that. */
	wake_up_interruptible(&buf->read_wait);
	debugfs_remove(dentry);

	return 0;
}

/* Whether the next sub-buffer may be begun. Never sleeps: may be called from anywhere. */
static int lab_subbuf_start(struct rchan_buf *buf, void *subbuf,
			    void *prev_subbuf lab_relay_prev_padding)
{
	return overwrite || !relay_buf_full(buf);
}

static lab_relay_callbacks lab_callbacks = {
	.subbuf_start = lab_subbuf_start,
	.create_buf_file = lab_create_buf_file,
	.remove_buf_file = lab_remove_buf_file,
};

static struct rchan_buf *lab_buf(unsigned int cpu)
{
	lockdep_assert_held(&lab_lock);

	if (!lab_chan || cpu >= nr_cpu_ids || !cpu_possible(cpu))
		return NULL;

	return *per_cpu_ptr(lab_chan->buf, cpu);
}

static int lab_open(void)
{
	lockdep_assert_held(&lab_lock);

	if (lab_chan)
		return -EEXIST;

	lab_chan = relay_open("cpu", lab_dir, subbuf_size, n_subbufs, &lab_callbacks, NULL);
	return lab_chan ? 0 : -ENOMEM;
}

static int lab_close(void)
{
	lockdep_assert_held(&lab_lock);

	if (!lab_chan)
		return -ENODEV;

	relay_close(lab_chan);
	lab_chan = NULL;
	lab_moved();

	return 0;
}

static int lab_reset(void)
{
	struct lab_cpu *lab;
	int cpu;

	lockdep_assert_held(&lab_lock);

	if (!lab_chan)
		return -ENODEV;

	relay_reset(lab_chan);
	for_each_possible_cpu(cpu) {
		lab = per_cpu_ptr(&lab_cpus, cpu);
		lab->next = 0;
		lab->lost = 0;
	}
	lab_moved();

	return 0;
}

/* --- writing --------------------------------------------------------------------- */

/* Some records, or a text, on the CPU that they are for. */
struct lab_job {
	const char *text;		/* NULL: records */
	size_t len;
	unsigned int count;
	bool wait;			/* stop where there is no room, lose nothing */
	unsigned int done;
};

/* relay_write() does not tell whether it could: it leaves the offset beyond the end. */
static bool lab_relay_write(struct rchan_buf *buf, const void *data, size_t len)
{
	relay_write(buf->chan, data, len);

	return len <= buf->chan->subbuf_size && buf->offset <= buf->chan->subbuf_size;
}

static void lab_record(struct lab_cpu *lab, unsigned int cpu, u64 *words)
{
	int i;

	for (i = 0; i < LAB_RELAY_WORDS; i++)
		words[i] = (u64)cpu << 56 | (lab->next + i);
}

static long lab_job_run(void *data)
{
	struct lab_cpu *lab = this_cpu_ptr(&lab_cpus);
	unsigned int cpu = raw_smp_processor_id();
	u64 words[LAB_RELAY_WORDS];
	struct lab_job *job = data;
	struct rchan_buf *buf;

	/* The caller holds lab_lock, and this thread stays on its CPU. */
	buf = *per_cpu_ptr(lab_chan->buf, cpu);
	if (!buf)
		return -ENODEV;

	if (job->text) {
		if (lab_relay_write(buf, job->text, job->len))
			return 0;
		lab->lost++;
		return job->len > buf->chan->subbuf_size ? -EMSGSIZE : -ENOSPC;
	}

	for (job->done = 0; job->done < job->count; job->done++) {
		lab_record(lab, cpu, words);
		if (!lab_relay_write(buf, words, sizeof(words))) {
			if (job->wait)
				return 0;
			lab->lost++;
		}
		lab->next += LAB_RELAY_WORDS;
	}

	return 0;
}

static int lab_job_on(unsigned int cpu, struct lab_job *job)
{
	int ret;

	lockdep_assert_held(&lab_lock);

	if (!lab_chan)
		return -ENODEV;
	if (cpu >= nr_cpu_ids)
		return -ENXIO;

	mutex_lock(&lab_switching);
	cpus_read_lock();
	ret = cpu_online(cpu) ? work_on_cpu(cpu, lab_job_run, job) : -ENXIO;
	cpus_read_unlock();
	mutex_unlock(&lab_switching);

	return ret;
}

static bool lab_has_room(unsigned int cpu)
{
	struct rchan_buf *buf;
	bool room;

	mutex_lock(&lab_lock);
	buf = lab_buf(cpu);
	room = !buf || overwrite || !relay_buf_full(buf);
	mutex_unlock(&lab_lock);

	return room;
}

static int lab_wait_for_room(unsigned int cpu)
{
	int ret = 0;
	int seen;

	/* What moves between the two looks is not missed. */
	while (!ret) {
		seen = atomic_read_acquire(&lab_moves);
		if (lab_has_room(cpu))
			break;
		ret = wait_event_interruptible(lab_room, atomic_read(&lab_moves) != seen);
	}

	return ret;
}

/* ENODEV once the channel is closed, also for who waits; a signal ends the wait. */
static int lab_write_records(unsigned int cpu, unsigned int count, bool wait)
{
	struct lab_job job = { .wait = wait };
	int ret;

	while (count) {
		job.count = min_t(unsigned int, count, LAB_RELAY_CHUNK);
		mutex_lock(&lab_lock);
		ret = lab_job_on(cpu, &job);
		mutex_unlock(&lab_lock);
		if (ret)
			return ret;

		count -= job.done;
		if (job.done < job.count)
			ret = lab_wait_for_room(cpu);
		else if (signal_pending(current))
			ret = -ERESTARTSYS;
		if (ret)
			return ret;
	}

	return 0;
}

static int lab_put(unsigned int cpu, const char *text)
{
	struct lab_job job = { .text = text, .len = strlen(text) };
	int ret;

	mutex_lock(&lab_lock);
	ret = lab_job_on(cpu, &job);
	mutex_unlock(&lab_lock);

	return ret;
}

static int lab_consumed(unsigned int cpu, unsigned int count)
{
	struct rchan_buf *buf;
	int ret = 0;

	mutex_lock(&lab_lock);
	buf = lab_buf(cpu);
	if (!buf)
		ret = -ENXIO;
	else if (count > buf->subbufs_produced - buf->subbufs_consumed)
		ret = -EINVAL;
	else
		relay_subbufs_consumed(lab_chan, cpu, count);
	mutex_unlock(&lab_lock);
	lab_moved();

	return ret;
}

/* --- control and status ------------------------------------------------------------ */

static int lab_simple(int (*what)(void))
{
	int ret;

	mutex_lock(&lab_lock);
	ret = what();
	mutex_unlock(&lab_lock);

	return ret;
}

static int lab_flush(void)
{
	if (!lab_chan)
		return -ENODEV;
	relay_flush(lab_chan);

	return 0;
}

/* EINVAL: not a command; ENXIO: no such CPU; ENODEV: the channel is closed. */
static int control_do(char *command)
{
	static const struct {
		const char *name;
		int (*what)(void);
	} simple[] = {
		{ "flush", lab_flush },
		{ "reset", lab_reset },
		{ "close", lab_close },
		{ "open", lab_open },
	};
	char *rest = strim(command);
	unsigned int cpu, count;
	char *verb, *number;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(simple); i++)
		if (!strcmp(rest, simple[i].name))
			return lab_simple(simple[i].what);

	verb = strsep(&rest, " ");
	number = strsep(&rest, " ");
	if (!number || !rest || kstrtouint(number, 10, &cpu))
		return -EINVAL;
	if (!strcmp(verb, "put"))
		return lab_put(cpu, rest);

	if (kstrtouint(rest, 10, &count) || count > LAB_RELAY_MAX_RECORDS)
		return -EINVAL;
	if (!strcmp(verb, "write"))
		return lab_write_records(cpu, count, true);
	if (!strcmp(verb, "log"))
		return lab_write_records(cpu, count, false);
	if (!strcmp(verb, "consumed"))
		return lab_consumed(cpu, count);

	return -EINVAL;
}

static ssize_t control_write(struct file *file, const char __user *ubuf, size_t len, loff_t *pos)
{
	char *command;
	int ret;

	if (len > LAB_RELAY_MAX_COMMAND)
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

static int status_show(struct seq_file *m, void *v)
{
	struct rchan_buf *buf;
	int cpu;

	mutex_lock(&lab_lock);
	for_each_online_cpu(cpu) {
		buf = lab_buf(cpu);
		if (!buf)
			continue;
		seq_printf(m, "cpu %d produced %zu consumed %zu lost %lu\n", cpu,
			   buf->subbufs_produced, buf->subbufs_consumed,
			   per_cpu_ptr(&lab_cpus, cpu)->lost);
	}
	mutex_unlock(&lab_lock);

	return 0;
}
DEFINE_SHOW_ATTRIBUTE(status);

static int __init lab_relay_init(void)
{
	struct dentry *dentry;
	int ret;

	/* A record must fit, or who writes one would wait for ever. */
	if (subbuf_size < LAB_RELAY_WORDS * sizeof(u64))
		return -EINVAL;

	lab_relay_fops = relay_file_operations;
	lab_relay_fops.owner = THIS_MODULE;
	lab_relay_fops.read = lab_relay_read;

	lab_dir = debugfs_create_dir(LAB_RELAY_DIR, NULL);
	if (IS_ERR(lab_dir))
		return PTR_ERR(lab_dir);

	ret = lab_simple(lab_open);
	if (ret)
		goto err_dir;

	dentry = debugfs_create_file("status", 0444, lab_dir, NULL, &status_fops);
	if (!IS_ERR(dentry))
		dentry = debugfs_create_file("control", 0200, lab_dir, NULL, &control_ops);
	if (IS_ERR(dentry)) {
		ret = PTR_ERR(dentry);
		goto err_chan;
	}

	return 0;

err_chan:
	lab_simple(lab_close);
err_dir:
	debugfs_remove(lab_dir);
	return ret;
}

static void __exit lab_relay_exit(void)
{
	/* ENODEV when it was closed by control, which is as good. */
	lab_simple(lab_close);
	debugfs_remove(lab_dir);
}

module_init(lab_relay_init);
module_exit(lab_relay_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: a relay channel");
