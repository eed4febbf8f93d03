/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * compat.h - what differs between the kernels that the modules are built for,
 * and nothing else. One section a subsystem, in alphabetical order; each guard
 * says which release changed what. LAB_HAVE_* come from the probes in Kbuild.
 */
#ifndef LAB_COMPAT_H
#define LAB_COMPAT_H

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

/* --- fs ------------------------------------------------------------------ */

#include <linux/fs.h>

/*
 * 6.5 replaced generic_file_splice_read() by copy_splice_read() for whatever
 * has a .read_iter and no page cache (c6585011bc1d).
 */
#ifndef LAB_HAVE_COPY_SPLICE_READ
#define copy_splice_read generic_file_splice_read
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

#endif /* LAB_COMPAT_H */
