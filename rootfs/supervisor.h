/* SPDX-License-Identifier: GPL-2.0-only */
/* PID 1. */
#ifndef LAB_SUPERVISOR_H
#define LAB_SUPERVISOR_H

void supervise(void) __attribute__((noreturn));

#endif
