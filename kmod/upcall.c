// SPDX-License-Identifier: GPL-2.0-only
/*
 * upcall.c - the kernel runs a program of user space's.
 *
 * User space writes nothing and reads nothing here: it asks by an ioctl of
 * /dev/lab_upcall for a program to be run, with the arguments and the environment
 * that it names, and sees a new process that is nobody's child, root unless asked
 * otherwise, without open files and with nothing in its environment but that. The
 * call returns at once, when the program runs, or when it has ended.
 *
 * With the module parameter `on_put` a program is run without being asked for,
 * whenever a message is put into the store by whatever door.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/atomic.h>
#include <linux/capability.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/moduleparam.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/string.h>
#include <linux/uaccess.h>
#include <linux/uidgid.h>
#include <linux/umh.h>
#include <linux/wait.h>

#include "compat.h"
#include "lab_upcall.h"
#include "store.h"

static char *on_put = "";
module_param(on_put, charp, 0444);
MODULE_PARM_DESC(on_put, "program to run when a message is put into the store (default none)");

#define UPCALL_MESSAGE_MAX 4096

/*
 * One program to run. It belongs to the kernel's call from
 * call_usermodehelper_exec() on, and upcall_cleanup() frees it, whatever happens.
 */
struct upcall_job {
	struct lab_upcall request;
	char message[UPCALL_MESSAGE_MAX + 1];
	char *argv[LAB_UPCALL_ARGS + 2];	/* a message, and the NULL at the end */
	char *envp[LAB_UPCALL_ARGS + 1];
};

static atomic_t upcall_started = ATOMIC_INIT(0);
static atomic_t upcall_inits = ATOMIC_INIT(0);
static atomic_t upcall_cleanups = ATOMIC_INIT(0);
static int upcall_retval;
static u32 upcall_init_uid;
static DECLARE_WAIT_QUEUE_HEAD(upcall_over);

static unsigned int upcall_pending(void)
{
	/* In this order: a program that is over meanwhile must not make it negative. */
	unsigned int cleanups = atomic_read(&upcall_cleanups);

	smp_rmb();
	return atomic_read(&upcall_started) - cleanups;
}

/*
 * Runs in the new process, still in the kernel, with the credentials that it will
 * have. An error here is what the caller gets, and the program is not run.
 *
 * Not everything can be changed: a process is counted as its user's (RLIMIT_NPROC),
 * and what moves it to another user's count is not exported. A module that writes
 * new->uid all the same gets a warning when the program ends.
 */
static int upcall_init(struct subprocess_info *info, struct cred *new)
{
	const struct upcall_job *job = info->data;
	const struct lab_upcall *request = &job->request;
	kgid_t gid;

	WRITE_ONCE(upcall_init_uid, from_kuid(&init_user_ns, new->uid));
	atomic_inc(&upcall_inits);

	if (request->flags & LAB_UPCALL_REFUSE)
		return -EACCES;
	if (!(request->flags & LAB_UPCALL_DROP))
		return 0;

	gid = make_kgid(&init_user_ns, request->gid);
	if (!gid_valid(gid))
		return -EINVAL;
	new->gid = gid;
	new->egid = gid;
	new->sgid = gid;
	new->fsgid = gid;
	/* What it has now is nothing to take away: root gets all that is in the set by exec. */
	cap_clear(new->cap_bset);
	cap_clear(new->cap_inheritable);
	return 0;
}

/*
 * The kernel needs the job no more: the program runs (NO_WAIT, WAIT_EXEC), has ended
 * (WAIT_PROC), or was never started. Called in the caller's context, in a worker's,
 * or in the new process's.
 */
static void upcall_cleanup(struct subprocess_info *info)
{
	WRITE_ONCE(upcall_retval, info->retval);
	kfree(info->data);

	smp_mb__before_atomic();
	atomic_inc(&upcall_cleanups);
	wake_up(&upcall_over);
	/* From here on the module may go: lab_upcall_exit() waits for our last steps. */
	module_put(THIS_MODULE);
}

/* Hand @job over to the kernel. It is gone afterwards, on errors too. */
static int upcall_exec(struct upcall_job *job, int wait)
{
	struct subprocess_info *info;

	/* Until the cleanup: it is our code, and may be run when nobody has us open any more. */
	if (!try_module_get(THIS_MODULE)) {
		kfree(job);
		return -ENODEV;
	}
	info = call_usermodehelper_setup(job->request.path, job->argv, job->envp, GFP_KERNEL,
					 upcall_init, upcall_cleanup, job);
	if (!info) {
		kfree(job);
		module_put(THIS_MODULE);
		return -ENOMEM;
	}
	atomic_inc(&upcall_started);
	return call_usermodehelper_exec(info, wait);
}

/* Point @vector at the @count strings that lie one after the other in @block. */
static int split_strings(char *block, size_t size, u32 count, char **vector)
{
	char *end = block + size;
	u32 i;

	if (count > LAB_UPCALL_ARGS)
		return -E2BIG;
	for (i = 0; i < count; i++) {
		size_t len = strnlen(block, end - block);

		if (block + len == end)
			return -EINVAL;
		vector[i] = block;
		block += len + 1;
	}
	vector[count] = NULL;
	return 0;
}

static int append_message(struct upcall_job *job)
{
	ssize_t len = lab_store_copy(0, job->message, sizeof(job->message));

	if (len == -ENOENT)
		return -EAGAIN;	/* ENOENT is for the program */
	if (len < 0)
		return len;
	if (len > UPCALL_MESSAGE_MAX)
		return -E2BIG;
	/* The job was zeroed: the string ends, at the message's first zero byte at the latest. */
	job->argv[job->request.argc] = job->message;
	job->argv[job->request.argc + 1] = NULL;
	return 0;
}

/* Make the vectors out of the request's strings, which are checked. */
static int fill_vectors(struct upcall_job *job)
{
	struct lab_upcall *request = &job->request;
	int err;

	if (strnlen(request->path, sizeof(request->path)) == sizeof(request->path))
		return -EINVAL;
	/* A program without a name upsets many: since 5.18 the kernel warns about it. */
	if (!request->argc)
		return -EINVAL;

	err = split_strings(request->argv, sizeof(request->argv), request->argc, job->argv);
	if (err)
		return err;
	err = split_strings(request->envp, sizeof(request->envp), request->envc, job->envp);
	if (err)
		return err;
	if (request->flags & LAB_UPCALL_MESSAGE)
		return append_message(job);
	return 0;
}

static struct upcall_job *get_job(const struct lab_upcall __user *from)
{
	struct upcall_job *job;
	int err;

	job = kzalloc(sizeof(*job), GFP_KERNEL);
	if (!job)
		return ERR_PTR(-ENOMEM);

	err = -EFAULT;
	if (copy_from_user(&job->request, from, sizeof(job->request)))
		goto free_job;
	err = -EINVAL;
	if (job->request.flags & ~(LAB_UPCALL_DROP | LAB_UPCALL_REFUSE | LAB_UPCALL_MESSAGE))
		goto free_job;
	err = fill_vectors(job);
	if (err)
		goto free_job;
	return job;

free_job:
	kfree(job);
	return ERR_PTR(err);
}

static int ioctl_call(const struct lab_upcall __user *from)
{
	struct upcall_job *job = get_job(from);
	int ret = -EINVAL;
	int wait;

	if (IS_ERR(job))
		return PTR_ERR(job);

	switch (job->request.wait) {
	case LAB_UPCALL_WAIT_EXEC:
		wait = UMH_WAIT_EXEC;
		break;
	case LAB_UPCALL_WAIT_PROC:
		wait = UMH_WAIT_PROC;
		break;
	default:
		goto free_job;
	}
	if (job->request.flags & ~LAB_UPCALL_MESSAGE)
		goto free_job;

	ret = call_usermodehelper(job->request.path, job->argv, job->envp, wait);
free_job:
	kfree(job);
	return ret;
}

static int ioctl_exec(const struct lab_upcall __user *from)
{
	struct upcall_job *job = get_job(from);
	int wait;

	if (IS_ERR(job))
		return PTR_ERR(job);

	switch (job->request.wait) {
	case LAB_UPCALL_NO_WAIT:
		wait = UMH_NO_WAIT;
		break;
	case LAB_UPCALL_WAIT_EXEC:
		wait = UMH_WAIT_EXEC;
		break;
	case LAB_UPCALL_WAIT_EXEC | LAB_UPCALL_KILLABLE:
		wait = UMH_WAIT_EXEC | UMH_KILLABLE;
		break;
	case LAB_UPCALL_WAIT_PROC:
		wait = UMH_WAIT_PROC;
		break;
	case LAB_UPCALL_WAIT_PROC | LAB_UPCALL_KILLABLE:
		wait = UMH_WAIT_PROC | UMH_KILLABLE;
		break;
	default:
		kfree(job);
		return -EINVAL;
	}
	return upcall_exec(job, wait);
}

static int ioctl_counters(struct lab_upcall_counters __user *to)
{
	struct lab_upcall_counters counters = {};

	counters.pending = upcall_pending();
	smp_rmb();	/* what the cleanups that it counts have left behind */
	counters.started = atomic_read(&upcall_started);
	counters.inits = atomic_read(&upcall_inits);
	counters.cleanups = atomic_read(&upcall_cleanups);
	counters.retval = READ_ONCE(upcall_retval);
	counters.init_uid = READ_ONCE(upcall_init_uid);

	return copy_to_user(to, &counters, sizeof(counters)) ? -EFAULT : 0;
}

static int ioctl_drain(struct file *file)
{
	if (!upcall_pending())
		return 0;
	if (file->f_flags & O_NONBLOCK)
		return -EAGAIN;
	return wait_event_interruptible(upcall_over, !upcall_pending());
}

static long upcall_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	/* Who has this device can be root: an open file that was handed on must not do. */
	if (!capable(CAP_SYS_ADMIN))
		return -EPERM;

	switch (cmd) {
	case LAB_UPCALL_CALL:
		return ioctl_call((const struct lab_upcall __user *)arg);
	case LAB_UPCALL_EXEC:
		return ioctl_exec((const struct lab_upcall __user *)arg);
	case LAB_UPCALL_COUNTERS:
		return ioctl_counters((struct lab_upcall_counters __user *)arg);
	case LAB_UPCALL_DRAIN:
		return ioctl_drain(file);
	default:
		return -ENOTTY;
	}
}

static const struct file_operations upcall_fops = {
	.owner = THIS_MODULE,
	.unlocked_ioctl = upcall_ioctl,
	.compat_ioctl = compat_ptr_ioctl,
	.llseek = noop_llseek,
};

static struct miscdevice upcall_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lab_upcall",
	.fops = &upcall_fops,
	.mode = 0600,
};

/* Run `PATH put` with how many messages there are, and do not wait for it. */
static int run_on_put(void)
{
	struct lab_upcall *request;
	struct upcall_job *job;
	int err;

	job = kzalloc(sizeof(*job), GFP_KERNEL);
	if (!job)
		return -ENOMEM;
	request = &job->request;

	strscpy(request->path, on_put, sizeof(request->path));
	scnprintf(request->argv, sizeof(request->argv), "%s%cput", on_put, 0);
	request->argc = 2;
	scnprintf(request->envp, sizeof(request->envp), "LAB_EVENT=put%cLAB_COUNT=%u", 0,
		  lab_store_count());
	request->envc = 2;

	err = fill_vectors(job);
	if (err) {
		kfree(job);
		return err;
	}
	return upcall_exec(job, UMH_NO_WAIT);
}

static int upcall_store_event(struct notifier_block *nb, unsigned long event, void *unused)
{
	int err;

	if (event != LAB_STORE_PUT)
		return NOTIFY_DONE;
	err = run_on_put();
	if (err)	/* the message is in the store all the same */
		pr_warn_ratelimited("cannot run %s: %d\n", on_put, err);
	return NOTIFY_OK;
}

static struct notifier_block upcall_notifier = {
	.notifier_call = upcall_store_event,
};

static int __init lab_upcall_init(void)
{
	int err;

	if (strlen(on_put) >= sizeof_field(struct lab_upcall, path)) {
		pr_err("on_put: a path of %zu bytes is too long\n", strlen(on_put));
		return -EINVAL;
	}
	if (*on_put) {
		err = lab_store_notify_register(&upcall_notifier);
		if (err)
			return err;
	}
	err = misc_register(&upcall_device);
	if (err)
		goto unregister_notifier;
	return 0;

unregister_notifier:
	if (*on_put)
		lab_store_notify_unregister(&upcall_notifier);
	return err;
}

static void __exit lab_upcall_exit(void)
{
	misc_deregister(&upcall_device);
	if (*on_put)
		lab_store_notify_unregister(&upcall_notifier);

	/*
	 * Every job held a reference, so all cleanups have put theirs. But the last one
	 * may have been preempted between that and its return, in our code: wait until
	 * every task has been somewhere else.
	 */
	WARN_ON(upcall_pending());
	if (atomic_read(&upcall_started))
		synchronize_rcu_tasks();
}

module_init(lab_upcall_init);
module_exit(lab_upcall_exit);

MODULE_DESCRIPTION("chanlab: the kernel runs a program of user space's");
MODULE_LICENSE("GPL");
