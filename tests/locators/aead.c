// SPDX-License-Identifier: MIT
/*
 * Functions that report errors as AWS-LC's do, for test_aws_lc.py. Defined from outside:
 * FOLDER       of the sources; PREFIX(name) of the symbols
 * ONE_FUNCTION open_gather is a part of open; NO_OPEN, TWICE: not as it should be
 * TLS          the folder of a TLS library; NO_RUSTLS: its texts are missing; PROGRAM: not a library
 */
#include <stddef.h>
#include <string.h>
#ifndef FOLDER
#define FOLDER "/aws-lc/"
#endif
#ifndef PREFIX
#define PREFIX(name) name
#endif
#define OWN __attribute__((noinline))
typedef unsigned char u8;
struct aead {
	int (*seal)(void *, u8 *, size_t, const u8 *, size_t);
	int (*open)(void *, u8 *, size_t, const u8 *, size_t);
};
struct context { struct aead *aead; size_t overhead; };
volatile int sink;
OWN void ERR_put_error(int library, int unused, int reason, const char *file, unsigned line)
{
	sink += library + unused + reason + file[0] + line;
}
#define FAIL(reason) do { ERR_put_error(30, 0, reason, FOLDER "crypto/fipsmodule/cipher/aead.c", __LINE__); \
	goto error; } while (0)
OWN int PREFIX(EVP_AEAD_CTX_seal)(struct context *c, u8 *out, size_t *out_len, size_t max,
	const u8 *nonce, size_t nonce_len, const u8 *in, size_t in_len, const u8 *ad, size_t ad_len)
{
	if (in_len + c->overhead < in_len) FAIL(117);
	if (max < in_len) FAIL(103);
	if (in != out && in < out + max && out < in + in_len) FAIL(115);
	if (c->aead->seal(c, out, in_len, nonce, nonce_len + ad_len + ad[0])) { *out_len = in_len + 16; return 1; }
error:
	memset(out, 0, max);
	*out_len = 0;
	return 0;
}
OWN int PREFIX(EVP_AEAD_CTX_seal_scatter)(struct context *c, u8 *out, u8 *tag,
	size_t *tag_len, size_t max, const u8 *nonce, size_t nonce_len, const u8 *in, size_t in_len, const u8 *extra,
	size_t extra_len)
{
	if (in != out && in < out + max && out < in + in_len) FAIL(115);
	if (c->overhead && extra_len) FAIL(112);
	if (c->aead->seal(c, out, in_len, nonce, nonce_len + extra[0])) return 1;
error:
	memset(out, 0, in_len);
	memset(tag, 0, max);
	*tag_len = 0;
	return 0;
}
#ifdef ONE_FUNCTION
static inline __attribute__((always_inline))
#else
OWN
#endif
int PREFIX(EVP_AEAD_CTX_open_gather)(struct context *c, u8 *out, const u8 *nonce, size_t nonce_len, const u8 *in,
	size_t in_len, const u8 *tag, size_t tag_len)
{
	if (in != out && in < out + in_len && out < in + in_len) FAIL(115);
	if (!c->aead->open) FAIL(104);
	if (c->aead->open(c, out, in_len, nonce, nonce_len + tag[tag_len])) return 1;
error:
	memset(out, 0, in_len);
	return 0;
}
#ifndef NO_OPEN
OWN int PREFIX(EVP_AEAD_CTX_open)(struct context *c, u8 *out, size_t *out_len, size_t max,
	const u8 *nonce, size_t nonce_len, const u8 *in, size_t in_len)
{
	if (in != out && in < out + max && out < in + in_len) FAIL(115);
	if (in_len < c->overhead) FAIL(101);
	if (PREFIX(EVP_AEAD_CTX_open_gather)(c, out, nonce, nonce_len, in, in_len - 16, in + in_len - 16, 16)) {
		*out_len = in_len - 16;
		return 1;
	}
error:
	memset(out, 0, max);
	*out_len = 0;
	return 0;
}
#endif
#ifdef TWICE
OWN int another(struct context *c, size_t a, size_t b)
{
	if (a + c->overhead < a) FAIL(117);
	if (a < b) FAIL(103);
	if (a == b + 1) FAIL(115);
	return 1;
error:
	return 0;
}
void *pointer = another;
#endif
#ifdef TLS
void SSL_report(void) { ERR_put_error(16, 0, 66, TLS "ssl/ssl_lib.cc", __LINE__); }
#endif
#ifndef NO_RUSTLS
__attribute__((used)) static const char text[] = "peer misbehaved: received corrupt message of type /root/"
	".cargo/registry/src/index-0/aws-lc-rs-1.13.1/src/aead/unbound_key.rs";
#endif
void *pointers[] = { PREFIX(EVP_AEAD_CTX_seal), PREFIX(EVP_AEAD_CTX_seal_scatter),
#ifndef ONE_FUNCTION
	PREFIX(EVP_AEAD_CTX_open_gather),
#endif
#ifndef NO_OPEN
	PREFIX(EVP_AEAD_CTX_open),
#endif
};
#ifdef PROGRAM
int main(int count, char **arguments) { return pointers[count] == arguments; }
#endif
