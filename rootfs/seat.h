/* SPDX-License-Identifier: GPL-2.0-only */
/* What an actor has whatever it does. */
#ifndef LAB_SEAT_H
#define LAB_SEAT_H

#include "agent.h"

/* What an actor is doing, for the supervisor to see without asking. */
struct slot {
	uint32_t pid;
	uint32_t tid;
	uint32_t program;	/* the id of the one it runs, 0: none */
	uint32_t sequence;	/* odd while in a system call of the program */
	uint64_t nr;		/* that call's number, or ANY_CALL */
	uint32_t exiting;	/* it ends by its own will, with `status` */
	int32_t status;
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct slot) == 64 && offsetof(struct slot, status) == 28,
	       "programs of two word sizes share it");

struct shared {
	struct slot slots[ACTORS];
	uint32_t barriers[BARRIERS];	/* ident << 16 | how many have come */
};

extern struct shared *shared;

struct actor {
	uint32_t number;
	struct slot *slot;
	uint8_t *desk;		/* room for ordinary programs, see DESK_* */
	uint8_t *slots;		/* room for their buffers, see memory.c; NULL: none */
};

#define ANY_CALL	UINT64_MAX	/* it runs code that makes what calls it likes */
#define REHEARSAL	NONE	/* no program's id: the supervisor leaves its reply out */
#define DESK_INPUT	(16u << 10)
#define DESK_SIZE	(64u << 10)
#define ALTSTACK_SIZE	(32u << 10)	/* a signal's own, of each thread */

void actor_begin(struct actor *me, uint32_t number);
void actor_exit(struct actor *me, int status, int wait_status) __attribute__((noreturn));
bool channel_read(uint32_t number, void *to, size_t size);
int channel_write(uint32_t number, const void *head, size_t head_size,
		  const void *more, size_t more_size);

#endif
