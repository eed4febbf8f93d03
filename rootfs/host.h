/* SPDX-License-Identifier: GPL-2.0-only */
/* What is said to the host. */
#ifndef LAB_HOST_H
#define LAB_HOST_H

#include "port.h"

#define BACKLOG_MAX	(4u << 20)	/* the host reads slower than the kernel prints */

extern struct host {
	int port;
	int kmsg;
	uint32_t life;		/* a guest that is restored in place has had others */
	struct queue out;
} host;

void host_messages(void);
void host_send(struct chunk *chunk);
void host_answer(uint32_t id, const void *payload, size_t length);
void host_error(uint32_t id, const char *why);

#endif
