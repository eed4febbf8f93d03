/* SPDX-License-Identifier: GPL-2.0-only */
/* The reply to a program. */
#ifndef LAB_REPLY_H
#define LAB_REPLY_H

#include "run.h"

struct call_result *run_result(struct run *run, int64_t value, uint64_t completed);
void run_fault(struct run *run, const struct fault *fault, uint32_t during);
void *run_data(struct run *run);
void run_data_end(struct run *run, uint64_t size);
void run_fail(struct run *run, enum trouble trouble, uint32_t op, long detail);
void run_reply(struct run *run);

#endif
