"""Server-sent events (HTML Standard, 9.2)."""

from __future__ import annotations

import msgspec

from .base import event_type
from .connection import ConnectionEvent

__all__ = ["SseEvent", "SseItem", "SseStream"]


@event_type("sse_event")
class SseEvent(ConnectionEvent, frozen=True, gc=False):
    """One event, when it had come.

    Attributes:
        response_id: id of the `http_response` that carries it.
        request_id: id of its request, where known.
        index: events of this stream before it.
        event: its type, "message" if none was given.
        data: its lines, joined by newlines.
        last_event_id: the last id that the stream gave.
    """

    response_id: str
    request_id: str | None
    index: int
    event: str
    data: str
    last_event_id: str = ""


class SseItem(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """An event within an `SseStream`; the names as in `SseEvent`.

    Attributes:
        timestamp_ns: when it had come, nanoseconds since the epoch.
    """

    timestamp_ns: int
    event: str
    data: str
    last_event_id: str = ""


@event_type("sse_stream")
class SseStream(ConnectionEvent, frozen=True, gc=False):
    """A whole stream of server-sent events, at its end. `timestamp_ns` is that of its first event.

    Attributes:
        response_id, request_id: as in `SseEvent`.
        events: all of them.
        comments: lines that were comments.
        retry_ms: the last reconnection time that it gave.
        last_byte_ns: when its last byte came.
        incomplete: something is missing; `reason` as in `HttpMessage`.
    """

    response_id: str
    request_id: str | None
    events: list[SseItem]
    last_byte_ns: int
    comments: int = 0
    retry_ms: int | None = None
    incomplete: bool = False
    reason: str | None = None
