/* SPDX-License-Identifier: MIT */
/* What a user's header may look like, for header_words(). #define NOT_THIS 1 */
#ifndef SAMPLE_UAPI_H
#define SAMPLE_UAPI_H

#include <linux/types.h>
#include <linux/ioctl.h>

#define SAMPLE_NAME	"sample {" /* a brace in a string */
#define SAMPLE_LIMIT	(4 * \
			 1024)
#define SAMPLE_MIN(a, b)	((a) < (b) ? (a) : (b))
// #define NOR_THIS 2

enum sample_kind {
	SAMPLE_ONE = 1,
	SAMPLE_TWO, /* with, a comma */
	SAMPLE_FLAGS = SAMPLE_ONE | SAMPLE_TWO,
};

struct sample_square {
	__u32 n;
	__u64 square;
} __attribute__((packed));

typedef struct {
	char name[16], *text;
	__u8 low : 3, high : 5;
	unsigned long long words[4][2];
	struct sample_square inner;
	struct sample_square *next;
	union {
		__u32 a;
		struct {
			__u16 b, c;
		};
	};
	union {
		int x;
	} named;
	enum { SAMPLE_IN, SAMPLE_OUT } direction;
	void (*done)(int how);
	__u8 tail[];
} sample_t;

#define SAMPLE_IOC_SQUARE _IOWR('s', 1, struct sample_square)

#endif
