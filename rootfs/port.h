/* SPDX-License-Identifier: GPL-2.0-only */
/* Queues of frames. */
#ifndef LAB_PORT_H
#define LAB_PORT_H

#include "agent.h"

struct chunk {
	struct chunk *next;
	size_t done;
	struct frame frame;	/* and its payload */
	uint8_t payload[];
};

struct queue {
	struct chunk *first;
	struct chunk **last;
	size_t bytes;
};

struct inbox {
	struct frame header;
	size_t have;
	struct chunk *chunk;
	bool discard;		/* no memory for this one: read past it */
};

struct chunk *chunk_new(uint32_t type, uint32_t id, size_t length);
void queue_init(struct queue *queue);
void queue_add(struct queue *queue, struct chunk *chunk);
int queue_flush(struct queue *queue, int fd);
void queue_drop(struct queue *queue);
#define INBOX_EMPTY	0	/* nothing whole yet */
#define INBOX_FRAME	1
#define INBOX_END	2
#define INBOX_NOISE	3	/* not a frame */
#define INBOX_NO_MEMORY	4
int inbox_read(struct inbox *inbox, int fd, struct chunk **chunk);
void inbox_drop(struct inbox *inbox);

struct text {			/* padded strings after a structure */
	uint8_t *bytes;
	size_t length;
	size_t room;
};

void text_add(struct text *text, const void *bytes, size_t length);
struct chunk *chunk_with_text(uint32_t type, uint32_t id, const void *head, size_t head_size,
			      struct text *text);

#endif
