// SPDX-License-Identifier: GPL-2.0-only
/*
 * Runs one program: checks all of it, lays out its memory, does the operations in
 * order and writes the reply. What is checked first need not be checked again when
 * it is done.
 */
#include "program.h"
#include "agent.h"
#include "memory.h"
#include "names.h"
#include "operations.h"
#include "reply.h"
#include "run.h"
#include "seat.h"
#include "signals.h"

#include <string.h>
#include <sys/mman.h>

/* Parsing */

struct cursor {
	const uint8_t *at;
	const uint8_t *end;
};

static const void *take(struct cursor *cursor, uint64_t size)
{
	const uint8_t *at = cursor->at;

	if (size > (uint64_t)(cursor->end - at) || PADDED(size) > (uint64_t)(cursor->end - at))
		return NULL;
	cursor->at += PADDED(size);
	return at;
}

static bool good_argument(const struct run *run, const struct argument *argument)
{
	switch (argument->kind) {
	case ARGUMENT_NUMBER:
		return true;
	case ARGUMENT_BUFFER:
		return argument->index < run->program->buffers;
	case ARGUMENT_RESULT:
		return argument->index < run->calls;
	default:
		return false;
	}
}

static bool good_call(const struct run *run, const struct op_call *call, uint32_t length)
{
	uint32_t count, i;

	if (length < sizeof(*call) || (length - sizeof(*call)) % sizeof(call->args[0]))
		return false;
	count = (length - sizeof(*call)) / sizeof(call->args[0]);
	if (count > MAX_ARGUMENTS || !call->times)
		return false;
	if (call->nr & OWN_CALL && !own_call_known(call->nr))
		return false;
	for (i = 0; i < count; i++)
		if (!good_argument(run, &call->args[i]))
			return false;
	return true;
}

static bool good_invoke(const struct run *run, const struct op_invoke *invoke, uint32_t length)
{
	uint32_t count, i;

	if (length < sizeof(*invoke) || (length - sizeof(*invoke)) % sizeof(invoke->args[0]))
		return false;
	count = (length - sizeof(*invoke)) / sizeof(invoke->args[0]);
	if (count > MAX_ARGUMENTS || !invoke->times || !good_argument(run, &invoke->address))
		return false;
	for (i = 0; i < count; i++)
		if (!good_argument(run, &invoke->args[i]))
			return false;
	return true;
}

static bool good_want(const struct run *run, const struct op_want *want, uint32_t length)
{
	return length >= sizeof(*want) && good_argument(run, &want->address) &&
	       (want->clip == NONE || want->clip < run->calls) &&
	       want->size <= length - sizeof(*want);
}

static bool good_number_size(uint64_t size)
{
	return size == 1 || size == 2 || size == 4 || size == 8;
}

/* What follows it is checked against it one by one. */
static bool good_loop(struct run *run, const struct op_loop *loop, uint32_t left)
{
	if (!loop->times || !loop->ops || loop->ops > left)
		return false;
	run->in_loop = loop->ops;
	return true;
}

static bool good_fetch(const struct run *run, const struct op_fetch *fetch)
{
	const struct place *place;

	if (fetch->buffer >= run->program->buffers)
		return false;
	if (fetch->clip != NONE && fetch->clip >= run->calls)
		return false;
	place = &run->memory.places[fetch->buffer];
	return fetch->offset <= place->mapped && fetch->size <= place->mapped - fetch->offset;
}

/* Counts what an operation adds to the reply, after the checks that need the counts so far. */
static bool good_op(struct run *run, const struct op *op, uint32_t left)
{
	const void *body = op + 1;
	const struct op_access *access = body;
	const struct op_poke *poke = body;
	const struct op_barrier *barrier = body;
	const struct op_pair *pair = body;
	const uint32_t length = op->length;

	if (run->in_loop) {
		if (!operation_repeats(op->code))
			return false;
		run->in_loop--;
	}
	switch (op->code) {
	case OP_CALL:
		return good_call(run, body, length) && ++run->calls;
	case OP_INVOKE:
		return good_invoke(run, body, length) && ++run->calls;
	case OP_LOOP:
		return length == sizeof(struct op_loop) && good_loop(run, body, left) && ++run->calls;
	case OP_WANT:
		return good_want(run, body, length) && ++run->calls;
	case OP_PEEK:
		return length == sizeof(*access) && good_argument(run, &access->address) &&
		       good_number_size(access->size) && ++run->calls;
	case OP_POKE:
		return length == sizeof(*poke) && good_argument(run, &poke->address) &&
		       good_argument(run, &poke->value) && good_number_size(poke->size);
	case OP_ADDRESS:
	case OP_LET_GO:
		return length == sizeof(struct argument) && good_argument(run, body) && ++run->calls;
	case OP_FETCH:
		if (length != sizeof(struct op_fetch) || !good_fetch(run, body))
			return false;
		run->data_room += 8 + PADDED(((const struct op_fetch *)body)->size);
		return ++run->data;
	case OP_LOAD:
		if (length != sizeof(*access) || !good_argument(run, &access->address) ||
		    access->size > MAX_FRAME)
			return false;
		run->data_room += 8 + PADDED(access->size);
		return ++run->data;
	case OP_STORE:
		return length >= sizeof(*access) && good_argument(run, &access->address) &&
		       access->size <= length - sizeof(*access);
	case OP_SIGACTION:
		return length == sizeof(struct op_sigaction) && ++run->calls;
	case OP_SIGNALS:
		return length == 0 && ++run->takes <= 64;
	case OP_BARRIER:
		return length == sizeof(*barrier) && barrier->parties && barrier->parties <= ACTORS &&
		       barrier->ident <= 0xffff;
	case OP_FORK:
		return length == sizeof(*pair) && pair->value && pair->value < ACTORS && ++run->calls;
	case OP_BECOME:
		/* The program that it is in ends with it, and so it has no other result. */
		return length == sizeof(*pair) && pair->value < run->program->buffers &&
		       run->program->ops == 1 && ++run->calls;
	case OP_SEND_FD:
		return length == sizeof(struct op_send_fd) && good_argument(run, body) && ++run->calls;
	case OP_RECEIVE_FD:
		return length == sizeof(*pair) && ++run->calls;
	case OP_EXIT:
		return length == sizeof(struct op_exit);
	case OP_READ_FILE:
		if (length != sizeof(*pair) || pair->value >= run->program->buffers)
			return false;
		run->data_room += 8 + FILE_MAX;
		return ++run->calls && ++run->data;
	case OP_SETTLE:
		return length == 0 && ++run->calls;
	case OP_NAMES:
		run->data_room += 8 + NAMES_MAX;
		return length == sizeof(*pair) && ++run->calls && ++run->data;
	default:
		return false;
	}
}

/* The places array has room for MAX_BUFFERS: the caller looked at the header. */
static bool parse_buffers(struct run *run, struct cursor *cursor)
{
	uint32_t i;

	for (i = 0; i < run->program->buffers; i++) {
		struct place *place = &run->memory.places[i];
		const struct buffer *buffer = take(cursor, sizeof(*buffer));

		if (!buffer || buffer->kind > BUFFER_KEPT || buffer->used > buffer->size)
			return false;
		place->kind = buffer->kind;
		place->size = buffer->size;
		place->used = buffer->used;
		place->data = take(cursor, buffer->used);
		if (!place->data)
			return false;
	}
	return true;
}

static bool parse_pointers(struct run *run, struct cursor *cursor)
{
	uint32_t i;

	run->pointers = take(cursor, (uint64_t)run->program->pointers * sizeof(struct pointer));
	if (!run->pointers)
		return false;
	for (i = 0; i < run->program->pointers; i++) {
		const struct pointer *pointer = &run->pointers[i];
		const struct place *where;

		if (pointer->where >= run->program->buffers || pointer->to >= run->program->buffers)
			return false;
		where = &run->memory.places[pointer->where];
		if (where->mapped < sizeof(long) || pointer->offset > where->mapped - sizeof(long))
			return false;
	}
	return true;
}

static bool parse_ops(struct run *run, struct cursor *cursor, uint32_t *index)
{
	run->ops = (const struct op *)cursor->at;
	for (*index = 0; *index < run->program->ops; ++*index) {
		const struct op *op = take(cursor, sizeof(*op));

		if (!op || op->length % 8 || !take(cursor, op->length) ||
		    !good_op(run, op, run->program->ops - *index - 1))
			return false;
	}
	return cursor->at == cursor->end;
}

/* The reply */

/* Room for the reply: on the desk when it fits, else its own mapping. */
static uint8_t *reply_room(struct run *run, uint64_t *size, long *error)
{
	uint64_t room = sizeof(*run->head) + (uint64_t)run->calls * sizeof(*run->results) +
			run->data_room;
	uint64_t total = room + (uint64_t)run->takes * RING * sizeof(*run->records);
	uint8_t *base = run->me->desk + DESK_INPUT;
	long ret;

	*size = 0;
	if (total > DESK_SIZE - DESK_INPUT) {
		ret = raw_mmap(total, PROT_READ | PROT_WRITE, MAP_NORESERVE);
		if (ret < 0 && ret > -4096) {
			*error = ret;
			return NULL;
		}
		base = (uint8_t *)ret;
		*size = total;
	}
	run->head = (void *)base;
	memset(run->head, 0, sizeof(*run->head));
	run->results = (void *)(run->head + 1);
	run->at = (uint8_t *)(run->results + run->calls);
	run->records = (void *)(base + room);
	return base;
}

static void write_pointers(struct run *run)
{
	uint32_t i;

	for (i = 0; i < run->program->pointers; i++) {
		const struct pointer *pointer = &run->pointers[i];
		const uintptr_t address = (uintptr_t)run->memory.places[pointer->to].address +
					  pointer->to_offset;

		memcpy(run->memory.places[pointer->where].address + pointer->offset, &address,
		       sizeof(address));
	}
}

static int run_in_memory(struct run *run)
{
	struct actor *me = run->me;
	uint64_t reply_size;
	uint8_t *base;
	long ret = 0;
	int child;

	base = reply_room(run, &reply_size, &ret);
	if (!base) {
		run_fail(run, TROUBLE_MEMORY, 0, ret);
		return RUN_REPLIED;
	}
	ret = memory_map(&run->memory);
	if (!ret) {
		write_pointers(run);
		ret = memory_protect(&run->memory);
	}
	if (ret) {
		run_fail(run, TROUBLE_MEMORY, 0, ret);
		child = RUN_REPLIED;
	} else {
		WRITE(me->slot->program, run->id);
		child = operations_run(run);
		WRITE(me->slot->program, 0);
	}
	memory_unmap(&run->memory, !ret);
	if (reply_size)
		raw2(__NR_munmap, base, reply_size);
	if (child > 0) {
		/* The new process: nothing of its parent's program is left, its own channel begins. */
		signals_forget();
		actor_begin(me, child);
		return RUN_CHILD;
	}
	return RUN_REPLIED;
}

int program_run(struct actor *me, uint32_t id, const uint8_t *bytes, size_t length)
{
	struct cursor cursor = { bytes, bytes + length };
	struct run run = { .me = me, .id = id };
	struct place few[16];
	size_t size = 0;
	uint32_t op = 0;
	bool good;
	int ret;

	run.program = take(&cursor, sizeof(*run.program));
	if (!run.program || run.program->buffers > MAX_BUFFERS || run.program->ops > MAX_OPERATIONS) {
		run_fail(&run, TROUBLE_MALFORMED, 0, 0);
		return RUN_REPLIED;
	}
	run.memory.count = run.program->buffers;
	run.memory.places = few;
	run.memory.slots = me->slots;
	if (run.memory.count > ARRAY_SIZE(few)) {
		long mapped;

		size = run.memory.count * sizeof(few[0]);
		mapped = raw_mmap(size, PROT_READ | PROT_WRITE, 0);
		if (mapped < 0 && mapped > -4096) {
			run_fail(&run, TROUBLE_MEMORY, 0, mapped);
			return RUN_REPLIED;
		}
		run.memory.places = (struct place *)mapped;
	}
	good = parse_buffers(&run, &cursor);
	if (good)
		memory_measure(&run.memory);
	good = good && parse_pointers(&run, &cursor) && parse_ops(&run, &cursor, &op);
	if (!good) {
		run_fail(&run, TROUBLE_MALFORMED, op, 0);
		ret = RUN_REPLIED;
	} else if (run.data_room > MAX_FRAME - (1u << 20)) {
		run_fail(&run, TROUBLE_TOO_LARGE, op, run.data_room);
		ret = RUN_REPLIED;
	} else {
		ret = run_in_memory(&run);
	}
	if (size)
		raw2(__NR_munmap, run.memory.places, size);
	return ret;
}
