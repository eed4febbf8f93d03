// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the host waits for: that a program ends, that an actor sleeps in its call
 * or stays asleep, that the kernel starts a helper, that everybody is gone. Each
 * is one entry here with the time of its next look; nothing ever blocks.
 */
#include "watch.h"
#include "agent.h"
#include "boot.h"
#include "host.h"
#include "peers.h"
#include "port.h"
#include "proc.h"
#include "seat.h"
#include "upcalls.h"
#include "waits.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BETWEEN_SAMPLES	(3 * MSEC)	/* two equal ones: it sleeps */
#define LOOK_AGAIN	(1 * MSEC)
#define STAYS_EVERY	(5 * MSEC)

static void answer(struct wait *wait, uint32_t outcome, const struct peer *peer)
{
	const struct wait_answer head = {
		.outcome = outcome,
		.state = (uint8_t)wait->sample.state,
		.nr = wait->sample.nr,
	};
	struct text text = { 0 };
	char wchan[128];
	struct chunk *chunk;
	size_t got = 0;

	if (peer && outcome == WAIT_YES)
		got = proc_wchan(peer->tid, wchan, sizeof(wchan));
	text_add(&text, wchan, got);
	chunk = chunk_with_text(FRAME_ANSWER, wait->id, &head, sizeof(head), &text);
	if (chunk)
		host_send(chunk);
	wait->type = 0;
}

/* Is it asleep, in the very system call that its program is making? */
static bool asleep(struct wait *wait, uint32_t number, uint32_t *sequence)
{
	const struct slot *slot = &shared->slots[number];
	struct sample *sample = &wait->sample;

	*sequence = READ(slot->sequence);
	memset(sample, 0, sizeof(*sample));
	if (READ(slot->program) != wait->program || !(*sequence & 1))
		return false;
	proc_sample(peers[number].tid, sample);
	if (READ(slot->sequence) != *sequence)
		return false;
#ifdef ARCH_CALL_MAY_BE_UNKNOWN
	if (sample->in_call && !sample->nr && slot->nr != ANY_CALL)
		sample->nr = slot->nr;	/* the sequence says that it makes the call */
#endif
	return (sample->state == 'S' || sample->state == 'D') && sample->in_call &&
	       (slot->nr == ANY_CALL || (int32_t)sample->nr == (int32_t)slot->nr);
}

static void run_blocked(struct wait *wait, uint32_t number, uint64_t now)
{
	const struct sample before = wait->sample;
	const bool sampled = wait->sampled;
	uint32_t sequence;

	wait->sampled = asleep(wait, number, &sequence);
	if (wait->sampled && sampled && sequence == wait->sequence &&
	    before.state == wait->sample.state && before.switches == wait->sample.switches) {
		answer(wait, WAIT_YES, &peers[number]);
		return;
	}
	if (now >= wait->deadline) {
		answer(wait, WAIT_NO, NULL);
		return;
	}
	wait->sequence = sequence;
	wait->next = now + (wait->sampled ? BETWEEN_SAMPLES : LOOK_AGAIN);
}

/*
 * Its time begins when it is first seen asleep: a call that was just submitted may
 * still be on its way. From then on a return is seen by the sequence. To be awake
 * for a moment (the condition was looked at and did not hold) is allowed, to stay
 * so is not.
 */
static void run_stays(struct wait *wait, uint32_t number, uint64_t now)
{
	uint32_t sequence;
	const bool sleeps = asleep(wait, number, &sequence);

	if (!wait->sampled) {
		if (sleeps) {
			wait->sampled = true;
			wait->sequence = sequence;
			wait->deadline = waits_until(now, wait->patience);
		} else if (now >= wait->deadline) {
			answer(wait, WAIT_NO, NULL);
			return;
		}
	}
	wait->awake = sleeps ? 0 : wait->awake + 1;
	if (wait->sampled && (sequence != wait->sequence || wait->awake > 3)) {
		answer(wait, WAIT_NO, NULL);
	} else if (sleeps && now >= wait->deadline) {
		answer(wait, WAIT_YES, &peers[number]);
	} else {
		wait->next = now + (sleeps ? STAYS_EVERY : LOOK_AGAIN);
		if (sleeps && wait->next > wait->deadline)
			wait->next = wait->deadline;
	}
}

static void run_program_wait(struct wait *wait, uint64_t now)
{
	const uint32_t number = peer_of_program(wait->program);

	if (number == NONE) {
		answer(wait, wait->type == FRAME_FINISH ? WAIT_YES : WAIT_ENDED, NULL);
	} else if (wait->type == FRAME_BLOCKED) {
		run_blocked(wait, number, now);
	} else if (wait->type == FRAME_STAYS) {
		run_stays(wait, number, now);
	} else if (now >= wait->deadline) {
		answer(wait, WAIT_NO, NULL);
	} else {
		wait->next = wait->deadline;
	}
}

static void run_upcall(struct wait *wait, uint64_t now)
{
	struct helper *helper = helper_waiting();
	const int number = helper ? helper_claim(helper) : -EAGAIN;
	struct upcall_answer head = { .outcome = WAIT_NO };
	struct chunk *chunk;
	size_t more = 0;

	if (number >= 0) {
		const struct upcall_answer *report = (const void *)helper->report->payload;

		if (helper->report->frame.length >= sizeof(head)) {
			head = *report;
			more = helper->report->frame.length - sizeof(head);
		}
		head.outcome = WAIT_YES;
		head.number = number;
		head.pid = helper->pid;
	} else if (now < wait->deadline) {
		/* A helper may have died between its report and our claim: its connection says so next. */
		wait->next = helper ? now + LOOK_AGAIN : wait->deadline;
		return;
	}
	chunk = chunk_new(FRAME_ANSWER, wait->id, sizeof(head) + more);
	if (chunk) {
		memcpy(chunk->payload, &head, sizeof(head));
		if (more)
			memcpy(chunk->payload + sizeof(head), helper->report->payload + sizeof(head), more);
		host_send(chunk);
	}
	wait->type = 0;
}

/* Reaping */

static int children_fd;	/* open from the beginning: a clone need not walk the path */

void watch_init(void)
{
	static const char path[] = "/proc/1/task/1/children";

	children_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (children_fd < 0)
		die("cannot open", path);
}

static uint32_t number_of(uint32_t pid)
{
	uint32_t i;

	for (i = 0; i < ACTORS; i++)
		if (peers[i].state != PEER_FREE && peers[i].pid == pid)
			return i;
	return NONE;
}

static bool spared(uint32_t number)
{
	return number == 0 || (number != NONE && peers[number].state == PEER_BLANK);
}

static void add_leftover(struct text *text, uint32_t pid)
{
	const struct leftover leftover = { .number = number_of(pid), .pid = pid };

	text_add(text, &leftover, sizeof(leftover));
	proc_describe(pid, text);
}

/*
 * SIGKILL to the sessions of all actors; how many are not gone. Where nobody came to
 * be in another way, those are all that there are, and a clone that does not ask
 * /proc for them translates a good deal less.
 */
static unsigned int kill_sessions(void)
{
	unsigned int count = 0;
	uint32_t i;

	for (i = 1; i < ACTORS; i++)
		if (peers[i].state != PEER_BLANK && peers[i].pid && !kill(-(pid_t)peers[i].pid, SIGKILL))
			count++;
	return count;
}

/* SIGKILL to all that are not the agent's own; how many there are. */
static unsigned int kill_all(struct text *leftovers)
{
	uint32_t pids[256];
	unsigned int count = 0, i;
	char buffer[4096];
	char *at = buffer, *end;
	ssize_t got = pread(children_fd, buffer, sizeof(buffer) - 1, 0);

	/* Our children: actors, and orphans of theirs. */
	buffer[got > 0 ? got : 0] = 0;
	for (; count < 128; at = end) {
		const uint32_t pid = strtoul(at, &end, 10);

		if (end == at)
			break;
		if (!spared(number_of(pid)))
			pids[count++] = pid;
	}
	for (i = 0; i < HELPERS; i++)
		if (helpers[i].fd >= 0)
			pids[count++] = helpers[i].pid;
	for (i = 1; i < ACTORS; i++)
		if (peers[i].state == PEER_LIVE && peers[i].helper)
			pids[count++] = peers[i].pid;
	for (i = 0; i < count; i++) {
		kill(pids[i], SIGKILL);
		if (leftovers)
			add_leftover(leftovers, pids[i]);
	}
	if (!peers_idle_lab()) {
		if (leftovers)
			add_leftover(leftovers, peers[0].pid);
		count++;
	}
	return count;
}

static void run_reap(struct wait *wait, uint64_t now)
{
	struct text text = { 0 };
	struct chunk *chunk;
	uint64_t count;

	peers_tick();
	if (peers_strangers() || helpers_came())
		count = kill_all(NULL);
	else
		count = kill_sessions() + !peers_idle_lab();
	if (count && now < wait->deadline) {
		wait->next = now + 5 * MSEC;
		return;
	}
	/* Who is there after all that time is looked for everywhere. */
	if (count)
		count = kill_all(&text);
	if (!count)
		peers_forget();
	chunk = chunk_with_text(FRAME_ANSWER, wait->id, &count, sizeof(count), &text);
	if (chunk)
		host_send(chunk);
	wait->type = 0;
}

/* All of them */

uint64_t watch_run(uint64_t now)
{
	uint64_t next = FOREVER;
	unsigned int i;

	for (i = 0; i < WAITS; i++) {
		struct wait *wait = &waits[i];

		if (!wait->type)
			continue;
		if (wait->type == FRAME_UPCALL && helper_waiting())
			wait->next = 0;
		if (wait->next <= now) {
			if (wait->type == FRAME_UPCALL)
				run_upcall(wait, now);
			else if (wait->type == FRAME_REAP)
				run_reap(wait, now);
			else
				run_program_wait(wait, now);
		}
		if (wait->type && wait->next < next)
			next = wait->next;
	}
	return next;
}

void watch_state(const struct chunk *request)
{
	struct text text = { 0 };
	struct chunk *chunk;
	uint64_t number;

	if (request->frame.length != sizeof(number)) {
		host_error(request->frame.id, "malformed state");
		return;
	}
	memcpy(&number, request->payload, sizeof(number));
	if (!peer_alive(number)) {
		host_error(request->frame.id, "no such actor, or it is dead");
		return;
	}
	proc_describe(peers[number].tid, &text);
	chunk = chunk_with_text(FRAME_ANSWER, request->frame.id, NULL, 0, &text);
	if (chunk)
		host_send(chunk);
}
