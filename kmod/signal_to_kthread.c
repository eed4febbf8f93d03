// SPDX-License-Identifier: GPL-2.0-only
/*
 * signal_to_kthread.c - a kernel thread that user space sends signals to.
 *
 * User space sees a process called lab_sig, and /dev/lab_signal_to_kthread, which
 * names its process id (LAB_SIG_STATE) and gives a struct lab_sig_record for each
 * signal that it took: read() blocks until there is one, poll() waits for it.
 * LAB_SIG_HOLD makes the thread leave signals pending, so that several can queue up.
 *
 * A kernel thread ignores all signals but those that it allows, SIGKILL included,
 * and nothing is done to it when one comes: it has to look, and to take the signal
 * off. Who may send is the ordinary question: the thread belongs to root.
 *
 * The kernel keeps no siginfo for a kernel thread and hence queues nothing: also a
 * real-time signal is only pending or not (__send_signal_locked(): "Skip useless
 * siginfo allocation for SIGKILL and kernel threads"). What taking looks like with
 * all of it there, first-in-first-out among equal real-time signals and the value
 * of sigqueue(), LAB_SIG_TAKE shows on the calling process.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/kfifo.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/wait.h>

#include "compat.h"
#include "lab_signal_to_kthread.h"

static bool held;
module_param(held, bool, 0444);
MODULE_PARM_DESC(held, "leave signals pending from the start, until LAB_SIG_RELEASE (default N)");

#define SIG_RECORDS 8		/* how many the thread keeps for readers */

static const int sig_allowed[] = { SIGHUP, SIGKILL, SIGUSR1, SIGRTMIN + 3, SIGRTMIN + 5 };

static struct task_struct *sig_thread;
static DECLARE_COMPLETION(sig_ready);		/* the thread has allowed its signals */
static DECLARE_WAIT_QUEUE_HEAD(sig_wake);	/* where the thread sleeps */
static DECLARE_WAIT_QUEUE_HEAD(sig_readers);

/*
 * The thread alone adds records, under sig_lock; readers take them one at a time,
 * under sig_read_lock. A kfifo needs no lock between the one and the other, so a
 * reader whose page has to be fetched does not stop the thread.
 */
static DEFINE_KFIFO(sig_records, struct lab_sig_record, SIG_RECORDS);
static DEFINE_MUTEX(sig_read_lock);

static DEFINE_MUTEX(sig_lock);			/* all below */
static bool sig_held;				/* read by the thread without the lock to sleep */
static struct file *sig_holder;			/* NULL: the module parameter */
static u32 sig_interrupted;
static u32 sig_taken;
static u32 sig_lost;

/*
 * Take the caller's next signal that @mask does not hold back off its queue, and
 * describe it in @record; 0 when there is none.
 */
static int take_signal(sigset_t *mask, struct lab_sig_record *record)
{
	struct sighand_struct *sighand = current->sighand;
	kernel_siginfo_t info;
	sigset_t private;
	int signo;

	clear_siginfo(&info);

	spin_lock_irq(&sighand->siglock);
	/* The private queue goes first: one that is not empty is where it comes from. */
	sigandnsets(&private, &current->pending.signal, mask);
	signo = lab_dequeue_signal(mask, &info);
	spin_unlock_irq(&sighand->siglock);
	if (!signo)
		return 0;

	memset(record, 0, sizeof(*record));
	record->signo = signo;
	record->code = info.si_code;
	record->queue = sigisemptyset(&private) ? LAB_SIG_SHARED : LAB_SIG_PRIVATE;
	/* Only user space sends here: kill(), tgkill() and the like, all with code <= 0. */
	if (info.si_code <= 0) {
		record->pid = info.si_pid;
		record->uid = info.si_uid;
		if (info.si_code == SI_QUEUE)
			record->value = info.si_int;
	}
	return signo;
}

static void take_signals(void)
{
	struct lab_sig_record record;

	mutex_lock(&sig_lock);
	while (!sig_held && take_signal(&current->blocked, &record)) {
		record.number = ++sig_taken;
		if (!kfifo_put(&sig_records, record))
			sig_lost++;
	}
	mutex_unlock(&sig_lock);

	wake_up_interruptible_poll(&sig_readers, EPOLLIN | EPOLLRDNORM);
}

static int sig_thread_fn(void *unused)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(sig_allowed); i++)
		allow_signal(sig_allowed[i]);
	complete(&sig_ready);

	while (!kthread_should_stop()) {
		if (READ_ONCE(sig_held)) {
			/* Pending signals would end an interruptible sleep at once. */
			wait_event_idle(sig_wake, !READ_ONCE(sig_held) || kthread_should_stop());
			continue;
		}
		if (wait_event_interruptible(sig_wake,
					     READ_ONCE(sig_held) || kthread_should_stop())) {
			mutex_lock(&sig_lock);
			sig_interrupted++;
			mutex_unlock(&sig_lock);
			take_signals();
		}
	}
	return 0;
}

static ssize_t sig_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	unsigned int copied;
	int err;

	if (size < sizeof(struct lab_sig_record))
		return -EINVAL;

	do {
		if (kfifo_is_empty(&sig_records)) {
			if (file->f_flags & O_NONBLOCK)
				return -EAGAIN;
			err = wait_event_interruptible(sig_readers, !kfifo_is_empty(&sig_records));
			if (err)
				return err;
		}
		err = mutex_lock_interruptible(&sig_read_lock);
		if (err)
			return err;
		err = kfifo_to_user(&sig_records, buf, size, &copied);
		mutex_unlock(&sig_read_lock);
		/* What reached user space before a bad page counts; what did not, stays. */
		if (copied)
			return copied;
	} while (!err);		/* another reader was faster */

	return err;
}

static __poll_t sig_poll(struct file *file, struct poll_table_struct *table)
{
	poll_wait(file, &sig_readers, table);
	return kfifo_is_empty(&sig_records) ? 0 : EPOLLIN | EPOLLRDNORM;
}

static u64 sig_mask(const sigset_t *set)
{
	u64 mask = 0;
	int signo;

	for (signo = 1; signo <= _NSIG && signo <= 64; signo++)
		if (sigismember((sigset_t *)set, signo))
			mask |= 1ULL << (signo - 1);
	return mask;
}

static int sig_state(struct lab_sig_state __user *to)
{
	struct lab_sig_state state = {};
	sigset_t private, shared;

	/* The thread lives until the module goes, and so does its sighand. */
	spin_lock_irq(&sig_thread->sighand->siglock);
	private = sig_thread->pending.signal;
	shared = sig_thread->signal->shared_pending.signal;
	spin_unlock_irq(&sig_thread->sighand->siglock);

	state.pid = task_pid_vnr(sig_thread);
	state.pending_private = sig_mask(&private);
	state.pending_shared = sig_mask(&shared);

	mutex_lock(&sig_lock);
	state.held = sig_held;
	state.interrupted = sig_interrupted;
	state.taken = sig_taken;
	state.lost = sig_lost;
	mutex_unlock(&sig_lock);

	return copy_to_user(to, &state, sizeof(state)) ? -EFAULT : 0;
}

static int sig_hold(struct file *file)
{
	int err = 0;

	mutex_lock(&sig_lock);
	if (sig_held) {
		err = -EBUSY;
	} else {
		WRITE_ONCE(sig_held, true);
		sig_holder = file;
	}
	mutex_unlock(&sig_lock);
	if (!err)
		wake_up(&sig_wake);
	return err;
}

static int sig_release_hold(struct file *file, bool closing)
{
	int err = 0;

	mutex_lock(&sig_lock);
	if (sig_held && (sig_holder == file || (!sig_holder && !closing))) {
		WRITE_ONCE(sig_held, false);
		sig_holder = NULL;
	} else {
		err = -EINVAL;
	}
	mutex_unlock(&sig_lock);
	if (!err)
		wake_up(&sig_wake);
	return err;
}

/* The same taking, but by a process that came in from user space. */
static int sig_take(struct lab_sig_record __user *to)
{
	struct lab_sig_record record;
	sigset_t mask;
	size_t i;

	sigfillset(&mask);
	for (i = 0; i < ARRAY_SIZE(sig_allowed); i++)
		sigdelset(&mask, sig_allowed[i]);

	if (!take_signal(&mask, &record))
		return -EAGAIN;
	/* A bad pointer costs the signal, as with sigwaitinfo(). */
	return copy_to_user(to, &record, sizeof(record)) ? -EFAULT : 0;
}

static long sig_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LAB_SIG_STATE:
		return sig_state((struct lab_sig_state __user *)arg);
	case LAB_SIG_HOLD:
		return sig_hold(file);
	case LAB_SIG_RELEASE:
		return sig_release_hold(file, false);
	case LAB_SIG_TAKE:
		return sig_take((struct lab_sig_record __user *)arg);
	default:
		return -ENOTTY;
	}
}

/* The last reference to an open file is gone, by close() or because its process died. */
static int sig_close(struct inode *inode, struct file *file)
{
	if (!sig_release_hold(file, true))
		pr_debug("its holder has closed: released\n");
	return 0;
}

static const struct file_operations sig_fops = {
	.owner = THIS_MODULE,
	.read = sig_read,
	.poll = sig_poll,
	.unlocked_ioctl = sig_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.release = sig_close,
	.llseek = noop_llseek,
};

/* Open to everybody: looking is allowed, sending is what kill() decides about. */
static struct miscdevice sig_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab_signal_to_kthread",
	.fops = &sig_fops,
	.mode = 0666,
};

static int __init lab_signal_to_kthread_init(void)
{
	int err;

	sig_held = held;
	sig_thread = kthread_run(sig_thread_fn, NULL, "lab_sig");
	if (IS_ERR(sig_thread))
		return PTR_ERR(sig_thread);
	/* Before anybody can ask for its id: until then it ignores what it is sent. */
	wait_for_completion(&sig_ready);

	err = misc_register(&sig_device);
	if (err)
		goto stop_thread;
	return 0;

stop_thread:
	kthread_stop(sig_thread);
	return err;
}

static void __exit lab_signal_to_kthread_exit(void)
{
	misc_deregister(&sig_device);
	/* Wakes it from either sleep, whatever is pending, and waits until it is gone. */
	WARN_ON(kthread_stop(sig_thread));
}

module_init(lab_signal_to_kthread_init);
module_exit(lab_signal_to_kthread_exit);

MODULE_DESCRIPTION("chanlab: signals from user space to a kernel thread");
MODULE_LICENSE("GPL");
