// SPDX-License-Identifier: GPL-2.0-only
/*
 * The table of what the host waits for, and what hurries the next look (watch.c).
 */
#include "waits.h"
#include "agent.h"
#include "clock.h"
#include "host.h"

#include <string.h>

#define STAYS_BEGIN	(2 * NSEC)	/* it must be seen asleep at all within this */

struct wait waits[WAITS];

uint64_t waits_until(uint64_t now, uint64_t patience)
{
	return patience > FOREVER - now ? FOREVER : now + patience;
}

void waits_request(const struct chunk *request)
{
	struct wait_request want;
	uint64_t now = now_ns();
	unsigned int i;

	for (i = 0; i < WAITS && waits[i].type; i++)
		;
	if (request->frame.length != sizeof(want) || i == WAITS) {
		host_error(request->frame.id, i == WAITS ? "too much is waited for" : "malformed wait");
		return;
	}
	memcpy(&want, request->payload, sizeof(want));
	memset(&waits[i], 0, sizeof(waits[i]));
	waits[i].type = request->frame.type;
	waits[i].id = request->frame.id;
	waits[i].program = want.program;
	waits[i].patience = want.patience;
	waits[i].deadline = waits_until(now, request->frame.type == FRAME_STAYS ? STAYS_BEGIN :
					     want.patience);
	waits[i].next = now;
}

void waits_program_ended(uint32_t program)
{
	unsigned int i;

	for (i = 0; i < WAITS; i++)
		if (waits[i].type && waits[i].program == program)
			waits[i].next = 0;
}

void waits_somebody_died(void)
{
	unsigned int i;

	for (i = 0; i < WAITS; i++)
		if (waits[i].type == FRAME_REAP)
			waits[i].next = 0;
}
