// SPDX-License-Identifier: GPL-2.0-only
/* What a program's reply is: what came of it, or why there is nothing. */
#include "reply.h"
#include "seat.h"

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
