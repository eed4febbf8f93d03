/* SPDX-License-Identifier: GPL-2.0-only */
/* An actor goes on as a process of another word size. */
#ifndef LAB_BECOME_H
#define LAB_BECOME_H

#include "seat.h"

long become(const char *path);
bool was_actor(void);
bool be_again(struct actor *me, const char *name);

#endif
