"""OpenSSL 1.1 and 3.x: a shared library of any name, or linked in, with symbols or (from 3 on) without."""

from __future__ import annotations

import re
from collections.abc import Iterable

from . import boringssl
from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .openssl_stripped import MARKS, locate_stripped

__all__ = ["DATA_FUNCTIONS", "HANDSHAKE_FUNCTIONS", "LIFE_FUNCTIONS", "locate"]

DATA_FUNCTIONS = ("SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_write_ex2", "SSL_sendfile")
HANDSHAKE_FUNCTIONS = ("SSL_do_handshake", "SSL_connect", "SSL_accept")
LIFE_FUNCTIONS = ("SSL_new", "SSL_clear", "SSL_free")
_FUNCTIONS = (*DATA_FUNCTIONS, *HANDSHAKE_FUNCTIONS, *LIFE_FUNCTIONS)
_FILE = "ssl_lib.c"
# of what has these functions and calls another TLS library in them, which is probed itself
_WRAPPERS = ("libgnutls-openssl.",)
_SONAME = re.compile(r"^libssl[^/]*\.so\.(\d[\d.]*)$")
# OPENSSL_VERSION_TEXT with its date, as texts about versions are everywhere
_VERSION = re.compile(
    rb"(OpenSSL|LibreSSL) (\d+\.\d+\.\d+[a-z]?)(?:[-+][\w.+-]*)?(?: +\d{1,2} [A-Z][a-z]{2} \d{4})?\0"
)


def locate(image: Image) -> Found | NotReachable | None:
    """The functions to probe in an image with OpenSSL in it, None if it is not.

    Without symbols they are known by their names, which errors carry from OpenSSL 3 on.

    Raises:
        LibraryError: as of `Image.symbols`, or code made to be slow to search.
        DisassemblerMissing: there are no symbols, and capstone is not installed.
    """
    symbols = image.symbols(_FUNCTIONS)
    if {"SSL_read", "SSL_write"} <= symbols.keys():
        if image.soname.startswith(_WRAPPERS) or boringssl.has_own_marks(image):
            return None
        return Found("openssl", _points(image, symbols), "symbols", _version(image))
    if not any(image.strings(mark) for mark in MARKS):
        return _old(image)
    if image.machine != "x86_64":
        return NotReachable(
            "openssl",
            f"it has no symbols, and without them it can be found in x86_64 code only, not {image.machine}",
        )
    return locate_stripped(image, _version(image))


def _points(image: Image, symbols: dict[str, int]) -> tuple[ProbePoint, ...]:
    offsets = ((name, image.code_offset_of(symbols[name])) for name in _FUNCTIONS if name in symbols)
    return tuple(ProbePoint(name, offset) for name, offset in offsets if offset is not None)


def _version(image: Image) -> str:
    """The version by the text that states it, else by the library's name; "" where neither tells."""
    versions = _versions(image, (b"OpenSSL ", b"LibreSSL "))
    if len(versions) == 1:
        return versions.pop()
    match = _SONAME.match(image.soname)
    return match[1] if match else ""


def _versions(image: Image, starts: Iterable[bytes]) -> set[str]:
    found = set()
    for start in starts:
        for offset in image.find(start, 4096):
            match = _VERSION.match(image.data[offset : offset + 80])
            if match:
                found.add(match[2].decode() if match[1] == b"OpenSSL" else match[0][:-1].decode())
    return found


def _old(image: Image) -> NotReachable | None:
    """OpenSSL 1.x without symbols: there is nothing to know its functions by."""
    versions = [version for version in _versions(image, (b"OpenSSL 1.",)) if version.startswith("1.")]
    if len(versions) != 1 or image.soname or not image.strings_ending(_FILE):
        return None
    return NotReachable(
        "openssl",
        f"it has OpenSSL {versions[0]} in it without symbols, which can be found from OpenSSL 3 on only",
        "use a build with symbols, or one that uses the system's libssl",
    )
