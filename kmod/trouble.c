// SPDX-License-Identifier: GPL-2.0-only
/*
 * trouble.c - mistakes on purpose, for a lab that has to catch them.
 *
 * User space writes a word of lab_trouble.h to /dev/lab_trouble, and gets what a
 * module with that mistake does to it: killed in the middle of the call, asleep for
 * ever, or the whole machine gone. An unknown word is EINVAL and harmless. The
 * parameters at_init and at_exit are such words too, for what loads and unloads it.
 *
 * Nothing here scribbles over memory: what that does differs from run to run, and a
 * lab cannot be tested by it.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bug.h>
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/irqflags.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/preempt.h>
#include <linux/refcount.h>
#include <linux/sched.h>
#include <linux/sched/task.h>
#include <linux/smp.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "compat.h"
#include "lab_trouble.h"

static char *at_init = "";
module_param(at_init, charp, 0444);
MODULE_PARM_DESC(at_init, "trouble to make while the module is loaded");

static char *at_exit = "";
module_param(at_exit, charp, 0444);
MODULE_PARM_DESC(at_exit, "trouble to make while the module is unloaded");

static DEFINE_MUTEX(trouble_a);
static DEFINE_MUTEX(trouble_b);
static DECLARE_COMPLETION(trouble_has_a);
static DECLARE_COMPLETION(trouble_has_b);
static DEFINE_SPINLOCK(trouble_spin);

static DECLARE_WAIT_QUEUE_HEAD(trouble_wait);
static bool trouble_ready;

static atomic_t trouble_leaked = ATOMIC_INIT(0);

/* --- reports ------------------------------------------------------------- */

static int trouble_warn(void)
{
	WARN(1, "lab_trouble: a warning on purpose\n");
	return 0;
}

static int trouble_warn_once(void)
{
	WARN_ONCE(1, "lab_trouble: a warning on purpose, once\n");
	return 0;
}

/* Not inlined, so that the report names it. */
static noinline void write_to_nowhere(void)
{
	int *nowhere = NULL;

	OPTIMIZER_HIDE_VAR(nowhere);
	WRITE_ONCE(*nowhere, 1);
}

static int trouble_null(void)
{
	write_to_nowhere();
	return 0;
}

static int trouble_bug(void)
{
	bool wrong = true;

	OPTIMIZER_HIDE_VAR(wrong);
	BUG_ON(wrong);
	return 0;
}

static int null_thread(void *started)
{
	complete(started);
	write_to_nowhere();
	return 0;
}

static int trouble_null_kthread(void)
{
	DECLARE_COMPLETION_ONSTACK(started);
	struct task_struct *thread;
	int ret;

	thread = kthread_create(null_thread, &started, "lab_trouble");
	if (IS_ERR(thread))
		return PTR_ERR(thread);
	get_task_struct(thread);
	wake_up_process(thread);
	wait_for_completion(&started);

	/* It ends without being told to: this waits for its report to be complete. */
	ret = kthread_stop(thread);
	put_task_struct(thread);
	pr_info("the thread ended with %d\n", ret);
	return 0;
}

static int trouble_refcount(void)
{
	refcount_t count = REFCOUNT_INIT(1);

	if (refcount_dec_and_test(&count) && !refcount_dec_and_test(&count))
		pr_info("one put too many\n");
	return 0;
}

/* --- the end of the kernel ----------------------------------------------- */

static int trouble_panic(void)
{
	panic("lab_trouble: a panic on purpose");
	return 0;
}

static void null_timer_fn(struct timer_list *unused)
{
	write_to_nowhere();
}

static DEFINE_TIMER(trouble_timer, null_timer_fn);

/* In an interrupt there is no process to kill: the kernel gives up. */
static int trouble_null_timer(void)
{
	mod_timer(&trouble_timer, jiffies + 1);
	return 0;
}

/* --- busy for ever ------------------------------------------------------- */

static int trouble_loop(void)
{
	while (true)
		cond_resched();
	return 0;
}

static int trouble_loop_atomic(void)
{
	preempt_disable();
	while (true)
		cpu_relax();
	return 0;
}

static void loop_irqs_off(void *unused)
{
	local_irq_disable();
	while (true)
		cpu_relax();
}

static int trouble_loop_irqs_off(void)
{
	loop_irqs_off(NULL);
	return 0;
}

static int trouble_loop_everywhere(void)
{
	/* The other CPUs first, which does not wait for them, and then this one. */
	preempt_disable();
	smp_call_function(loop_irqs_off, NULL, 0);
	loop_irqs_off(NULL);
	return 0;
}

static int trouble_spin_self(void)
{
	spin_lock(&trouble_spin);
	spin_lock(&trouble_spin);
	spin_unlock(&trouble_spin);
	spin_unlock(&trouble_spin);
	return 0;
}

/* --- asleep for ever ----------------------------------------------------- */

static int trouble_mutex_self(void)
{
	mutex_lock(&trouble_a);
	mutex_lock(&trouble_a);
	mutex_unlock(&trouble_a);
	mutex_unlock(&trouble_a);
	return 0;
}

/* Both have their first lock before either asks for its second: it never works out. */
static int lock_both(struct mutex *first, struct completion *has_first,
		     struct mutex *second, struct completion *has_second)
{
	int err;

	mutex_lock(first);
	complete(has_first);
	err = wait_for_completion_killable(has_second);
	if (!err) {
		mutex_lock(second);
		mutex_unlock(second);
	}
	mutex_unlock(first);
	return err;
}

static int trouble_lock_ab(void)
{
	return lock_both(&trouble_a, &trouble_has_a, &trouble_b, &trouble_has_b);
}

static int trouble_lock_ba(void)
{
	return lock_both(&trouble_b, &trouble_has_b, &trouble_a, &trouble_has_a);
}

static int trouble_sleep(void)
{
	return wait_event_interruptible(trouble_wait, READ_ONCE(trouble_ready));
}

static int trouble_sleep_deep(void)
{
	wait_event(trouble_wait, READ_ONCE(trouble_ready));
	return 0;
}

/* Here belongs a wake_up(): without it the sleepers do not look. */
static int trouble_make_ready(void)
{
	WRITE_ONCE(trouble_ready, true);
	return 0;
}

static int trouble_wake(void)
{
	wake_up_all(&trouble_wait);
	return 0;
}

/* --- never put ----------------------------------------------------------- */

static int trouble_leak(void)
{
	__module_get(THIS_MODULE);
	atomic_inc(&trouble_leaked);
	return 0;
}

static int trouble_unleak(void)
{
	if (!atomic_add_unless(&trouble_leaked, -1, 0))
		return -EINVAL;
	module_put(THIS_MODULE);
	return 0;
}

/* No error, and no success either. */
static int trouble_one(void)
{
	return 1;
}

/* ------------------------------------------------------------------------- */

static const struct {
	const char *word;
	int (*make)(void);
} troubles[] = {
	{ LAB_TROUBLE_WARN, trouble_warn },
	{ LAB_TROUBLE_WARN_ONCE, trouble_warn_once },
	{ LAB_TROUBLE_NULL, trouble_null },
	{ LAB_TROUBLE_BUG, trouble_bug },
	{ LAB_TROUBLE_NULL_KTHREAD, trouble_null_kthread },
	{ LAB_TROUBLE_REFCOUNT, trouble_refcount },
	{ LAB_TROUBLE_PANIC, trouble_panic },
	{ LAB_TROUBLE_NULL_TIMER, trouble_null_timer },
	{ LAB_TROUBLE_LOOP, trouble_loop },
	{ LAB_TROUBLE_LOOP_ATOMIC, trouble_loop_atomic },
	{ LAB_TROUBLE_LOOP_IRQS_OFF, trouble_loop_irqs_off },
	{ LAB_TROUBLE_LOOP_EVERYWHERE, trouble_loop_everywhere },
	{ LAB_TROUBLE_SPIN_SELF, trouble_spin_self },
	{ LAB_TROUBLE_MUTEX_SELF, trouble_mutex_self },
	{ LAB_TROUBLE_LOCK_AB, trouble_lock_ab },
	{ LAB_TROUBLE_LOCK_BA, trouble_lock_ba },
	{ LAB_TROUBLE_SLEEP, trouble_sleep },
	{ LAB_TROUBLE_SLEEP_DEEP, trouble_sleep_deep },
	{ LAB_TROUBLE_READY, trouble_make_ready },
	{ LAB_TROUBLE_WAKE, trouble_wake },
	{ LAB_TROUBLE_LEAK, trouble_leak },
	{ LAB_TROUBLE_UNLEAK, trouble_unleak },
	{ LAB_TROUBLE_ONE, trouble_one },
};

static int make_trouble(const char *word)
{
	size_t i;

	/* A newline at the end, as echo writes it, does not matter. */
	for (i = 0; i < ARRAY_SIZE(troubles); i++)
		if (sysfs_streq(word, troubles[i].word))
			return troubles[i].make();
	return -EINVAL;
}

static ssize_t trouble_write(struct file *file, const char __user *buf, size_t size, loff_t *pos)
{
	char word[32];
	int err;

	if (size >= sizeof(word))
		return -EINVAL;
	if (copy_from_user(word, buf, size))
		return -EFAULT;
	word[size] = '\0';

	err = make_trouble(word);
	return err ? err : size;
}

static const struct file_operations trouble_fops = {
	.owner = THIS_MODULE,
	.write = trouble_write,
	.llseek = noop_llseek,
};

/* For root only, who could do worse. */
static struct miscdevice trouble_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab_trouble",
	.fops = &trouble_fops,
	.mode = 0600,
};

static int __init lab_trouble_init(void)
{
	int ret = 0;
	int err;

	if (*at_init)
		ret = make_trouble(at_init);
	if (ret < 0)
		return ret;
	err = misc_register(&trouble_device);
	return err ? err : ret;
}

static void __exit lab_trouble_exit(void)
{
	misc_deregister(&trouble_device);
	timer_delete_sync(&trouble_timer);
	/* Whatever comes of it, all else is gone by now. */
	if (*at_exit && make_trouble(at_exit) < 0)
		pr_info("no trouble is called '%s'\n", at_exit);
}

module_init(lab_trouble_init);
module_exit(lab_trouble_exit);

MODULE_DESCRIPTION("chanlab: mistakes on purpose");
MODULE_LICENSE("GPL");
