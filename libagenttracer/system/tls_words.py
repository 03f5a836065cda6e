"""Words that every implementation of TLS has in it, whoever wrote it: for those that no locator knows.

What is found here can only be reported. TLS 1.3 derives keys with labels that the standard fixes (RFC 8446,
7.1), TLS 1.2 with others (RFC 5246, 6.3 and 8.1), and no implementation can do without them.
"""

from __future__ import annotations

import os

from ..locators.base import NotReachable
from .images import ImageFile

__all__ = ["unknown_stack"]

_WORDS = ((b"c hs traffic", b"s hs traffic"), (b"master secret", b"key expansion"))
_NAMES = {  # implementations by what stands in them, most telling first
    b"mbedtls": "Mbed TLS",
    b"MBEDTLS": "Mbed TLS",
    b"wolfSSL": "wolfSSL",
    b"s2n_connection": "s2n-tls",
    b"MatrixSSL": "MatrixSSL",
    b"botan": "Botan",
    b"picotls": "picotls",
    b"crypto.tls.Client": "Zig's TLS",
    b"rustls": "rustls",
    b"NSS_": "NSS",
    b"SSL_CTX": "OpenSSL or a relative",
}
_ONLY_CRYPTOGRAPHY = ("libsoftokn3.so",)  # derives keys for NSS, whose own library is where to probe
_READ_BYTES = 1 << 24
_OVERLAP_BYTES = 64  # more than the longest word
_ADVICE = (
    "send its traffic through a proxy that ends TLS, or run a build of it with symbols or with a "
    "shared TLS library, and report which program this is"
)


def unknown_stack(image: ImageFile) -> NotReachable | None:
    """For a file in which no locator found anything: whether it seems to have TLS of its own.

    Raises:
        LibraryError: it cannot be read.
    """
    if os.path.basename(image.path) in _ONLY_CRYPTOGRAPHY:
        return None
    wanted = {word for words in _WORDS for word in words} | _NAMES.keys()
    found: set[bytes] = set()
    at = 0
    while part := image.read(_READ_BYTES + _OVERLAP_BYTES, at):
        found |= {word for word in wanted - found if word in part}
        if len(part) <= _READ_BYTES:
            break
        at += _READ_BYTES
    if not any(found.issuperset(words) for words in _WORDS):
        return None
    name = next((name for word, name in _NAMES.items() if word in found), "")
    it_is = f"by its texts {name}" if name else "of a kind that is not known"
    reason = f"it has the key labels of TLS in it, but none of the code that can be probed: {it_is}"
    return NotReachable("unknown", reason, _ADVICE)
