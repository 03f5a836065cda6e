"""An HTTP/1 connection (RFC 9112): which response belongs to which request, and what follows an upgrade.

Responses come in the order of the requests. Where bytes are missing, whole messages may be; then a response
is given to a request only if it can be no other's. What helps: a client that does not send requests ahead
of responses (pipelining, which hardly any does) has got all earlier responses when it sends the next
request. So there everything is certain again, on a connection where nothing was ever sent ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from ...events import Event, HttpBody, HttpRequest, HttpResponse, StreamData, StreamEnd
from .handler import Handler
from .http1_parse import Kind, match_start
from .http1_side import Side
from .limits import Limits
from .messages import Incoming, make_exchange

__all__ = ["Http1"]

_Direction = Literal["read", "write"]
_MAX_START_BYTES = 16 << 10  # of a connection's first line, as long as it is not known what it is


class _Sent:
    """A request that was sent, until its exchange is told."""

    __slots__ = ("event", "message", "response", "stale", "sure")

    def __init__(self, message: Incoming, *, sure: bool, stale: bool) -> None:
        self.message = message
        self.event: HttpRequest | None = None  # once it is complete
        self.response: HttpResponse | None = None  # that was complete earlier
        self.sure = sure  # the next response is its own, once those before it have theirs
        self.stale = stale  # its response may have been missed


class _Unread:
    """What came in one direction while it is not known what it carries."""

    def __init__(self) -> None:
        self.pieces: list[StreamData] = []
        self.start = bytearray()
        self.dropped = False

    def drop(self) -> None:
        self.dropped = True
        self.pieces.clear()
        self.start.clear()


class _Ignored:
    """Follows what is not HTTP any more, and tells nothing."""

    successor: Handler | None = None

    def data(self, _piece: StreamData) -> Iterable[Event]:
        return ()

    def end(self, _end: StreamEnd) -> Iterable[Event]:
        return ()


class Http1:
    """Follows an HTTP/1 connection.

    Args:
        limits: what is kept at most.
        on_head: told of each message whose head is complete.

    Attributes:
        successor: see `Handler`.
    """

    def __init__(self, limits: Limits, on_head: Callable[[Incoming], None] | None = None) -> None:
        self.successor: Handler | None = None
        self._limits = limits
        self._on_head = on_head
        self._told: list[Event] = []
        self._unread: dict[_Direction, _Unread] = {"read": _Unread(), "write": _Unread()}
        self._sides: dict[_Direction, Side] = {}
        self._requests: Side
        self._responses: Side
        self._outstanding: deque[_Sent] = deque()
        self._sending: _Sent | None = None  # the request that is coming
        self._answered: _Sent | None = None  # the request of the response that is coming
        self._doubt = False  # requests may be missing before the next one
        self._orphan = False  # a response came that may be the next request's, which is told late
        self._pipelined = False  # a request was sent before the response to the one before it
        self._held_for: _Sent | None = None  # another protocol may follow its response
        self._switch: tuple[HttpRequest | None, HttpResponse] | None = None  # it does

    def data(self, piece: StreamData) -> Iterable[Event]:
        """Takes the next piece of either direction; gives what can be told."""
        if self.successor is not None:
            return self.successor.data(piece)
        told = self._told = []
        side = self._sides.get(piece.direction)
        if side is None:
            self._discover(piece)
        else:
            side.feed(piece)
            if self._switch is not None:
                self._succeed(*self._switch)
        return told

    def in_body(self, direction: _Direction) -> bool:
        """Whether what comes next in this direction belongs to a body."""
        side = self._sides.get(direction)
        return side is not None and side.in_body()

    def end(self, end: StreamEnd) -> Iterable[Event]:
        """Takes note that no more comes; gives what is unfinished."""
        if self.successor is not None:
            return self.successor.end(end)
        told = self._told = []
        if self._sides:
            for side in (self._requests, self._responses):
                side.end(known=end.cause != "evicted")
        while self._outstanding:
            self._give_up()
        return told

    def _discover(self, piece: StreamData) -> None:
        """Finds out which direction carries requests: that of the first line that is one's, or the other."""
        unread = self._unread[piece.direction]
        if piece.missing_bytes:
            unread.drop()
        if not unread.pieces and not piece.starts_call and (unread.dropped or piece.joined_late):
            unread.dropped = True
            return
        unread.pieces.append(piece)
        unread.start += piece.payload
        # a line that has no end is not looked at with each piece of it
        kind = _kind_of(unread.start) if b"\n" in piece.payload else None
        if kind is None and piece.starts_call and _kind_of(piece.payload):  # what came before is no start
            unread.drop()
            unread.pieces.append(piece)
            kind = _kind_of(piece.payload)
        if kind is not None:
            self._set_sides(piece, kind)
        elif b"\n" in unread.start.lstrip(b"\r\n") or len(unread.start) > _MAX_START_BYTES:
            unread.drop()

    def _set_sides(self, piece: StreamData, kind: Kind) -> None:
        other: _Direction = "read" if piece.direction == "write" else "write"
        lost = {at: unread.dropped or piece.joined_late for at, unread in self._unread.items()}
        request_at, response_at = (piece.direction, other) if kind == "request" else (other, piece.direction)
        self._doubt = any(lost.values())
        self._requests = Side("request", self, self._limits, lost=lost[request_at])
        self._responses = Side("response", self, self._limits, lost=lost[response_at])
        self._sides = {request_at: self._requests, response_at: self._responses}
        for at in (request_at, response_at):
            for earlier in self._unread[at].pieces:
                self._sides[at].feed(earlier)
        self._unread.clear()
        if self._switch is not None:
            self._succeed(*self._switch)

    # what the sides tell

    def begins(self, message: Incoming, side: Side) -> None:
        """The head of a message was read: finds the request that a response is for."""
        if message.kind == "request":
            self._request_begins(message, side)
        else:
            self._response_begins(message, side)

    def head_done(self, message: Incoming) -> None:
        """The message is ready for its body."""
        if self._on_head is not None:
            self._on_head(message)

    def came(self, parts: Iterable[HttpBody]) -> None:
        """Parts of a body."""
        self._told += parts

    def done(self, message: Incoming, events: list[Any]) -> None:
        """The message is over: tells it, and its exchange once both are."""
        told, event = self._told, events.pop()
        told += events  # parts of the body
        if isinstance(event, HttpRequest):
            told.append(event)
            sent = self._sending
            assert sent is not None
            self._sending = None
            sent.event = event
            if sent.response is not None:
                told += (sent.response, make_exchange(event, sent.response))
            elif (event.method == "CONNECT" or message.header("upgrade")) and sent in self._outstanding:
                self._held_for = sent
                self._requests.hold(self._limits.max_head_bytes)
        elif 100 <= event.status < 200 and event.status != 101:
            told.append(event)
        else:
            self._answer(event)

    def lost(self, kind: Kind) -> None:
        """Whole messages of this kind may be missing here."""
        if kind == "request":
            self._doubt = True
            self._orphan = False  # its request is what is missing
            return
        for sent in self._outstanding:
            sent.sure, sent.stale = False, True

    # who answers whom

    def _request_begins(self, message: Incoming, side: Side) -> None:
        outstanding, responses = self._outstanding, self._responses
        if outstanding:
            last = outstanding[-1]
            if side.begun > 1 and last.sure:  # they were sent together
                self._pipelined = True
            if last.event is not None:  # it may be long until it is answered
                last.event = msgspec.structs.replace(last.event, body=b"", headers=[], trailers=[])
                last.message.forget(headers=side.begun == 1)
        sure = not self._doubt and (not outstanding or outstanding[-1].sure)
        late, self._orphan = side.late or self._orphan, False
        if late:
            sure = False
        elif not self._pipelined and (not outstanding or all(sent.stale for sent in outstanding)):
            coming = responses.current
            if coming is not None and "unpaired" in coming.reasons:
                responses.drop()
            if responses.current is None:
                while outstanding:
                    self._give_up()
                self._doubt, sure = False, True
        if not sure:
            message.reasons.add("unpaired")
        self._sending = _Sent(message, sure=sure, stale=late)
        outstanding.append(self._sending)
        if len(outstanding) > self._limits.max_outstanding:
            self._doubt = self._pipelined = True
            self.lost("response")  # the response to the one that is given up may come yet
            self._give_up()

    def _response_begins(self, message: Incoming, side: Side) -> None:
        outstanding = self._outstanding
        sent = outstanding[0] if outstanding else None
        if sent is not None and sent.sure and sent.message.first_ns <= message.first_ns:
            message.request = sent.event or sent.message
            if message.status >= 200 or message.status == 101:
                outstanding.popleft()
                self._answered = sent
                if outstanding and outstanding[0].sure:
                    self._pipelined |= outstanding[0].message.first_ns <= message.first_ns
        else:
            message.reasons.add("unpaired")
            self.lost("response")  # that of each of these may be this one
            self._requests.answered()
            self._orphan = not outstanding and not self._doubt and not side.found

    def _answer(self, event: HttpResponse) -> None:
        sent, self._answered = self._answered, None
        if sent is None:
            self._told += (event, make_exchange(None, event))
        elif sent.event is None:
            sent.response = event
        else:
            self._told += (event, make_exchange(sent.event, event))
        if event.status == 101 or (sent and sent.message.method == "CONNECT" and event.status < 300):
            self._requests.end(known=True)
            while self._outstanding:
                self._give_up()
            self._requests.hold()
            self._responses.hold()
            self._switch = (sent.event if sent else None, event)
        elif self._held_for is not None and sent in (None, self._held_for):
            self._held_for = None
            self._requests.release()

    def _succeed(self, request: HttpRequest | None, response: HttpResponse) -> None:
        """Hands over to what follows the upgrade, with what has come of it already."""
        self.successor = successor = self._successor(request, response)
        for piece in (*self._requests.held, *self._responses.held):
            self._told += successor.data(piece)

    def _successor(self, request: HttpRequest | None, response: HttpResponse) -> Handler:
        protocol = (response.header("upgrade") or "").strip().lower() if response.status == 101 else ""
        if protocol == "websocket":
            from .websocket import WebSocket

            if request is None:  # it was lost
                return WebSocket.joined_late(
                    self._limits, "write" if response.direction == "read" else "read"
                )
            return WebSocket(request, response, self._limits, request.direction)
        if protocol == "h2c":
            from .http2 import Http2

            return Http2(self._limits, self._on_head)
        return _Ignored()

    def _give_up(self) -> None:
        sent = self._outstanding.popleft()
        if sent.event is not None:
            self._told.append(make_exchange(sent.event, None, () if sent.sure else ("unpaired",)))


def _kind_of(data: bytes | bytearray) -> Kind | None:
    """What a first line is that stands there, if it has come as a whole."""
    data = data.lstrip(b"\r\n")
    kinds: tuple[Kind, ...] = ("request", "response")
    return next((kind for kind in kinds if match_start(kind, data)), None)
