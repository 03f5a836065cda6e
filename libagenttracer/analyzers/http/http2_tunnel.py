"""A stream of HTTP/2 that became a WebSocket (RFC 8441)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from ...events import Event, StreamData, StreamEnd, derived_id
from .handler import Handler

__all__ = ["Tunnel"]

_UNKNOWN_LENGTH = 1 << 63  # of a gap: more than any message can have


class Tunnel:
    """Makes a connection of a stream.

    Args:
        handler: follows it.
        stream_id: tells it from others on the same connection.

    Attributes:
        over: both directions have ended.
    """

    def __init__(self, handler: Handler, stream_id: int) -> None:
        self.over = False
        self._handler = handler
        self._kind = f"stream_data/{stream_id}"
        self._pieces = 0
        self._offset = {"read": 0, "write": 0}
        self._missing = {"read": 0, "write": 0}
        self._inside = {"read": False, "write": False}  # the next bytes are of the same frame
        self._ended: set[str] = set()

    def data(self, piece: StreamData, data: memoryview, *, done: bool, end_stream: bool) -> Iterable[Event]:
        """Takes what a frame of DATA carries, or a part of it."""
        direction = piece.direction
        if end_stream:
            self._ended.add(direction)
            self.over = len(self._ended) == 2
        starts = not self._inside[direction]
        self._inside[direction] = not done
        if not data:
            return ()
        missing, self._missing[direction] = self._missing[direction], 0
        offset = self._offset[direction] + missing
        self._offset[direction] = offset + len(data)
        self._pieces += 1
        return self._handler.data(
            StreamData(
                derived_id(piece.id, self._kind, self._pieces),
                piece.timestamp_ns,
                piece.source,
                piece.pid,
                piece.comm,
                piece.exe,
                piece.connection_id,
                direction,
                offset,
                bytes(data),
                missing,
                starts,
            )
        )

    def gap(self, direction: Literal["read", "write"], missing: int | None = None) -> None:
        """Takes note that bytes are missing here; None: of unknown number."""
        self._missing[direction] += _UNKNOWN_LENGTH if missing is None else missing

    def end(self, end: StreamEnd) -> Iterable[Event]:
        """Takes note that it is over."""
        return self._handler.end(end)
