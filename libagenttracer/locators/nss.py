"""NSS, by its symbols: Firefox and what is built of its parts.

Reading and writing are NSPR's functions for any kind of file, which call through to whatever layers lie on
it; NSS lays TLS on a socket with `SSL_ImportFD`, and the result is read and written as any other. These are
two libraries: libnspr4 and libssl3; some builds make one of both. libssl3 itself calls none of the functions
for reading and writing, so a call is always a program's.
"""

from __future__ import annotations

from .base import Found, ProbePoint
from .elf import Image
from .versions import stated_version

__all__ = ["locate"]

_FILE_FUNCTIONS = ("PR_Read", "PR_Write", "PR_Recv", "PR_Send", "PR_Close")
_TLS_FUNCTIONS = ("SSL_ImportFD",)


def locate(image: Image) -> Found | None:
    """Where to probe the part of NSS that this is, None if it is none.

    Raises:
        LibraryError: an image that cannot be believed.
    """
    found = image.symbols((*_FILE_FUNCTIONS, *_TLS_FUNCTIONS))
    has_files = found.keys() >= {*_FILE_FUNCTIONS}
    has_tls = found.keys() >= {*_TLS_FUNCTIONS}
    points = []
    for name in (*_FILE_FUNCTIONS, *_TLS_FUNCTIONS):
        offset = image.code_offset_of(found[name]) if name in found else None
        if offset is not None and (has_files if name in _FILE_FUNCTIONS else has_tls):
            points.append(ProbePoint(name, offset))
    if not points:
        return None
    notes: tuple[str, ...] = ()
    if not has_tls:
        notes = ("the part for files and sockets: only what libssl3 makes TLS of is reported",)
    elif not has_files:
        notes = ("the part for TLS: data are read and written by libnspr4",)
    version = stated_version(image, rb"3\.[0-9]{1,3}(?:\.[0-9]{1,2})?(?: Beta)?") if has_tls else ""
    return Found("nss", tuple(points), "symbols", version, notes=notes)
