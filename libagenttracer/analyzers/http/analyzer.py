"""HttpAnalyzer: finds out what each connection speaks, and has it decoded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable

import msgspec

from ...events import Event, SslData, StreamData, StreamEnd, UnknownProtocol, derived_id
from .handler import Handler
from .http1 import Http1
from .http2 import Http2
from .http2_frames import begins_with_frames
from .limits import Limits
from .messages import Incoming
from .sniff import Protocol, sniff
from .websocket import WebSocket, is_masked

__all__ = ["HttpAnalyzer"]


class HttpAnalyzer:
    """HTTP/1.1, HTTP/2 and WebSocket out of `StreamData`, which `ChunkMerger` gives.

    Gives `HttpRequest`, `HttpResponse`, and then the `HttpExchange` that ties them together;
    `WebSocketMessage`; `HttpBody` for bodies that are followed while they come; and one `UnknownProtocol` for
    each connection that speaks something else, at its end. It takes `StreamData` and `StreamEnd` out of the
    stream; other events pass. If `SslData` events come before what was made of them
    (`ChunkMerger(raw=True)`), those in which a message begins have it in `parsed_http`.

    Args:
        limits: how much is kept.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self._limits = limits or Limits()
        self._connections: OrderedDict[str, _Connection] = OrderedDict()
        self._heads: list[Incoming] = []
        self._raw: SslData | None = None

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event."""
        kind = type(event)
        if kind is StreamData:
            return self._on_data(event)  # type: ignore[arg-type]
        if kind is StreamEnd:
            given = self._take_raw()
            connection = self._connections.pop(event.connection_id, None)  # type: ignore[attr-defined]
            if connection is not None:
                given += connection.end(event)  # type: ignore[arg-type]
            return given
        if kind is SslData:
            given = self._take_raw()
            self._raw = event  # type: ignore[assignment]
            return given
        if self._raw is not None:
            return [*self._take_raw(), event]
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Gives a raw event that nothing was made of; the rest waits for data, not for time."""
        return self._take_raw()

    def flush(self) -> Iterable[Event]:
        """Ends all connections."""
        given = self._take_raw()
        for connection in self._connections.values():
            given += connection.end(connection.ending("end"))
        self._connections.clear()
        return given

    def _on_data(self, piece: StreamData) -> Iterable[Event]:
        connection_id = piece.connection_id
        connection = self._connections.get(connection_id)
        given: list[Event] = []
        if connection is None:
            if len(self._connections) >= self._limits.max_connections:
                _, oldest = self._connections.popitem(last=False)
                given += oldest.end(oldest.ending("evicted"))
            connection = self._connections[connection_id] = _Connection(self._limits, self._heads)
        else:
            self._connections.move_to_end(connection_id)
        self._heads.clear()
        decoded = connection.data(piece)
        if self._raw is not None:
            given += self._take_raw()
        given += decoded
        return given

    def _take_raw(self) -> list[Event]:
        raw, self._raw = self._raw, None
        if raw is None:
            return []
        parsed = [_head(message) for message in self._heads if message.first_id == raw.id]
        self._heads.clear()
        return [msgspec.structs.replace(raw, unredacted=True, parsed_http=parsed or None)]


def _head(message: Incoming) -> dict[str, object]:
    """What is told of a message where its bytes begin."""
    first: dict[str, object] = (
        {"type": "request", "method": message.method, "target": message.target}
        if message.kind == "request"
        else {"type": "response", "status": message.status}
    )
    return {**first, "version": message.version, "headers": message.headers, "id": message.id}


class _Connection:
    """One connection: its bytes wait here until it is known what they are."""

    __slots__ = (
        "_bytes",
        "_first_ns",
        "_handler",
        "_heads",
        "_last",
        "_late",
        "_limits",
        "_masked",
        "_waiting",
    )

    def __init__(self, limits: Limits, heads: list[Incoming]) -> None:
        self._limits = limits
        self._heads = heads
        self._handler: Handler | None = None
        self._waiting: list[StreamData] | None = []  # None: what it speaks has been decided
        self._bytes = [0, 0]  # read, written
        self._first_ns = 0
        self._last: StreamData | None = None
        self._late = False  # its beginning was not seen
        self._masked = [0, 0]  # calls in a row that are frames of a WebSocket's client; read, written

    def data(self, piece: StreamData) -> Iterable[Event]:
        if self._last is None:
            self._first_ns = piece.timestamp_ns
            self._late = piece.joined_late or bool(piece.missing_bytes)
        self._last = piece
        handler = self._handler
        if handler is not None:
            # no message of HTTP begins so; if the upgrade was lost, a WebSocket's client does
            if piece.payload[:1] >= b"\x80" and type(handler) is Http1 and self._has_upgraded(handler, piece):
                self._handler = WebSocket.joined_late(self._limits, piece.direction)
                return [*handler.end(self.ending("closed")), *self._handler.data(piece)]
            given = handler.data(piece)
            if handler.successor is not None:
                self._handler = handler.successor
            return given
        self._bytes[piece.direction == "write"] += len(piece.payload) + piece.missing_bytes
        if self._waiting is None:
            # something unknown, or a connection joined in the middle: a message may begin with any call
            if self._late and self._is_websocket(piece):
                self._handler = WebSocket.joined_late(self._limits, piece.direction)
                return self._handler.data(piece)
            if not piece.starts_call or self._sniff(piece.payload) not in (Protocol.HTTP1, Protocol.HTTP2):
                return ()
            self._waiting = []
        self._waiting.append(piece)
        return self._decide()

    def _decide(self) -> Iterable[Event]:
        assert self._waiting is not None
        seen: dict[str, bytes] = {"read": b"", "write": b""}
        for piece in self._waiting:
            seen[piece.direction] += piece.payload if self._late else piece.payload[:64]
        found = {self._sniff(prefix) for prefix in seen.values() if prefix}
        if Protocol.HTTP2 in found:
            self._handler = Http2(self._limits, self._heads.append, joined_late=self._late)
        elif Protocol.HTTP1 in found:
            self._handler = Http1(self._limits, self._heads.append)
        elif Protocol.UNDECIDED in found and len(self._waiting) < _MAX_UNDECIDED:
            return ()
        waiting, self._waiting = self._waiting, None
        given: list[Event] = []
        if self._handler is not None:
            for piece in waiting:
                given += self._handler.data(piece)
                if self._handler.successor is not None:
                    self._handler = self._handler.successor
        return given

    def _sniff(self, data: bytes) -> Protocol:
        found = sniff(data)
        # in the middle of HTTP/2 no frame says so as surely as the first ones do: several have to fit
        return (
            Protocol.HTTP2 if found is Protocol.OTHER and self._late and begins_with_frames(data) else found
        )

    def _has_upgraded(self, handler: Http1, piece: StreamData) -> bool:
        return not handler.in_body(piece.direction) and self._is_websocket(piece)

    def _is_websocket(self, piece: StreamData) -> bool:
        """Looked at only where nothing else was found: calls in a row have to be a client's frames."""
        way = piece.direction == "write"
        self._masked[way] = self._masked[way] + 1 if piece.starts_call and is_masked(piece.payload) else 0
        return self._masked[way] >= _MASKED_CALLS

    def ending(self, cause: str) -> StreamEnd:
        last = self._last
        assert last is not None
        return StreamEnd(
            derived_id(last.id, "stream_end"),
            last.timestamp_ns,
            last.source,
            last.pid,
            last.comm,
            last.exe,
            last.connection_id,
            cause,  # type: ignore[arg-type]
        )

    def end(self, end: StreamEnd) -> Iterable[Event]:
        if self._handler is not None:
            return self._handler.end(end)
        return (
            UnknownProtocol(
                derived_id(end.id, "unknown_protocol"),
                self._first_ns,
                end.source,
                end.pid,
                end.comm,
                end.exe,
                end.connection_id,
                self._bytes[0],
                self._bytes[1],
                self._first_ns,
                self._last.timestamp_ns if self._last else end.timestamp_ns,
            ),
        )


_MASKED_CALLS = 3
_MAX_UNDECIDED = 64  # pieces that are too short to tell what they begin
