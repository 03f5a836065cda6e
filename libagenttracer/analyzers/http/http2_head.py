"""What a header block of HTTP/2 says (RFC 9113, 8)."""

from __future__ import annotations

from collections.abc import Iterable

from .limits import Limits
from .messages import Incoming, text_of

__all__ = ["Head", "length_of"]

_COLON = ord(":")


class Head:
    """The fields of a block.

    Args:
        fields: names and values; what is unknown has an empty name.
        limits: `max_headers`; more are left out.

    Attributes:
        pseudo: those that begin with a colon.
        headers: the others.
        unknown: how many fields cannot be known; they may be of both kinds.
        size: their length.
    """

    __slots__ = ("headers", "pseudo", "size", "too_long", "unknown")

    def __init__(self, fields: Iterable[tuple[bytes, bytes]], limits: Limits) -> None:
        self.pseudo: dict[str, str] = {}
        self.headers: list[tuple[str, str]] = []
        self.unknown = 0
        self.size = 0
        for name, value in fields:
            if not name:
                self.unknown += 1
                continue
            self.size += len(name) + len(value)
            if name[0] == _COLON:
                self.pseudo.setdefault(text_of(name), text_of(value))
            else:
                self.headers.append((text_of(name), text_of(value)))
        self.too_long = len(self.headers) > limits.max_headers
        if self.too_long:
            del self.headers[limits.max_headers :]

    def begins(self, message: Incoming, otherwise: str) -> None:
        """Makes these the headers of a message that begins with them.

        Args:
            otherwise: why a block may be seen that is not the beginning.
        """
        pseudo = self.pseudo
        message.version = "2"
        message.unknown_headers = self.unknown
        if self.too_long:
            message.reasons.add("too_long")
        if not pseudo and not self.unknown:  # the beginning was not seen
            message.trailers = [*self.headers]
            message.reasons.add(otherwise)
            return
        message.headers = self.headers
        if message.kind == "request":
            message.method = pseudo.get(":method", "")
            message.authority = pseudo.get(":authority") or message.header("host") or ""
            connect = message.method == "CONNECT" and ":path" not in pseudo
            message.target = message.authority if connect else pseudo.get(":path", "")
            sound = bool(message.method and message.target)
        else:
            status = pseudo.get(":status", "")
            sound = len(status) == 3 and status.isascii() and status.isdigit()
            if sound:
                message.status = int(status)
        if not sound and not self.unknown:
            message.reasons.add("malformed")

    def ends(self, message: Incoming, limits: Limits) -> None:
        """Makes these the trailers of a message, which may already have some."""
        message.trailers += self.headers
        message.unknown_headers += self.unknown
        too_many = len(message.trailers) > limits.max_headers
        del message.trailers[limits.max_headers :]
        if self.too_long or too_many:
            message.reasons.add("too_long")
        if self.pseudo:
            message.reasons.add("malformed")


def length_of(message: Incoming) -> int | None:
    """The length that the message says its body has, as it is carried; None: it does not say."""
    if message.kind == "response":
        asked = message.request
        if message.status in (204, 304) or (asked is not None and asked.method in ("HEAD", "")):
            return None  # it may be that of what is not sent
        if asked is None and message.body is not None and not message.body.wire_bytes:
            return None
    value = message.header("content-length")
    return int(value) if value and len(value) < 16 and value.isascii() and value.isdigit() else None
