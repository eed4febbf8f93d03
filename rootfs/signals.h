/* SPDX-License-Identifier: GPL-2.0-only */
/* Signals of an actor. */
#ifndef LAB_SIGNALS_H
#define LAB_SIGNALS_H

#include "agent.h"

#define RING		256

void signals_init(void);
void signals_forget(void);
void signals_catch_traps(void);
long signals_stack(void *stack, size_t size);
long signals_set(int signo, uint32_t how, uint64_t flags);
uint32_t signals_take(struct signal_record *records);

#endif
