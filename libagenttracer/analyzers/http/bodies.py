"""A message's body as it comes: content encodings removed, within limits."""

from __future__ import annotations

import io

from .limits import Limits

__all__ = ["Body"]


class Body:
    """Takes a body's bytes as they were carried (transfer encoding removed), and gives what they mean.

    Args:
        content_encoding: the header's value; "" for none.
        expected_bytes: its length where that is known: memory for it is taken at once, in one piece.
        limits: what is kept at most.

    Attributes:
        wire_bytes: bytes taken.
        length: bytes of the decoded body so far, those beyond the limit not counted.
        reasons: why it is incomplete, as in `HttpMessage.reason`; empty: it is not.
    """

    def __init__(self, content_encoding: str, expected_bytes: int | None, limits: Limits) -> None:
        self.wire_bytes = 0
        self.length = 0
        self.reasons: set[str] = set()
        self._limits = limits
        self._kept = io.BytesIO()

    def add(self, data: bytes | memoryview) -> bytes:
        """Takes the next bytes; gives what they decode to (b"" once the limit is passed)."""
        raise NotImplementedError

    def gap(self) -> None:
        """Takes note that bytes are missing here: what follows in a compressed body cannot be decoded."""
        raise NotImplementedError

    def finish(self) -> bytes:
        """The body is over: gives what the decoder still held, and notes if that is not its end."""
        raise NotImplementedError

    def value(self) -> bytes:
        """The whole decoded body."""
        return self._kept.getvalue()
