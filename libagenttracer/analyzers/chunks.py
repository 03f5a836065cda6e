"""Records of a connection become ordered byte streams again."""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Iterable
from typing import Literal

from ..events import (
    Event,
    Loss,
    ProcessExit,
    SslClose,
    SslData,
    SslSendfile,
    StreamData,
    StreamEnd,
    derived_id,
)

__all__ = ["ChunkMerger"]

EndCause = Literal["closed", "reused", "process_exit", "evicted", "end"]


class _Direction:
    """One direction: what comes next, and what came too early."""

    __slots__ = ("early", "held_bytes", "next_offset", "since_ns")

    def __init__(self) -> None:
        self.next_offset = 0
        self.early: list[tuple[int, int, SslData | SslSendfile]] = []  # a heap, by offset and arrival
        self.held_bytes = 0
        self.since_ns = 0  # when the first of these was held back


class _Connection:
    __slots__ = ("last", "place", "ways")

    def __init__(self, first: SslData | SslSendfile, place: str) -> None:
        self.last: SslData | SslSendfile = first
        self.place = place
        self.ways = {"read": _Direction(), "write": _Direction()}


class ChunkMerger:
    """Puts the records of each connection and direction in order, by offset; each byte is given once.

    Takes `SslData` (and `SslSendfile`: bytes that cannot be read are a gap), and gives `StreamData`; what is
    missing is told with the piece behind it, or with an empty piece. A record that comes before its
    predecessors waits for them, up to `max_wait_ns` of event time or `max_held_bytes`. `StreamEnd` says that
    a connection is over. Other events pass.

    Args:
        raw: give the `SslData` events too, each before what comes of it.
        max_connections: the one that was used least recently is given up first.
        max_held_bytes: of one connection and direction, of records that came too early.
        max_wait_ns: nanoseconds that such a record waits.
    """

    def __init__(
        self,
        *,
        raw: bool = False,
        max_connections: int = 4096,
        max_held_bytes: int = 4 << 20,
        max_wait_ns: int = 100_000_000,
    ) -> None:
        self._raw = raw
        self._max_connections = max_connections
        self._max_held_bytes = max_held_bytes
        self._max_wait_ns = max_wait_ns
        self._connections: OrderedDict[str, _Connection] = OrderedDict()
        self._places: dict[str, str] = {}  # an SSL object's place in its process -> its connection now
        self._waiting: dict[tuple[str, str], _Direction] = {}
        self._arrived = 0

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives pieces that are in order now."""
        kind = type(event)
        if kind is SslData or kind is SslSendfile:
            return self._on_data(event)  # type: ignore[arg-type]
        if kind is Loss:
            return self._on_loss(event)  # type: ignore[arg-type]
        if kind is SslClose:
            over: list[Event] = []
            if event.connection_id in self._connections:  # type: ignore[attr-defined]
                self._end(event.connection_id, "closed", event.timestamp_ns, over)  # type: ignore[attr-defined]
            over.append(event)
            return over
        if kind is ProcessExit:
            ended = [id_ for id_, one in self._connections.items() if one.last.pid == event.pid]  # type: ignore[attr-defined]
            given: list[Event] = []
            for connection_id in ended:
                self._end(connection_id, "process_exit", event.timestamp_ns, given)
            given.append(event)
            return given
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Gives up waiting for what is long overdue."""
        given: list[Event] = []
        for (connection_id, _), way in [*self._waiting.items()]:
            if now_ns - way.since_ns >= self._max_wait_ns:
                self._release(connection_id, way, given, everything=True)
        return given

    def flush(self) -> Iterable[Event]:
        """Gives what waits, and the end of each connection."""
        given: list[Event] = []
        for connection_id in [*self._connections]:
            at_ns = self._connections[connection_id].last.timestamp_ns
            self._end(connection_id, "end", at_ns, given)
        return given

    def _on_data(self, event: SslData | SslSendfile) -> Iterable[Event]:
        given: list[Event] = [event] if self._raw else []
        if self._waiting:
            given += self.tick(event.timestamp_ns)  # nobody ticks a recording
        connection_id = event.connection_id
        connection = self._connections.get(connection_id)
        if connection is None:
            connection = self._begin(event, given)
        else:
            self._connections.move_to_end(connection_id)
            connection.last = event
        way = connection.ways[event.direction]
        if event.offset == way.next_offset and not way.early:
            given.append(_piece(event, 0, 0))
            way.next_offset += event.data_len
            return given
        self._hold(connection_id, way, event)
        self._release(connection_id, way, given, everything=way.held_bytes > self._max_held_bytes)
        return given

    def _begin(self, event: SslData | SslSendfile, given: list[Event]) -> _Connection:
        # "pid-address-generation": the same address again means that its last use is over
        place = event.connection_id.rpartition("-")[0]
        before = self._places.get(place) if place else None
        if before is not None and before in self._connections:
            self._end(before, "reused", event.timestamp_ns, given)
        if len(self._connections) >= self._max_connections:
            self._end(next(iter(self._connections)), "evicted", event.timestamp_ns, given)
        connection = self._connections[event.connection_id] = _Connection(event, place)
        if place:
            self._places[place] = event.connection_id
        return connection

    def _on_loss(self, event: Loss) -> Iterable[Event]:
        """A gap is seen by its offset; one that nothing follows is told here."""
        connection = self._connections.get(event.connection_id or "")
        if connection is None or event.direction is None or event.offset is None:
            return (event,)
        way = connection.ways[event.direction]
        end = event.offset + event.lost_bytes
        missing = end - way.next_offset
        if event.cause == "read_fault" or way.early or missing <= 0 or event.offset > way.next_offset:
            return (event,)
        way.next_offset = end
        last = connection.last
        told = StreamData(
            id=event.id,
            timestamp_ns=event.timestamp_ns,
            source=event.source,
            pid=last.pid,
            comm=last.comm,
            exe=last.exe,
            connection_id=last.connection_id,
            direction=event.direction,
            offset=end,
            payload=b"",
            missing_bytes=missing,
            starts_call=False,
        )
        return (event, told)

    def _hold(self, connection_id: str, way: _Direction, event: SslData | SslSendfile) -> None:
        if not way.early:
            way.since_ns = event.timestamp_ns
            self._waiting[connection_id, event.direction] = way
        self._arrived += 1
        heapq.heappush(way.early, (event.offset, self._arrived, event))
        way.held_bytes += len(event.payload) if isinstance(event, SslData) else 0

    def _release(self, connection_id: str, way: _Direction, given: list[Event], *, everything: bool) -> None:
        while way.early and (everything or way.early[0][0] <= way.next_offset):
            offset, _, event = heapq.heappop(way.early)
            way.held_bytes -= len(event.payload) if isinstance(event, SslData) else 0
            again = way.next_offset - offset  # bytes that were given already
            if again < event.data_len:
                given.append(_piece(event, max(0, again), max(0, -again)))
                way.next_offset = offset + event.data_len
            if not way.early:
                del self._waiting[connection_id, event.direction]

    def _end(self, connection_id: str, cause: EndCause, at_ns: int, given: list[Event]) -> None:
        connection = self._connections.pop(connection_id)
        if self._places.get(connection.place) == connection_id:
            del self._places[connection.place]
        for way in connection.ways.values():
            self._release(connection_id, way, given, everything=True)
        last = connection.last
        given.append(
            StreamEnd(
                derived_id(last.id, "stream_end"),
                max(at_ns, last.timestamp_ns),
                last.source,
                last.pid,
                last.comm,
                last.exe,
                connection_id,
                cause,
            )
        )


def _piece(event: SslData | SslSendfile, skip: int, missing_bytes: int) -> StreamData:
    """What an event adds to the stream: without its first `skip` bytes."""
    payload, lost = b"", 0
    if isinstance(event, SslData) and len(event.payload) == event.data_len:
        payload = event.payload[skip:] if skip else event.payload
        starts = not event.call_offset and not skip
    else:  # bytes that could not be read, or went from a file to the peer inside the kernel
        lost, starts = event.data_len - skip, False
    return StreamData(
        event.id,
        event.timestamp_ns,
        event.source,
        event.pid,
        event.comm,
        event.exe,
        event.connection_id,
        event.direction,
        event.offset + skip + lost,
        payload,
        missing_bytes + lost,
        starts,
        event.joined_late,
    )
