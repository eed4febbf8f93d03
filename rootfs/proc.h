/* SPDX-License-Identifier: GPL-2.0-only */
/* Small looks into /proc that never block. */
#ifndef LAB_PROC_H
#define LAB_PROC_H

#include "port.h"

struct sample {
	char state;		/* 0: no such task */
	bool in_call;
	int64_t nr;
	uint64_t switches;
};

long proc_read(uint32_t tid, const char *file, char *buffer, size_t size);
void proc_sample(uint32_t tid, struct sample *sample);
char proc_state(uint32_t tid, int *exit_code);
void proc_describe(uint32_t tid, struct text *text);
size_t proc_wchan(uint32_t tid, char *buffer, size_t size);

#endif
