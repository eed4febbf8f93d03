/* SPDX-License-Identifier: GPL-2.0-only */
/* Programs. */
#ifndef LAB_PROGRAM_H
#define LAB_PROGRAM_H

#include "seat.h"

int program_run(struct actor *me, uint32_t id, const uint8_t *bytes, size_t length);

#endif
