// SPDX-License-Identifier: GPL-2.0-only
/*
 * configfs.c - the configfs door: a subsystem, /sys/kernel/config/lab where configfs is
 * mounted, in which user space makes the kernel's objects
 *
 *   message   0644  read: the oldest message, left in the store (what fits a page), ENODATA
 *                   when there is none; write: puts one without its closing newline
 *   limit     0644  how many objects there may be, 1 to LAB_CONFIGFS_MAX_OBJECTS; EBUSY
 *                   when there are more already
 *   count     0444  how many there are
 *   hold      0644  as long as it is 1, mkdir of an object sleeps
 *   keep      0644  the name of an object that the kernel uses: its rmdir gets EBUSY; an
 *                   empty line lets it go
 *   objects/  mkdir makes an object: EINVAL for a name that is not of letters, digits, '-'
 *             and '_', ENAMETOOLONG for more than LAB_CONFIGFS_NAME of them, ENOSPC
 *   sets/     mkdir makes a set: a group, with a group spare/ in it that is like objects/
 *
 * in each object
 *   serial    0444  a number that no other object ever has
 *   level     0644  0 to 100: ERANGE beyond, EINVAL when not a number
 *   text      0644  one line of up to LAB_CONFIGFS_TEXT bytes: ENOSPC when longer
 *   uses      0444  how many objects it links to
 *   secret    0200  write only; its value is nowhere to be read
 *   blob      0644  binary, up to LAB_CONFIGFS_BLOB bytes: what was written is taken when the
 *                   file is closed, if it is a whole number of 32-bit words, else dropped
 *   NAME      a symbolic link to another object: EINVAL when the target is not one or is
 *             the object itself, EMLINK when there are LAB_CONFIGFS_USES already
 * and in each set
 *   size      0444  how many objects it links to
 *   NAME      a symbolic link to an object, as above
 *
 * Every object and set holds the module, and so does an open attribute. A mount does not.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/configfs.h>
#include <linux/ctype.h>
#include <linux/err.h>
#include <linux/init.h>
#include <linux/kernel.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/sysfs.h>
#include <linux/wait.h>

#include "store.h"

#define LAB_CONFIGFS_NAME 32
#define LAB_CONFIGFS_TEXT 31
#define LAB_CONFIGFS_BLOB 10000
#define LAB_CONFIGFS_USES 2
#define LAB_CONFIGFS_MAX_OBJECTS 64
#define LAB_CONFIGFS_MAX_LEVEL 100

struct lab_object {
	struct config_item item;
	unsigned int serial;
	struct mutex lock;		/* all below */
	int level;
	unsigned int uses;
	char text[LAB_CONFIGFS_TEXT + 1];
	char secret[LAB_CONFIGFS_TEXT + 1];
	void *blob;
	size_t blob_size;
};

struct lab_set {
	struct config_group group;
	struct config_group spare;
	struct mutex lock;		/* size */
	unsigned int size;
};

static DEFINE_MUTEX(lab_objects_lock);	/* all but hold */
static unsigned int lab_objects;
static unsigned int lab_limit = 4;
static unsigned int lab_serial;
static struct config_item *lab_kept;	/* with a reference */
static bool lab_hold;
static DECLARE_WAIT_QUEUE_HEAD(lab_hold_wait);

static struct configfs_subsystem lab_subsystem;

static inline struct lab_object *to_lab_object(struct config_item *item)
{
	return container_of(item, struct lab_object, item);
}

static inline struct lab_set *to_lab_set(struct config_item *item)
{
	return container_of(to_config_group(item), struct lab_set, group);
}

/* One line, without its newline, to @to of LAB_CONFIGFS_TEXT + 1 bytes. */
static int lab_line(char *to, const char *page, size_t len)
{
	if (len && page[len - 1] == '\n')
		len--;
	if (len > LAB_CONFIGFS_TEXT)
		return -ENOSPC;
	if (memchr(page, '\n', len))
		return -EINVAL;

	memcpy(to, page, len);
	to[len] = '\0';
	return 0;
}

/* --- an object's attributes ------------------------------------------------------ */

static ssize_t object_serial_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", to_lab_object(item)->serial);
}
CONFIGFS_ATTR_RO(object_, serial);

static ssize_t object_level_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", READ_ONCE(to_lab_object(item)->level));
}

static ssize_t object_level_store(struct config_item *item, const char *page, size_t len)
{
	int ret, value;

	ret = kstrtoint(page, 0, &value);
	if (ret)
		return ret;
	if (value < 0 || value > LAB_CONFIGFS_MAX_LEVEL)
		return -ERANGE;
	WRITE_ONCE(to_lab_object(item)->level, value);

	return len;
}
CONFIGFS_ATTR(object_, level);

static ssize_t object_text_show(struct config_item *item, char *page)
{
	struct lab_object *object = to_lab_object(item);
	ssize_t len;

	mutex_lock(&object->lock);
	len = sysfs_emit(page, "%s\n", object->text);
	mutex_unlock(&object->lock);

	return len;
}

static ssize_t object_text_store(struct config_item *item, const char *page, size_t len)
{
	struct lab_object *object = to_lab_object(item);
	int ret;

	mutex_lock(&object->lock);
	ret = lab_line(object->text, page, len);
	mutex_unlock(&object->lock);

	return ret ? ret : len;
}
CONFIGFS_ATTR(object_, text);

static ssize_t object_uses_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(to_lab_object(item)->uses));
}
CONFIGFS_ATTR_RO(object_, uses);

static ssize_t object_secret_store(struct config_item *item, const char *page, size_t len)
{
	struct lab_object *object = to_lab_object(item);
	int ret;

	mutex_lock(&object->lock);
	ret = lab_line(object->secret, page, len);
	mutex_unlock(&object->lock);

	return ret ? ret : len;
}
CONFIGFS_ATTR_WO(object_, secret);

/* configfs asks with @buf NULL for the size, and then for as many bytes. */
static ssize_t object_blob_read(struct config_item *item, void *buf, size_t size)
{
	struct lab_object *object = to_lab_object(item);
	ssize_t len;

	mutex_lock(&object->lock);
	len = object->blob_size;
	if (buf) {
		len = min_t(size_t, len, size);
		memcpy(buf, object->blob, len);
	}
	mutex_unlock(&object->lock);

	return len;
}

/* Called when the last descriptor of the file is closed, so nobody sees the result. */
static ssize_t object_blob_write(struct config_item *item, const void *buf, size_t size)
{
	struct lab_object *object = to_lab_object(item);
	void *blob;

	if (size % sizeof(u32)) {
		pr_info("%s: a blob of %zu bytes is dropped\n", config_item_name(item), size);
		return -EINVAL;
	}
	blob = kmemdup(buf, size, GFP_KERNEL);
	if (!blob)
		return -ENOMEM;

	mutex_lock(&object->lock);
	swap(object->blob, blob);
	object->blob_size = size;
	mutex_unlock(&object->lock);
	kfree(blob);

	return size;
}
CONFIGFS_BIN_ATTR(object_, blob, NULL, LAB_CONFIGFS_BLOB);

static struct configfs_attribute *object_attrs[] = {
	&object_attr_serial,
	&object_attr_level,
	&object_attr_text,
	&object_attr_uses,
	&object_attr_secret,
	NULL
};

static struct configfs_bin_attribute *object_bin_attrs[] = {
	&object_attr_blob,
	NULL
};

/* --- an object ------------------------------------------------------------------- */

static const struct config_item_type object_type;

/* The last reference may be an open attribute's, long after rmdir. */
static void object_release(struct config_item *item)
{
	struct lab_object *object = to_lab_object(item);

	mutex_destroy(&object->lock);
	kfree(object->blob);
	kfree(object);
}

static int object_allow_link(struct config_item *source, struct config_item *target)
{
	struct lab_object *object = to_lab_object(source);
	int ret = 0;

	/* Whatever directory of configfs the link points to comes here. */
	if (target->ci_type != &object_type || target == source)
		return -EINVAL;

	mutex_lock(&object->lock);
	if (object->uses < LAB_CONFIGFS_USES)
		WRITE_ONCE(object->uses, object->uses + 1);
	else
		ret = -EMLINK;
	mutex_unlock(&object->lock);

	return ret;
}

static void object_drop_link(struct config_item *source, struct config_item *target)
{
	struct lab_object *object = to_lab_object(source);

	mutex_lock(&object->lock);
	WRITE_ONCE(object->uses, object->uses - 1);
	mutex_unlock(&object->lock);
}

static struct configfs_item_operations object_item_ops = {
	.release = object_release,
	.allow_link = object_allow_link,
	.drop_link = object_drop_link,
};

static const struct config_item_type object_type = {
	.ct_owner = THIS_MODULE,
	.ct_item_ops = &object_item_ops,
	.ct_attrs = object_attrs,
	.ct_bin_attrs = object_bin_attrs,
};

/* --- groups of objects ------------------------------------------------------------ */

static int lab_check_name(const char *name)
{
	const char *c;

	for (c = name; *c; c++)
		if (!isascii(*c) || (!isalnum(*c) && *c != '-' && *c != '_'))
			return -EINVAL;

	return c - name > LAB_CONFIGFS_NAME ? -ENAMETOOLONG : 0;
}

/* mkdir: the directory is locked, and the whole subsystem. */
static struct config_item *objects_make_item(struct config_group *group, const char *name)
{
	struct lab_object *object;
	int ret;

	ret = lab_check_name(name);
	if (ret)
		return ERR_PTR(ret);

	ret = wait_event_interruptible(lab_hold_wait, !READ_ONCE(lab_hold));
	if (ret)
		return ERR_PTR(ret);

	object = kzalloc(sizeof(*object), GFP_KERNEL);
	if (!object)
		return ERR_PTR(-ENOMEM);
	mutex_init(&object->lock);
	config_item_init_type_name(&object->item, name, &object_type);

	mutex_lock(&lab_objects_lock);
	if (lab_objects < lab_limit) {
		lab_objects++;
		object->serial = ++lab_serial;
	} else {
		ret = -ENOSPC;
	}
	mutex_unlock(&lab_objects_lock);
	if (ret) {
		config_item_put(&object->item);
		return ERR_PTR(ret);
	}

	return &object->item;
}

/* rmdir, or a mkdir that failed later. */
static void objects_drop_item(struct config_group *group, struct config_item *item)
{
	mutex_lock(&lab_objects_lock);
	lab_objects--;
	mutex_unlock(&lab_objects_lock);

	config_item_put(item);
}

static struct configfs_group_operations objects_group_ops = {
	.make_item = objects_make_item,
	.drop_item = objects_drop_item,
};

static const struct config_item_type objects_type = {
	.ct_owner = THIS_MODULE,
	.ct_group_ops = &objects_group_ops,
};

/* --- sets -------------------------------------------------------------------------- */

static ssize_t set_size_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(to_lab_set(item)->size));
}
CONFIGFS_ATTR_RO(set_, size);

static struct configfs_attribute *set_attrs[] = {
	&set_attr_size,
	NULL
};

static void set_release(struct config_item *item)
{
	struct lab_set *set = to_lab_set(item);

	mutex_destroy(&set->lock);
	kfree(set);
}

static int set_allow_link(struct config_item *source, struct config_item *target)
{
	struct lab_set *set = to_lab_set(source);

	if (target->ci_type != &object_type)
		return -EINVAL;

	mutex_lock(&set->lock);
	WRITE_ONCE(set->size, set->size + 1);
	mutex_unlock(&set->lock);

	return 0;
}

static void set_drop_link(struct config_item *source, struct config_item *target)
{
	struct lab_set *set = to_lab_set(source);

	mutex_lock(&set->lock);
	WRITE_ONCE(set->size, set->size - 1);
	mutex_unlock(&set->lock);
}

static struct configfs_item_operations set_item_ops = {
	.release = set_release,
	.allow_link = set_allow_link,
	.drop_link = set_drop_link,
};

/* No make_item: mkdir in a set is EPERM. */
static const struct config_item_type set_type = {
	.ct_owner = THIS_MODULE,
	.ct_item_ops = &set_item_ops,
	.ct_attrs = set_attrs,
};

static struct config_group *sets_make_group(struct config_group *group, const char *name)
{
	struct lab_set *set;
	int ret;

	ret = lab_check_name(name);
	if (ret)
		return ERR_PTR(ret);

	set = kzalloc(sizeof(*set), GFP_KERNEL);
	if (!set)
		return ERR_PTR(-ENOMEM);
	mutex_init(&set->lock);
	config_group_init_type_name(&set->group, name, &set_type);
	config_group_init_type_name(&set->spare, "spare", &objects_type);
	configfs_add_default_group(&set->spare, &set->group);

	return &set->group;
}

static void sets_drop_item(struct config_group *group, struct config_item *item)
{
	configfs_remove_default_groups(to_config_group(item));
	config_item_put(item);
}

static struct configfs_group_operations sets_group_ops = {
	.make_group = sets_make_group,
	.drop_item = sets_drop_item,
};

static const struct config_item_type sets_type = {
	.ct_owner = THIS_MODULE,
	.ct_group_ops = &sets_group_ops,
};

/* --- the subsystem ------------------------------------------------------------------ */

static struct config_group lab_objects_group;
static struct config_group lab_sets_group;

static ssize_t lab_message_show(struct config_item *item, char *page)
{
	/* The newline, and one byte less than configfs takes: 4 KiB whatever a page is. */
	ssize_t len = lab_store_copy(0, page, SZ_4K - 2);

	if (len == -ENOENT)
		return -ENODATA;
	if (len < 0)
		return len;

	page[len++] = '\n';
	return len;
}

static ssize_t lab_message_store(struct config_item *item, const char *page, size_t len)
{
	size_t text = len;
	int ret;

	/* `echo` adds it; only the last one goes. */
	if (text && page[text - 1] == '\n')
		text--;

	ret = lab_store_put(page, text);
	return ret ? ret : len;
}
CONFIGFS_ATTR(lab_, message);

static ssize_t lab_limit_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(lab_limit));
}

static ssize_t lab_limit_store(struct config_item *item, const char *page, size_t len)
{
	unsigned int value;
	int ret;

	ret = kstrtouint(page, 0, &value);
	if (ret)
		return ret;
	if (!value || value > LAB_CONFIGFS_MAX_OBJECTS)
		return -ERANGE;

	mutex_lock(&lab_objects_lock);
	if (value < lab_objects)
		ret = -EBUSY;
	else
		WRITE_ONCE(lab_limit, value);
	mutex_unlock(&lab_objects_lock);

	return ret ? ret : len;
}
CONFIGFS_ATTR(lab_, limit);

static ssize_t lab_count_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%u\n", READ_ONCE(lab_objects));
}
CONFIGFS_ATTR_RO(lab_, count);

static ssize_t lab_hold_show(struct config_item *item, char *page)
{
	return sysfs_emit(page, "%d\n", READ_ONCE(lab_hold));
}

static ssize_t lab_hold_store(struct config_item *item, const char *page, size_t len)
{
	bool hold;
	int ret;

	ret = kstrtobool(page, &hold);
	if (ret)
		return ret;
	WRITE_ONCE(lab_hold, hold);
	wake_up_all(&lab_hold_wait);

	return len;
}
CONFIGFS_ATTR(lab_, hold);

static ssize_t lab_keep_show(struct config_item *item, char *page)
{
	ssize_t len;

	mutex_lock(&lab_objects_lock);
	len = sysfs_emit(page, "%s\n", lab_kept ? config_item_name(lab_kept) : "");
	mutex_unlock(&lab_objects_lock);

	return len;
}

/* NULL: no object is kept any more. @item comes with a reference, which is kept. */
static int lab_keep(struct config_item *item)
{
	struct config_item *before;
	int ret;

	if (item) {
		/* Not configfs_depend_item(): this is called in a callback of configfs's. */
		ret = configfs_depend_item_unlocked(&lab_subsystem, item);
		if (ret)
			return ret;
	}

	mutex_lock(&lab_objects_lock);
	before = lab_kept;
	lab_kept = item;
	mutex_unlock(&lab_objects_lock);
	if (before) {
		configfs_undepend_item_unlocked(before);
		config_item_put(before);
	}

	return 0;
}

static ssize_t lab_keep_store(struct config_item *item, const char *page, size_t len)
{
	char name[LAB_CONFIGFS_TEXT + 1];
	struct config_item *kept = NULL;
	int ret;

	ret = lab_line(name, page, len);
	if (ret)
		return ret;

	if (*name) {
		mutex_lock(&lab_subsystem.su_mutex);
		kept = config_group_find_item(&lab_objects_group, name);
		mutex_unlock(&lab_subsystem.su_mutex);
		if (!kept)
			return -ENOENT;
	}

	ret = lab_keep(kept);
	if (ret && kept)
		config_item_put(kept);

	return ret ? ret : len;
}
CONFIGFS_ATTR(lab_, keep);

static struct configfs_attribute *lab_attrs[] = {
	&lab_attr_message,
	&lab_attr_limit,
	&lab_attr_count,
	&lab_attr_hold,
	&lab_attr_keep,
	NULL
};

static const struct config_item_type lab_type = {
	.ct_owner = THIS_MODULE,
	.ct_attrs = lab_attrs,
};

static struct configfs_subsystem lab_subsystem = {
	.su_group.cg_item = {
		.ci_namebuf = "lab",
		.ci_type = &lab_type,
	},
};

static int __init lab_configfs_init(void)
{
	int ret;

	config_group_init(&lab_subsystem.su_group);
	mutex_init(&lab_subsystem.su_mutex);
	config_group_init_type_name(&lab_objects_group, "objects", &objects_type);
	configfs_add_default_group(&lab_objects_group, &lab_subsystem.su_group);
	config_group_init_type_name(&lab_sets_group, "sets", &sets_type);
	configfs_add_default_group(&lab_sets_group, &lab_subsystem.su_group);

	ret = configfs_register_subsystem(&lab_subsystem);
	if (ret)
		mutex_destroy(&lab_subsystem.su_mutex);

	return ret;
}

static void __exit lab_configfs_exit(void)
{
	/*
	 * Each object, set and open attribute holds this module, so there are none, and
	 * nothing is kept: only the default groups go.
	 */
	configfs_unregister_subsystem(&lab_subsystem);
	mutex_destroy(&lab_subsystem.su_mutex);
}

module_init(lab_configfs_init);
module_exit(lab_configfs_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("chanlab: objects that user space makes with mkdir, in configfs");
