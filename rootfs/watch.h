/* SPDX-License-Identifier: GPL-2.0-only */
/* Whether what is waited for has come. */
#ifndef LAB_WATCH_H
#define LAB_WATCH_H

#include "port.h"

void watch_init(void);
uint64_t watch_run(uint64_t now);	/* returns when to be called again */
void watch_state(const struct chunk *request);

#endif
