/* SPDX-License-Identifier: GPL-2.0-only */
/* One program under way: what program.c prepares, operations.c does and reply.c tells of. */
#ifndef LAB_RUN_H
#define LAB_RUN_H

#include "guard.h"
#include "memory.h"
#include "seat.h"

#define RUN_REPLIED	0
#define RUN_CHILD	1	/* this is the new process of a fork */
#define FILE_MAX	(28u << 20)

struct run {
	struct actor *me;
	uint32_t id;
	const struct program *program;
	const struct op *ops;
	struct memory memory;
	const struct pointer *pointers;
	uint32_t in_loop;	/* while it is read: so many more belong to the loop */
	uint32_t op;		/* the index of the one that is being done */
	struct guard *guard;	/* held for a loop; NULL: each has its own */
	/* how much the reply may take */
	uint32_t calls;
	uint32_t data;
	uint32_t takes;
	uint64_t data_room;
	/* the reply, as far as it is made; head, calls and data lie side by side */
	struct {
		struct frame frame;
		struct reply reply;
	} *head;
	struct call_result *results;
	uint8_t *at;		/* where the next data goes */
	struct signal_record *records;
};

/* Here, because each call has several: it would cost more than what it does. */
static inline int64_t run_argument(const struct run *run, const struct argument *argument)
{
	switch (argument->kind) {
	case ARGUMENT_BUFFER:
		return (uintptr_t)run->memory.places[argument->index].address + argument->value;
	case ARGUMENT_RESULT:
		return run->results[argument->index].value + argument->value;
	default:
		return argument->value;
	}
}

#endif
