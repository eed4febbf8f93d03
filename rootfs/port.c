// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frames on descriptors that never block: the host's port, the actors' channels,
 * the helpers' connections. A frame is one chunk from where it is read to where it
 * is written, never copied on the way.
 */
#include "port.h"
#include "agent.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct chunk *chunk_new(uint32_t type, uint32_t id, size_t length)
{
	struct chunk *chunk = malloc(sizeof(*chunk) + length);

	if (!chunk)
		return NULL;
	chunk->next = NULL;
	chunk->done = 0;
	chunk->frame = (struct frame){ MAGIC, type, length, id, 0, 0 };
	return chunk;
}

void queue_init(struct queue *queue)
{
	queue->first = NULL;
	queue->last = &queue->first;
	queue->bytes = 0;
}

void queue_add(struct queue *queue, struct chunk *chunk)
{
	chunk->next = NULL;
	chunk->done = 0;
	*queue->last = chunk;
	queue->last = &chunk->next;
	queue->bytes += chunk->frame.length;
}

/* Writes what can be written now; 0, or the errno of a descriptor that is no good any more. */
int queue_flush(struct queue *queue, int fd)
{
	struct chunk *chunk;

	while ((chunk = queue->first)) {
		const size_t size = sizeof(chunk->frame) + chunk->frame.length;

		while (chunk->done < size) {
			ssize_t put = write(fd, (uint8_t *)&chunk->frame + chunk->done,
					    size - chunk->done);

			if (put < 0 && errno == EINTR)
				continue;
			if (put < 0)
				return errno == EAGAIN ? 0 : errno;
			if (!put)
				return 0;
			chunk->done += put;
		}
		queue->first = chunk->next;
		if (!queue->first)
			queue->last = &queue->first;
		queue->bytes -= chunk->frame.length;
		free(chunk);
	}
	return 0;
}

void queue_drop(struct queue *queue)
{
	struct chunk *chunk;

	while ((chunk = queue->first)) {
		queue->first = chunk->next;
		free(chunk);
	}
	queue_init(queue);
}

void inbox_drop(struct inbox *inbox)
{
	free(inbox->chunk);
	memset(inbox, 0, sizeof(*inbox));
}

static bool good_header(const struct frame *frame)
{
	return frame->magic == MAGIC && frame->length <= MAX_FRAME;
}

static ssize_t read_some(int fd, void *to, size_t size)
{
	ssize_t got;

	do {
		got = read(fd, to, size);
	} while (got < 0 && errno == EINTR);
	return got;
}

/* Reads past a payload that there was no memory for. */
static ssize_t read_away(int fd, size_t size)
{
	static uint8_t away[4096];

	return read_some(fd, away, size < sizeof(away) ? size : sizeof(away));
}

/*
 * Reads on; INBOX_FRAME gives a whole frame, which is the caller's then. For
 * INBOX_NO_MEMORY it gives a chunk with the header only.
 */
int inbox_read(struct inbox *inbox, int fd, struct chunk **chunk)
{
	struct frame *header = &inbox->header;

	for (;;) {
		const size_t head = sizeof(*header);
		ssize_t got;

		if (inbox->have < head)
			got = read_some(fd, (uint8_t *)header + inbox->have, head - inbox->have);
		else if (inbox->have == head + header->length)
			got = 0;
		else if (inbox->discard)
			got = read_away(fd, head + header->length - inbox->have);
		else
			got = read_some(fd, inbox->chunk->payload + inbox->have - head,
					head + header->length - inbox->have);
		if (got < 0)
			return errno == EAGAIN ? INBOX_EMPTY : INBOX_END;
		if (!got && inbox->have < head + header->length)
			return INBOX_END;
		inbox->have += got;
		if (inbox->have < head)
			continue;
		if (inbox->have == head && !inbox->chunk && !inbox->discard) {
			if (!good_header(header)) {
				/* Look for a frame one byte further on. */
				memmove(header, (uint8_t *)header + 1, head - 1);
				inbox->have = head - 1;
				return INBOX_NOISE;
			}
			inbox->chunk = chunk_new(header->type, header->id, header->length);
			inbox->discard = !inbox->chunk;
			if (inbox->chunk)
				inbox->chunk->frame.life = header->life;
		}
		if (inbox->have == head + header->length) {
			const int ret = inbox->discard ? INBOX_NO_MEMORY : INBOX_FRAME;

			*chunk = inbox->chunk;
			if (inbox->discard)
				*chunk = chunk_new(header->type, header->id, 0);
			inbox->chunk = NULL;
			inbox->have = 0;
			inbox->discard = false;
			return *chunk ? ret : INBOX_EMPTY;
		}
	}
}

/* Padded strings; what does not fit into memory is left out, the frame stays well formed. */
void text_add(struct text *text, const void *bytes, size_t length)
{
	const size_t more = 8 + PADDED(length);
	uint64_t size = length;

	if (text->length + more > text->room) {
		const size_t room = 2 * (text->length + more);
		uint8_t *grown = realloc(text->bytes, room);

		if (!grown) {
			if (length)
				text_add(text, "", 0);
			return;
		}
		text->bytes = grown;
		text->room = room;
	}
	memcpy(text->bytes + text->length, &size, 8);
	memcpy(text->bytes + text->length + 8, bytes, length);
	memset(text->bytes + text->length + 8 + length, 0, PADDED(length) - length);
	text->length += more;
}

/* Takes the text over. */
struct chunk *chunk_with_text(uint32_t type, uint32_t id, const void *head, size_t head_size,
			      struct text *text)
{
	struct chunk *chunk = chunk_new(type, id, head_size + text->length);

	if (chunk) {
		memcpy(chunk->payload, head, head_size);
		if (text->length)
			memcpy(chunk->payload + head_size, text->bytes, text->length);
	}
	free(text->bytes);
	memset(text, 0, sizeof(*text));
	return chunk;
}
