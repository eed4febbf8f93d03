/* SPDX-License-Identifier: GPL-2.0-only */
/* What init does before there is a supervisor, and when all is lost. */
#ifndef LAB_BOOT_H
#define LAB_BOOT_H

void boot(void);
int open_port(void);
void write_file(const char *path, const char *text);
void die(const char *what, const char *which) __attribute__((noreturn));

#endif
