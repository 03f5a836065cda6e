/* SPDX-License-Identifier: MIT */
/* Functions for the tests to probe: only they load this library, so only they are traced. */
#include <stdint.h>

#define PROBED __attribute__((noinline, noclone, visibility("default")))

PROBED uint64_t target_add(uint64_t a, uint64_t b)
{
	__asm__ volatile("" ::: "memory");
	return a + b;
}

PROBED uint64_t target_multiply(uint64_t a, uint64_t b)
{
	__asm__ volatile("" ::: "memory");
	return a * b;
}

/* The probe puts these bytes into the ring. */
PROBED void target_emit(const void *data, uint32_t length, uint32_t action)
{
	__asm__ volatile("" ::"r"(data), "r"(length), "r"(action) : "memory");
}

/* One record for each length, from consecutive bytes. */
void target_emit_many(const char *data, const uint32_t *lengths, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++) {
		target_emit(data, lengths[i], 0);
		data += lengths[i];
	}
}

/* The probe holds a record back until the test lets it go. */
PROBED void target_stall(void)
{
	__asm__ volatile("" ::: "memory");
}
