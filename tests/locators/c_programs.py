"""Small programs in C that look like BoringSSL or OpenSSL to who has no symbols."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from libagenttracer.locators.elf import Image

__all__ = ["BORINGSSL", "OPENSSL", "build", "offsets"]

# SSL_write's four errors at the distances that BoringSSL has; SSL_peek as a part of SSL_read
BORINGSSL = """
typedef struct ssl { void *quic, *handshake, *pending, *read_buffer; long size; } SSL;
int ssl_read_impl(SSL *), ssl_write_impl(SSL *, const void *, long), ssl_run(SSL *);
void *memcpy(void *, const void *, unsigned long);
void ERR_put_error(int library, int unused, int reason, const char *file, unsigned line) ERROR_ATTRIBUTE;
#define PUT(reason) ERR_put_error(16, 0, reason, __FILE__, __LINE__)
#line 700 "../vendor/ssl/ssl_lib.cc"
int SSL_do_handshake(SSL *ssl) { if (!ssl->handshake) { PUT(134); return -1; } return ssl_run(ssl); }
__attribute__((noinline)) int SSL_key_update(SSL *ssl) {
  if (ssl->quic) { PUT(66); PUT(284); return 0; }
  return 1;
}
static inline __attribute__((always_inline)) int peek(SSL *ssl, void *buffer, int size) {
#line 930
  if (ssl->quic) { PUT(66); return -1; }
  int done = ssl_read_impl(ssl);
  if (done <= 0 || size <= 0) return done;
  memcpy(buffer, ssl->pending, size);
  return size;
}
int SSL_read(SSL *ssl, void *buffer, int size) {
  int done = peek(ssl, buffer, size);
  if (done > 0) { ssl->pending = (char *)ssl->pending + done; ssl->size -= done; }
  return done;
}
int SSL_peek(SSL *ssl, void *buffer, int size) { return peek(ssl, buffer, size); }
int SSL_write(SSL *ssl, const void *buffer, int size) {
#line 951
  if (ssl->quic) { PUT(66); return -1; }
#line 956
  if (!ssl->handshake) { PUT(226); return -1; }
  int done;
  do {
    done = SSL_do_handshake(ssl);
    if (done < 0) return done;
#line 971
    if (done == 0) { PUT(215); return -1; }
#line 977
    if (size < 0) { PUT(111); return -1; }
    done = ssl_write_impl(ssl, buffer, size);
  } while (done == -7);
  return done;
}
#ifdef TWICE
int SSL_write_again(SSL *ssl, const void *buffer, int size) {
  if (ssl->quic) { PUT(66); return -1; }
  if (!ssl->handshake) { PUT(226); return -1; }
  if (size < 0) { PUT(111); return -1; }
  if (size > 9) { PUT(215); return -1; }
  return ssl_write_impl(ssl, buffer, size);
}
#endif
"""

# INLINE puts the internal functions into those around them; FLAGS is how it is from OpenSSL 3.3 on
OPENSSL = """
typedef unsigned long size_t;
typedef struct ssl { int (*method)(void *, const void *, size_t, size_t *); int state; } SSL;
void ERR_new(void), ERR_set_debug(const char *, int, const char *), ERR_set_error(int, int, const char *);
#define RAISE(reason) \\
  (ERR_new(), ERR_set_debug("ssl/ssl_lib.c", __LINE__, __func__), ERR_set_error(20, reason, 0))
const char version[] = "OpenSSL " VERSION " 11 Feb 2025";
#if INLINE
#define INTERNAL static inline __attribute__((always_inline))
#else
#define INTERNAL __attribute__((noinline))
#endif
INTERNAL int ssl_read_internal(SSL *s, void *buf, size_t num, size_t *readbytes) {
  if (!s->method) { RAISE(276); return -1; }
  return s->method(s, buf, num, readbytes);
}
int SSL_read(SSL *s, void *buf, int num) {
  size_t readbytes;
  if (num < 0) { RAISE(271); return -1; }
  int ret = ssl_read_internal(s, buf, num, &readbytes);
  return ret > 0 ? (int)readbytes : ret;
}
int SSL_read_ex(SSL *s, void *buf, size_t num, size_t *readbytes) {
  int ret = ssl_read_internal(s, buf, num, readbytes);
  return ret < 0 ? 0 : ret;
}
#if FLAGS
INTERNAL int ssl_write_internal(SSL *s, const void *buf, size_t num, unsigned long flags, size_t *written) {
  if (!s->method) { RAISE(276); return -1; }
  if (flags) { RAISE(277); *written = 0; return -1; }
  return s->method(s, buf, num, written);
}
int SSL_write_ex2(SSL *s, const void *buf, size_t num, unsigned long flags, size_t *written) {
  int ret = ssl_write_internal(s, buf, num, flags, written);
  return ret < 0 ? 0 : ret;
}
#define ssl_write_internal(s, b, n, w) ssl_write_internal(s, b, n, 0, w)
#else
INTERNAL int ssl_write_internal(SSL *s, const void *buf, size_t num, size_t *written) {
  if (!s->method) { RAISE(276); return -1; }
  return s->method(s, buf, num, written);
}
#endif
int SSL_write(SSL *s, const void *buf, int num) {
  size_t written;
  if (num < 0) { RAISE(271); return -1; }
  int ret = ssl_write_internal(s, buf, num, &written);
  return ret > 0 ? (int)written : ret;
}
int SSL_write_ex(SSL *s, const void *buf, size_t num, size_t *written) {
  int ret = ssl_write_internal(s, buf, num, written);
  return ret < 0 ? 0 : ret;
}
int SSL_do_handshake(SSL *s) { if (!s->state) { RAISE(144); return -1; } return s->state; }
int say(const char *);
int complain(SSL *s) { return say("SSL_do_handshake"); }
"""

# what they need and what calls them, in a file of its own: nothing is known of it where they are compiled
_AROUND = """
typedef unsigned long size_t;
int always(void) { return 1; }
void ERR_put_error(int l, int u, int r, const char *f, unsigned n) { __asm__ volatile("" ::: "memory"); }
void ERR_new(void) { __asm__ volatile("" ::: "memory"); }
void ERR_set_debug(const char *f, int l, const char *n) { __asm__ volatile("" ::: "memory"); }
void ERR_set_error(int l, int r, const char *t) { __asm__ volatile("" ::: "memory"); }
int say(const char *t) { return t != 0; }
int ssl_read_impl(void *s) { return s != 0; }
int ssl_write_impl(void *s, const void *b, long n) { return b != 0; }
int ssl_run(void *s) { return s != 0; }
#define WEAK(name) extern __attribute__((weak)) int name(void *, void *, size_t, size_t, void *)
WEAK(SSL_read); WEAK(SSL_peek); WEAK(SSL_write); WEAK(SSL_write_again); WEAK(SSL_read_ex); WEAK(SSL_write_ex);
WEAK(SSL_write_ex2); WEAK(SSL_do_handshake); WEAK(SSL_key_update); WEAK(complain);
typedef int function(void *, void *, size_t, size_t, void *);
function *const all[] = { SSL_read, SSL_peek, SSL_write, SSL_write_again, SSL_read_ex, SSL_write_ex,
                          SSL_write_ex2, SSL_do_handshake, SSL_key_update, complain };
int main(int argc, char **argv) { return all[argc] ? all[argc](argv, argv, 1, 2, argv) : 0; }
"""


def build(folder: Path, source: str, options: Sequence[str] = ("-O2",)) -> Image:
    """Compiles and links a program around the source. The first option may name another compiler than gcc."""
    compiler, flags = "gcc", list(options)
    if flags and not flags[0].startswith("-"):
        compiler = flags.pop(0)
    (folder / "tls.c").write_text(source)
    (folder / "around.c").write_text(_AROUND)
    output = folder / "program"
    flags = (
        ["-w", "-DERROR_ATTRIBUTE=", *flags]
        if not any("ERROR_ATTRIBUTE" in f for f in flags)
        else ["-w", *flags]
    )
    subprocess.run([compiler, *flags, "-o", output, folder / "tls.c", folder / "around.c"], check=True)
    return Image(output.read_bytes(), path=str(output), machine=os.uname().machine)


def offsets(image: Image, *names: str) -> dict[str, int | None]:
    """Where functions are by the image's symbols."""
    return {name: image.offset_of(address) for name, address in image.symbols(names).items()}
