// SPDX-License-Identifier: GPL-2.0-only
/*
 * sysfs.c - the sysfs door, in three places:
 *
 * /sys/kernel/lab_sysfs/, a kobject of the module's own
 *   message      0644  read: the oldest message, left in the store (what fits a page),
 *                      ENODATA when there is none; write: puts one message without
 *                      its closing newline, ENOSPC when the store is full
 *   count        0444  messages in the store; poll() for POLLPRI tells of changes
 *   depth        0444  how many it can hold
 *   clear        0200  "1" empties the store
 *   raw          0600  a binary attribute of LAB_SYSFS_RAW_SIZE bytes, at any offset
 *   limits/low, limits/high  0644  an attribute group with a name; EINVAL when not a
 *                      number or when low would pass high, ERANGE when not an int
 *
 * /sys/bus/platform/drivers/lab_sysfs/, a platform driver
 *   bound        0444  how many devices it drives
 *   refuse       0644  an errno: the next probes fail with it; 0 for none
 *   bind, unbind       the driver core's own
 *
 * /sys/bus/platform/devices/lab_sysfs.0/, its device
 *   level        0644  0 to 100, ERANGE beyond; there only while the driver is bound,
 *                      and back at 0 when bound again; poll() tells of changes
 *
 * One value a file. A file that is open does not pin this module: when its
 * attribute has gone, read and write get ENODEV.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/completion.h>
#include <linux/device.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>

#include "compat.h"
#include "store.h"

#define LAB_SYSFS_NAME "lab_sysfs"
#define LAB_SYSFS_RAW_SIZE 256
#define LAB_SYSFS_MAX_LEVEL 100

/* --- the kobject ------------------------------------------------------------- */

struct lab_object {
	struct kobject kobj;
	struct completion *released;
	struct mutex lock;		/* all below */
	int low;
	int high;
	u8 raw[LAB_SYSFS_RAW_SIZE];
};

static struct lab_object *lab_object;

static inline struct lab_object *to_lab_object(struct kobject *kobj)
{
	return container_of(kobj, struct lab_object, kobj);
}

static ssize_t message_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
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

static ssize_t message_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			     size_t len)
{
	size_t text = len;
	int ret;

	/* `echo` adds it; only the last one goes. */
	if (text && buf[text - 1] == '\n')
		text--;

	ret = lab_store_put(buf, text);
	return ret ? ret : len;
}
static struct kobj_attribute message_attr = __ATTR_RW(message);

static ssize_t count_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", lab_store_count());
}
static struct kobj_attribute count_attr = __ATTR_RO(count);

static ssize_t depth_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%u\n", lab_store_depth());
}
static struct kobj_attribute depth_attr = __ATTR_RO(depth);

static ssize_t clear_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			   size_t len)
{
	bool yes;
	int ret;

	ret = kstrtobool(buf, &yes);
	if (ret)
		return ret;
	if (yes)
		lab_store_clear();

	return len;
}
static struct kobj_attribute clear_attr = __ATTR_WO(clear);

static ssize_t low_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct lab_object *object = to_lab_object(kobj);
	ssize_t len;

	mutex_lock(&object->lock);
	len = sysfs_emit(buf, "%d\n", object->low);
	mutex_unlock(&object->lock);

	return len;
}

static ssize_t low_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			 size_t len)
{
	struct lab_object *object = to_lab_object(kobj);
	int ret, value;

	ret = kstrtoint(buf, 0, &value);
	if (ret)
		return ret;

	mutex_lock(&object->lock);
	if (value <= object->high)
		object->low = value;
	else
		ret = -EINVAL;
	mutex_unlock(&object->lock);

	return ret ? ret : len;
}
static struct kobj_attribute low_attr = __ATTR_RW(low);

static ssize_t high_show(struct kobject *kobj, struct kobj_attribute *attr, char *buf)
{
	struct lab_object *object = to_lab_object(kobj);
	ssize_t len;

	mutex_lock(&object->lock);
	len = sysfs_emit(buf, "%d\n", object->high);
	mutex_unlock(&object->lock);

	return len;
}

static ssize_t high_store(struct kobject *kobj, struct kobj_attribute *attr, const char *buf,
			  size_t len)
{
	struct lab_object *object = to_lab_object(kobj);
	int ret, value;

	ret = kstrtoint(buf, 0, &value);
	if (ret)
		return ret;

	mutex_lock(&object->lock);
	if (value >= object->low)
		object->high = value;
	else
		ret = -EINVAL;
	mutex_unlock(&object->lock);

	return ret ? ret : len;
}
static struct kobj_attribute high_attr = __ATTR_RW(high);

/*
 * sysfs itself keeps @pos and @count within .size: a read at the end gets 0, a
 * write that starts beyond it EFBIG, one that passes it is cut. Access to a page
 * at most at a time; a transfer may thus be torn only between two calls.
 */
static ssize_t raw_read(struct file *file, struct kobject *kobj, lab_bin_attribute *attr, char *buf,
			loff_t pos, size_t count)
{
	struct lab_object *object = to_lab_object(kobj);

	mutex_lock(&object->lock);
	memcpy(buf, object->raw + pos, count);
	mutex_unlock(&object->lock);

	return count;
}

static ssize_t raw_write(struct file *file, struct kobject *kobj, lab_bin_attribute *attr,
			 char *buf, loff_t pos, size_t count)
{
	struct lab_object *object = to_lab_object(kobj);

	mutex_lock(&object->lock);
	memcpy(object->raw + pos, buf, count);
	mutex_unlock(&object->lock);

	return count;
}

static lab_bin_attribute raw_attr = {
	.attr = { .name = "raw", .mode = 0600 },
	.size = LAB_SYSFS_RAW_SIZE,
	.read = raw_read,
	.write = raw_write,
};

static struct attribute *lab_object_attrs[] = {
	&message_attr.attr,
	&count_attr.attr,
	&depth_attr.attr,
	&clear_attr.attr,
	NULL
};

static lab_bin_attribute *lab_object_bin_attrs[] = {
	&raw_attr,
	NULL
};

static const struct attribute_group lab_object_group = {
	.attrs = lab_object_attrs,
	.bin_attrs = lab_object_bin_attrs,
};

static struct attribute *lab_limits_attrs[] = {
	&low_attr.attr,
	&high_attr.attr,
	NULL
};

/* A group with a name is a directory. */
static const struct attribute_group lab_limits_group = {
	.name = "limits",
	.attrs = lab_limits_attrs,
};

static const struct attribute_group *lab_object_groups[] = {
	&lab_object_group,
	&lab_limits_group,
	NULL
};

static void lab_object_release(struct kobject *kobj)
{
	struct lab_object *object = to_lab_object(kobj);
	struct completion *released = object->released;

	mutex_destroy(&object->lock);
	kfree(object);
	complete(released);
}

static struct kobj_type lab_object_type = {
	.release = lab_object_release,
	.sysfs_ops = &kobj_sysfs_ops,
	.default_groups = lab_object_groups,
};

static DECLARE_COMPLETION(lab_object_released);

/*
 * The last reference may be dropped later (CONFIG_DEBUG_KOBJECT_RELEASE does it on
 * purpose), and release is code of this module.
 */
static void lab_object_destroy(struct lab_object *object)
{
	kobject_put(&object->kobj);
	wait_for_completion(&lab_object_released);
}

static struct lab_object *lab_object_create(void)
{
	struct lab_object *object;
	int ret;

	object = kzalloc(sizeof(*object), GFP_KERNEL);
	if (!object)
		return ERR_PTR(-ENOMEM);

	mutex_init(&object->lock);
	object->released = &lab_object_released;
	object->high = 100;

	ret = kobject_init_and_add(&object->kobj, &lab_object_type, kernel_kobj,
				   LAB_SYSFS_NAME);
	if (ret) {
		lab_object_destroy(object);
		return ERR_PTR(ret);
	}

	return object;
}

/* Whichever door a message came or went by: who polls count is told. */
static int lab_store_changed(struct notifier_block *nb, unsigned long event, void *data)
{
	sysfs_notify(&lab_object->kobj, NULL, "count");
	return NOTIFY_OK;
}

static struct notifier_block lab_store_nb = {
	.notifier_call = lab_store_changed,
};

/* --- the platform driver and its device ---------------------------------------- */

/* What a device has while it is bound; the driver core frees it on unbind. */
struct lab_level {
	struct mutex lock;
	int level;
};

static atomic_t lab_bound = ATOMIC_INIT(0);
static int lab_refuse;

static ssize_t level_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct lab_level *state = dev_get_drvdata(dev);
	ssize_t len;

	mutex_lock(&state->lock);
	len = sysfs_emit(buf, "%d\n", state->level);
	mutex_unlock(&state->lock);

	return len;
}

static ssize_t level_store(struct device *dev, struct device_attribute *attr, const char *buf,
			   size_t len)
{
	struct lab_level *state = dev_get_drvdata(dev);
	int ret, value;
	bool changed;

	ret = kstrtoint(buf, 0, &value);
	if (ret)
		return ret;
	if (value < 0 || value > LAB_SYSFS_MAX_LEVEL)
		return -ERANGE;

	mutex_lock(&state->lock);
	changed = state->level != value;
	state->level = value;
	mutex_unlock(&state->lock);

	if (changed)
		sysfs_notify(&dev->kobj, NULL, "level");
	return len;
}
static DEVICE_ATTR_RW(level);

static struct attribute *lab_device_attrs[] = {
	&dev_attr_level.attr,
	NULL
};
ATTRIBUTE_GROUPS(lab_device);

static ssize_t bound_show(struct device_driver *driver, char *buf)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&lab_bound));
}
static DRIVER_ATTR_RO(bound);

static ssize_t refuse_show(struct device_driver *driver, char *buf)
{
	return sysfs_emit(buf, "%d\n", READ_ONCE(lab_refuse));
}

static ssize_t refuse_store(struct device_driver *driver, const char *buf, size_t len)
{
	int ret, value;

	ret = kstrtoint(buf, 0, &value);
	if (ret)
		return ret;
	if (value < 0 || value > MAX_ERRNO)
		return -ERANGE;
	WRITE_ONCE(lab_refuse, value);

	return len;
}
static DRIVER_ATTR_RW(refuse);

static struct attribute *lab_driver_attrs[] = {
	&driver_attr_bound.attr,
	&driver_attr_refuse.attr,
	NULL
};
ATTRIBUTE_GROUPS(lab_driver);

static void lab_unbound(void *data)
{
	atomic_dec(&lab_bound);
}

static int lab_probe(struct platform_device *pdev)
{
	int refuse = READ_ONCE(lab_refuse);
	struct lab_level *state;

	if (refuse)
		return -refuse;

	state = devm_kzalloc(&pdev->dev, sizeof(*state), GFP_KERNEL);
	if (!state)
		return -ENOMEM;
	mutex_init(&state->lock);
	platform_set_drvdata(pdev, state);

	/*
	 * The driver core adds level after this returns, and on unbind takes it away,
	 * waiting for whoever is inside, before it frees what devm_ gave.
	 */
	atomic_inc(&lab_bound);
	return devm_add_action_or_reset(&pdev->dev, lab_unbound, NULL);
}

static struct platform_driver lab_driver = {
	.probe = lab_probe,
	.driver = {
		.name = LAB_SYSFS_NAME,
		.groups = lab_driver_groups,
		.dev_groups = lab_device_groups,
	},
};

static struct platform_device *lab_device;

static int __init lab_sysfs_init(void)
{
	int ret;

	lab_object = lab_object_create();
	if (IS_ERR(lab_object))
		return PTR_ERR(lab_object);

	ret = lab_store_notify_register(&lab_store_nb);
	if (ret)
		goto err_object;

	ret = platform_driver_register(&lab_driver);
	if (ret)
		goto err_notifier;

	lab_device = platform_device_register_simple(LAB_SYSFS_NAME, 0, NULL, 0);
	if (IS_ERR(lab_device)) {
		ret = PTR_ERR(lab_device);
		goto err_driver;
	}

	return 0;

err_driver:
	platform_driver_unregister(&lab_driver);
err_notifier:
	lab_store_notify_unregister(&lab_store_nb);
err_object:
	lab_object_destroy(lab_object);
	return ret;
}

static void __exit lab_sysfs_exit(void)
{
	platform_device_unregister(lab_device);
	platform_driver_unregister(&lab_driver);
	lab_store_notify_unregister(&lab_store_nb);
	lab_object_destroy(lab_object);
}

module_init(lab_sysfs_init);
module_exit(lab_sysfs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: attributes in sysfs, of a kobject and of a platform driver");
