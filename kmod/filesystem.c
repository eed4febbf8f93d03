// SPDX-License-Identifier: GPL-2.0-only
/*
 * filesystem.c - the file system type "lab": files and directories in memory, up
 * to a limit that statfs() tells.
 *
 *   pages=N  what all files may hold, each counted up to its size: 64 if not given
 *   files=N  how many files and directories there may be, the root too: 64
 *   mode=M   of the root, octal: 0755; uid=, gid= its owner: root
 *
 * Each mount is a tree of its own. What is wrong with an option is EINVAL and a
 * message that read() on fsopen()'s descriptor gives. The limits may be changed
 * later, not below what is in use; mode, uid and gid may not.
 *
 *   write, truncate  ENOSPC where the pages end (a write goes as far as there is room);
 *                    what has no pages yet is counted all the same
 *   open, mkdir      ENOSPC where the files end
 *   link, rename     as everywhere; rename knows RENAME_NOREPLACE, and
 *                    RENAME_EXCHANGE where the kernel's simple_rename() does
 *
 * /sys/module/lab_filesystem/parameters/inodes tells how many inodes there are, of
 * all mounts: those of unlinked files that are still open too, none after the last
 * umount().
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/err.h>
#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fs_parser.h>
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/pagemap.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/statfs.h>
#include <linux/uidgid.h>
#include <linux/uio.h>

#include "compat.h"

#define LAB_FS_MAGIC	0x6c616266	/* "labf" */
#define LAB_FS_SECTORS	(PAGE_SHIFT - 9)	/* i_blocks counts 512 bytes */

struct lab_fs_options {
	u32 pages;
	u32 files;
	umode_t mode;
	kuid_t uid;
	kgid_t gid;
};

struct lab_fs {
	spinlock_t lock;		/* of all that follows */
	struct lab_fs_options options;
	u32 pages;			/* in use: never more than options say */
	u32 files;
};

/* --- how many inodes there are ------------------------------------------------ */

static atomic_t lab_fs_inodes = ATOMIC_INIT(0);

static int lab_fs_inodes_get(char *buf, const struct kernel_param *kp)
{
	return sysfs_emit(buf, "%d\n", atomic_read(&lab_fs_inodes));
}

static const struct kernel_param_ops lab_fs_inodes_ops = {
	.get	= lab_fs_inodes_get,
};
module_param_cb(inodes, &lab_fs_inodes_ops, NULL, 0444);
MODULE_PARM_DESC(inodes, "how many inodes there are, of all mounts");

/* --- the limits ---------------------------------------------------------------- */

static struct lab_fs *lab_fs_of(struct super_block *sb)
{
	return sb->s_fs_info;
}

/*
 * Count a file's pages for @size, or for as much of it as there is room for, which
 * is returned. i_blocks tells what is counted. The inode is locked, or on its way out.
 */
static loff_t lab_fs_charge(struct inode *inode, loff_t size)
{
	struct lab_fs *lab = lab_fs_of(inode->i_sb);
	u64 have = inode->i_blocks >> LAB_FS_SECTORS;
	u64 want = div_u64((u64)size + PAGE_SIZE - 1, PAGE_SIZE);

	spin_lock(&lab->lock);
	want = min_t(u64, want, have + lab->options.pages - lab->pages);
	lab->pages = lab->pages - have + want;
	spin_unlock(&lab->lock);

	inode->i_blocks = want << LAB_FS_SECTORS;
	return min_t(u64, size, want << PAGE_SHIFT);
}

static bool lab_fs_take_file(struct lab_fs *lab)
{
	bool taken;

	spin_lock(&lab->lock);
	taken = lab->files < lab->options.files;
	lab->files += taken;
	spin_unlock(&lab->lock);
	return taken;
}

static void lab_fs_give_file(struct lab_fs *lab)
{
	spin_lock(&lab->lock);
	lab->files--;
	spin_unlock(&lab->lock);
}

/* --- files ---------------------------------------------------------------------- */

static ssize_t lab_fs_write_iter(struct kiocb *iocb, struct iov_iter *from)
{
	struct inode *inode = file_inode(iocb->ki_filp);
	loff_t room;
	ssize_t ret;

	inode_lock(inode);
	ret = generic_write_checks(iocb, from);
	if (ret <= 0)
		goto out;

	room = max(iocb->ki_pos + (loff_t)iov_iter_count(from), i_size_read(inode));
	room = lab_fs_charge(inode, room);
	if (room > iocb->ki_pos) {
		iov_iter_truncate(from, room - iocb->ki_pos);
		ret = __generic_file_write_iter(iocb, from);
	} else {
		ret = -ENOSPC;
	}
	/* What was counted and not written, because of a bad buffer say. */
	lab_fs_charge(inode, i_size_read(inode));
out:
	inode_unlock(inode);
	return ret;
}

static int lab_fs_setattr(lab_idmap_param struct dentry *dentry, struct iattr *attr)
{
	struct inode *inode = d_inode(dentry);
	int ret;

	ret = setattr_prepare(lab_idmap dentry, attr);
	if (ret)
		return ret;

	if (attr->ia_valid & ATTR_SIZE) {
		if (attr->ia_size > i_size_read(inode) &&
		    lab_fs_charge(inode, attr->ia_size) < attr->ia_size) {
			lab_fs_charge(inode, i_size_read(inode));
			return -ENOSPC;
		}
		truncate_setsize(inode, attr->ia_size);
		lab_fs_charge(inode, attr->ia_size);
	}
	setattr_copy(lab_idmap inode, attr);
	mark_inode_dirty(inode);
	return 0;
}

static const struct file_operations lab_fs_file_fops = {
	.llseek		= generic_file_llseek,
	.read_iter	= generic_file_read_iter,
	.write_iter	= lab_fs_write_iter,
	.mmap		= generic_file_mmap,
	.fsync		= noop_fsync,
	.splice_read	= filemap_splice_read,
	.splice_write	= iter_file_splice_write,
};

static const struct inode_operations lab_fs_file_iops = {
	.setattr	= lab_fs_setattr,
};

/* --- directories ---------------------------------------------------------------- */

static const struct inode_operations lab_fs_dir_iops;

/* A new inode that is nothing yet. ERR_PTR: -ENOSPC, -ENOMEM. */
static struct inode *lab_fs_inode(struct super_block *sb)
{
	struct lab_fs *lab = lab_fs_of(sb);
	struct inode *inode;

	if (!lab_fs_take_file(lab))
		return ERR_PTR(-ENOSPC);
	inode = new_inode(sb);
	if (!inode) {
		lab_fs_give_file(lab);
		return ERR_PTR(-ENOMEM);
	}
	/* From here on it is lab_fs_evict_inode() that takes it all back. */
	atomic_inc(&lab_fs_inodes);
	inode->i_ino = get_next_ino();
	simple_inode_init_ts(inode);
	return inode;
}

static void lab_fs_be_directory(struct inode *inode)
{
	inode->i_op = &lab_fs_dir_iops;
	inode->i_fop = &simple_dir_operations;
	inc_nlink(inode);		/* its own "." */
}

static void lab_fs_be_file(struct inode *inode)
{
	inode->i_op = &lab_fs_file_iops;
	inode->i_fop = &lab_fs_file_fops;
	inode->i_mapping->a_ops = &ram_aops;
	mapping_set_gfp_mask(inode->i_mapping, GFP_HIGHUSER);
	/* There is no other copy: memory pressure must not touch it. */
	mapping_set_unevictable(inode->i_mapping);
}

static int lab_fs_create(lab_idmap_param struct inode *dir, struct dentry *dentry,
			 umode_t mode lab_create_excl)
{
	struct inode *inode = lab_fs_inode(dir->i_sb);

	if (IS_ERR(inode))
		return PTR_ERR(inode);
	inode_init_owner(lab_idmap inode, dir, mode);
	lab_fs_be_file(inode);
	lab_d_keep(dentry, inode);
	lab_inode_touch(dir);
	return 0;
}

static lab_mkdir_type lab_fs_mkdir(lab_idmap_param struct inode *dir, struct dentry *dentry,
				   umode_t mode)
{
	struct inode *inode = lab_fs_inode(dir->i_sb);

	if (IS_ERR(inode))
		return lab_mkdir_result(PTR_ERR(inode));
	inode_init_owner(lab_idmap inode, dir, mode | S_IFDIR);
	lab_fs_be_directory(inode);
	lab_d_keep(dentry, inode);
	inc_nlink(dir);			/* the new one's ".." */
	lab_inode_touch(dir);
	return lab_mkdir_result(0);
}

static const struct inode_operations lab_fs_dir_iops = {
	.create		= lab_fs_create,
	.lookup		= simple_lookup,
	.link		= simple_link,
	.unlink		= simple_unlink,
	.mkdir		= lab_fs_mkdir,
	.rmdir		= simple_rmdir,
	.rename		= simple_rename,
};

/* --- a mount -------------------------------------------------------------------- */

static void lab_fs_evict_inode(struct inode *inode)
{
	truncate_inode_pages_final(&inode->i_data);
	clear_inode(inode);
	lab_fs_charge(inode, 0);
	lab_fs_give_file(lab_fs_of(inode->i_sb));
	atomic_dec(&lab_fs_inodes);
}

static int lab_fs_statfs(struct dentry *dentry, struct kstatfs *buf)
{
	struct lab_fs *lab = lab_fs_of(dentry->d_sb);
	int ret;

	ret = simple_statfs(dentry, buf);
	if (ret)
		return ret;

	spin_lock(&lab->lock);
	buf->f_blocks = lab->options.pages;
	buf->f_bfree = lab->options.pages - lab->pages;
	buf->f_bavail = buf->f_bfree;
	buf->f_files = lab->options.files;
	buf->f_ffree = lab->options.files - lab->files;
	spin_unlock(&lab->lock);
	return 0;
}

/* What /proc/mounts shows: as one would write it to mount the same. */
static int lab_fs_show_options(struct seq_file *seq, struct dentry *root)
{
	struct lab_fs *lab = lab_fs_of(root->d_sb);
	struct lab_fs_options options;

	spin_lock(&lab->lock);
	options = lab->options;
	spin_unlock(&lab->lock);

	seq_printf(seq, ",pages=%u,files=%u,mode=%03o", options.pages, options.files, options.mode);
	if (!uid_eq(options.uid, GLOBAL_ROOT_UID))
		seq_printf(seq, ",uid=%u", from_kuid_munged(seq_user_ns(seq), options.uid));
	if (!gid_eq(options.gid, GLOBAL_ROOT_GID))
		seq_printf(seq, ",gid=%u", from_kgid_munged(seq_user_ns(seq), options.gid));
	return 0;
}

static const struct super_operations lab_fs_sops = {
	.evict_inode	= lab_fs_evict_inode,
	.statfs		= lab_fs_statfs,
	.show_options	= lab_fs_show_options,
};

static int lab_fs_fill_super(struct super_block *sb, struct fs_context *fc)
{
	const struct lab_fs_options *options = fc->fs_private;
	struct inode *root;
	struct lab_fs *lab;

	lab = kzalloc(sizeof(*lab), GFP_KERNEL);
	if (!lab)
		return -ENOMEM;
	spin_lock_init(&lab->lock);
	lab->options = *options;
	sb->s_fs_info = lab;		/* lab_fs_kill_sb() frees it, also if this fails */

	sb->s_magic = LAB_FS_MAGIC;
	sb->s_blocksize = PAGE_SIZE;
	sb->s_blocksize_bits = PAGE_SHIFT;
	sb->s_maxbytes = MAX_LFS_FILESIZE;
	sb->s_time_gran = 1;
	sb->s_op = &lab_fs_sops;

	root = lab_fs_inode(sb);
	if (IS_ERR(root))
		return PTR_ERR(root);
	root->i_mode = S_IFDIR | options->mode;
	root->i_uid = options->uid;
	root->i_gid = options->gid;
	lab_fs_be_directory(root);
	sb->s_root = d_make_root(root);	/* which drops the inode if it fails */
	return sb->s_root ? 0 : -ENOMEM;
}

static void lab_fs_kill_sb(struct super_block *sb)
{
	struct lab_fs *lab = lab_fs_of(sb);

	lab_kill_litter_super(sb);
	kfree(lab);
}

/* --- what is said of it before it is mounted, or anew ---------------------------- */

enum lab_fs_param { LAB_FS_PAGES, LAB_FS_FILES, LAB_FS_MODE, LAB_FS_UID, LAB_FS_GID };

static const struct fs_parameter_spec lab_fs_params[] = {
	fsparam_u32("pages", LAB_FS_PAGES),
	fsparam_u32("files", LAB_FS_FILES),
	fsparam_u32oct("mode", LAB_FS_MODE),
	fsparam_u32("uid", LAB_FS_UID),
	fsparam_u32("gid", LAB_FS_GID),
	{}
};

static int lab_fs_parse_param(struct fs_context *fc, struct fs_parameter *param)
{
	struct lab_fs_options *options = fc->fs_private;
	struct fs_parse_result result;
	int which;

	/* Negative for what is no option of ours: the kernel tells it then. */
	which = fs_parse(fc, lab_fs_params, param, &result);
	if (which < 0)
		return which;
	if (which > LAB_FS_FILES && fc->purpose == FS_CONTEXT_FOR_RECONFIGURE)
		return invalfc(fc, "%s is for a new mount only", param->key);

	switch (which) {
	case LAB_FS_PAGES:
		if (!result.uint_32)
			return invalfc(fc, "pages must be at least one");
		options->pages = result.uint_32;
		break;
	case LAB_FS_FILES:
		if (!result.uint_32)
			return invalfc(fc, "files must be at least one, for the root");
		options->files = result.uint_32;
		break;
	case LAB_FS_MODE:
		if (result.uint_32 & ~07777)
			return invalfc(fc, "mode has more than permissions");
		options->mode = result.uint_32;
		break;
	case LAB_FS_UID:
		options->uid = make_kuid(fc->user_ns, result.uint_32);
		if (!uid_valid(options->uid))
			return invalfc(fc, "uid is nobody's");
		break;
	case LAB_FS_GID:
		options->gid = make_kgid(fc->user_ns, result.uint_32);
		if (!gid_valid(options->gid))
			return invalfc(fc, "gid is nobody's");
		break;
	}
	return 0;
}

static int lab_fs_get_tree(struct fs_context *fc)
{
	return get_tree_nodev(fc, lab_fs_fill_super);
}

/* Read-only or not is the kernel's; it has refused what has files open for writing. */
static int lab_fs_reconfigure(struct fs_context *fc)
{
	const struct lab_fs_options *options = fc->fs_private;
	struct lab_fs *lab = lab_fs_of(fc->root->d_sb);
	u32 pages, files;
	bool fits;

	spin_lock(&lab->lock);
	pages = lab->pages;
	files = lab->files;
	fits = options->pages >= pages && options->files >= files;
	if (fits)
		lab->options = *options;
	spin_unlock(&lab->lock);
	return fits ? 0 : invalfc(fc, "%u pages and %u files are in use", pages, files);
}

static void lab_fs_free_fc(struct fs_context *fc)
{
	kfree(fc->fs_private);
}

static const struct fs_context_operations lab_fs_context_ops = {
	.free		= lab_fs_free_fc,
	.parse_param	= lab_fs_parse_param,
	.get_tree	= lab_fs_get_tree,
	.reconfigure	= lab_fs_reconfigure,
};

static int lab_fs_init_context(struct fs_context *fc)
{
	static const struct lab_fs_options usual = { .pages = 64, .files = 64, .mode = 0755 };
	struct lab_fs_options *options;

	options = kmemdup(&usual, sizeof(usual), GFP_KERNEL);
	if (!options)
		return -ENOMEM;
	/* What is not said anew stays as it is. */
	if (fc->purpose == FS_CONTEXT_FOR_RECONFIGURE) {
		struct lab_fs *lab = lab_fs_of(fc->root->d_sb);

		spin_lock(&lab->lock);
		*options = lab->options;
		spin_unlock(&lab->lock);
	}
	fc->fs_private = options;
	fc->ops = &lab_fs_context_ops;
	return 0;
}

static struct file_system_type lab_fs_type = {
	.owner			= THIS_MODULE,
	.name			= "lab",
	.init_fs_context	= lab_fs_init_context,
	.parameters		= lab_fs_params,
	.kill_sb		= lab_fs_kill_sb,
};

static int __init lab_fs_init(void)
{
	return register_filesystem(&lab_fs_type);
}

static void __exit lab_fs_exit(void)
{
	/* No mount is left: each holds a reference to the module. */
	unregister_filesystem(&lab_fs_type);
}

module_init(lab_fs_init);
module_exit(lab_fs_exit);

MODULE_ALIAS_FS("lab");
MODULE_DESCRIPTION("chanlab: a file system");
MODULE_LICENSE("GPL");
