/* SPDX-License-Identifier: GPL-2.0-only */
/* One program under way: what program.c prepares, operations.c does and reply.c tells of. */
#ifndef LAB_RUN_H
#define LAB_RUN_H

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

#endif
