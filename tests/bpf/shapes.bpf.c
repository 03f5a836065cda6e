// SPDX-License-Identifier: MIT
/* Struct types with known places, for the BTF reader. */
#include "kernel.h"

typedef __u32 number_t;

struct inner {
	__u16 first;
	number_t second[3];
};

union either {
	__u64 large;
	__u8 small;
};

enum color { RED = 1 };

struct shapes {
	__u8 byte;
	const volatile __u32 word;
	struct inner inner;
	void *pointer;
	union either either;
	enum color color;
	char text[7];
	__u64 table[2][3];
	__u8 tail[];
};

const struct shapes *keep_shapes __attribute__((unused));
