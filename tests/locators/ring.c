// SPDX-License-Identifier: MIT
/*
 * Constants and functions of the shape that ring's have, for test_ring.py. Defined from outside:
 * LIMIT        the constants hold the longest text, as those up to ring 0.17.7 do
 * COPIES       how many sets of constants there are (1 to 6), each with functions of its own
 * KEY_FIRST    the key is the first argument, as if the result were returned in registers
 * SWAPPED, NO_AES_256, NO_CHACHA, NO_RUSTLS, PROGRAM
 */
#include <stddef.h>
#include <string.h>
#define OWN __attribute__((noinline, used))
typedef unsigned char u8;
typedef void function(void);
struct algorithm {
	function *init, *first, *second;
	size_t key_bytes;
#ifdef LIMIT
	unsigned long long limit;
#endif
	u8 number;
};
volatile size_t sink;
OWN void complain(void)
{
	sink++;
}
#ifdef KEY_FIRST
#define ARGUMENTS const unsigned *key, const u8 *nonce, u8 *aad, size_t aad_len, u8 *in_out, size_t length
#define RESULT sink += nonce[0] + aad[aad_len]
#else
#define ARGUMENTS u8 *result, const unsigned *key, const u8 *nonce, u8 *aad, size_t aad_len, u8 *in_out, size_t length
#define RESULT result[0] = nonce[0] + aad[aad_len]
#endif
#define CHECK(kind) do { if (*key != (kind)) { complain(); return; } } while (0)
#define FUNCTIONS(name, kind)						\
	OWN void name##_seal(ARGUMENTS)					\
	{								\
		CHECK(kind);						\
		memset(in_out, nonce[1], length);			\
		RESULT;							\
	}								\
	OWN void name##_open(ARGUMENTS, size_t start)			\
	{								\
		CHECK(kind);						\
		memmove(in_out, in_out + start, length - start);	\
		RESULT;							\
	}
#ifdef SWAPPED
#define BOTH(name) (function *)name##_open, (function *)name##_seal
#else
#define BOTH(name) (function *)name##_seal, (function *)name##_open
#endif
#ifdef LIMIT
#define GCM_LIMIT 0xfffffffe0,
#define CHACHA_LIMIT 0x3fffffffc0,
#else
#define GCM_LIMIT
#define CHACHA_LIMIT
#endif
#ifdef NO_AES_256
#define AES_256(set)
#else
#define AES_256(set) const struct algorithm aes_256_##set = { init_256_##set, BOTH(aes_##set), 32, GCM_LIMIT 1 };
#endif
#ifdef NO_CHACHA
#define CHACHA(set)
#else
#define CHACHA(set) const struct algorithm chacha_##set = { init_##set, BOTH(chacha_##set), 32, CHACHA_LIMIT 2 };
#endif
#define SET(set)							\
	OWN void init_128_##set(void) { sink += 128 + set; }		\
	OWN void init_256_##set(void) { sink += 256 + set; }		\
	OWN void init_##set(void) { sink += set; }			\
	FUNCTIONS(aes_##set, 5)						\
	FUNCTIONS(chacha_##set, 7 + set)				\
	const struct algorithm aes_128_##set = { init_128_##set, BOTH(aes_##set), 16, GCM_LIMIT 0 };	\
	AES_256(set)							\
	CHACHA(set)
SET(1)
#if COPIES > 1
SET(2)
#endif
#if COPIES > 2
SET(3) SET(4) SET(5) SET(6)
#endif
/* tables of functions and numbers as every program has them */
const struct { function *functions[4]; size_t number; } others = { { complain, init_1, init_128_1, init_256_1 }, 32 };
const struct { function *functions[3]; size_t numbers[2]; } more = { { complain, init_1, init_1 }, { 32, 7 } };
#if !defined(LIMIT) && !defined(NO_CHACHA)
const struct algorithm decoy = { complain, init_1, init_128_1, 32, 2 };
#endif
#ifndef NO_RUSTLS
__attribute__((used)) static const char text[] = "received corrupt message of type /root/.cargo/registry/src/"
	"index-0/ring-0.17.8/src/aead/aes_gcm.rs /root/.cargo/registry/src/index-0/ring-0.16.20/src/rsa.rs";
#endif
#ifdef PROGRAM
int main(int count, char **arguments)
{
	return (size_t)arguments + count == (size_t)&others;
}
#endif
