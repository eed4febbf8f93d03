/* SPDX-License-Identifier: GPL-2.0-only */
/* A program's memory. */
#ifndef LAB_MEMORY_H
#define LAB_MEMORY_H

#include "agent.h"

struct place {
	uint8_t *address;
	uint64_t size;
	uint64_t mapped;	/* how much of it can be read */
	uint32_t kind;
	const uint8_t *data;
	uint64_t used;
};

struct arena {
	uint8_t *base;
	size_t size;
};

struct memory {
	struct arena own;
	struct arena kept;
	uint32_t entry;		/* of what is kept, in the process's table */
	uint8_t *slots;		/* the actor's, if it has them */
	bool in_slots;
	struct place *places;
	uint32_t count;
};

void memory_measure(struct memory *memory);
uint8_t *memory_slots(void);
int memory_map(struct memory *memory);
int memory_protect(struct memory *memory);
void memory_unmap(struct memory *memory, bool ran);
long memory_let_go(uintptr_t address);

#endif
