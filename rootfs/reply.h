/* SPDX-License-Identifier: GPL-2.0-only */
/* The reply to a program. */
#ifndef LAB_REPLY_H
#define LAB_REPLY_H

#include "run.h"

void run_fail(struct run *run, enum trouble trouble, uint32_t op, long detail);
void run_reply(struct run *run);

#endif
