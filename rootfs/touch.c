// SPDX-License-Identifier: GPL-2.0-only
/*
 * What an actor does with its own instructions: it reads, writes and compares its
 * memory, and calls what is code there. Each tells whether it came out as wanted;
 * a fault is told in the reply.
 */
#include "touch.h"
#include "agent.h"
#include "guard.h"
#include "reply.h"
#include "seat.h"
#include "signals.h"

#include <string.h>

/* In a loop, one guard may be held for all that it does. */
static bool survive(struct run *run, void (*act)(void *what), void *what, unsigned long faults,
		    uint32_t during)
{
	struct guard own;
	struct guard *guard = run->guard ? run->guard : &own;
	struct fault fault = { 0 };
	bool well;

	if (guard == &own && !guard_begin(&own, run->me->slot->tid, faults))
		return false;
	well = guarded(guard, act, what, &fault);
	if (guard == &own)
		guard_end(&own);
	if (!well)
		run_fault(run, &fault, during);
	return well;
}

struct copy {
	void *to;
	const void *from;
	size_t size;
};

/* One instruction where the size allows: no reader sees half a value of our making. */
static void copy(void *what)
{
	const struct copy *copy = what;
	const uintptr_t both = (uintptr_t)copy->to | (uintptr_t)copy->from;

	if (copy->size == 8 && sizeof(long) == 8 && !(both & 7))
		*(volatile uint64_t *)copy->to = *(const volatile uint64_t *)copy->from;
	else if (copy->size == 4 && !(both & 3))
		*(volatile uint32_t *)copy->to = *(const volatile uint32_t *)copy->from;
	else if (copy->size == 2 && !(both & 1))
		*(volatile uint16_t *)copy->to = *(const volatile uint16_t *)copy->from;
	else if (copy->size == 1)
		*(volatile uint8_t *)copy->to = *(const volatile uint8_t *)copy->from;
	else
		memcpy(copy->to, copy->from, copy->size);
}

static bool copied(struct run *run, void *to, const void *from, size_t size, uint32_t during)
{
	struct copy what = { to, from, size };

	return survive(run, copy, &what, ACCESS_FAULTS, during);
}

bool touch_fetch(struct run *run, const struct op_fetch *fetch)
{
	const struct place *place = &run->memory.places[fetch->buffer];
	uint64_t size = fetch->size;
	bool well = true;

	if (fetch->clip != NONE) {
		const int64_t limit = run->results[fetch->clip].value;

		if (limit < 0)
			size = 0;
		else if ((uint64_t)limit < size)
			size = limit;
	}
	/* A call may have unmapped it: then there is nothing to fetch, and a fault to tell. */
	if (size)
		well = copied(run, run_data(run), place->address + fetch->offset, size, OP_LOAD);
	run_data_end(run, well ? size : 0);
	return well;
}

bool touch_load(struct run *run, const struct op_access *load)
{
	const void *from = (const void *)(uintptr_t)run_argument(run, &load->address);
	const bool well = copied(run, run_data(run), from, load->size, OP_LOAD);

	run_data_end(run, well ? load->size : 0);
	return well;
}

bool touch_store(struct run *run, const struct op_access *store)
{
	void *to = (void *)(uintptr_t)run_argument(run, &store->address);

	return copied(run, to, store->data, store->size, OP_STORE);
}

union number {
	uint8_t of_1;
	uint16_t of_2;
	uint32_t of_4;
	uint64_t of_8;
};

/* What it reads is a result like a call's, so that later operations can use it. */
bool touch_peek(struct run *run, const struct op_access *peek)
{
	const void *from = (const void *)(uintptr_t)run_argument(run, &peek->address);
	union number number = { .of_8 = 0 };
	const bool well = copied(run, &number, from, peek->size, OP_PEEK);
	int64_t value = 0;

	__atomic_thread_fence(__ATOMIC_ACQUIRE);
	if (well && peek->size == 1)
		value = number.of_1;
	else if (well && peek->size == 2)
		value = number.of_2;
	else if (well && peek->size == 4)
		value = number.of_4;
	else if (well)
		value = number.of_8;
	run_result(run, value, well);
	return well;
}

bool touch_poke(struct run *run, const struct op_poke *poke)
{
	void *to = (void *)(uintptr_t)run_argument(run, &poke->address);
	const int64_t value = run_argument(run, &poke->value);
	union number number;

	if (poke->size == 1)
		number.of_1 = value;
	else if (poke->size == 2)
		number.of_2 = value;
	else if (poke->size == 4)
		number.of_4 = value;
	else
		number.of_8 = value;
	/* Who sees the number sees what was written before it. */
	__atomic_thread_fence(__ATOMIC_RELEASE);
	return copied(run, to, &number, poke->size, OP_POKE);
}

struct comparison {
	const uint8_t *there;
	const uint8_t *wanted;
	size_t size;
	size_t same;		/* so many are */
};

static void compare(void *what)
{
	struct comparison *both = what;

	if (!memcmp(both->there, both->wanted, both->size)) {
		both->same = both->size;
		return;
	}
	/* It may change meanwhile: that it was not the same is known, and stays so. */
	while (both->same < both->size - 1 && both->there[both->same] == both->wanted[both->same])
		both->same++;
}

bool touch_want(struct run *run, const struct op_want *want)
{
	struct comparison both = {
		.there = (const uint8_t *)(uintptr_t)run_argument(run, &want->address),
		.wanted = want->data,
		.size = want->size,
	};
	bool well = true;

	if (want->clip != NONE) {
		const int64_t got = run->results[want->clip].value;

		well = got >= 0 && (uint64_t)got == want->size;
		if (got < 0)
			both.size = 0;
		else if ((uint64_t)got < want->size)
			both.size = got;
	}
	if (both.size && !survive(run, compare, &both, ACCESS_FAULTS, OP_WANT))
		well = false;
	well = well && both.same == want->size;
	run_result(run, both.same, well);
	return well;
}

struct invocation {
	long (*function)(long a, long b, long c, long d, long e, long f);
	const struct op_invoke *how;
	long args[MAX_ARGUMENTS];
	struct slot *slot;
	int64_t value;
	uint64_t completed;
};

static void invoke(void *what)
{
	struct invocation *call = what;
	const long *args = call->args;
	struct slot *slot = call->slot;

	while (call->completed < call->how->times) {
		WRITE(slot->sequence, slot->sequence + 1);
		call->value = call->function(args[0], args[1], args[2], args[3], args[4], args[5]);
		WRITE(slot->sequence, slot->sequence + 1);
		if (call->value < call->how->low || call->value > call->how->high)
			return;
		call->completed++;
	}
}

/* What is code at an address: a function of the vDSO, or instructions that the program brought. */
bool touch_invoke(struct run *run, const struct op *op)
{
	const struct op_invoke *how = (const void *)(op + 1);
	const uint32_t count = (op->length - sizeof(*how)) / sizeof(how->args[0]);
	const uintptr_t address = run_argument(run, &how->address);
	struct slot *slot = run->me->slot;
	struct invocation call = { .how = how, .slot = slot };
	uint32_t i;

	memcpy(&call.function, &address, sizeof(address));
	for (i = 0; i < count; i++)
		call.args[i] = run_argument(run, &how->args[i]);
	signals_catch_traps();
	slot->nr = ANY_CALL;
	if (!survive(run, invoke, &call, CODE_FAULTS, OP_INVOKE))
		call.value = 0;
	if (slot->sequence & 1)		/* it faulted in the middle */
		WRITE(slot->sequence, slot->sequence + 1);
	run_result(run, call.value, call.completed);
	return call.completed == how->times;
}
