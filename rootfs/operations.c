// SPDX-License-Identifier: GPL-2.0-only
/*
 * The operations of a program, one after the other. All was checked when it was
 * read: what happens here is what the scenario wants.
 */
#include "operations.h"
#include "agent.h"
#include "become.h"
#include "clock.h"
#include "memory.h"
#include "names.h"
#include "reply.h"
#include "seat.h"
#include "signals.h"
#include "touch.h"

#include <fcntl.h>
#include <linux/random.h>
#include <linux/sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <time.h>

#define FILE_PIECE	(64u << 10)	/* files of /proc/sys allocate as much as is asked for */

static const long own_calls[] = {
	[OWN_INIT_MODULE] = __NR_init_module,
	[OWN_DELETE_MODULE] = __NR_delete_module,
	[OWN_OPENAT] = __NR_openat,
	[OWN_LSEEK] = __NR_lseek,
	[OWN_WRITE] = __NR_write,
	[OWN_CLOSE] = __NR_close,
	[OWN_READ] = __NR_read,
	[OWN_EVENTFD2] = __NR_eventfd2,
	[OWN_SCHED_SETAFFINITY] = __NR_sched_setaffinity,
	[OWN_UMOUNT2] = __NR_umount2,
	[OWN_UNLINKAT] = __NR_unlinkat,
	[OWN_GETDENTS64] = __NR_getdents64,
	[OWN_MEMBARRIER] = __NR_membarrier,
};

bool own_call_known(uint32_t index)
{
	return index < ARRAY_SIZE(own_calls);
}

/* A child that the scenario made without the agent's knowledge must not run our code on. */
static void end_stray_child(long nr, long value)
{
	if (value)
		return;
	switch (nr) {
#ifdef __NR_fork
	case __NR_fork:
	case __NR_vfork:
#endif
#ifdef __NR_clone3
	case __NR_clone3:
#endif
	case __NR_clone:
		raw1(__NR_exit, 0);
	}
}

static inline __attribute__((always_inline)) bool do_call(struct run *run, const struct op *op)
{
	const struct op_call *call = (const void *)(op + 1);
	const uint32_t count = (op->length - sizeof(*call)) / sizeof(call->args[0]);
	const long nr = call->nr & OWN_CALL ? own_calls[(uint32_t)call->nr] : (long)call->nr;
	struct slot *slot = run->me->slot;
	long args[MAX_ARGUMENTS] = { 0 };
	uint64_t completed = 0;
	long value = 0;
	uint32_t i;

	for (i = 0; i < count; i++)
		args[i] = run_argument(run, &call->args[i]);
	slot->nr = nr;
	while (completed < call->times) {
		WRITE(slot->sequence, slot->sequence + 1);
		value = raw6(nr, args[0], args[1], args[2], args[3], args[4], args[5]);
		end_stray_child(nr, value);
		WRITE(slot->sequence, slot->sequence + 1);
		if (value < call->low || value > call->high)
			break;
		completed++;
	}
	run_result(run, value, completed);
	return completed == call->times;
}

/*
 * Everybody spins until the last has come, so that all go on at the same moment;
 * after a while they sleep. The slot is taken over by whoever comes first to a new
 * ident.
 */
static bool do_barrier(const struct op_barrier *barrier, uint32_t *came)
{
	uint32_t *word = &shared->barriers[barrier->ident % BARRIERS];
	const uint32_t ident = barrier->ident << 16;
	const uint64_t begin = now_raw(CLOCK_MONOTONIC);
	uint32_t old = READ(*word);
	uint32_t new;

	do {
		new = (old & 0xffff0000) == ident && old & 0xffff ? old + 1 : ident | 1;
	} while (!__atomic_compare_exchange_n(word, &old, new, false, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	if ((new & 0xffff) >= barrier->parties)
		return true;
	for (;;) {
		const uint32_t seen = READ(*word);
		uint64_t waited;

		*came = seen & 0xffff;
		if ((seen & 0xffff0000) != ident || *came >= barrier->parties)
			return true;
		waited = now_raw(CLOCK_MONOTONIC) - begin;
		if (waited > barrier->patience)
			return false;
		if (waited > 100 * MSEC)
			sleep_raw(MSEC);
		else
			raw0(__NR_sched_yield);
	}
}

/* Returns true in the child. */
static bool do_fork(struct run *run, uint32_t child)
{
	long ret;

	shared->slots[child].pid = 0;
	ret = raw_fork(CLONE_PARENT | CLONE_PARENT_SETTID | SIGCHLD, &shared->slots[child].pid);
	if (ret)
		run_result(run, ret, ret > 0);
	return !ret;
}

static int mailbox(uint32_t ident, int end)
{
	return FD_MAIL + 2 * (ident % MAILBOXES) + end;
}

union control {
	struct cmsghdr header;
	uint8_t bytes[CMSG_SPACE(sizeof(int))];
};

static void do_send_fd(struct run *run, const struct op_send_fd *send)
{
	uint32_t ident = send->ident;
	struct iovec iov = { .iov_base = &ident, .iov_len = sizeof(ident) };
	union control control = { .header = { .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS } };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = CMSG_LEN(sizeof(int)),
	};
	const int fd = run_argument(run, &send->fd);
	long ret;

	control.header.cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	ret = raw3(__NR_sendmsg, mailbox(ident, 0), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	run_result(run, ret > 0 ? 0 : ret, ret > 0);
}

/* The mailbox has a receive timeout: what was never sent is EAGAIN, not for ever. */
static void do_receive_fd(struct run *run, uint32_t ident)
{
	uint32_t got;
	struct iovec iov = { .iov_base = &got, .iov_len = sizeof(got) };
	union control control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fd = -EBADMSG;
	long ret;

	do {
		ret = raw3(__NR_recvmsg, mailbox(ident, 1), &message, 0);
	} while (ret == -EINTR);
	if (ret >= 0) {
		if (message.msg_controllen >= CMSG_LEN(sizeof(int)))
			memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
		if (got != ident && fd >= 0) {
			raw1(__NR_close, fd);
			fd = -EBADMSG;
		}
		ret = fd;
	}
	run_result(run, ret, ret >= 0);
}

static void do_read_file(struct run *run, uint32_t buffer)
{
	uint8_t *to = run_data(run);
	uint64_t size = 0;
	long ret;
	long fd;

	ret = fd = raw4(__NR_openat, AT_FDCWD, run->memory.places[buffer].address,
			O_RDONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		do {
			ret = raw3(__NR_read, fd, to + size,
				   FILE_MAX - size < FILE_PIECE ? FILE_MAX - size : FILE_PIECE);
			if (ret > 0)
				size += ret;
		} while ((ret > 0 && size < FILE_MAX) || ret == -EINTR);
		raw1(__NR_close, fd);
		if (ret > 0)
			ret = -EFBIG;
	}
	if (ret < 0)
		size = 0;
	run_data_end(run, size);
	run_result(run, ret < 0 ? ret : (long)size, ret >= 0);
}

/*
 * Memory that was used while booting and is free now holds what nobody needs. The
 * kernel clears what it gives out; given back, it is empty, and takes no room in the
 * template's file.
 */
static void clear_free_memory(void)
{
	const unsigned long spare = 24ul << 20;	/* nobody shall have to wait for memory */
	struct sysinfo info;
	unsigned long size;
	long base;

	if (raw1(__NR_sysinfo, &info))
		return;
	size = info.freeram * info.mem_unit;
	if (size <= spare)
		return;
	base = raw_mmap(size - spare, PROT_READ | PROT_WRITE, MAP_POPULATE);
	if (base < 0 && base > -4096)
		return;
	raw2(__NR_munmap, base, size - spare);
}

/* Before a guest is frozen: no clone shall have to wait for randomness or write back for us. */
static void do_settle(struct run *run)
{
	unsigned int tries;
	long ret = -EAGAIN;
	uint8_t byte;
	long fd;

	for (tries = 0; tries < 6000 && ret == -EAGAIN; tries++) {
		ret = raw3(__NR_getrandom, &byte, 1, GRND_NONBLOCK);
		if (ret == -EAGAIN)
			sleep_raw(10 * MSEC);
	}
	raw0(__NR_sync);
	fd = raw4(__NR_openat, AT_FDCWD, "/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC, 0);
	if (fd >= 0) {
		raw3(__NR_write, fd, "3", 1);
		raw1(__NR_close, fd);
	}
	clear_free_memory();
	/* Work queues have time to become idle. */
	sleep_raw(50 * MSEC);
	run_result(run, ret < 0 ? ret : 0, ret >= 0);
}

/* Those that a loop may have. Tells whether it came out as wanted. */
static bool do_again(struct run *run, const struct op *op)
{
	const void *body = op + 1;
	const struct op_sigaction *action = body;
	long ret;

	switch (op->code) {
	case OP_CALL:
		return do_call(run, op);
	case OP_INVOKE:
		return touch_invoke(run, op);
	case OP_FETCH:
		return touch_fetch(run, body);
	case OP_LOAD:
		return touch_load(run, body);
	case OP_STORE:
		return touch_store(run, body);
	case OP_PEEK:
		return touch_peek(run, body);
	case OP_POKE:
		return touch_poke(run, body);
	case OP_WANT:
		return touch_want(run, body);
	case OP_SIGACTION:
		ret = signals_set(action->signum, action->how, action->flags);
		run_result(run, ret, ret >= 0);
		return ret >= 0;
	}
	return false;
}

bool operation_repeats(uint32_t code)
{
	switch (code) {
	case OP_CALL:
	case OP_INVOKE:
	case OP_FETCH:
	case OP_LOAD:
	case OP_STORE:
	case OP_PEEK:
	case OP_POKE:
	case OP_WANT:
	case OP_SIGACTION:
		return true;
	default:
		return false;
	}
}

static const struct op *next(const struct op *op)
{
	return (const void *)((const uint8_t *)(op + 1) + op->length);
}

/* What was not done has its place in the reply all the same. */
static void leave_out(struct run *run, const struct op *op)
{
	switch (op->code) {
	case OP_CALL:
	case OP_INVOKE:
	case OP_PEEK:
	case OP_WANT:
	case OP_SIGACTION:
		run_result(run, 0, 0);
		break;
	case OP_FETCH:
	case OP_LOAD:
		run_data_end(run, 0);
		break;
	}
}

/* Whether one guard does for all: nothing may change which signals are blocked meanwhile. */
static bool can_hold(const struct op *op, uint32_t ops)
{
	for (; ops; ops--, op = next(op)) {
		const struct op_call *call = (const void *)(op + 1);

		if (op->code == OP_INVOKE)
			return false;
		if (op->code != OP_CALL)
			continue;
		if (call->nr == __NR_rt_sigprocmask)
			return false;
#ifdef __NR_sigprocmask
		if (call->nr == __NR_sigprocmask)
			return false;
#endif
	}
	return true;
}

/*
 * What a round gives takes the place of what the one before gave. Returns what comes
 * after the loop; its own result says how often it was done, and how much of the last
 * time.
 */
static const struct op *do_loop(struct run *run, const struct op *op)
{
	const struct op_loop *loop = (const void *)(op + 1);
	const struct op *first = next(op), *each = first;
	struct call_result *own = run_result(run, 0, 0);
	const uint32_t calls = run->head->reply.calls, data = run->head->reply.data;
	const uint32_t before = run->op + 1;
	uint8_t *at = run->at;
	struct guard guard;
	uint32_t done = 0;

	if (can_hold(first, loop->ops) &&
	    guard_begin(&guard, run->me->slot->tid, ACCESS_FAULTS)) {
		if (guard.blocked)
			guard_end(&guard);
		else
			run->guard = &guard;
	}
	while (own->completed < loop->times) {
		run->head->reply.calls = calls;
		run->head->reply.data = data;
		run->at = at;
		for (done = 0, each = first; done < loop->ops; done++, each = next(each)) {
			run->op = before + done;
			if (!do_again(run, each))
				break;
		}
		if (done < loop->ops)
			break;
		own->completed++;
	}
	own->value = done;
	if (run->guard)
		guard_end(&guard);
	run->guard = NULL;
	if (done < loop->ops) {
		for (each = next(each), done++; done < loop->ops; done++, each = next(each))
			leave_out(run, each);
	}
	run->op = before + loop->ops - 1;
	return each;
}

int operations_run(struct run *run)
{
	const struct op *op = run->ops;

	for (run->op = 0; run->op < run->program->ops; run->op++) {
		const void *body = op + 1;
		const struct op_pair *pair = body;
		const struct op_exit *leave = body;
		uint32_t came = 0;
		long ret;

		switch (op->code) {
		case OP_CALL:	/* what nearly all programs are made of */
			do_call(run, op);
			break;
		case OP_LOOP:
			op = do_loop(run, op);
			continue;
		case OP_SIGNALS:
			run->head->reply.signals += signals_take(run->records + run->head->reply.signals);
			break;
		case OP_BARRIER:
			if (!do_barrier(body, &came)) {
				run_fail(run, TROUBLE_BARRIER, run->op, came);
				return RUN_REPLIED;
			}
			break;
		case OP_FORK:
			if (do_fork(run, pair->value))
				return (int)pair->value;
			break;
		case OP_SEND_FD:
			do_send_fd(run, body);
			break;
		case OP_RECEIVE_FD:
			do_receive_fd(run, pair->value);
			break;
		case OP_EXIT:
			actor_exit(run->me, leave->status, (int)((leave->status & 0xff) << 8));
		case OP_READ_FILE:
			do_read_file(run, pair->value);
			break;
		case OP_SETTLE:
			do_settle(run);
			break;
		case OP_NAMES:
			names_list(run, pair->value);
			break;
		case OP_BECOME:
			run_result(run, become((const char *)run->memory.places[pair->value].address), 0);
			break;
		case OP_ADDRESS:
			run_result(run, run_argument(run, body), 1);
			break;
		case OP_LET_GO:
			ret = memory_let_go(run_argument(run, body));
			run_result(run, ret, ret >= 0);
			break;
		default:
			do_again(run, op);
		}
		op = next(op);
	}
	run->me->slot->program = 0;
	run_reply(run);
	return RUN_REPLIED;
}
