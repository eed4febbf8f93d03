/* SPDX-License-Identifier: GPL-2.0-only */
/* The first words in a clone. */
#ifndef LAB_HELLO_H
#define LAB_HELLO_H

#include "port.h"

void hello_init(void);
void hello_answer(const struct chunk *request);
void hello_remember(const struct chunk *request);
void hello_tainted(const struct chunk *request);

#endif
