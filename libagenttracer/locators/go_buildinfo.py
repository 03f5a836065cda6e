"""The version of Go that built a program.

Format: the comment on `readRawBuildInfo` in Go's debug/buildinfo. A header of 32 bytes: magic of 14 bytes,
size of a pointer, flags. Since Go 1.18 (flag 2) the version stands behind it, with its length in front;
before, the header has a pointer to a string, which is a pointer and a length.
"""

from __future__ import annotations

import re
import struct

from .elf import Image

__all__ = ["go_version"]

_MAGIC = b"\xff Go buildinf:"
_INLINE, _BIG_ENDIAN = 2, 1
_MAX_PLACES = 64
_MAX_BYTES = 127  # of a version: its length fits into one byte
_VERSION = re.compile(r"(?:go\d+\.\d+|devel )[\x20-\x7e]*")


def go_version(image: Image) -> str:
    """The version, such as "go1.22.3" or "go1.25.5 X:nodwarf5"; "" if it is not to be had."""
    for at in image.find(_MAGIC, limit=_MAX_PLACES):
        header = image.data[at : at + 32]
        if at % 16 or len(header) < 32 or header[14] != 8 or header[15] & _BIG_ENDIAN:
            continue  # programs that look for the magic have it in them as well
        if header[15] & _INLINE:
            size = image.data[at + 32] if at + 32 < len(image.data) else 0
            content = image.data[at + 33 : at + 33 + min(size, _MAX_BYTES)]
        else:
            (place,) = struct.unpack_from("<Q", header, 16)
            text = image.read(place, 16)
            if len(text) < 16:
                continue
            place, size = struct.unpack("<QQ", text)
            content = image.read(place, min(size, _MAX_BYTES))
        version = content.decode("latin-1")
        if _VERSION.fullmatch(version):
            return version
    return ""
