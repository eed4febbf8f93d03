// SPDX-License-Identifier: GPL-2.0-only
/*
 * blockdev.c - /dev/lab_blockdev: a disk of 1 MiB in memory, with blocks of 512
 * bytes, a write cache (so that fsync() sends a flush), discard and write-zeroes
 * (both make zeroes of what they are for), and up to 15 partitions.
 *
 * It is a block device as any other: what reads, writes, fsync() and the requests
 * BLK* do there is the kernel's; the driver gets its requests. Requests of the
 * device's own (uapi/lab_blockdev.h) tell how many came, let them fail, or make
 * them wait. An unknown request is ENOTTY.
 *
 * An open disk pins the module. /dev/lab_blockdev_ctl (0600) removes the disk under
 * its openers, and inserts it again with the data that it had; poll() there waits for
 * a request that has to wait.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/blk-mq.h>
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/capability.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/poll.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>
#include <linux/wait.h>

#include "compat.h"
#include "lab_blockdev.h"

#define LAB_BLK_SIZE	(1024 * 1024)
#define LAB_BLK_MINORS	16

static u8 *lab_blk_data;
static int lab_blk_major;
static DECLARE_WAIT_QUEUE_HEAD(lab_blk_watchers);	/* who polls for held requests */

static DEFINE_SPINLOCK(lab_blk_lock);	/* of what follows */
static struct lab_blk_stats lab_blk_stats;
static struct lab_blk_fail lab_blk_fail;
static bool lab_blk_holding;
static bool lab_blk_going;		/* it is being removed: nothing is held any more */
static LIST_HEAD(lab_blk_held);		/* requests, by their queuelist, in order */

/* --- requests --------------------------------------------------------------------- */

static bool lab_blk_is_data(struct request *rq)
{
	return req_op(rq) == REQ_OP_READ || req_op(rq) == REQ_OP_WRITE;
}

static void lab_blk_count(struct request *rq)
{
	spin_lock(&lab_blk_lock);
	switch (req_op(rq)) {
	case REQ_OP_READ:
		lab_blk_stats.reads++;
		break;
	case REQ_OP_WRITE:
		lab_blk_stats.writes++;
		break;
	case REQ_OP_FLUSH:
		lab_blk_stats.flushes++;
		break;
	case REQ_OP_DISCARD:
		lab_blk_stats.discards++;
		break;
	case REQ_OP_WRITE_ZEROES:
		lab_blk_stats.zeroes++;
		break;
	default:
		break;
	}
	spin_unlock(&lab_blk_lock);
}

/* Keep a request for later, if that is what is wanted now. */
static bool lab_blk_hold(struct request *rq)
{
	bool held;

	spin_lock(&lab_blk_lock);
	held = lab_blk_holding && lab_blk_is_data(rq);
	if (held) {
		list_add_tail(&rq->queuelist, &lab_blk_held);
		lab_blk_stats.held++;
	}
	spin_unlock(&lab_blk_lock);
	if (held)
		wake_up_interruptible_poll(&lab_blk_watchers, EPOLLIN | EPOLLRDNORM);
	return held;
}

static blk_status_t lab_blk_verdict(struct request *rq)
{
	static const blk_status_t verdicts[] = {
		[LAB_BLK_FAIL_IO]	= BLK_STS_IOERR,
		[LAB_BLK_FAIL_SPACE]	= BLK_STS_NOSPC,
		[LAB_BLK_FAIL_MEDIUM]	= BLK_STS_MEDIUM,
	};
	blk_status_t verdict = BLK_STS_OK;

	spin_lock(&lab_blk_lock);
	if (lab_blk_fail.times && lab_blk_is_data(rq)) {
		lab_blk_fail.times--;
		verdict = verdicts[lab_blk_fail.how];
	}
	spin_unlock(&lab_blk_lock);
	return verdict;
}

static void lab_blk_copy(struct request *rq, u8 *data)
{
	struct req_iterator iter;
	struct bio_vec bvec;

	rq_for_each_segment(bvec, rq, iter) {
		if (req_op(rq) == REQ_OP_WRITE)
			memcpy_from_bvec(data, &bvec);
		else
			memcpy_to_bvec(&bvec, data);
		data += bvec.bv_len;
	}
}

static blk_status_t lab_blk_do(struct request *rq)
{
	u64 start = (u64)blk_rq_pos(rq) << SECTOR_SHIFT;
	blk_status_t verdict = lab_blk_verdict(rq);

	if (verdict || req_op(rq) == REQ_OP_FLUSH)
		return verdict;
	/* The kernel has looked already whether the disk is so large. */
	if (start + blk_rq_bytes(rq) > LAB_BLK_SIZE)
		return BLK_STS_IOERR;

	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
		lab_blk_copy(rq, lab_blk_data + start);
		return BLK_STS_OK;
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		memset(lab_blk_data + start, 0, blk_rq_bytes(rq));
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

static blk_status_t lab_blk_queue_rq(struct blk_mq_hw_ctx *hctx,
				     const struct blk_mq_queue_data *data)
{
	struct request *rq = data->rq;

	blk_mq_start_request(rq);
	lab_blk_count(rq);
	if (!lab_blk_hold(rq))
		blk_mq_end_request(rq, lab_blk_do(rq));
	return BLK_STS_OK;
}

static void lab_blk_release(void)
{
	struct request *rq, *next;
	LIST_HEAD(held);

	spin_lock(&lab_blk_lock);
	lab_blk_holding = false;
	list_splice_init(&lab_blk_held, &held);
	lab_blk_stats.held = 0;
	spin_unlock(&lab_blk_lock);

	list_for_each_entry_safe(rq, next, &held, queuelist) {
		list_del_init(&rq->queuelist);
		blk_mq_end_request(rq, lab_blk_do(rq));
	}
}

static const struct blk_mq_ops lab_blk_mq_ops = {
	.queue_rq	= lab_blk_queue_rq,
	/* Without .timeout the block layer waits for a held request for ever. */
};

static struct blk_mq_tag_set lab_blk_tags = {
	.ops		= &lab_blk_mq_ops,
	.nr_hw_queues	= 1,
	.queue_depth	= 16,
	.numa_node	= NUMA_NO_NODE,
};

/* --- the device's own requests ------------------------------------------------------ */

static int lab_blk_get_stats(void __user *argp)
{
	struct lab_blk_stats stats;

	spin_lock(&lab_blk_lock);
	stats = lab_blk_stats;
	spin_unlock(&lab_blk_lock);
	return copy_to_user(argp, &stats, sizeof(stats)) ? -EFAULT : 0;
}

static int lab_blk_set_fail(void __user *argp)
{
	struct lab_blk_fail fail;

	if (copy_from_user(&fail, argp, sizeof(fail)))
		return -EFAULT;
	if (fail.how > LAB_BLK_FAIL_MEDIUM)
		return -EINVAL;

	spin_lock(&lab_blk_lock);
	lab_blk_fail = fail;
	spin_unlock(&lab_blk_lock);
	return 0;
}

static int lab_blk_ioctl(struct block_device *bdev, lab_blk_mode_t mode, unsigned int cmd,
			 unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	int ret = 0;

	switch (cmd) {
	case LAB_BLK_IOC_STATS:
		return lab_blk_get_stats(argp);
	case LAB_BLK_IOC_FAIL:
	case LAB_BLK_IOC_HOLD:
	case LAB_BLK_IOC_RELEASE:
		break;
	default:
		return -ENOTTY;
	}

	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;
	if (cmd == LAB_BLK_IOC_FAIL)
		return lab_blk_set_fail(argp);
	if (cmd == LAB_BLK_IOC_RELEASE) {
		lab_blk_release();
		return 0;
	}
	spin_lock(&lab_blk_lock);
	if (lab_blk_going)
		ret = -ENODEV;
	else
		lab_blk_holding = true;
	spin_unlock(&lab_blk_lock);
	return ret;
}

static const struct block_device_operations lab_blk_fops = {
	.owner		= THIS_MODULE,
	.ioctl		= lab_blk_ioctl,
	.compat_ioctl	= blkdev_compat_ptr_ioctl,
};

/* --- plugging it in and out --------------------------------------------------------- */

static DEFINE_MUTEX(lab_blk_plug_lock);
static struct gendisk *lab_blk_disk;	/* NULL while it is out */

static void lab_blk_set_going(bool going)
{
	spin_lock(&lab_blk_lock);
	lab_blk_going = going;
	spin_unlock(&lab_blk_lock);
}

static int lab_blk_insert(void)
{
	struct gendisk *disk;
	int ret = -EEXIST;

	mutex_lock(&lab_blk_plug_lock);
	if (lab_blk_disk)
		goto out;

	disk = lab_blk_alloc_disk(&lab_blk_tags, LAB_BLK_MINORS);
	ret = PTR_ERR_OR_ZERO(disk);
	if (ret)
		goto out;
	disk->major = lab_blk_major;
	disk->first_minor = 0;
	disk->fops = &lab_blk_fops;
	strscpy(disk->disk_name, "lab_blockdev", sizeof(disk->disk_name));
	set_capacity(disk, LAB_BLK_SIZE >> SECTOR_SHIFT);

	lab_blk_set_going(false);
	ret = lab_add_disk(disk);
	if (ret) {
		lab_put_disk(disk);
		goto out;
	}
	lab_blk_disk = disk;
	/* What the kernel read to look for partitions is nobody's business. */
	spin_lock(&lab_blk_lock);
	memset(&lab_blk_stats, 0, sizeof(lab_blk_stats));
	spin_unlock(&lab_blk_lock);
out:
	mutex_unlock(&lab_blk_plug_lock);
	return ret;
}

static int lab_blk_remove(void)
{
	int ret = -ENODEV;

	mutex_lock(&lab_blk_plug_lock);
	if (lab_blk_disk) {
		/* del_gendisk() waits for all requests that are under way: nobody may hold one now. */
		lab_blk_set_going(true);
		lab_blk_release();
		del_gendisk(lab_blk_disk);
		lab_put_disk(lab_blk_disk);
		lab_blk_disk = NULL;
		ret = 0;
	}
	mutex_unlock(&lab_blk_plug_lock);
	return ret;
}

static long lab_blk_ctl_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LAB_BLK_IOC_REMOVE:
		return lab_blk_remove();
	case LAB_BLK_IOC_INSERT:
		return lab_blk_insert();
	default:
		return -ENOTTY;
	}
}

static __poll_t lab_blk_ctl_poll(struct file *file, poll_table *wait)
{
	bool held;

	poll_wait(file, &lab_blk_watchers, wait);
	spin_lock(&lab_blk_lock);
	held = lab_blk_stats.held;
	spin_unlock(&lab_blk_lock);
	return held ? EPOLLIN | EPOLLRDNORM : 0;
}

static const struct file_operations lab_blk_ctl_fops = {
	.owner		= THIS_MODULE,
	.poll		= lab_blk_ctl_poll,
	.unlocked_ioctl	= lab_blk_ctl_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_blk_ctl = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_blockdev_ctl",
	.fops	= &lab_blk_ctl_fops,
	.mode	= 0600,
};

static int __init lab_blk_init(void)
{
	int ret = -ENOMEM;

	lab_blk_data = vzalloc(LAB_BLK_SIZE);
	if (!lab_blk_data)
		return ret;

	ret = register_blkdev(0, "lab_blockdev");
	if (ret < 0)
		goto free_data;
	lab_blk_major = ret;

	ret = blk_mq_alloc_tag_set(&lab_blk_tags);
	if (ret)
		goto unregister;
	ret = lab_blk_insert();
	if (ret)
		goto free_tags;
	ret = misc_register(&lab_blk_ctl);
	if (ret)
		goto remove;
	return 0;

remove:
	lab_blk_remove();
free_tags:
	blk_mq_free_tag_set(&lab_blk_tags);
unregister:
	unregister_blkdev(lab_blk_major, "lab_blockdev");
free_data:
	vfree(lab_blk_data);
	return ret;
}

static void __exit lab_blk_exit(void)
{
	misc_deregister(&lab_blk_ctl);
	/* ENODEV when it is out already, which is as good. */
	lab_blk_remove();
	blk_mq_free_tag_set(&lab_blk_tags);
	unregister_blkdev(lab_blk_major, "lab_blockdev");
	vfree(lab_blk_data);
}

module_init(lab_blk_init);
module_exit(lab_blk_exit);

MODULE_DESCRIPTION("chanlab: a block device");
MODULE_LICENSE("GPL");
