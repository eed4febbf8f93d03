// SPDX-License-Identifier: GPL-2.0-only
/* What is said to the host, and what the kernel said before it. */
#include "host.h"
#include "agent.h"
#include "port.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RECORD_MAX	8192		/* of /dev/kmsg, its own limit */
#define BATCH_MAX	(64u << 10)

struct host host;

static void to_host(struct chunk *chunk)
{
	chunk->frame.life = host.life;
	queue_add(&host.out, chunk);
}

/*
 * What the kernel printed, as it stands in /dev/kmsg, one padded string a record. An
 * empty one: here some are missing, since they were overwritten before they were read
 * or there was no memory for them.
 */
void host_messages(void)
{
	static char record[RECORD_MAX];
	static bool missing;
	struct text text = { 0 };
	struct chunk *chunk;
	ssize_t got;

	while (host.out.bytes + text.length < BACKLOG_MAX) {
		got = read(host.kmsg, record, sizeof(record));
		missing = missing || (got < 0 && errno == EPIPE);
		if (got < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (got > 0 && missing)
			text_add(&text, "", 0);
		if (got > 0)
			text_add(&text, record, got);
		missing = missing && got <= 0;
		if (text.length && (got <= 0 || text.length >= BATCH_MAX)) {
			chunk = chunk_with_text(FRAME_MESSAGES, 0, NULL, 0, &text);
			if (chunk)
				to_host(chunk);
			missing = missing || !chunk;
		}
		if (got <= 0)
			return;
	}
	free(text.bytes);
}

/* Every frame comes after what the kernel said before it. */
void host_send(struct chunk *chunk)
{
	host_messages();
	to_host(chunk);
	queue_flush(&host.out, host.port);
}

void host_answer(uint32_t id, const void *payload, size_t length)
{
	struct chunk *chunk = chunk_new(FRAME_ANSWER, id, length);

	if (!chunk)
		return;
	if (length)
		memcpy(chunk->payload, payload, length);
	host_send(chunk);
}

void host_error(uint32_t id, const char *why)
{
	struct text text = { 0 };
	struct chunk *chunk;

	text_add(&text, why, strlen(why));
	chunk = chunk_with_text(FRAME_ERROR, id, NULL, 0, &text);
	if (chunk)
		host_send(chunk);
}
