// SPDX-License-Identifier: GPL-2.0-only
/*
 * kmsg.c - the kernel's log in both directions. User space reads and writes it by
 * the kernel's own /dev/kmsg and syslog(2).
 *
 * Out: /dev/lab_kmsg (0600) makes the module print, by the requests in
 * uapi/lab_kmsg.h: at each level, with and without a device, under a rate limit,
 * once, or only when dynamic debug says so. LAB_KMSG_IOC_DRAIN prints what the
 * store holds. Each text comes after "lab_kmsg: ", or after the driver's and the
 * device's name.
 *
 * In: no module can read /dev/kmsg, but a console is handed each line of the log
 * that is urgent enough for consoles, whoever wrote it. The console "lab_kmsg" puts
 * what follows LAB_KMSG_INWARD into the store, one message a line, and looks at
 * nothing else. The module is not pinned by it; lines are lost when 4 KiB of them
 * wait or the store is full.
 *
 * Parameters: burst lines an interval of interval_ms are what LAB_KMSG_OWN_LIMIT
 * lets through.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/console.h>
#include <linux/delay.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/irq_work.h>
#include <linux/jiffies.h>
#include <linux/kernel.h>
#include <linux/kfifo.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/printk.h>
#include <linux/ratelimit.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/workqueue.h>

#include "store.h"
#include "lab_kmsg.h"

static unsigned int burst = 5;
module_param(burst, uint, 0444);
MODULE_PARM_DESC(burst, "Lines an interval (default 5)");

static unsigned int interval_ms = 1000;
module_param(interval_ms, uint, 0444);
MODULE_PARM_DESC(interval_ms, "The interval in milliseconds (default 1000)");

static struct ratelimit_state own_limit;
static struct platform_device *platform;

/* --- out: printing ---------------------------------------------------------- */

static void lab_kmsg_pr(u32 level, const char *text)
{
	switch (level) {
	case 0:
		pr_emerg("%s\n", text);
		break;
	case 1:
		pr_alert("%s\n", text);
		break;
	case 2:
		pr_crit("%s\n", text);
		break;
	case 3:
		pr_err("%s\n", text);
		break;
	case 4:
		pr_warn("%s\n", text);
		break;
	case 5:
		pr_notice("%s\n", text);
		break;
	case 6:
		pr_info("%s\n", text);
		break;
	default:
		/* Not pr_debug(), which prints nothing until it is told to. */
		printk(KERN_DEBUG pr_fmt("%s\n"), text);
		break;
	}
}

static void lab_kmsg_dev(struct device *dev, u32 level, const char *text)
{
	switch (level) {
	case 0:
		dev_emerg(dev, "%s\n", text);
		break;
	case 1:
		dev_alert(dev, "%s\n", text);
		break;
	case 2:
		dev_crit(dev, "%s\n", text);
		break;
	case 3:
		dev_err(dev, "%s\n", text);
		break;
	case 4:
		dev_warn(dev, "%s\n", text);
		break;
	case 5:
		dev_notice(dev, "%s\n", text);
		break;
	case 6:
		dev_info(dev, "%s\n", text);
		break;
	default:
		dev_printk(KERN_DEBUG, dev, "%s\n", text);
		break;
	}
}

/* Its name is in the line that tells how many were suppressed. */
static void lab_kmsg_limited(u32 level, const char *text)
{
	if (__ratelimit(&own_limit))
		lab_kmsg_pr(level, text);
}

static void lab_kmsg_print(struct device *dev, const struct lab_kmsg_print *print, const char *text)
{
	switch (print->how) {
	case LAB_KMSG_PR:
		lab_kmsg_pr(print->level, text);
		break;
	case LAB_KMSG_DEV:
		lab_kmsg_dev(dev, print->level, text);
		break;
	case LAB_KMSG_DEV_PLATFORM:
		lab_kmsg_dev(&platform->dev, print->level, text);
		break;
	case LAB_KMSG_ONCE:
		pr_info_once("%s\n", text);
		break;
	case LAB_KMSG_PR_DEBUG:
		pr_debug("%s\n", text);
		break;
	case LAB_KMSG_DEV_DEBUG:
		dev_dbg(dev, "%s\n", text);
		break;
	case LAB_KMSG_PR_RATELIMITED:
		pr_info_ratelimited("%s\n", text);
		break;
	case LAB_KMSG_DEV_RATELIMITED:
		dev_info_ratelimited(dev, "%s\n", text);
		break;
	case LAB_KMSG_OWN_LIMIT:
		lab_kmsg_limited(print->level, text);
		break;
	}
}

/* One line in pieces. Who else prints meanwhile begins a line of their own. */
static void lab_kmsg_cont(const char *text, u32 times)
{
	pr_info("%s", text);
	while (--times)
		pr_cont(" %s", text);
	pr_cont("\n");
}

static long lab_kmsg_ioctl_print(struct device *dev, const struct lab_kmsg_print __user *argp)
{
	struct lab_kmsg_print print;
	long ret = 0;
	char *text;
	u32 i;

	if (copy_from_user(&print, argp, sizeof(print)))
		return -EFAULT;
	if (print.level > LOGLEVEL_DEBUG || print.how > LAB_KMSG_OWN_LIMIT ||
	    !print.times || print.times > LAB_KMSG_MAX_TIMES || print.pad)
		return -EINVAL;
	if (print.len > LAB_KMSG_MAX_TEXT)
		return -EMSGSIZE;

	text = memdup_user_nul(u64_to_user_ptr(print.text), print.len);
	if (IS_ERR(text))
		return PTR_ERR(text);

	if (print.how == LAB_KMSG_CONT) {
		lab_kmsg_cont(text, print.times);
		goto out;
	}
	for (i = 0; i < print.times; i++) {
		if (i && print.pause_ms && msleep_interruptible(print.pause_ms)) {
			ret = -EINTR;
			break;
		}
		lab_kmsg_print(dev, &print, text);
	}
out:
	kfree(text);
	return ret;
}

static long lab_kmsg_drain(void)
{
	struct lab_message *message;
	long count = 0;

	while ((message = lab_store_take())) {
		pr_notice("%.*s\n", (int)message->len, message->data);
		lab_message_free(message);
		count++;
	}
	return count;
}

static long lab_kmsg_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	/* misc_open() left it there. */
	struct miscdevice *misc = file->private_data;

	switch (cmd) {
	case LAB_KMSG_IOC_PRINT:
		return lab_kmsg_ioctl_print(misc->this_device, (void __user *)arg);
	case LAB_KMSG_IOC_DRAIN:
		return lab_kmsg_drain();
	default:
		return -ENOTTY;
	}
}

static const struct file_operations lab_kmsg_fops = {
	.owner		= THIS_MODULE,
	.unlocked_ioctl	= lab_kmsg_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_kmsg_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_kmsg",
	.fops	= &lab_kmsg_fops,
	.mode	= 0600,
};

/* --- in: a console ------------------------------------------------------------ */

#define LAB_KMSG_MAX_LINE 1024

typedef STRUCT_KFIFO_REC_2(4096) lab_kmsg_lines;
/* One writer, who holds the console lock, and one reader, the work: no lock is needed. */
static lab_kmsg_lines lines;
static char line[LAB_KMSG_MAX_LINE];	/* the work's */

static void lab_kmsg_work(struct work_struct *work)
{
	unsigned int len;

	while ((len = kfifo_out(&lines, line, sizeof(line)))) {
		/* Without a word: printing from here could go round in a circle. */
		if (lab_store_put(line, len))
			break;
	}
}
static DECLARE_WORK(lines_work, lab_kmsg_work);

/* queue_work() may not be called where printk() may: by somebody with a workqueue's lock, say. */
static void lab_kmsg_irq_work(struct irq_work *work)
{
	schedule_work(&lines_work);
}
static struct irq_work lines_irq_work;

/* Called for each record, in any context, without a NUL at the end: "[   12.345678] text\n". */
static void lab_kmsg_console_write(struct console *console, const char *text, unsigned int len)
{
	const char *end = text + len;
	const char *from = strnstr(text, LAB_KMSG_INWARD, len);
	const char *newline;

	if (!from)
		return;
	from += strlen(LAB_KMSG_INWARD);
	newline = memchr(from, '\n', end - from);
	if (newline)
		end = newline;
	if (end > from && kfifo_in(&lines, from, end - from))
		irq_work_queue(&lines_irq_work);
}

/* Enabled without being asked for on the command line, as netconsole is. */
static struct console lab_kmsg_console = {
	.name	= "lab_kmsg",
	.write	= lab_kmsg_console_write,
	.flags	= CON_ENABLED,
};

/* ------------------------------------------------------------------------------ */

static int __init lab_kmsg_init(void)
{
	int ret;

	ratelimit_state_init(&own_limit, msecs_to_jiffies(interval_ms), burst);
	INIT_KFIFO(lines);
	init_irq_work(&lines_irq_work, lab_kmsg_irq_work);

	platform = platform_device_register_simple("lab_kmsg", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(platform))
		return PTR_ERR(platform);

	register_console(&lab_kmsg_console);

	ret = misc_register(&lab_kmsg_misc);
	if (ret)
		goto err_console;
	return 0;

err_console:
	unregister_console(&lab_kmsg_console);
	irq_work_sync(&lines_irq_work);
	cancel_work_sync(&lines_work);
	platform_device_unregister(platform);
	return ret;
}

static void __exit lab_kmsg_exit(void)
{
	misc_deregister(&lab_kmsg_misc);
	unregister_console(&lab_kmsg_console);
	/* The console queues the one, the one queues the other. */
	irq_work_sync(&lines_irq_work);
	cancel_work_sync(&lines_work);
	platform_device_unregister(platform);
	ratelimit_state_exit(&own_limit);
}

module_init(lab_kmsg_init);
module_exit(lab_kmsg_exit);

MODULE_DESCRIPTION("chanlab: the kernel's log");
MODULE_LICENSE("GPL");
