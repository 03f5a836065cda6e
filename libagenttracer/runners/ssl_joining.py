"""Connections whose two directions are seen as two: where only the encryption of records can be probed.

There a key is known, not a connection; it gets one when it is known which socket its records go through. The
kernel tells that with the next (or the last) call on a socket of the thread, so what was encrypted before is
held until then. Pure, like the decoder that it is a part of.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ..events import Event, Loss, SslData
from .ssl_sockets import Socket

__all__ = ["Joiner", "Stream"]

HOLD_NS = 1_000_000_000
MAX_HELD_BYTES = 4 << 20
MAX_HELD_EVENTS = 4096
MAX_ALL_BYTES = 64 << 20
MAX_ALL_EVENTS = 65536


class Stream:
    """What has come through a socket.

    Attributes:
        id: the connection's.
        bytes: read and written so far.
        joined_late: it was first seen after it had begun.
        library: of what has come last.
    """

    __slots__ = ("bytes", "id", "joined_late", "library")

    def __init__(self, id_: str, *, joined_late: bool) -> None:
        self.id = id_
        self.bytes = [0, 0]
        self.joined_late = joined_late
        self.library = ""


class _Held:
    __slots__ = ("bytes", "events", "since_ns")

    def __init__(self, since_ns: int) -> None:
        self.events: list[Event] = []
        self.bytes = 0
        self.since_ns = since_ns


class Joiner:
    """Gives events of keys the connection that they belong to. A key is anything that has a `stream`."""

    def __init__(self) -> None:
        self._held: dict[Any, _Held] = {}  # what has waited longest comes first
        self._events = self._bytes = 0  # of all keys

    def feed(self, key: Any, event: SslData | Loss) -> list[Event]:
        """The events that can be told now."""
        if key.stream is not None:
            return [_moved(key.stream, event)]
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = _Held(event.timestamp_ns)
        held.events.append(event)
        payload_bytes = len(event.payload) if isinstance(event, SslData) else 0
        held.bytes += payload_bytes
        self._events += 1
        self._bytes += payload_bytes
        if held.bytes > MAX_HELD_BYTES or len(held.events) > MAX_HELD_EVENTS:
            return self._let_go(key)
        given: list[Event] = []
        while self._bytes > MAX_ALL_BYTES or self._events > MAX_ALL_EVENTS:
            given += self._let_go(next(iter(self._held)))
        return given

    def holds(self, key: Any) -> bool:
        """Whether events of the key wait for its socket."""
        return key in self._held

    def bind(self, key: Any, socket: Socket, id_: str) -> list[Event]:
        """A key's records go through this socket: the events that waited for it."""
        if socket.stream is None:
            late = socket.protocol != "tls" or not id_.startswith(f"{socket.tgid}-")
            socket.stream = Stream(id_, joined_late=late)
        key.stream = socket.stream
        return self._let_go(key)

    def settle(self, now_ns: int, *, final: bool) -> list[Event]:
        """Events of keys whose socket has not become known in time: each is a connection of its own."""
        late = [key for key, held in self._held.items() if final or now_ns - held.since_ns > HOLD_NS]
        return [event for key in late for event in self._let_go(key)]

    def _let_go(self, key: Any) -> list[Event]:
        held = self._held.pop(key, None)
        if held is None:
            return []
        self._events -= len(held.events)
        self._bytes -= held.bytes
        if key.stream is None:
            key.stream = Stream(key.id, joined_late=True)
        return [_moved(key.stream, event) for event in held.events]


def _moved(stream: Stream, event: Any) -> Event:
    """The event at its place in the stream; it comes with the place that it has under its key."""
    way = int(event.direction == "write")
    offset = stream.bytes[way]
    if isinstance(event, Loss):
        if event.cause == "read_fault":  # told behind the event that stands for these bytes
            offset -= event.lost_bytes
        else:
            stream.bytes[way] += event.lost_bytes
        return msgspec.structs.replace(event, connection_id=stream.id, offset=offset)
    stream.bytes[way] += event.data_len
    stream.library = event.library
    moved: Event = msgspec.structs.replace(
        event, connection_id=stream.id, offset=offset, joined_late=stream.joined_late
    )
    return moved
