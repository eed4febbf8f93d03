// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an actor has whatever it does: its slot in the memory that all share, its
 * desk, its channel, and an end.
 */
#include "seat.h"
#include "agent.h"
#include "signals.h"

#include <sys/mman.h>

struct shared *shared;

static uint8_t process_altstack[ALTSTACK_SIZE] __attribute__((aligned(16)));

void actor_exit(struct actor *me, int status, int wait_status)
{
	me->slot->status = wait_status;
	WRITE(me->slot->exiting, 1);
	/* A thread ends alone, a process with all that it has. */
	for (;;)
		raw1(me->slot->pid == me->slot->tid ? __NR_exit_group : __NR_exit, status);
}

bool channel_read(uint32_t number, void *to, size_t size)
{
	size_t have = 0;

	while (have < size) {
		long got = raw3(__NR_read, FD_CHANNEL + 2 * number, (uint8_t *)to + have,
				size - have);

		if (got > 0)
			have += got;
		else if (got != -EINTR && got != -EAGAIN)
			return false;
	}
	return true;
}

/* All of it, however often a signal interrupts. */
static int write_all(int fd, const uint8_t *bytes, size_t size)
{
	size_t done = 0;

	while (done < size) {
		long put = raw3(__NR_write, fd, bytes + done, size - done);

		if (put == -EINTR || put == -EAGAIN)
			continue;
		if (put < 0)
			return put;
		done += put;
	}
	return 0;
}

int channel_write(uint32_t number, const void *head, size_t head_size, const void *more,
		  size_t more_size)
{
	const int fd = FD_CHANNEL + 2 * number + 1;
	const int ret = write_all(fd, head, head_size);

	return ret ? ret : write_all(fd, more, more_size);
}

void actor_begin(struct actor *me, uint32_t number)
{
	long desk;

	me->number = number;
	me->slot = &shared->slots[number];
	me->slot->pid = raw0(__NR_getpid);
	me->slot->tid = raw0(__NR_gettid);
	me->slot->program = 0;
	me->slot->sequence = 0;
	me->slot->exiting = 0;
	desk = raw_mmap(DESK_SIZE, PROT_READ | PROT_WRITE, 0);
	if (desk < 0 && desk > -4096)
		actor_exit(me, 1, 1 << 8);
	me->desk = (uint8_t *)desk;
	me->slots = NULL;
	signals_stack(process_altstack, sizeof(process_altstack));
}
