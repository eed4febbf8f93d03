// SPDX-License-Identifier: GPL-2.0-only
/*
 * The memory of a program: one mapping, in which every buffer ends exactly at a
 * page that may not be touched. And loads and stores that survive a fault.
 */
#include "memory.h"
#include "agent.h"

#include <setjmp.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>

#define SLOTS		8

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

		if (place->kind == BUFFER_READONLY || place->mapped > page_size())
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

/* Everything writable; memory_protect() follows when pointers are in place. */
int memory_map(struct memory *memory)
{
	const size_t page = page_size();
	int flags = MAP_NORESERVE;
	uint64_t total = 0, used = 0;
	uint8_t *at;
	uint32_t i;
	long ret;

	memory->arena = NULL;
	if (fit_slots(memory)) {
		use_slots(memory);
		return 0;
	}
	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];

		if (place->mapped > (1ull << 40))
			return -ENOMEM;
		if (place->kind != BUFFER_UNMAPPED)
			total += pages(place->mapped) + page;
		used += place->used;
	}
	memory->size = total;
	if (total != memory->size)
		return -ENOMEM;
	/* Mostly data, so mostly written next: no page fault for each page. */
	if (used > 8 * page && used > total / 2)
		flags |= MAP_POPULATE;
	if (total) {
		ret = raw_mmap(total, PROT_READ | PROT_WRITE, flags);
		if (ret < 0 && ret > -4096)
			return ret;
		memory->arena = (uint8_t *)ret;
	}
	at = memory->arena;
	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];

		if (place->kind == BUFFER_UNMAPPED) {
			place->address = (uint8_t *)ARCH_NOWHERE;
			continue;
		}
		at += pages(place->mapped);
		put(place, at);
		at += page;
	}
	return 0;
}

int memory_protect(struct memory *memory)
{
	const size_t page = page_size();
	uint32_t i;
	long ret;

	if (!memory->arena)
		return 0;	/* in the slots, each has its guard already */
	for (i = 0; i < memory->count; i++) {
		struct place *place = &memory->places[i];
		uint8_t *guard = place->address + place->mapped;
		const size_t size = pages(place->mapped);

		if (place->kind == BUFFER_UNMAPPED)
			continue;
		ret = raw3(__NR_mprotect, guard, page, PROT_NONE);
		if (!ret && place->kind == BUFFER_READONLY && size)
			ret = raw3(__NR_mprotect, guard - size, size, PROT_READ);
		if (ret)
			return ret;
	}
	return 0;
}

void memory_unmap(struct memory *memory)
{
	if (memory->arena)
		raw2(__NR_munmap, memory->arena, memory->size);
	memory->arena = NULL;
}

/* Who is just touching memory, of all the threads of this process. */
static struct access {
	uint32_t tid;
	sigjmp_buf back;
	struct fault *fault;
} *accesses[ACTORS];

void access_init(void)
{
	memset(accesses, 0, sizeof(accesses));
}

/* In the signal handler. False when it is nobody's access; else it does not return. */
bool access_fault(int signo, siginfo_t *info)
{
	const uint32_t tid = raw0(__NR_gettid);
	unsigned int i;

	if (info->si_code <= 0)
		return false;
	for (i = 0; i < ACTORS; i++) {
		struct access *access = READ(accesses[i]);

		if (!access || access->tid != tid)
			continue;
		access->fault->signal = signo;
		access->fault->code = info->si_code;
		access->fault->address = (uintptr_t)info->si_addr;
		siglongjmp(access->back, 1);
	}
	return false;
}

/* One instruction where the size allows, so that a reader sees no half of a value of its own making. */
static void copy(void *to, const void *from, size_t size)
{
	const uintptr_t both = (uintptr_t)to | (uintptr_t)from;

	if (size == 8 && sizeof(long) == 8 && !(both & 7))
		*(volatile uint64_t *)to = *(const volatile uint64_t *)from;
	else if (size == 4 && !(both & 3))
		*(volatile uint32_t *)to = *(const volatile uint32_t *)from;
	else if (size == 2 && !(both & 1))
		*(volatile uint16_t *)to = *(const volatile uint16_t *)from;
	else if (size == 1)
		*(volatile uint8_t *)to = *(const volatile uint8_t *)from;
	else
		memcpy(to, from, size);
}

bool access_memory(void *to, const void *from, size_t size, struct fault *fault)
{
	unsigned long signals[8 / sizeof(long)] = {
		1ul << (SIGSEGV - 1) | 1ul << (SIGBUS - 1)
	};
	unsigned long mask[8 / sizeof(long)];
	struct access access = { .tid = raw0(__NR_gettid), .fault = fault };
	struct access *none = NULL;
	volatile unsigned int mine = 0;

	while (mine < ACTORS &&
	       !__atomic_compare_exchange_n(&accesses[mine], &none, &access, false,
					    __ATOMIC_ACQ_REL, __ATOMIC_RELAXED)) {
		none = NULL;
		mine++;
	}
	if (mine == ACTORS)
		return false;
	/* A fault while its signal is blocked would kill us. */
	raw4(__NR_rt_sigprocmask, SIG_UNBLOCK, signals, mask, 8);
	fault->signal = 0;
	if (!sigsetjmp(access.back, 0))
		copy(to, from, size);
	WRITE(accesses[mine], NULL);
	raw4(__NR_rt_sigprocmask, SIG_SETMASK, mask, NULL, 8);
	return !fault->signal;
}
