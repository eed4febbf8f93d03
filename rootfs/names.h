/* SPDX-License-Identifier: GPL-2.0-only */
/* What has a name in the kernel, to be compared with what had one before. */
#ifndef LAB_NAMES_H
#define LAB_NAMES_H

#include "run.h"

#define NAMES_MAX	(256u << 10)	/* of an answer; a kernel has some 20 KiB of them */

void names_list(struct run *run, bool wide);

#endif
