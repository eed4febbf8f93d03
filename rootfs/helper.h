/* SPDX-License-Identifier: GPL-2.0-only */
/* /lab/helper, as the kernel starts it. */
#ifndef LAB_HELPER_H
#define LAB_HELPER_H

int helper(int argc, char **argv, char **envp);

#endif
