/* SPDX-License-Identifier: GPL-2.0-only */
/* What time it is, and to let it pass. */
#ifndef LAB_CLOCK_H
#define LAB_CLOCK_H

#include "agent.h"

uint64_t now_raw(int clock);
uint64_t now_ns(void);
void sleep_raw(uint64_t ns);

#endif
