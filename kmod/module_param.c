// SPDX-License-Identifier: GPL-2.0-only
/*
 * module_param.c - the door of module parameters: set when the module is loaded, and
 * later by the files of /sys/module/lab_module_param/parameters
 *
 *   level     0644  own set and get: 0 to 100, ERANGE beyond; the log tells of each set
 *   fixed     0444  int, to be set at load only
 *   hidden    0     int, to be set at load only, and without a file
 *   reveal    0444  own get: what hidden is; EPERM when set at load
 *   flag      0644  bool; without "=value" it is set
 *   title     0644  charp: any length up to 1024
 *   label     0644  string: at most LAB_PARAM_LABEL_SIZE - 1 bytes, ENOSPC beyond
 *   numbers   0644  array of int, four at most
 *   numbered  0444  how many of them there are; lab_numbered under another name
 *   message   0600  set: puts a message without its closing newline, ENOSPC when the store
 *                   is full; get: the oldest message, left in the store (what fits a page),
 *                   ENODATA when there is none
 *   next      0400  get: takes the oldest message off, and sleeps until there is one; as all
 *                   parameters of a module share one lock, all others wait meanwhile
 *   clear     0200  true empties the store
 *
 * A set callback at load runs before the module's init, and its error is init_module()'s.
 * One through a file may run while the module goes, and even after its exit: the files are
 * taken away only then. An open file does not pin the module, and gets ENODEV later.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/wait.h>

#include "store.h"

#define LAB_PARAM_MAX_LEVEL 100
#define LAB_PARAM_LABEL_SIZE 16
#define LAB_PARAM_NUMBERS 4

static bool lab_ready;		/* init has run */
static bool lab_leaving;	/* exit has begun */

/* --- the kernel's own types --------------------------------------------------- */

static int fixed = 1;
module_param(fixed, int, 0444);
MODULE_PARM_DESC(fixed, "a number that does not change");

static int hidden = 2;
module_param(hidden, int, 0);
MODULE_PARM_DESC(hidden, "a number without a file");

static bool flag;
module_param(flag, bool, 0644);
MODULE_PARM_DESC(flag, "yes or no");

static char *title = "untitled";
module_param(title, charp, 0644);
MODULE_PARM_DESC(title, "text, in memory of the kernel's");

static char label[LAB_PARAM_LABEL_SIZE] = "none";
module_param_string(label, label, sizeof(label), 0644);
MODULE_PARM_DESC(label, "text, in memory of the module's (15 bytes)");

static int numbers[LAB_PARAM_NUMBERS];
static unsigned int lab_numbered;
module_param_array(numbers, int, &lab_numbered, 0644);
MODULE_PARM_DESC(numbers, "up to four numbers");

module_param_named(numbered, lab_numbered, uint, 0444);
MODULE_PARM_DESC(numbered, "how many numbers there are");

/* --- callbacks of the module's own --------------------------------------------- */

static unsigned int lab_level = 50;

/* The lock of the module's parameters is held in each of these. */
static int level_set(const char *text, const struct kernel_param *kp)
{
	unsigned int *level = kp->arg;
	unsigned int value;
	int ret;

	if (READ_ONCE(lab_leaving)) {
		pr_info("level comes too late\n");
		return -ENODEV;
	}

	ret = kstrtouint(text, 0, &value);
	if (ret)
		return ret;
	if (value > LAB_PARAM_MAX_LEVEL)
		return -ERANGE;

	pr_info("level goes from %u to %u%s\n", *level, value, lab_ready ? "" : " before init");
	*level = value;

	return 0;
}

static int level_get(char *buf, const struct kernel_param *kp)
{
	const unsigned int *level = kp->arg;

	return sysfs_emit(buf, "%u\n", *level);
}

static const struct kernel_param_ops level_ops = {
	.set = level_set,
	.get = level_get,
};
module_param_cb(level, &level_ops, &lab_level, 0644);
MODULE_PARM_DESC(level, "0 to 100");

/* The kernel calls set at load whatever the mode is, and whether there is one or not. */
static int reveal_set(const char *text, const struct kernel_param *kp)
{
	return -EPERM;
}

static int reveal_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", hidden);
}

static const struct kernel_param_ops reveal_ops = {
	.set = reveal_set,
	.get = reveal_get,
};
module_param_cb(reveal, &reveal_ops, NULL, 0444);
MODULE_PARM_DESC(reveal, "what hidden is (only to be read)");

/* @text ends at its first NUL, whatever came after it from the file. */
static int message_set(const char *text, const struct kernel_param *kp)
{
	size_t len = strlen(text);

	/* `echo` adds it; only the last one goes. */
	if (len && text[len - 1] == '\n')
		len--;

	return lab_store_put(text, len);
}

static int message_get(char *buf, const struct kernel_param *kp)
{
	/* The newline, and one byte less than a page: sysfs complains of a whole one. */
	ssize_t len = lab_store_copy(0, buf, PAGE_SIZE - 2);

	if (len == -ENOENT)
		return -ENODATA;
	if (len < 0)
		return len;

	buf[len++] = '\n';
	return len;
}

static const struct kernel_param_ops message_ops = {
	.set = message_set,
	.get = message_get,
};
module_param_cb(message, &message_ops, NULL, 0600);
MODULE_PARM_DESC(message, "puts a message into the store, shows the oldest");

static int next_get(char *buf, const struct kernel_param *kp)
{
	struct lab_message *message;
	size_t len;
	int ret;

	for (;;) {
		if (READ_ONCE(lab_leaving))
			return -ENODEV;
		message = lab_store_take();
		if (message)
			break;
		ret = wait_event_interruptible(*lab_store_wait(),
					       lab_store_count() || READ_ONCE(lab_leaving));
		if (ret)
			return ret;
	}

	len = min_t(size_t, message->len, PAGE_SIZE - 2);
	memcpy(buf, message->data, len);
	buf[len++] = '\n';
	lab_message_free(message);

	return len;
}

static const struct kernel_param_ops next_ops = {
	.set = reveal_set,
	.get = next_get,
};
module_param_cb(next, &next_ops, NULL, 0400);
MODULE_PARM_DESC(next, "takes the oldest message, waiting for it (only to be read)");

static int clear_set(const char *text, const struct kernel_param *kp)
{
	struct kernel_param copy = *kp;
	bool yes;
	int ret;

	/* NULL, when it came without "=value", is true. */
	copy.arg = &yes;
	ret = param_set_bool(text, &copy);
	if (!ret && yes)
		lab_store_clear();

	return ret;
}

static const struct kernel_param_ops clear_ops = {
	.flags = KERNEL_PARAM_OPS_FL_NOARG,
	.set = clear_set,
};
module_param_cb(clear, &clear_ops, NULL, 0200);
MODULE_PARM_DESC(clear, "true empties the store");

static int __init lab_module_param_init(void)
{
	lab_ready = true;
	return 0;
}

static void __exit lab_module_param_exit(void)
{
	/*
	 * The files go after this, when nobody is in a callback any more: who sleeps in one
	 * is sent away, and who waits for the lock behind him will find lab_leaving.
	 */
	WRITE_ONCE(lab_leaving, true);
	wake_up_all(lab_store_wait());
}

module_init(lab_module_param_init);
module_exit(lab_module_param_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: module parameters, with the kernel's callbacks and own ones");
