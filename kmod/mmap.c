// SPDX-License-Identifier: GPL-2.0-only
/*
 * mmap.c - /dev/lab_mmap (0666): kernel memory in a process's address space, by
 * three ways and a fourth that may only be read. The offset chooses the piece, see
 * uapi/lab_mmap.h.
 *
 *   LAB_MMAP_FAULT    a page appears when it is touched. A mapping may be longer
 *                     than the piece: SIGBUS past its end.
 *   LAB_MMAP_PFN      remap_pfn_range(): all pages at once. EINVAL when the mapping
 *                     is longer than the piece.
 *   LAB_MMAP_VMALLOC  remap_vmalloc_range(): the same for vmalloc memory.
 *   LAB_MMAP_INFO     counters. PROT_WRITE gives EPERM, and mprotect() EACCES.
 *
 * PROT_EXEC gives EPERM for all of them, and mprotect() EACCES. EINVAL where there
 * is no piece. Private mappings copy a page when they write to it. The memory is
 * the same for everybody and lives as long as the module, which a mapping pins
 * even after its file descriptor was closed.
 *
 * read and write reach the same memory: 0 and ENOSPC where there is none, EPERM
 * for writing to the counters. lseek has no SEEK_END (EINVAL).
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/fs.h>
#include <linux/io.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "compat.h"
#include "store.h"
#include "lab_mmap.h"

/* The pieces are this far apart: more than LAB_MMAP_PAGES of the largest pages. */
#define LAB_MMAP_STEP	LAB_MMAP_PFN
#define LAB_MMAP_BYTES	(LAB_MMAP_PAGES * PAGE_SIZE)

static u8 *fault_memory;	/* vmalloc, so that no page of it is bound to another */
static u8 *pfn_memory;		/* contiguous */
static u8 *vmalloc_memory;	/* vmalloc_user(), which remap_vmalloc_range() wants */
static struct lab_mmap_info *info;	/* one page; the struct begins it */
static DEFINE_SPINLOCK(info_lock);

#define lab_mmap_note(field, by)		\
	do {					\
		spin_lock(&info_lock);		\
		info->field += (by);		\
		spin_unlock(&info_lock);	\
	} while (0)

/* The memory from @offset on and how much of it there is; NULL for none. */
static u8 *lab_mmap_at(loff_t offset, size_t *left)
{
	size_t within = offset & (LAB_MMAP_STEP - 1);
	size_t size = LAB_MMAP_BYTES;
	u8 *start;

	switch (offset - within) {
	case LAB_MMAP_FAULT:
		start = fault_memory;
		break;
	case LAB_MMAP_PFN:
		start = pfn_memory;
		break;
	case LAB_MMAP_VMALLOC:
		start = vmalloc_memory;
		break;
	case LAB_MMAP_INFO:
		start = (u8 *)info;
		size = PAGE_SIZE;
		break;
	default:
		return NULL;
	}
	if (within >= size)
		return NULL;
	*left = size - within;
	return start + within;
}

static bool lab_mmap_read_only(loff_t offset)
{
	return offset >= LAB_MMAP_INFO;
}

/* --- mappings ---------------------------------------------------------------- */

/* fork(), or munmap() of a mapping's middle: one more refers to the same memory. */
static void lab_mmap_vm_open(struct vm_area_struct *vma)
{
	spin_lock(&info_lock);
	info->mappings++;
	info->opened++;
	spin_unlock(&info_lock);
}

static void lab_mmap_vm_close(struct vm_area_struct *vma)
{
	spin_lock(&info_lock);
	info->mappings--;
	info->closed++;
	spin_unlock(&info_lock);
}

static vm_fault_t lab_mmap_vm_fault(struct vm_fault *vmf)
{
	loff_t offset = (loff_t)vmf->pgoff << PAGE_SHIFT;

	lab_mmap_note(faults, 1);
	if (offset >= LAB_MMAP_FAULT + LAB_MMAP_BYTES)
		return VM_FAULT_SIGBUS;
	vmf->page = vmalloc_to_page(fault_memory + offset - LAB_MMAP_FAULT);
	get_page(vmf->page);	/* the page table's reference */
	return 0;
}

/* For the pieces that are mapped at once nothing is left to fault in. */
static const struct vm_operations_struct lab_mmap_vm_ops = {
	.open	= lab_mmap_vm_open,
	.close	= lab_mmap_vm_close,
};

static const struct vm_operations_struct lab_mmap_fault_vm_ops = {
	.open	= lab_mmap_vm_open,
	.close	= lab_mmap_vm_close,
	.fault	= lab_mmap_vm_fault,
};

/* Fill in all pages of a mapping that begins at @start, the file's @offset. */
static int lab_mmap_populate(struct vm_area_struct *vma, loff_t offset, u8 *start, size_t left)
{
	size_t size = vma->vm_end - vma->vm_start;

	if (size > left)
		return -EINVAL;
	if (offset >= LAB_MMAP_VMALLOC && offset < LAB_MMAP_INFO)
		return remap_vmalloc_range(vma, vmalloc_memory,
					   (offset - LAB_MMAP_VMALLOC) >> PAGE_SHIFT);
	return remap_pfn_range(vma, vma->vm_start, PHYS_PFN(virt_to_phys(start)), size,
			       vma->vm_page_prot);
}

static int lab_mmap_mmap(struct file *file, struct vm_area_struct *vma)
{
	loff_t offset = (loff_t)vma->vm_pgoff << PAGE_SHIFT;
	size_t left;
	u8 *start = lab_mmap_at(offset, &left);
	int ret;

	if (!start)
		return -EINVAL;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (lab_mmap_read_only(offset) && vma->vm_flags & VM_WRITE)
		return -EPERM;

	/* What is refused now must not come later by mprotect(). */
	vm_flags_clear(vma, VM_MAYEXEC);
	if (lab_mmap_read_only(offset))
		vm_flags_clear(vma, VM_MAYWRITE);
	vm_flags_set(vma, VM_DONTEXPAND | VM_DONTDUMP);

	if (offset < LAB_MMAP_PFN) {
		vma->vm_ops = &lab_mmap_fault_vm_ops;
	} else {
		vma->vm_ops = &lab_mmap_vm_ops;
		ret = lab_mmap_populate(vma, offset, start, left);
		if (ret)
			return ret;
	}

	/* .open is not called for the first one. */
	lab_mmap_note(mappings, 1);
	return 0;
}

/* msync(MS_SYNC) and fsync(): memory has nothing to write back to, so only noted. */
static int lab_mmap_fsync(struct file *file, loff_t start, loff_t end, int datasync)
{
	spin_lock(&info_lock);
	info->syncs++;
	info->sync_start = start;
	info->sync_end = end;
	spin_unlock(&info_lock);
	return 0;
}

/* --- the same memory by calls --------------------------------------------- */

static ssize_t lab_mmap_read(struct file *file, char __user *buf, size_t size, loff_t *pos)
{
	size_t left;
	u8 *from = lab_mmap_at(*pos, &left);

	if (!from)
		return 0;
	size = min(size, left);
	if (copy_to_user(buf, from, size))
		return -EFAULT;
	*pos += size;
	return size;
}

static ssize_t lab_mmap_write(struct file *file, const char __user *buf, size_t size, loff_t *pos)
{
	size_t left;
	u8 *to = lab_mmap_at(*pos, &left);

	if (!to)
		return -ENOSPC;
	if (lab_mmap_read_only(*pos))
		return -EPERM;
	size = min(size, left);
	if (copy_from_user(to, buf, size))
		return -EFAULT;
	*pos += size;
	return size;
}

static long lab_mmap_put(const struct lab_mmap_range *range, const u8 *from)
{
	if (range->len > LAB_STORE_MAX_MESSAGE)
		return -EMSGSIZE;
	return lab_store_put(from, range->len);
}

static long lab_mmap_get(struct lab_mmap_range *range, u8 *to, void __user *argp)
{
	struct lab_message *message;
	long ret = 0;

	if (lab_mmap_read_only(range->offset))
		return -EPERM;
	message = lab_store_take();
	if (!message)
		return -EAGAIN;

	if (message->len > range->len) {
		ret = -EMSGSIZE;
		goto give_back;
	}
	range->len = message->len;
	if (copy_to_user(argp, range, sizeof(*range))) {
		ret = -EFAULT;
		goto give_back;
	}
	memcpy(to, message->data, message->len);
	lab_message_free(message);
	return 0;

give_back:
	lab_store_give_back(message);
	return ret;
}

static long lab_mmap_info(void __user *argp)
{
	struct lab_mmap_info now;

	spin_lock(&info_lock);
	now = *info;
	spin_unlock(&info_lock);
	return copy_to_user(argp, &now, sizeof(now)) ? -EFAULT : 0;
}

static long lab_mmap_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	void __user *argp = (void __user *)arg;
	struct lab_mmap_range range;
	size_t left;
	u8 *start;

	if (cmd == LAB_MMAP_IOC_INFO)
		return lab_mmap_info(argp);
	if (cmd != LAB_MMAP_IOC_PUT && cmd != LAB_MMAP_IOC_GET)
		return -ENOTTY;
	if (copy_from_user(&range, argp, sizeof(range)))
		return -EFAULT;
	start = lab_mmap_at(range.offset, &left);
	if (!start || range.len > left || range.pad)
		return -EINVAL;

	if (cmd == LAB_MMAP_IOC_PUT)
		return lab_mmap_put(&range, start);
	return lab_mmap_get(&range, start, argp);
}

static int lab_mmap_open(struct inode *inode, struct file *file)
{
	lab_mmap_note(files, 1);
	return 0;
}

static int lab_mmap_release(struct inode *inode, struct file *file)
{
	lab_mmap_note(files, -1);
	return 0;
}

static loff_t lab_mmap_llseek(struct file *file, loff_t offset, int whence)
{
	return no_seek_end_llseek(file, offset, whence);
}

static const struct file_operations lab_mmap_fops = {
	.owner		= THIS_MODULE,
	.open		= lab_mmap_open,
	.release	= lab_mmap_release,
	.read		= lab_mmap_read,
	.write		= lab_mmap_write,
	.llseek		= lab_mmap_llseek,
	.mmap		= lab_mmap_mmap,
	.fsync		= lab_mmap_fsync,
	.unlocked_ioctl	= lab_mmap_ioctl,
	.compat_ioctl	= compat_ptr_ioctl,
};

static struct miscdevice lab_mmap_misc = {
	.minor	= MISC_DYNAMIC_MINOR,
	.name	= "lab_mmap",
	.fops	= &lab_mmap_fops,
	.mode	= 0666,
};

static void lab_mmap_free(void)
{
	/* Each of these takes NULL. */
	free_page((unsigned long)info);
	vfree(vmalloc_memory);
	if (pfn_memory)
		free_pages_exact(pfn_memory, LAB_MMAP_BYTES);
	vfree(fault_memory);
}

static int __init lab_mmap_init(void)
{
	int ret = -ENOMEM;

	BUILD_BUG_ON(LAB_MMAP_BYTES > LAB_MMAP_STEP);

	fault_memory = vzalloc(LAB_MMAP_BYTES);
	pfn_memory = alloc_pages_exact(LAB_MMAP_BYTES, GFP_KERNEL | __GFP_ZERO);
	vmalloc_memory = vmalloc_user(LAB_MMAP_BYTES);
	info = (struct lab_mmap_info *)get_zeroed_page(GFP_KERNEL);
	if (!fault_memory || !pfn_memory || !vmalloc_memory || !info)
		goto err_free;

	ret = misc_register(&lab_mmap_misc);
	if (ret)
		goto err_free;
	return 0;

err_free:
	lab_mmap_free();
	return ret;
}

static void __exit lab_mmap_exit(void)
{
	/* Open files and mappings pin the module, so there are none. */
	misc_deregister(&lab_mmap_misc);
	lab_mmap_free();
}

module_init(lab_mmap_init);
module_exit(lab_mmap_exit);

MODULE_DESCRIPTION("chanlab: mmap");
MODULE_LICENSE("GPL");
