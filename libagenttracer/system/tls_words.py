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
_NAMES = {  # implementations by what stands in them, most telling first; whether there are locators for them
    b"mbedtls": ("Mbed TLS", False),
    b"MBEDTLS": ("Mbed TLS", False),
    b"wolfSSL": ("wolfSSL", False),
    b"s2n_connection": ("s2n-tls", False),
    b"MatrixSSL": ("MatrixSSL", False),
    b"botan": ("Botan", False),
    b"picotls": ("picotls", False),
    b"crypto.tls.Client": ("Zig's TLS", False),
    b"rustls": ("rustls", True),
    b"NSS_": ("NSS", True),
    b"SSL_CTX": ("OpenSSL or a relative of it", True),
}
_ONLY_CRYPTOGRAPHY = ("libsoftokn3.so",)  # derives keys for NSS, whose own library is where to probe
_READ_BYTES = 1 << 24
_OVERLAP_BYTES = 64  # more than the longest word
_PROXY = "send its traffic through a proxy that ends TLS"
_BUILD = "use a build with symbols, or with a shared TLS library"
_REPORT = "report which program this is"


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
    name, known = next((stack for word, stack in _NAMES.items() if word in found), ("", False))
    if known:
        reason = f"by its texts it has {name} in it, but the functions to probe were not found"
        return NotReachable("unknown", reason, f"{_BUILD}; or {_PROXY}; and {_REPORT}")
    if name:
        reason = f"by its texts it has {name} in it, a TLS library for which there are no probes"
        return NotReachable("unknown", reason, _PROXY)
    reason = "it has the key labels of TLS in it, but no TLS library that is known"
    return NotReachable("unknown", reason, f"{_PROXY}; and {_REPORT}")
