"""What tells that rustls, TLS written in Rust, is in an image: it leaves no symbols, but texts."""

from __future__ import annotations

import re

from .elf import Image

__all__ = ["has_rustls", "stated_crate_version"]

# how its errors are shown (rustls::Error, since 0.10); in Rust no NUL byte ends a text
_TEXTS = (b"received corrupt message of type", b"peer is incompatible: ")
_MAX_MATCHES = 4096


def has_rustls(image: Image) -> bool:
    """Whether rustls is linked into an image."""
    return any(image.find(text, limit=1) for text in _TEXTS)


def stated_crate_version(image: Image, crate: str, folder: str = "") -> str:
    """The version of a crate, from the names of its source files, which are in the messages of panics.

    Args:
        image: where the crate is linked in.
        crate: its name.
        folder: the one in it whose source files count, "" for all.

    Returns:
        "0.17.14"; "" if there are no such names, or different versions.
    """
    pattern = rb"[/\\]%b-(\d{1,3}\.\d{1,4}\.\d{1,4})[/\\]%b"
    expression = re.compile(pattern % (re.escape(crate.encode()), re.escape(folder.encode())))
    found: set[bytes] = set()
    for segment in image.segments:
        if segment.writable or segment.executable:
            continue
        matches = expression.finditer(image.data, segment.offset, segment.offset + segment.file_bytes)
        for _, match in zip(range(_MAX_MATCHES), matches, strict=False):
            found.add(match[1])
    return found.pop().decode("ascii") if len(found) == 1 else ""
