// SPDX-License-Identifier: GPL-2.0-only
/*
 * input.c - an input device with a few keys, a wheel, an axis and a lamp. User space
 * has it as /dev/input/eventN, which is evdev's: all that can be done there is the
 * input core's and evdev's work, and what they ask of a driver is here.
 *
 * /dev/lab_input (0600) stands for the hardware behind it:
 *   read   tells the path of the event node, a line; ENODEV while evdev has made none.
 *   write  struct lab_input_event, one or several: the device reports them as they
 *          are. EINVAL for half an event, none or too many, EFAULT with none reported.
 *   ioctl  LAB_INPUT_IOC_STATUS: what the device was told, say that its lamp be lit.
 *
 * A message that is put into the store by any door is taken and typed: a packet for
 * each key that goes down and one for each that comes up. There are keys for
 * q w e r t y u i o p a s and the end of a line; what has no key is passed over.
 *
 * The event node is not this module's: an open file of it does not pin the module,
 * and reads ENODEV once that was unloaded.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/device.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/input.h>
#include <linux/kernel.h>
#include <linux/ktime.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "store.h"
#include "lab_input.h"

static struct input_dev *lab_input;

/* --- what the device is told -------------------------------------------------- */

static DEFINE_SPINLOCK(told_lock);	/* of told */
static struct lab_input_status told;

/*
 * A lamp goes on or off. The input core calls this under a lock of its own and with
 * interrupts off, and only when the lamp is not so already.
 */
static int lab_input_event(struct input_dev *dev, unsigned int type, unsigned int code, int value)
{
	unsigned long flags;

	spin_lock_irqsave(&told_lock, flags);
	told.told++;
	told.type = type;
	told.code = code;
	told.value = value;
	spin_unlock_irqrestore(&told_lock, flags);
	return 0;
}

/* --- what the device reports --------------------------------------------------- */

static const struct {
	char letter;
	unsigned int key;
} lab_input_keys[] = {
	{ 'q', KEY_Q }, { 'w', KEY_W }, { 'e', KEY_E }, { 'r', KEY_R }, { 't', KEY_T },
	{ 'y', KEY_Y }, { 'u', KEY_U }, { 'i', KEY_I }, { 'o', KEY_O }, { 'p', KEY_P },
	{ '\n', KEY_ENTER }, { 'a', KEY_A }, { 's', KEY_S },
};

static DEFINE_MUTEX(report_lock);	/* no packet has events of two reporters */

static void lab_input_report(const struct lab_input_event *event)
{
	if (event->stamp)
		input_set_timestamp(lab_input, ns_to_ktime(event->stamp));
	input_event(lab_input, event->type, event->code, event->value);
}

static void lab_input_type(char letter)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(lab_input_keys); i++) {
		if (lab_input_keys[i].letter != letter)
			continue;
		input_report_key(lab_input, lab_input_keys[i].key, 1);
		input_sync(lab_input);
		input_report_key(lab_input, lab_input_keys[i].key, 0);
		input_sync(lab_input);
	}
}

static int lab_input_notify(struct notifier_block *nb, unsigned long event, void *unused)
{
	struct lab_message *message;
	size_t i;

	if (event != LAB_STORE_PUT)
		return NOTIFY_OK;

	mutex_lock(&report_lock);
	message = lab_store_take();
	if (message) {
		for (i = 0; i < message->len; i++)
			lab_input_type(message->data[i]);
		lab_message_free(message);
	}
	mutex_unlock(&report_lock);
	return NOTIFY_OK;
}

static struct notifier_block lab_input_nb = {
	.notifier_call	= lab_input_notify,
};

/* --- the hardware's side --------------------------------------------------------- */

/* evdev's device is a child of ours, eventN, and its node is in /dev/input. */
static int lab_input_is_node(struct device *dev, void *name)
{
	if (strncmp(dev_name(dev), "event", 5))
		return 0;
	strscpy(name, dev_name(dev), 32);
	return 1;
}

static ssize_t lab_input_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	loff_t start = 0;
	char name[32];
	char path[64];
	int len;

	if (!device_for_each_child(&lab_input->dev, name, lab_input_is_node))
		return -ENODEV;
	len = scnprintf(path, sizeof(path), "/dev/input/%s\n", name);
	return simple_read_from_buffer(buf, size, &start, path, len);
}

static ssize_t lab_input_write(struct file *file, const char __user *buf, size_t len, loff_t *pos)
{
	struct lab_input_event *events;
	size_t count = len / sizeof(*events);
	size_t i;

	if (!count || len % sizeof(*events) || count > LAB_INPUT_MAX_EVENTS)
		return -EINVAL;
	events = memdup_user(buf, len);
	if (IS_ERR(events))
		return PTR_ERR(events);

	mutex_lock(&report_lock);
	for (i = 0; i < count; i++)
		lab_input_report(&events[i]);
	mutex_unlock(&report_lock);
	kfree(events);
	return len;
}

static long lab_input_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct lab_input_status status;

	if (cmd != LAB_INPUT_IOC_STATUS)
		return -ENOTTY;

	spin_lock_irq(&told_lock);
	status = told;
	spin_unlock_irq(&told_lock);
	if (copy_to_user((void __user *)arg, &status, sizeof(status)))
		return -EFAULT;

	/* What came meanwhile is counted the next time. */
	spin_lock_irq(&told_lock);
	told.told -= status.told;
	spin_unlock_irq(&told_lock);
	return 0;
}

static const struct file_operations lab_input_fops = {
	.owner		= THIS_MODULE,
	.read		= lab_input_read,
	.write		= lab_input_write,
	.unlocked_ioctl	= lab_input_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_input_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_input",
	.fops	= &lab_input_fops,
	.mode	= 0600,
};

/* --- coming and going ------------------------------------------------------------- */

static int lab_input_register(void)
{
	struct input_dev *dev;
	unsigned int i;
	int ret;

	dev = input_allocate_device();
	if (!dev)
		return -ENOMEM;
	dev->name = "lab_input";
	dev->phys = "lab/input0";
	dev->id.bustype = BUS_VIRTUAL;
	dev->id.vendor = LAB_INPUT_VENDOR;
	dev->id.product = LAB_INPUT_PRODUCT;
	dev->id.version = LAB_INPUT_VERSION;
	dev->event = lab_input_event;

	for (i = 0; i < ARRAY_SIZE(lab_input_keys); i++)
		input_set_capability(dev, EV_KEY, lab_input_keys[i].key);
	input_set_capability(dev, EV_REL, REL_WHEEL);
	input_set_capability(dev, EV_LED, LED_MISC);
	input_set_abs_params(dev, ABS_X, LAB_INPUT_ABS_MIN, LAB_INPUT_ABS_MAX,
			     LAB_INPUT_ABS_FUZZ, LAB_INPUT_ABS_FLAT);
	input_abs_set_res(dev, ABS_X, LAB_INPUT_ABS_RES);
	/* evdev keeps eight packets for each of its readers. */
	input_set_events_per_packet(dev, LAB_INPUT_QUEUE / 8);

	ret = input_register_device(dev);
	if (ret) {
		input_free_device(dev);
		return ret;
	}
	lab_input = dev;
	return 0;
}

static int __init lab_input_init(void)
{
	int ret;

	ret = lab_input_register();
	if (ret)
		return ret;
	ret = lab_store_notify_register(&lab_input_nb);
	if (ret)
		goto out_unregister;
	ret = misc_register(&lab_input_misc);
	if (ret)
		goto out_notify;
	return 0;

out_notify:
	lab_store_notify_unregister(&lab_input_nb);
out_unregister:
	input_unregister_device(lab_input);
	return ret;
}

static void __exit lab_input_exit(void)
{
	misc_deregister(&lab_input_misc);
	lab_store_notify_unregister(&lab_input_nb);
	/* Who has the event node open is woken, and has a dead file from here on. */
	input_unregister_device(lab_input);
}

module_init(lab_input_init);
module_exit(lab_input_exit);

MODULE_DESCRIPTION("chanlab: an input device");
MODULE_LICENSE("GPL");
