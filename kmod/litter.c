// SPDX-License-Identifier: GPL-2.0-only
/*
 * litter.c - a module that leaves something behind when it goes, on purpose, for a lab
 * that has to find it.
 *
 * The parameter says what it makes when it is loaded and forgets when it is unloaded,
 * one word of litter[] below; without one, nothing. With tidy=1 it does not forget those
 * that it can take back. User space opens /dev/lab_litter,
 * whose driver does not keep the module with the parameter unowned=1; a write to it is
 * said aloud, as a warning.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/debugfs.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/kthread.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/percpu.h>
#include <linux/proc_fs.h>
#include <linux/reboot.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/timer.h>
#include <linux/vmalloc.h>
#include <linux/workqueue.h>

#define LITTER_BYTES	(16ul << 20)

static char *leaves = "";
module_param(leaves, charp, 0444);
MODULE_PARM_DESC(leaves, "what is left behind when the module is unloaded");

static uint ms = 2000;
module_param(ms, uint, 0444);
MODULE_PARM_DESC(ms, "after how many milliseconds a timer that is left expires");

static bool tidy;
module_param(tidy, bool, 0444);
MODULE_PARM_DESC(tidy, "it is taken back");

static bool unowned;
module_param(unowned, bool, 0444);
MODULE_PARM_DESC(unowned, "an open file does not keep the module");

/* --- what is left -------------------------------------------------------- */

static int litter_proc(void)
{
	return proc_mkdir("lab_litter", NULL) ? 0 : -ENOMEM;
}

static int litter_sysfs(void)
{
	return kobject_create_and_add("lab_litter", kernel_kobj) ? 0 : -ENOMEM;
}

static int litter_debugfs(void)
{
	return PTR_ERR_OR_ZERO(debugfs_create_dir("lab_litter", NULL));
}

static void litter_construct(void *object)
{
	memset(object, 0, sizeof(long));
}

static struct kmem_cache *litter_objects;

/* Its constructor keeps it from being merged with another one of its size. */
static int litter_cache(void)
{
	litter_objects = kmem_cache_create("lab_litter", 72, 0, 0, litter_construct);
	return litter_objects ? 0 : -ENOMEM;
}

/* Another one of its size there is: this is a second name of it, which the kernel leaves there for good. */
static int litter_merged_cache(void)
{
	litter_objects = kmem_cache_create("lab_litter_merged", 64, 0, 0, NULL);
	return litter_objects ? 0 : -ENOMEM;
}

static void litter_destroy_cache(void)
{
	kmem_cache_destroy(litter_objects);
}

static int litter_major(void)
{
	static const struct file_operations nothing;
	int major = register_chrdev(0, "lab_litter_major", &nothing);

	return major < 0 ? major : 0;
}

static int litter_memory(void)
{
	return vmalloc(LITTER_BYTES) ? 0 : -ENOMEM;
}

static void litter_tick(struct timer_list *unused)
{
	pr_info("the timer has expired\n");
}

static DEFINE_TIMER(litter_static_timer, litter_tick);

static int litter_timer(void)
{
	mod_timer(&litter_static_timer, jiffies + msecs_to_jiffies(ms));
	return 0;
}

/* The same in memory that stays when the module goes. */
static int litter_timer_elsewhere(void)
{
	struct timer_list *timer = kzalloc(sizeof(*timer), GFP_KERNEL);

	if (!timer)
		return -ENOMEM;
	timer_setup(timer, litter_tick, 0);
	mod_timer(timer, jiffies + msecs_to_jiffies(ms));
	return 0;
}

static void litter_work_fn(struct work_struct *unused)
{
	pr_info("the work is done\n");
}

static DECLARE_DELAYED_WORK(litter_static_work, litter_work_fn);

static int litter_work(void)
{
	schedule_delayed_work(&litter_static_work, msecs_to_jiffies(ms));
	return 0;
}

static int litter_work_elsewhere(void)
{
	struct delayed_work *work = kzalloc(sizeof(*work), GFP_KERNEL);

	if (!work)
		return -ENOMEM;
	INIT_DELAYED_WORK(work, litter_work_fn);
	schedule_delayed_work(work, msecs_to_jiffies(ms));
	return 0;
}

/* Nobody wakes it but who stops it: it does not come back to code that has gone. */
static int litter_thread_fn(void *unused)
{
	for (;;) {
		set_current_state(TASK_INTERRUPTIBLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	return 0;
}

static struct task_struct *litter_task;

static int litter_thread(void)
{
	litter_task = kthread_run(litter_thread_fn, NULL, "lab_litter");
	return PTR_ERR_OR_ZERO(litter_task);
}

static void litter_stop_thread(void)
{
	kthread_stop(litter_task);
}

/*
 * A queue that must get on when there is no memory has a thread of its own. Since 7.x it
 * must say whether its workers are bound to CPUs.
 */
static struct workqueue_struct *litter_wq;

static int litter_queue(void)
{
	litter_wq = alloc_workqueue("lab_litter", WQ_UNBOUND | WQ_MEM_RECLAIM, 0);
	return litter_wq ? 0 : -ENOMEM;
}

static void litter_destroy_queue(void)
{
	destroy_workqueue(litter_wq);
}

static int litter_reboot(struct notifier_block *unused, unsigned long action, void *data)
{
	pr_info("told of a reboot\n");
	return NOTIFY_DONE;
}

static struct notifier_block litter_block = { .notifier_call = litter_reboot };

static int litter_notifier(void)
{
	return register_reboot_notifier(&litter_block);
}

static void litter_unregister_notifier(void)
{
	unregister_reboot_notifier(&litter_block);
}

static u64 __percpu *litter_counts;

static int litter_per_cpu(void)
{
	litter_counts = alloc_percpu(u64);
	return litter_counts ? 0 : -ENOMEM;
}

static void litter_free_per_cpu(void)
{
	free_percpu(litter_counts);
}

static const struct {
	const char *word;
	int (*make)(void);
	void (*undo)(void);
} litter[] = {
	{ "proc", litter_proc },
	{ "sysfs", litter_sysfs },
	{ "debugfs", litter_debugfs },
	{ "cache", litter_cache, litter_destroy_cache },
	{ "merged_cache", litter_merged_cache, litter_destroy_cache },
	{ "major", litter_major },
	{ "memory", litter_memory },
	{ "timer", litter_timer },
	{ "timer_elsewhere", litter_timer_elsewhere },
	{ "work", litter_work },
	{ "work_elsewhere", litter_work_elsewhere },
	{ "thread", litter_thread, litter_stop_thread },
	{ "queue", litter_queue, litter_destroy_queue },
	{ "notifier", litter_notifier, litter_unregister_notifier },
	{ "per_cpu", litter_per_cpu, litter_free_per_cpu },
};

static void (*litter_undo)(void);

static int litter_make(void)
{
	unsigned int i;

	if (!*leaves)
		return 0;
	for (i = 0; i < ARRAY_SIZE(litter); i++)
		if (!strcmp(leaves, litter[i].word))
			break;
	if (i == ARRAY_SIZE(litter) || (tidy && !litter[i].undo))
		return -EINVAL;
	if (tidy)
		litter_undo = litter[i].undo;
	return litter[i].make();
}

/* --- the node ------------------------------------------------------------ */

static ssize_t litter_write(struct file *file, const char __user *buf, size_t count, loff_t *ppos)
{
	pr_warn("a write of %zu bytes\n", count);
	return count;
}

static const struct file_operations litter_fops = {
	.owner	= THIS_MODULE,
	.write	= litter_write,
};

static const struct file_operations litter_unowned_fops = {
	.write	= litter_write,
};

static struct miscdevice litter_dev = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= KBUILD_MODNAME,
	.fops	= &litter_fops,
	.mode	= 0666,
};

static int __init litter_init(void)
{
	int ret;

	if (unowned)
		litter_dev.fops = &litter_unowned_fops;
	ret = misc_register(&litter_dev);
	if (ret)
		return ret;
	ret = litter_make();
	if (ret)
		misc_deregister(&litter_dev);
	return ret;
}

static void __exit litter_exit(void)
{
	misc_deregister(&litter_dev);
	if (litter_undo)
		litter_undo();
}

module_init(litter_init);
module_exit(litter_exit);

MODULE_DESCRIPTION("chanlab: leaves something behind");
MODULE_LICENSE("GPL");
