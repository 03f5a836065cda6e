"""What follows one connection: the interface that the versions of HTTP and WebSocket share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...events import Event, StreamData, StreamEnd

__all__ = ["Handler"]


class Handler(Protocol):
    """Follows a connection, both directions. No input makes it raise.

    Attributes:
        successor: set when the connection changes its protocol (an upgrade): what comes next goes to it.
            The handler has fed it already what came behind the change.
    """

    successor: Handler | None

    def data(self, piece: StreamData) -> Iterable[Event]:
        """Takes the next piece of either direction. `piece.missing_bytes` are missing before it."""

    def end(self, end: StreamEnd) -> Iterable[Event]:
        """Takes note that no more comes; gives what is unfinished."""
