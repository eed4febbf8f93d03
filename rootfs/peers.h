/* SPDX-License-Identifier: GPL-2.0-only */
/* Actors as the supervisor sees them. */
#ifndef LAB_PEERS_H
#define LAB_PEERS_H

#include "port.h"

enum peer_state {
	PEER_FREE,
	PEER_BLANK,		/* forked in advance, waiting to be somebody */
	PEER_LIVE,
};

struct peer {
	enum peer_state state;
	int to;			/* the supervisor's ends of its channel */
	int from;
	bool used;		/* the channel has been somebody's */
	bool helper;		/* not our child, or perhaps not */
	bool threads;		/* its process has several actors */
	uint32_t pid;
	uint32_t tid;
	uint32_t program;	/* that has not ended yet */
	uint32_t spawn;		/* the request that waits for its setup */
	struct inbox inbox;
	struct queue out;
};

extern struct peer peers[ACTORS];

void peers_init(void);
void peers_quiesce(void);
uint32_t peer_free_number(bool blank);
uint32_t peer_standby(void);
void peer_died(uint32_t number, int status);
void peer_spawn(const struct chunk *request);
void peer_submit(struct chunk *request);
void peer_read(uint32_t number);
void peers_collect(void);
void peers_tick(void);
void peers_forget(void);
bool peers_need_tick(void);
bool peer_alive(uint32_t number);
uint32_t peer_of_program(uint32_t program);
bool peers_idle_lab(void);
bool peers_strangers(void);

#endif
