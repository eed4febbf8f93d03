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

struct memory {
	uint8_t *arena;
	size_t size;
	uint8_t *slots;		/* the actor's, if it has them */
	struct place *places;
	uint32_t count;
};

struct fault {
	int signal;
	int code;
	uint64_t address;
};

void memory_measure(struct memory *memory);
uint8_t *memory_slots(void);
int memory_map(struct memory *memory);
int memory_protect(struct memory *memory);
void memory_unmap(struct memory *memory);
bool access_memory(void *to, const void *from, size_t size, struct fault *fault);
void access_init(void);
bool access_fault(int signo, siginfo_t *info);

#endif
