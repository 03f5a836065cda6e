"""OpenSSL 1.1 and 3.x as a shared library (or linked in with its symbols exported)."""

from __future__ import annotations

import mmap

from ..errors import LibraryError
from .base import ProbePoint, symbol_offsets

__all__ = ["DATA_FUNCTIONS", "HANDSHAKE_FUNCTIONS", "LIFE_FUNCTIONS", "locate_openssl"]

DATA_FUNCTIONS = ("SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_write_ex2", "SSL_sendfile")
HANDSHAKE_FUNCTIONS = ("SSL_do_handshake", "SSL_connect", "SSL_accept")
LIFE_FUNCTIONS = ("SSL_new", "SSL_clear", "SSL_free")


def locate_openssl(image: bytes | mmap.mmap, *, path: str, machine: str) -> list[ProbePoint]:
    """The functions to probe in a libssl.

    Args:
        image: the whole file.
        path: for error messages.
        machine: as `os.uname().machine`.

    Raises:
        LibraryError: no ELF file for this machine, or one without SSL_read and SSL_write.
    """
    names = (*DATA_FUNCTIONS, *HANDSHAKE_FUNCTIONS, *LIFE_FUNCTIONS)
    found = symbol_offsets(image, names, path=path, machine=machine)
    if "SSL_read" not in found or "SSL_write" not in found:
        raise LibraryError(path, "it has no symbols SSL_read and SSL_write: not an OpenSSL library")
    return [ProbePoint(name, found[name]) for name in names if name in found]
