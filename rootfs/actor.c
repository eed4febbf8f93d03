// SPDX-License-Identifier: GPL-2.0-only
/*
 * An actor: sets itself up as it is told, then runs programs until it is ended.
 * Nothing here touches errno or libc's idea of threads: several actors may share
 * one memory.
 */
#include "actor.h"
#include "agent.h"
#include "clock.h"
#include "memory.h"
#include "program.h"
#include "seat.h"
#include "signals.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>

#define STACK_SIZE	(128u << 10)

/* Exactly these capabilities, for now and for programs that it will execute. */
static long drop_to(uint64_t caps)
{
	unsigned int cap;

	for (cap = 0; cap < 64; cap++) {
		if (caps >> cap & 1)
			continue;
		if (raw2(__NR_prctl, PR_CAPBSET_DROP, cap) == -EINVAL)
			break;	/* beyond the last that this kernel has */
	}
	return raw2(__NR_prctl, PR_SET_KEEPCAPS, 1);
}

static long set_caps(uint64_t caps, bool ambient)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];
	unsigned int i;
	long ret;

	for (i = 0; i < 2; i++)
		data[i].effective = data[i].permitted = data[i].inheritable = caps >> 32 * i;
	ret = raw2(__NR_capset, &head, data);
	if (ret)
		return ret;
	raw2(__NR_prctl, PR_SET_KEEPCAPS, 0);
	for (i = 0; ambient && i < 64 && !ret; i++)
		if (caps >> i & 1)
			ret = raw5(__NR_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, i, 0, 0);
	return ret;
}

static long set_mask(uint64_t mask)
{
	unsigned long words[8 / sizeof(long)];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(words); i++)
		words[i] = mask >> 8 * sizeof(long) * i;
	return raw4(__NR_rt_sigprocmask, SIG_SETMASK, words, NULL, 8);
}

/* The supervisor and its own are spared when memory is short; actors are not. */
static void become_killable(void)
{
	const long fd = raw4(__NR_openat, AT_FDCWD, "/proc/self/oom_score_adj",
			     O_WRONLY | O_CLOEXEC, 0);

	if (fd < 0)
		return;
	raw3(__NR_write, fd, "0", 1);
	raw1(__NR_close, fd);
}

static long set_ids(const struct setup *want, uint32_t *step)
{
	long ret;

	*step = STEP_GROUPS;
	ret = raw2(RAW_SETGROUPS, 0, NULL);
	if (ret)
		return ret;
	*step = STEP_GID;
	ret = raw3(RAW_SETRESGID, want->gid, want->gid, want->gid);
	if (ret)
		return ret;
	*step = STEP_UID;
	ret = raw3(RAW_SETRESUID, want->uid, want->uid, want->uid);
	if (ret)
		return ret;
	*step = STEP_CAPS;
	ret = want->flags & SETUP_CAPS ? set_caps(want->caps, want->uid != 0) : 0;
	if (ret)
		return ret;
	/* A change of uid took it away, and core dumps with it. */
	raw2(__NR_prctl, PR_SET_DUMPABLE, 1);
	return 0;
}

/*
 * What all processes have in common was done by actor_settle(), before the guest
 * was frozen: init's ids are 0, and so are those of an actor that wants no others.
 */
static long setup(const struct setup *want, uint32_t *step)
{
	bool caps = want->flags & SETUP_CAPS;
	bool thread = want->thread_of != NONE;
	long ret;

	raw2(__NR_prctl, PR_SET_NAME, want->name);
	*step = STEP_BOUNDS;
	ret = caps ? drop_to(want->caps) : 0;
	if (ret)
		return ret;
	if (thread || caps || want->uid || want->gid) {
		ret = set_ids(want, step);
		if (ret)
			return ret;
	}
	*step = STEP_SIGMASK;
	return set_mask(want->sigmask);
}

static void answer_setup(struct actor *me, uint32_t id, long status, uint32_t step)
{
	struct {
		struct frame frame;
		struct setup_answer answer;
	} out = {
		.frame = { MAGIC, FRAME_SETUP_DONE, sizeof(out.answer), id, 0, 0 },
		.answer = {
			.status = status,
			.step = step,
			.number = me->number,
			.pid = me->slot->pid,
			.tid = me->slot->tid,
			.start_ns = now_raw(CLOCK_BOOTTIME),
		},
	};

	channel_write(me->number, &out, sizeof(out), NULL, 0);
}

static void set_up(struct actor *me, uint32_t id, const struct setup *want)
{
	uint32_t step;
	long status = setup(want, &step);

	answer_setup(me, id, status, step);
	if (status)
		actor_exit(me, 1, 1 << 8);
}

/* What a new thread finds at the top of its own stack. */
struct thread_start {
	struct actor me;
	uint32_t number;
	uint32_t id;
	struct setup want;
};

static int thread_main(void *argument)
{
	struct thread_start *start = argument;
	uint8_t *base = (uint8_t *)start + sizeof(*start) - STACK_SIZE - ALTSTACK_SIZE;

	actor_begin(&start->me, start->number);
	signals_stack(base, ALTSTACK_SIZE);
	set_up(&start->me, start->id, &start->want);
	actor_serve(&start->me);
}

/* The channel that the answer comes by is the thread's own, or ours when there is none. */
static void start_thread(struct actor *me, uint32_t id, const struct setup *want, uint32_t number)
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM;
	const size_t size = STACK_SIZE + ALTSTACK_SIZE;
	struct thread_start *start;
	long base, ret;

	base = raw_mmap(size, PROT_READ | PROT_WRITE, MAP_STACK);
	if (base < 0 && base > -4096) {
		answer_setup(me, id, base, STEP_STACK);
		return;
	}
	start = (struct thread_start *)(base + size - sizeof(*start));
	start->number = number;
	start->id = id;
	start->want = *want;
	/* The new thread shares our thread-local storage; nothing there is ever written. */
	ret = clone(thread_main, (void *)((uintptr_t)start & ~(uintptr_t)15), flags, start);
	if (ret < 0)
		answer_setup(me, id, -EAGAIN, STEP_CLONE);
}

/*
 * A blank makes itself at home before the guest is frozen, so that no clone has to:
 * its session, its priority, its name and signal mask if it wants no others. Its
 * pages are its own then, and mapped. `spared`: its parent is when memory is short.
 */
void actor_settle(struct actor *me, const char *name, bool spared)
{
	if (raw0(__NR_setsid) < 0)
		actor_exit(me, 1, 1 << 8);
	raw3(__NR_setpriority, 0, 0, 0);
	if (spared && me->number)
		become_killable();
	raw2(__NR_prctl, PR_SET_NAME, name);
	set_mask(0);
	me->slots = memory_slots();
	/* Locked, all of it is there; unlocked, it stays, and later mappings are as they always are. */
	raw1(__NR_mlockall, MCL_CURRENT);
	raw0(__NR_munlockall);
}

static void serve_one(struct actor *me, const struct frame *frame, const uint8_t *payload)
{
	switch (frame->type) {
	case FRAME_SETUP:
		if (frame->length >= sizeof(struct setup))
			set_up(me, frame->id, (const struct setup *)payload);
		break;
	case FRAME_THREAD:
		if (frame->length >= sizeof(struct setup) + 8)
			start_thread(me, frame->id, (const struct setup *)payload,
				     *(const uint32_t *)(payload + sizeof(struct setup)));
		break;
	case FRAME_SUBMIT:
		/* What comes first told the supervisor whose it is. */
		if (frame->length >= sizeof(struct submit))
			program_run(me, frame->id, payload + sizeof(struct submit),
				    frame->length - sizeof(struct submit));
		break;
	}
}

void actor_serve(struct actor *me)
{
	for (;;) {
		struct frame frame;
		uint8_t *payload = me->desk;
		uint8_t *large = NULL;

		if (!channel_read(me->number, &frame, sizeof(frame)))
			actor_exit(me, 1, 1 << 8);
		if (frame.length > DESK_INPUT) {
			/* All of it is written next: no page fault for each page. */
			long mapped = raw_mmap(frame.length, PROT_READ | PROT_WRITE, MAP_POPULATE);

			if (mapped < 0 && mapped > -4096)
				actor_exit(me, 1, 1 << 8);
			payload = large = (uint8_t *)mapped;
		}
		if (!channel_read(me->number, payload, frame.length))
			actor_exit(me, 1, 1 << 8);
		serve_one(me, &frame, payload);
		if (large)
			raw2(__NR_munmap, large, frame.length);
	}
}
