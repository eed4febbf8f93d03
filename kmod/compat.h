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

#endif /* LAB_COMPAT_H */
