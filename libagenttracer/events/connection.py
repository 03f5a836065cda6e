"""What a connection carried, in order, and that it is over."""

from __future__ import annotations

from typing import Literal

from .base import Event, event_type
from .ssl import Direction

__all__ = ["ConnectionEvent", "StreamData", "StreamEnd", "UnknownProtocol"]


class ConnectionEvent(Event, frozen=True, gc=False):
    """Something on a connection.

    Attributes:
        pid: process (thread group), in the initial pid namespace.
        comm: name of the process's first thread.
        exe: path of its executable, "" where unknown.
        connection_id: one use of a TLS connection; unique on this machine since its boot, and beyond.
    """

    pid: int
    comm: str
    exe: str
    connection_id: str


@event_type("stream_data")
class StreamData(ConnectionEvent, frozen=True, gc=False):
    """The next piece of what a connection carried in one direction: in order, each byte once.

    Attributes:
        direction: "write" if the process sent it, "read" if it received it.
        offset: bytes of this connection and direction before it.
        payload: the bytes; may be empty where only a gap is told.
        missing_bytes: bytes that are missing just before it.
        starts_call: it begins where a call of the TLS library began: likely, not surely, a message's start.
        joined_late: the connection was first seen after it had begun.
    """

    direction: Direction
    offset: int
    payload: bytes
    missing_bytes: int = 0
    starts_call: bool = True
    joined_late: bool = False


@event_type("stream_end")
class StreamEnd(ConnectionEvent, frozen=True, gc=False):
    """Nothing more comes of a connection.

    Attributes:
        cause: "closed", "reused" (its place in memory belongs to a new connection), "process_exit", "evicted"
            (there were too many: more may have come), "end" (the stream of events is over).
    """

    cause: Literal["closed", "reused", "process_exit", "evicted", "end"]


@event_type("unknown_protocol")
class UnknownProtocol(ConnectionEvent, frozen=True, gc=False):
    """A connection that carries nothing that is decoded: told once, at its end or at the stream's.

    Attributes:
        read_bytes, written_bytes: what it carried.
        first_ns, last_ns: when, nanoseconds since the epoch.
    """

    read_bytes: int
    written_bytes: int
    first_ns: int
    last_ns: int
