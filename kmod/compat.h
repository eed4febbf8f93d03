/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - what differs between the kernels that the modules are built for,
 * and nothing else. One section a subsystem, in alphabetical order; each guard
 * says which release changed what. LAB_HAVE_* come from the probes in Kbuild.
 */
#ifndef LAB_COMPAT_H
#define LAB_COMPAT_H

/* --- block --------------------------------------------------------------- */

#ifdef BLK_MQ_H	/* for who has included linux/blk-mq.h only: it is large */
#include <linux/blkdev.h>
#include <linux/bvec.h>
#include <linux/err.h>

/* How a block device was opened: a type of its own since 6.5 (05bdb9965305). */
#ifdef LAB_HAVE_BLK_MODE_T
#define lab_blk_mode_t blk_mode_t
#else
#define lab_blk_mode_t fmode_t
#endif

/*
 * A disk that has a write cache, blocks of 512 bytes, and takes discards and zeroes of
 * any size. Disk and queue come together since 5.14 (b461dfc49eb6), and with their
 * limits since 6.9 (27e32cd23fed); the cache is one of them since 6.11 (1122c0c1cc71).
 */
static inline struct gendisk *lab_blk_alloc_disk(struct blk_mq_tag_set *set, int minors)
{
#if defined(LAB_HAVE_BLK_MQ_ALLOC_DISK_LIMITS)
	struct queue_limits limits = {
		.logical_block_size		= 512,
		.discard_granularity		= 512,
		.max_hw_discard_sectors		= UINT_MAX >> 9,
		.max_write_zeroes_sectors	= UINT_MAX >> 9,
#ifdef LAB_HAVE_BLK_FEAT_WRITE_CACHE
		.features			= BLK_FEAT_WRITE_CACHE,
#endif
	};
	struct gendisk *disk = blk_mq_alloc_disk(set, &limits, NULL);
#elif defined(LAB_HAVE_BLK_MQ_ALLOC_DISK)
	struct gendisk *disk = blk_mq_alloc_disk(set, NULL);
#else
	struct gendisk *disk = alloc_disk(minors);
	struct request_queue *queue;

	if (!disk)
		return ERR_PTR(-ENOMEM);
	queue = blk_mq_init_queue(set);
	if (IS_ERR(queue)) {
		put_disk(disk);
		return ERR_CAST(queue);
	}
	disk->queue = queue;
#endif
	if (IS_ERR(disk))
		return disk;
	disk->minors = minors;
#ifndef LAB_HAVE_BLK_FEAT_WRITE_CACHE
	blk_queue_write_cache(disk->queue, true, false);
#endif
#ifndef LAB_HAVE_BLK_MQ_ALLOC_DISK_LIMITS
	blk_queue_logical_block_size(disk->queue, 512);
	disk->queue->limits.discard_granularity = 512;
	blk_queue_max_discard_sectors(disk->queue, UINT_MAX >> 9);
	blk_queue_max_write_zeroes_sectors(disk->queue, UINT_MAX >> 9);
#ifdef QUEUE_FLAG_DISCARD	/* until 5.18 (70200574cc22) */
	blk_queue_flag_set(QUEUE_FLAG_DISCARD, disk->queue);
#endif
#endif
	return disk;
}

/* add_disk() may fail, and says so, since 5.15 (83cbce957446). */
static inline int lab_add_disk(struct gendisk *disk)
{
#ifdef LAB_HAVE_ADD_DISK_INT
	return add_disk(disk);
#else
	add_disk(disk);
	return 0;
#endif
}

/*
 * Drop a disk that was not added, or that del_gendisk() was called for: the queue
 * goes with it since 6.0 (8b9ab6266204), by blk_cleanup_disk() from 5.14 to 5.19.
 */
static inline void lab_put_disk(struct gendisk *disk)
{
#if defined(LAB_HAVE_BLK_CLEANUP_DISK)
	blk_cleanup_disk(disk);
#else
#ifndef LAB_HAVE_BLK_MQ_ALLOC_DISK
	blk_cleanup_queue(disk->queue);
#endif
	put_disk(disk);
#endif
}

/* Both since 5.15. */
#ifndef LAB_HAVE_MEMCPY_TO_BVEC
#include <linux/highmem.h>

static inline void memcpy_from_bvec(char *to, struct bio_vec *bvec)
{
	void *from = kmap_atomic(bvec->bv_page);

	memcpy(to, from + bvec->bv_offset, bvec->bv_len);
	kunmap_atomic(from);
}

static inline void memcpy_to_bvec(struct bio_vec *bvec, const char *from)
{
	void *to = kmap_atomic(bvec->bv_page);

	memcpy(to + bvec->bv_offset, from, bvec->bv_len);
	flush_dcache_page(bvec->bv_page);
	kunmap_atomic(to);
}
#endif
#endif /* BLK_MQ_H */
/* --- debugfs -------------------------------------------------------------- */

/*
 * Operations without open, release and owner, whose open files do not need the module
 * any more once they are removed: 6.13. Before, debugfs looks into the
 * operations at the last close, and these need an owner.
 */
#ifdef LAB_HAVE_DEBUGFS_SHORT_FOPS
#define lab_debugfs_short_fops debugfs_short_fops
#define LAB_DEBUGFS_SHORT_FOPS
#else
#define lab_debugfs_short_fops file_operations
#define LAB_DEBUGFS_SHORT_FOPS .owner = THIS_MODULE, .open = simple_open,
#endif

/* --- drivers/base ------------------------------------------------------- */

#include <linux/device.h>

/* class_create() lost its module argument in 6.4 (1aaba11da9aa). */
static inline struct class *lab_class_create(const char *name)
{
#ifdef LAB_HAVE_CLASS_CREATE_NAME
	return class_create(name);
#else
	return class_create(THIS_MODULE, name);
#endif
}

/* The devnode() callback takes a const device since 6.2 (ff62b8e6588f). */
#ifdef LAB_HAVE_DEVNODE_CONST
#define lab_devnode_device const struct device
#else
#define lab_devnode_device struct device
#endif

/* --- eventfd ------------------------------------------------------------- */

#include <linux/eventfd.h>

/* Always 1, and not said any more, since 6.8 (3652117f8548). */
static inline void lab_eventfd_signal(struct eventfd_ctx *ctx)
{
#ifdef LAB_HAVE_EVENTFD_SIGNAL_ONE
	eventfd_signal(ctx);
#else
	eventfd_signal(ctx, 1);
#endif
}

/* --- fs ------------------------------------------------------------------ */

#include <linux/fs.h>

/*
 * 6.5 replaced generic_file_splice_read() by copy_splice_read() for whatever
 * has a .read_iter and no page cache (c6585011bc1d).
 */
#ifndef LAB_HAVE_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
#endif

/* The same commit for what has a page cache. */
#ifndef LAB_HAVE_COPY_SPLICE_READ
#define filemap_splice_read generic_file_splice_read
#endif

/*
 * What maps the ids of a mount comes first to most inode operations, and goes to
 * what they call: a user namespace since 5.12 (549c7297717c), a struct mnt_idmap
 * since 6.3 (f2d40141d5d9). Nothing is mapped by lab_idmap_none.
 */
#if defined(LAB_HAVE_IDMAP)
#include <linux/mnt_idmapping.h>
#define lab_idmap_param struct mnt_idmap *idmap,
#define lab_idmap idmap,
#define lab_idmap_none &nop_mnt_idmap,
#elif defined(LAB_HAVE_IDMAP_USER_NS)
#define lab_idmap_param struct user_namespace *idmap,
#define lab_idmap idmap,
#define lab_idmap_none &init_user_ns,
#else
#define lab_idmap_param
#define lab_idmap
#define lab_idmap_none
#endif

/* .create is not told any more since 7.3 that it must be new: it always must. */
#ifdef LAB_HAVE_CREATE_EXCL
#define lab_create_excl , bool excl
#else
#define lab_create_excl
#endif

/* .mkdir returns a dentry, or NULL for the one it was given, since 6.15 (88d5baf69082). */
#ifdef LAB_HAVE_MKDIR_DENTRY
#define lab_mkdir_type struct dentry *
#define lab_mkdir_result(err) ERR_PTR(err)
#else
#define lab_mkdir_type int
#define lab_mkdir_result(err) (err)
#endif

/*
 * Give a dentry of a file system in memory its inode and keep it: until 6.18 by a
 * reference that kill_litter_super() drops, since 6.19 by a mark of its own, with
 * which kill_anon_super() is enough.
 */
#ifdef LAB_HAVE_D_MAKE_PERSISTENT
#define lab_kill_litter_super kill_anon_super
static inline void lab_d_keep(struct dentry *dentry, struct inode *inode)
{
	d_make_persistent(dentry, inode);
}
#else
#define lab_kill_litter_super kill_litter_super
static inline void lab_d_keep(struct dentry *dentry, struct inode *inode)
{
	d_instantiate(dentry, inode);
	dget(dentry);
}
#endif

/*
 * An inode's times are behind functions: the change time since 6.6 (13bc24457850),
 * the others since 6.7 (12cd44023651).
 */
#if defined(LAB_HAVE_SIMPLE_INODE_INIT_TS)
static inline void lab_inode_touch(struct inode *inode)
{
	inode_set_mtime_to_ts(inode, inode_set_ctime_current(inode));
}
#else
static inline void lab_inode_touch(struct inode *inode)
{
#ifdef LAB_HAVE_INODE_SET_CTIME
	inode->i_mtime = inode_set_ctime_current(inode);
#else
	inode->i_mtime = inode->i_ctime = current_time(inode);
#endif
}

static inline void simple_inode_init_ts(struct inode *inode)
{
	lab_inode_touch(inode);
	inode->i_atime = inode->i_mtime;
}
#endif

/* The operations of a page cache that is all there is, for everybody since 5.15 (c1e3dbe9818e). */
#ifndef LAB_HAVE_RAM_AOPS
#include <linux/page-flags.h>

static inline int lab_set_page_dirty(struct page *page)
{
	return PageDirty(page) ? 0 : !TestSetPageDirty(page);
}

static const struct address_space_operations ram_aops __maybe_unused = {
	.readpage	= simple_readpage,
	.write_begin	= simple_write_begin,
	.write_end	= simple_write_end,
	.set_page_dirty	= lab_set_page_dirty,
};
#endif

/* --- mm ------------------------------------------------------------------ */

#include <linux/mm.h>

/* vm_flags may only be changed by these since 6.3 (bc292ab00f6c). */
#ifndef LAB_HAVE_VM_FLAGS_SET
static inline void vm_flags_set(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags |= flags;
}

static inline void vm_flags_clear(struct vm_area_struct *vma, unsigned long flags)
{
	vma->vm_flags &= ~flags;
}
#endif

/* --- net ----------------------------------------------------------------- */

/* The attributes of a dump's request, in its start() and dumpit(): moved in 6.6 (7288dd2fd488). */
#ifdef LAB_HAVE_GENL_INFO_DUMP
#define lab_genl_dump_attrs(cb) (genl_info_dump(cb)->attrs)
#else
#define lab_genl_dump_attrs(cb) (genl_dumpit_info(cb)->attrs)
#endif

/*
 * The first command whose headers are checked to the last bit: 6.1 (9c5d03d36251).
 * Before, nothing is.
 */
#ifdef LAB_HAVE_GENL_RESV_START_OP
#define lab_genl_resv_start_op(op) .resv_start_op = (op),
#else
#define lab_genl_resv_start_op(op)
#endif

/*
 * True when an attribute is missing, which the extended acknowledgement then tells
 * by number since 6.1 (690252f19f0e), by text before.
 */
#ifndef LAB_HAVE_NL_REQ_ATTR_CHECK
#define NL_REQ_ATTR_CHECK(extack, nest, tb, type) ({			\
	bool lab_missing = !(tb)[type];					\
									\
	if (lab_missing)						\
		NL_SET_ERR_MSG_ATTR(extack, nest, "an attribute is missing"); \
	lab_missing;							\
})
#define GENL_REQ_ATTR_CHECK(info, attr)					\
	NL_REQ_ATTR_CHECK((info)->extack, NULL, (info)->attrs, attr)
#endif

/* --- proc ---------------------------------------------------------------- */

/* Lower case since 5.17 (359745d78351). */
#ifndef LAB_HAVE_PDE_DATA
#define pde_data(inode) PDE_DATA(inode)
#endif

/* --- relay ----------------------------------------------------------------- */

/*
 * relay_open() takes const callbacks since 5.11; before, it writes its
 * defaults into them, so that they have to be writable.
 */
#ifdef LAB_HAVE_RELAY_CONST_CALLBACKS
#define lab_relay_callbacks const struct rchan_callbacks
#else
#define lab_relay_callbacks struct rchan_callbacks
#endif

/* The last argument of subbuf_start() is gone since 6.17. */
#ifdef LAB_HAVE_RELAY_PREV_PADDING
#define lab_relay_prev_padding , size_t prev_padding
#else
#define lab_relay_prev_padding
#endif

/* --- signals ------------------------------------------------------------- */

#include <linux/sched/signal.h>

/*
 * Take the next signal of the calling thread that @mask does not hold back; 0 when
 * there is none. The caller holds siglock. kernel_dequeue_signal() never changed,
 * but it drops the siginfo. dequeue_signal() tells which queue since 5.17
 * (5768d8906bc2) and lost its task since 6.12 (a2b80ce87a87).
 */
static inline int lab_dequeue_signal(sigset_t *mask, kernel_siginfo_t *info)
{
#if defined(LAB_HAVE_DEQUEUE_SIGNAL_TASK) && defined(LAB_HAVE_DEQUEUE_SIGNAL_TYPE)
	enum pid_type type;

	return dequeue_signal(current, mask, info, &type);
#elif defined(LAB_HAVE_DEQUEUE_SIGNAL_TYPE)
	enum pid_type type;

	return dequeue_signal(mask, info, &type);
#else
	return dequeue_signal(current, mask, info);
#endif
}

/* --- sysctl -------------------------------------------------------------- */

#include <linux/version.h>

/*
 * Handlers get a const table since 6.11 (78eb4ea25cd5), and since then a table has no
 * empty last entry any more.
 */
#ifdef LAB_HAVE_SYSCTL_CONST_HANDLER
#define lab_ctl_table const struct ctl_table
#define LAB_SYSCTL_SENTINEL
#else
#define lab_ctl_table struct ctl_table
#define LAB_SYSCTL_SENTINEL { }
#endif

/*
 * The data of proc_dobool() is a bool, which its table says since 6.4 (f1aa2eb5ea05);
 * before, the table must say that it is an int. No header shows it.
 */
#if LINUX_VERSION_CODE >= KERNEL_VERSION(6, 4, 0)
#define LAB_DOBOOL_MAXLEN sizeof(bool)
#else
#define LAB_DOBOOL_MAXLEN sizeof(int)
#endif

/* --- sysfs --------------------------------------------------------------- */

/* Binary attributes are const for their callbacks and groups since 6.16 (97d06802d10a). */
#ifdef LAB_HAVE_BIN_ATTRIBUTE_CONST
#define lab_bin_attribute const struct bin_attribute
#else
#define lab_bin_attribute struct bin_attribute
#endif

/* --- timers -------------------------------------------------------------- */

#include <linux/timer.h>

/* The name of del_timer_sync() since 6.2 (9b13df3fb64e), in stable trees since 5.10.262. */
#ifndef LAB_HAVE_TIMER_DELETE_SYNC
#define timer_delete_sync del_timer_sync
#endif

/* --- tracing --------------------------------------------------------------- */

/* __string() remembers its source since 6.10 (2c92ca849fcc). */
#ifdef LAB_HAVE_ASSIGN_STR_REMEMBERS
#define lab_assign_str(dst, src) __assign_str(dst)
#else
#define lab_assign_str(dst, src) __assign_str(dst, src)
#endif

/* --- tty ----------------------------------------------------------------- */

/* write() counts in size_t since 6.6 (95713967ba52). */
#ifdef LAB_HAVE_TTY_WRITE_SIZE
#define lab_tty_written ssize_t
#define lab_tty_count size_t
#else
#define lab_tty_written int
#define lab_tty_count int
#endif

/* write_room() and chars_in_buffer() are never negative since 5.14 (03b3b1a2405c). */
#ifdef LAB_HAVE_TTY_ROOM_UNSIGNED
#define lab_tty_room unsigned int
#else
#define lab_tty_room int
#endif

/* The settings that were replaced are const since 6.1 (a8c11c152034). */
#ifdef LAB_HAVE_TTY_OLD_CONST
#define lab_tty_old_termios const struct ktermios
#else
#define lab_tty_old_termios struct ktermios
#endif

/* What dtr_rts() shall do with the lines is a bool since 6.3. */
#ifdef LAB_HAVE_TTY_RAISE_BOOL
#define lab_tty_raise bool
#else
#define lab_tty_raise int
#endif

#endif /* LAB_COMPAT_H */
