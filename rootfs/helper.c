// SPDX-License-Identifier: GPL-2.0-only
/*
 * /lab/helper: the kernel starts it as its modprobe, its core_pattern, or whatever
 * a module calls it. It tells the supervisor how it was started, waits until the
 * scenario asks for it, and is an actor from then on.
 */
#include "helper.h"
#include "agent.h"
#include "actor.h"
#include "port.h"
#include "seat.h"
#include "signals.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Nobody is there to hear more than this; a module sees it as the helper's exit status. */
#define CANNOT	127

static int connect_high(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const size_t length = offsetof(struct sockaddr_un, sun_path) + sizeof(UPCALL_ADDRESS);
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path + 1, UPCALL_ADDRESS, sizeof(UPCALL_ADDRESS) - 1);
	/* The kernel starts helpers without descriptors: this may well be 0. */
	if (fd < 0 || dup3(fd, FD_HELPER, O_CLOEXEC) < 0 || close(fd))
		return -1;
	return connect(FD_HELPER, (struct sockaddr *)&address, length);
}

static void add_strings(struct text *text, char **strings)
{
	struct text all = { 0 };
	size_t length = 0;
	int i;

	for (i = 0; strings[i]; i++)
		length += strlen(strings[i]) + 1;
	all.bytes = malloc(length + 1);
	if (!all.bytes)
		_exit(CANNOT);
	for (i = 0; strings[i]; i++) {
		memcpy(all.bytes + all.length, strings[i], strlen(strings[i]) + 1);
		all.length += strlen(strings[i]) + 1;
	}
	text_add(text, all.bytes, all.length);
	free(all.bytes);
}

/* As "0 pipe:[123]", one a line: what the kernel gave it. */
static void add_fds(struct text *text)
{
	char lines[4096], path[64], target[256];
	size_t length = 0;
	ssize_t got;
	int fd;

	for (fd = 0; fd < 64 && length < sizeof(lines) - sizeof(target) - 16; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		got = readlink(path, target, sizeof(target) - 1);
		if (got < 0)
			continue;
		target[got] = 0;
		length += snprintf(lines + length, sizeof(lines) - length, "%d %s\n", fd, target);
	}
	text_add(text, lines, length);
}

static bool write_all(const struct chunk *chunk)
{
	const uint8_t *at = (const uint8_t *)&chunk->frame;
	size_t left = sizeof(chunk->frame) + chunk->frame.length;

	while (left) {
		ssize_t put = send(FD_HELPER, at, left, MSG_NOSIGNAL);

		if (put < 0 && errno != EINTR)
			return false;
		if (put > 0) {
			at += put;
			left -= put;
		}
	}
	return true;
}

static bool report(char **argv, char **envp)
{
	const struct upcall_answer head = {
		.pid = getpid(), .uid = getuid(), .gid = getgid(), .ppid = getppid(),
	};
	struct text text = { 0 };
	char cwd[4096] = "";
	struct chunk *chunk;

	add_strings(&text, argv);
	add_strings(&text, envp);
	if (!getcwd(cwd, sizeof(cwd)))
		cwd[0] = 0;
	text_add(&text, cwd, strlen(cwd));
	add_fds(&text);
	chunk = chunk_with_text(FRAME_REPORT, 0, &head, sizeof(head), &text);
	return chunk && write_all(chunk);
}

/* Everybody has the same descriptors at the same places. */
static bool take_place(const int *fds)
{
	int i;

	for (i = 0; i < CONTROL_FDS; i++) {
		if (dup3(fds[i], FD_CHANNEL + i, O_CLOEXEC) < 0)
			return false;
		close(fds[i]);
	}
	return true;
}

static bool wait_for_claim(uint64_t *number)
{
	struct {
		struct frame frame;
		uint64_t number;
	} claim;
	struct iovec iov = { .iov_base = &claim, .iov_len = sizeof(claim) };
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(CONTROL_FDS * sizeof(int))];
	} control;
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int fds[CONTROL_FDS];
	ssize_t got;

	do {
		got = recvmsg(FD_HELPER, &message, MSG_WAITALL | MSG_CMSG_CLOEXEC);
	} while (got < 0 && errno == EINTR);
	if (got != sizeof(claim) || claim.frame.type != FRAME_CLAIM ||
	    message.msg_controllen < CMSG_LEN(sizeof(fds)))
		return false;
	memcpy(fds, CMSG_DATA(&control.header), sizeof(fds));
	*number = claim.number;
	return *number < ACTORS && take_place(fds);
}

static void fill_stdio(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
	} while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}

int helper(int argc, char **argv, char **envp)
{
	uint64_t number;
	struct actor me;
	void *at;

	(void)argc;
	if (connect_high() || !report(argv, envp) || !wait_for_claim(&number))
		return CANNOT;
	at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, FD_SHARED, 0);
	if (at == MAP_FAILED)
		return CANNOT;
	shared = at;
	fill_stdio();
	signals_init();
	actor_begin(&me, number);
	actor_serve(&me);
}
