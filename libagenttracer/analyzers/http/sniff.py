"""What a connection speaks, by the first bytes of one of its directions."""

from __future__ import annotations

import re
from enum import Enum

__all__ = ["Protocol", "sniff"]

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # RFC 9113, 3.4
# RFC 9110 allows other methods; nobody uses them. The target tells it from SMTP and the like.
_REQUEST = re.compile(rb"[A-Z][A-Z-]{0,31} (?:/|\*|https?://|CONNECT |[\w.\-\[\]:]+:\d+ HTTP/)")
_BEGINNING = re.compile(rb"[A-Z][A-Z-]{0,31}(?: (?:h|ht|htt|https?:?/?|[\w.\-\[\]:]{0,255})?)?")
_STATUS = re.compile(rb"HTTP/1\.[01] [1-9]\d\d[ \r\n]")
_SETTINGS_TYPE = 4


class Protocol(Enum):
    """What it may be."""

    UNDECIDED = 0  # too short to tell
    HTTP1 = 1
    HTTP2 = 2
    OTHER = 3


def sniff(data: bytes) -> Protocol:
    """Looks at the beginning of what one side sent.

    Args:
        data: its first bytes; some 40 are enough.
    """
    if _PREFACE.startswith(data[:24]):
        return Protocol.HTTP2 if len(data) >= 16 else Protocol.UNDECIDED
    if _REQUEST.match(data) or _STATUS.match(data):
        return Protocol.HTTP1
    if data[0] == 0:
        return _sniff_settings(data[:9])
    short = (len(data) < 40 and _BEGINNING.fullmatch(data)) or b"HTTP/1.1 200 "[: len(data)] == data
    if short or (len(data) < 13 and data[:7] == b"HTTP/1."):
        return Protocol.UNDECIDED
    return Protocol.OTHER


def _sniff_settings(head: bytes) -> Protocol:
    """A server of HTTP/2 begins with a SETTINGS frame (RFC 9113, 3.4): length, type 4, no flag, stream 0."""
    if head[3:] != b"\4\0\0\0\0\0"[: max(0, len(head) - 3)]:
        return Protocol.OTHER
    if len(head) < 9:
        return Protocol.UNDECIDED
    return Protocol.HTTP2 if int.from_bytes(head[:3], "big") % 6 == 0 else Protocol.OTHER
