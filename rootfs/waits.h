/* SPDX-License-Identifier: GPL-2.0-only */
/* What is waited for. */
#ifndef LAB_WAITS_H
#define LAB_WAITS_H

#include "port.h"
#include "proc.h"

#define WAITS		128

struct wait {
	uint32_t type;		/* 0: free */
	uint32_t id;
	uint32_t program;
	uint64_t patience;
	uint64_t deadline;
	uint64_t next;
	bool sampled;
	unsigned int awake;	/* how often in a row it was seen awake */
	uint32_t sequence;
	struct sample sample;
};

extern struct wait waits[WAITS];

void waits_request(const struct chunk *request);
void waits_program_ended(uint32_t program);
void waits_somebody_died(void);
uint64_t waits_until(uint64_t now, uint64_t patience);

#endif
