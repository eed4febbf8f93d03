// SPDX-License-Identifier: GPL-2.0-only
/*
 * Helpers as the supervisor sees them: programs that the kernel started, from their
 * connection to the moment they become an actor, and their end.
 */
#include "upcalls.h"
#include "agent.h"
#include "boot.h"
#include "peers.h"
#include "port.h"
#include "seat.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct helper helpers[HELPERS];
int upcall_socket;

void upcalls_init(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	const size_t length = offsetof(struct sockaddr_un, sun_path) + sizeof(UPCALL_ADDRESS);
	unsigned int i;

	for (i = 0; i < HELPERS; i++)
		helpers[i].fd = -1;
	memcpy(address.sun_path + 1, UPCALL_ADDRESS, sizeof(UPCALL_ADDRESS) - 1);
	upcall_socket = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (upcall_socket < 0 || bind(upcall_socket, (struct sockaddr *)&address, length) ||
	    listen(upcall_socket, HELPERS))
		die("no socket for upcalls", strerror(errno));
}

static uint64_t arrivals;

bool helpers_came(void)
{
	return arrivals;
}

void helper_accept(void)
{
	struct ucred credentials;
	socklen_t size = sizeof(credentials);
	int i, fd;

	fd = accept4(upcall_socket, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	if (fd < 0)
		return;
	for (i = 0; i < HELPERS && helpers[i].fd >= 0; i++)
		;
	if (i == HELPERS || getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &size)) {
		close(fd);
		return;
	}
	memset(&helpers[i], 0, sizeof(helpers[i]));
	helpers[i].fd = fd;
	helpers[i].pid = credentials.pid;
	helpers[i].number = NONE;
	helpers[i].arrival = ++arrivals;
}

static void helper_gone(struct helper *helper)
{
	const uint32_t number = helper->number;

	close(helper->fd);
	inbox_drop(&helper->inbox);
	free(helper->report);
	memset(helper, 0, sizeof(*helper));
	helper->fd = -1;
	if (number != NONE && peers[number].state == PEER_LIVE) {
		const struct slot *slot = &shared->slots[number];

		/* Its parent is the kernel, so that only its own word tells how it ended. */
		peer_died(number, READ(slot->exiting) ? slot->status : UNKNOWN_STATUS);
	}
}

void helper_read(struct helper *helper)
{
	struct chunk *chunk;

	for (;;) {
		switch (inbox_read(&helper->inbox, helper->fd, &chunk)) {
		case INBOX_FRAME:
			if (!helper->report && chunk->frame.type == FRAME_REPORT) {
				helper->report = chunk;
				break;
			}
			/* fall through */
		case INBOX_NO_MEMORY:
			free(chunk);
			break;
		case INBOX_NOISE:
			break;
		case INBOX_END:
			helper_gone(helper);
			return;
		default:
			return;
		}
	}
}

/* The first to come of those that nobody has asked for yet. */
struct helper *helper_waiting(void)
{
	struct helper *first = NULL;
	int i;

	for (i = 0; i < HELPERS; i++) {
		struct helper *helper = &helpers[i];

		if (helper->fd >= 0 && helper->report && helper->number == NONE &&
		    (!first || helper->arrival < first->arrival))
			first = helper;
	}
	return first;
}

/* Gives it a number and the descriptors that an actor has; the number, or -errno. */
int helper_claim(struct helper *helper)
{
	const uint32_t number = peer_free_number(false);
	struct {
		struct frame frame;
		uint64_t number;
	} claim = {
		.frame = { MAGIC, FRAME_CLAIM, sizeof(claim.number), 0, 0, 0 },
		.number = number,
	};
	struct iovec iov = { .iov_base = &claim, .iov_len = sizeof(claim) };
	union {
		struct cmsghdr header;
		uint8_t bytes[CMSG_SPACE(CONTROL_FDS * sizeof(int))];
	} control = { .header = {
		.cmsg_len = CMSG_LEN(CONTROL_FDS * sizeof(int)),
		.cmsg_level = SOL_SOCKET,
		.cmsg_type = SCM_RIGHTS,
	} };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = &control,
		.msg_controllen = sizeof(control),
	};
	int i, fd;

	if (number == NONE)
		return -EAGAIN;
	for (i = 0; i < CONTROL_FDS; i++) {
		fd = FD_CHANNEL + i;
		memcpy(CMSG_DATA(&control.header) + i * sizeof(fd), &fd, sizeof(fd));
	}
	if (sendmsg(helper->fd, &message, MSG_NOSIGNAL) < 0)
		return -errno;
	helper->number = number;
	shared->slots[number].exiting = 0;
	peers[number].state = PEER_LIVE;
	peers[number].used = true;
	peers[number].helper = false;	/* its connection tells of its end */
	peers[number].pid = peers[number].tid = helper->pid;
	return number;
}
