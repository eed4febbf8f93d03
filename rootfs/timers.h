/* SPDX-License-Identifier: GPL-2.0-only */
/* Timers that QEMU does not restore. */
#ifndef LAB_TIMERS_H
#define LAB_TIMERS_H

void timers_remember(void);
void timers_set(void);

#endif
