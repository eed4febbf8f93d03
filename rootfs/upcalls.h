/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs that the kernel started, until one of them is somebody. */
#ifndef LAB_UPCALLS_H
#define LAB_UPCALLS_H

#include "port.h"

struct helper {
	int fd;			/* -1: free */
	uint32_t pid;
	uint32_t number;	/* the actor it became, or NONE */
	uint64_t arrival;	/* to ask for them in order */
	struct inbox inbox;
	struct chunk *report;
};

#define HELPERS 32
extern struct helper helpers[HELPERS];
extern int upcall_socket;

void upcalls_init(void);
void helper_accept(void);
void helper_read(struct helper *helper);
struct helper *helper_waiting(void);
bool helpers_came(void);
int helper_claim(struct helper *helper);

#endif
