// SPDX-License-Identifier: GPL-2.0-only
/* What a program's reply is: what came of it, or why there is nothing. */
#include "reply.h"
#include "seat.h"

#include <string.h>

struct call_result *run_result(struct run *run, int64_t value, uint64_t completed)
{
	struct call_result *to = &run->results[run->head->reply.calls++];

	to->value = value;
	to->completed = completed;
	return to;
}

void run_fault(struct run *run, const struct fault *fault, uint32_t during)
{
	struct reply *reply = &run->head->reply;

	if (reply->fault_signal || !fault->signal)
		return;	/* the first one is told */
	reply->op = run->op;
	reply->fault_signal = fault->signal;
	reply->fault_code = fault->code;
	reply->fault_address = fault->address;
	reply->fault_during = during;
}

/* Where the next data goes; run_data_end() says how much it was. */
void *run_data(struct run *run)
{
	return run->at + 8;
}

void run_data_end(struct run *run, uint64_t size)
{
	*(uint64_t *)run->at = size;
	memset(run->at + 8 + size, 0, PADDED(size) - size);
	run->at += 8 + PADDED(size);
	run->head->reply.data++;
}

void run_fail(struct run *run, enum trouble trouble, uint32_t op, long detail)
{
	struct {
		struct frame frame;
		struct reply reply;
	} out = {
		.frame = { MAGIC, FRAME_DONE, sizeof(out.reply), run->id, 0, 0 },
		.reply = { .trouble = trouble, .op = op, .detail = detail },
	};

	channel_write(run->me->number, &out, sizeof(out), NULL, 0);
}

void run_reply(struct run *run)
{
	struct reply *reply = &run->head->reply;
	const size_t size = run->at - (uint8_t *)run->head;
	const size_t more = reply->signals * sizeof(*run->records);

	run->head->frame.magic = MAGIC;
	run->head->frame.type = FRAME_DONE;
	run->head->frame.id = run->id;
	run->head->frame.length = size - sizeof(run->head->frame) + more;
	channel_write(run->me->number, run->head, size, run->records, more);
}
