/* SPDX-License-Identifier: GPL-2.0-only */
/* The operations by which an actor touches its own memory. */
#ifndef LAB_TOUCH_H
#define LAB_TOUCH_H

#include "run.h"

bool touch_fetch(struct run *run, const struct op_fetch *fetch);
bool touch_load(struct run *run, const struct op_access *load);
bool touch_store(struct run *run, const struct op_access *store);
bool touch_peek(struct run *run, const struct op_access *peek);
bool touch_poke(struct run *run, const struct op_poke *poke);
bool touch_want(struct run *run, const struct op_want *want);
bool touch_invoke(struct run *run, const struct op *op);

#endif
