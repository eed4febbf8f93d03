/* SPDX-License-Identifier: GPL-2.0-only */
/* Actors: from their first request to their end. */
#ifndef LAB_ACTOR_H
#define LAB_ACTOR_H

#include "seat.h"

void actor_settle(struct actor *me, const char *name, bool spared);
void actor_serve(struct actor *me) __attribute__((noreturn));

#endif
