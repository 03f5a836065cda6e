"""The version that a library states somewhere in its constants."""

from __future__ import annotations

import re

from .elf import Image

__all__ = ["stated_version"]

_MAX_MATCHES = 256


def stated_version(image: Image, pattern: bytes) -> str:
    """The one text in the image's constants that the pattern describes.

    Args:
        image: the library.
        pattern: a regular expression of printable ASCII; NUL bytes stand around the whole text.

    Returns:
        The text; "" if there is none, or if there are different ones.
    """
    expression = re.compile(rb"(?<=\0)(?:" + pattern + rb")(?=\0)")
    found: set[bytes] = set()
    for segment in image.segments:
        if segment.writable:
            continue
        matches = expression.finditer(image.data, segment.offset, segment.offset + segment.file_bytes)
        for _, match in zip(range(_MAX_MATCHES), matches, strict=False):
            found.add(match[0])
    return found.pop().decode("ascii") if len(found) == 1 else ""
