/* SPDX-License-Identifier: GPL-2.0-only */
/* The operations of a program. */
#ifndef LAB_OPERATIONS_H
#define LAB_OPERATIONS_H

#include "run.h"

bool own_call_known(uint32_t index);
bool operation_repeats(uint32_t code);
int operations_run(struct run *run);

#endif
