// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a program: one mapping, in which every buffer ends exactly at a
 * page that may not be touched. What is kept has a mapping of its own.
 */
#include "memory.h"
#include "agent.h"

#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define SLOTS		8
#define KEPT		256	/* programs of a process that kept something */

static size_t page_size(void)
{
	static size_t size;

	if (!size)
		size = getauxval(AT_PAGESZ);
	return size;
}

static size_t pages(uint64_t bytes)
{
	const size_t page = page_size();

	return (bytes + page - 1) / page * page;
}

static uint64_t mapped_part(const struct place *place)
{
	switch (place->kind) {
	case BUFFER_UNMAPPED:
		return 0;
	case BUFFER_PARTIAL:
		return place->size / 2;
	default:
		return place->size;
	}
}

void memory_measure(struct memory *memory)
{
	uint32_t i;

	for (i = 0; i < memory->count; i++)
		memory->places[i].mapped = mapped_part(&memory->places[i]);
}

/*
 * Room that an actor has from the beginning, so that the buffers of most programs
 * need no mapping of their own: pages, each with one behind it that may not be
 * touched. NULL when there is no memory for them.
 */
uint8_t *memory_slots(void)
{
	const size_t page = page_size();
	long base = raw_mmap(SLOTS * 2 * page, PROT_NONE, MAP_NORESERVE);
	uint8_t *slots = (uint8_t *)base;
	unsigned int i;

	if (base < 0 && base > -4096)
		return NULL;
	for (i = 0; i < SLOTS; i++) {
		if (raw3(__NR_mprotect, slots + 2 * i * page, page, PROT_READ | PROT_WRITE)) {
			raw2(__NR_munmap, slots, SLOTS * 2 * page);
			return NULL;
		}
		*(volatile uint8_t *)(slots + 2 * i * page) = 0;
	}
	return slots;
}

static bool fit_slots(const struct memory *memory)
{
	uint32_t i;

	if (!memory->slots || memory->count > SLOTS)
		return false;
	for (i = 0; i < memory->count; i++) {
		const struct place *place = &memory->places[i];

		if (place->kind == BUFFER_READONLY || place->kind == BUFFER_CODE ||
		    place->kind == BUFFER_KEPT || place->mapped > page_size())
			return false;
	}
	return true;
}

/* Give a buffer its address, ending at a page that may not be touched, and what is in it. */
static void put(struct place *place, uint8_t *guard)
{
	place->address = guard - place->mapped;
	memcpy(place->address, place->data,
	       place->used < place->mapped ? place->used : place->mapped);
}

static void use_slots(struct memory *memory)
{
	const size_t page = page_size();
	uint32_t i;

	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];
		uint8_t *slot = memory->slots + 2 * i * page;

		if (place->kind == BUFFER_UNMAPPED) {
			place->address = (uint8_t *)ARCH_NOWHERE;
			continue;
		}
		memset(slot, 0, page);
		put(place, slot + page);
	}
}

/* What programs kept, of the whole process. */
static struct {
	uintptr_t base;		/* 0: free; 1: taken, not mapped yet */
	size_t size;
} kept[KEPT];

static bool take_kept(struct memory *memory)
{
	uintptr_t nobody = 0;
	uint32_t i;

	for (i = 0; i < KEPT; i++, nobody = 0) {
		if (__atomic_compare_exchange_n(&kept[i].base, &nobody, 1, false,
						__ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
			memory->entry = i;
			return true;
		}
	}
	return false;
}

/* All that the program kept of which this is part; -EINVAL: none did. */
long memory_let_go(uintptr_t address)
{
	uint32_t i;
	long ret;

	for (i = 0; i < KEPT; i++) {
		const uintptr_t base = READ(kept[i].base);

		if (base <= 1 || address < base || address - base >= kept[i].size)
			continue;
		ret = raw2(__NR_munmap, base, kept[i].size);
		if (!ret)
			WRITE(kept[i].base, 0);
		return ret;
	}
	return -EINVAL;
}

static bool belongs(const struct place *place, bool keeps)
{
	return place->kind != BUFFER_UNMAPPED && (place->kind == BUFFER_KEPT) == keeps;
}

/* One mapping for what is kept, or for all else. */
static int map_arena(struct memory *memory, struct arena *arena, bool keeps)
{
	const size_t page = page_size();
	int flags = MAP_NORESERVE;
	uint64_t total = 0, used = 0;
	uint8_t *at;
	uint32_t i;
	long ret;

	for (i = 0; i < memory->count; i++) {
		const struct place *place = &memory->places[i];

		if (!belongs(place, keeps))
			continue;
		if (place->mapped > (1ull << 40))
			return -ENOMEM;
		total += pages(place->mapped) + page;
		used += place->used;
	}
	if (!total)
		return 0;
	arena->size = total;
	if (total != arena->size)
		return -ENOMEM;
	/* Mostly data, so mostly written next: no page fault for each page. */
	if (used > 8 * page && used > total / 2)
		flags |= MAP_POPULATE;
	ret = raw_mmap(total, PROT_READ | PROT_WRITE, flags);
	if (ret < 0 && ret > -4096)
		return ret;
	arena->base = at = (uint8_t *)ret;
	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];

		if (!belongs(place, keeps))
			continue;
		at += pages(place->mapped);
		put(place, at);
		at += page;
	}
	return 0;
}

/* Everything writable; memory_protect() follows when pointers are in place. */
int memory_map(struct memory *memory)
{
	bool keeps = false;
	uint32_t i;
	int ret;

	memory->in_slots = fit_slots(memory);
	if (memory->in_slots) {
		use_slots(memory);
		return 0;
	}
	for (i = 0; i < memory->count; i++) {
		if (memory->places[i].kind == BUFFER_UNMAPPED)
			memory->places[i].address = (uint8_t *)ARCH_NOWHERE;
		keeps = keeps || memory->places[i].kind == BUFFER_KEPT;
	}
	ret = map_arena(memory, &memory->own, false);
	if (ret || !keeps)
		return ret;
	if (!take_kept(memory))
		return -ENOSPC;
	ret = map_arena(memory, &memory->kept, true);
	if (ret)
		WRITE(kept[memory->entry].base, 0);
	return ret;
}

int memory_protect(struct memory *memory)
{
	const size_t page = page_size();
	uint32_t i;
	long ret;

	if (memory->in_slots)
		return 0;	/* each has its guard already */
	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];
		uint8_t *guard = place->address + place->mapped;
		const size_t size = pages(place->mapped);

		if (place->kind == BUFFER_UNMAPPED)
			continue;
		ret = raw3(__NR_mprotect, guard, page, PROT_NONE);
		if (!ret && place->kind == BUFFER_READONLY && size)
			ret = raw3(__NR_mprotect, guard - size, size, PROT_READ);
		if (!ret && place->kind == BUFFER_CODE && size) {
			ret = raw3(__NR_mprotect, guard - size, size, PROT_READ | PROT_EXEC);
			if (!ret)
				raw_clear_cache(guard - size, guard);
		}
		if (ret)
			return ret;
	}
	return 0;
}

/* `ran`: who asked for it learns what was kept. */
void memory_unmap(struct memory *memory, bool ran)
{
	if (memory->own.base)
		raw2(__NR_munmap, memory->own.base, memory->own.size);
	if (!memory->kept.base)
		return;
	if (ran) {
		kept[memory->entry].size = memory->kept.size;
		WRITE(kept[memory->entry].base, (uintptr_t)memory->kept.base);
	} else {
		raw2(__NR_munmap, memory->kept.base, memory->kept.size);
		WRITE(kept[memory->entry].base, 0);
	}
}
