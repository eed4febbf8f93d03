// SPDX-License-Identifier: GPL-2.0-only
/*
 * Small looks into /proc. Only files whose reading takes no lock that a task may
 * hold while it sleeps in a module: no maps, no cmdline, no environ.
 */
#include "proc.h"
#include "agent.h"
#include "port.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* NUL-ended; the length, or -errno. */
long proc_read(uint32_t tid, const char *file, char *buffer, size_t size)
{
	char path[64];
	ssize_t got;
	int fd;

	buffer[0] = 0;
	snprintf(path, sizeof(path), "/proc/%u/%s", tid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, buffer, size - 1);
	if (got < 0)
		got = -errno;
	close(fd);
	buffer[got > 0 ? got : 0] = 0;
	return got;
}

/* The letter of its state, 0 when there is no such task; its wait status where it is told. */
char proc_state(uint32_t tid, int *exit_code)
{
	char buffer[1024];
	const char *after, *last;

	if (proc_read(tid, "stat", buffer, sizeof(buffer)) <= 0)
		return 0;
	/* The name may hold anything, brackets too; what follows the last one is ours. */
	after = strrchr(buffer, ')');
	last = strrchr(buffer, ' ');
	if (!after || after[1] != ' ')
		return 0;
	if (exit_code)
		*exit_code = last ? atoi(last) : 0;
	return after[2];
}

static uint64_t switches(uint32_t tid)
{
	static const char key[] = "\nvoluntary_ctxt_switches:";
	char buffer[4096];
	const char *at;

	if (proc_read(tid, "status", buffer, sizeof(buffer)) <= 0)
		return 0;
	at = strstr(buffer, key);
	return at ? strtoull(at + sizeof(key) - 1, NULL, 10) : 0;
}

void proc_sample(uint32_t tid, struct sample *sample)
{
	char buffer[256];
	char *end;

	memset(sample, 0, sizeof(*sample));
	sample->state = proc_state(tid, NULL);
	if (!sample->state)
		return;
	sample->switches = switches(tid);
	if (proc_read(tid, "syscall", buffer, sizeof(buffer)) <= 0)
		return;
	sample->nr = strtoll(buffer, &end, 10);	/* "running" gives none */
	sample->in_call = end != buffer && sample->nr >= 0;
}

/*
 * Where it sleeps. x86's get_wchan() was no use between the ORC unwinder (4.14) and
 * 5.16, the file says 0 then: the first line of the stack tells.
 */
size_t proc_wchan(uint32_t tid, char *buffer, size_t size)
{
	static const char mark[] = "[<0>] ";
	char stack[4096];
	const char *at;
	size_t length;
	long got = proc_read(tid, "wchan", buffer, size);

	if (got > 0 && strcmp(buffer, "0"))
		return got;
	buffer[0] = 0;
	if (proc_read(tid, "stack", stack, sizeof(stack)) <= 0)
		return 0;
	at = strstr(stack, mark);
	if (!at)
		return 0;
	at += sizeof(mark) - 1;
	length = strcspn(at, "+ \n");
	if (length >= size)
		length = size - 1;
	memcpy(buffer, at, length);
	buffer[length] = 0;
	return length;
}

void proc_describe(uint32_t tid, struct text *text)
{
	static const char *const files[] = { "comm", "stat", NULL, "syscall", "stack" };
	char buffer[4096];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(files); i++) {
		long got = files[i] ? proc_read(tid, files[i], buffer, sizeof(buffer)) :
				      (long)proc_wchan(tid, buffer, sizeof(buffer));

		text_add(text, buffer, got > 0 ? got : 0);
	}
}
