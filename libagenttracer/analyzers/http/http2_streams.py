"""The open streams of an HTTP/2 connection: the messages on them, the order of events, and limits."""

from __future__ import annotations

from ...events import Event, HttpRequest, HttpResponse, StreamData, StreamEnd, derived_id
from .http2_head import length_of
from .http2_tunnel import Tunnel
from .limits import Limits
from .messages import Incoming, make_exchange

__all__ = ["Stream", "Streams"]


class Stream:
    """One request and its response."""

    __slots__ = ("answered", "asked", "held", "id", "protocol", "request", "reserved", "response", "tunnel")

    def __init__(self, stream_id: int) -> None:
        self.id = stream_id
        self.request: Incoming | None = None  # while it comes
        self.asked: HttpRequest | None = None  # then; it has been told
        self.response: Incoming | None = None
        self.answered: HttpResponse | None = None  # it is told behind the request
        self.protocol = ""  # that a CONNECT asks for
        self.tunnel: Tunnel | None = None  # both messages have been told
        self.held = 0
        self.reserved = 0


class Streams:
    """Those of one connection.

    Args:
        limits: `max_streams` and `max_held_bytes`.
        requests_lost: there may be responses whose requests do not come.

    Attributes:
        open: by number, the oldest first.
        newest: the highest one that the client has begun.
        held: bytes, by all of them.
        told: events that are to be told.
    """

    def __init__(self, limits: Limits, *, requests_lost: bool) -> None:
        self.open: dict[int, Stream] = {}
        self.newest = 0
        self.requests_lost = requests_lost
        self.held = 0
        self.told: list[Event] = []
        self._limits = limits
        self._reserved = 0
        self._closed: dict[int, None] = {}  # the last ones
        self._waiting: list[int] = []  # whose response is over, but whose request was not seen

    def take_told(self) -> list[Event]:
        """What is to be told."""
        told, self.told = self.told, []
        return told

    def is_closed(self, stream_id: int) -> bool:
        """Whether it is one of the last that were closed."""
        return stream_id in self._closed

    def add(self, stream_id: int, at: StreamData) -> Stream:
        """Opens a stream; if there are too many the oldest one is given up."""
        if len(self.open) >= self._limits.max_streams:
            self.cut(next(iter(self.open.values())), "aborted", at)
        stream = self.open[stream_id] = Stream(stream_id)
        return stream

    def begun(self, stream_id: int) -> None:
        """The client has begun a stream: requests on lower ones, which were not seen, will not come."""
        if stream_id <= self.newest:
            return
        self.newest = stream_id
        waiting, self._waiting = self._waiting, []
        for other in waiting:
            if other in self.open and other != stream_id:
                self.settle(self.open[other])

    def hold(self, stream: Stream, size: int) -> None:
        """More bytes are kept for a stream."""
        stream.held += size
        self.held += size

    def reserve(self, stream: Stream, size: int) -> int:
        """How much memory may be taken for a body before it comes: all that is asked for, or none."""
        if self._reserved + size > self._limits.max_held_bytes:
            return 0
        stream.reserved += size
        self._reserved += size
        return size

    def keep_limits(self, at: StreamData) -> None:
        """If too much is held, gives up those that hold most."""
        while self.held > self._limits.max_held_bytes:
            self.cut(max(self.open.values(), key=lambda stream: stream.held), "too_long", at)

    def end_message(self, stream: Stream, message: Incoming) -> None:
        """The message's side of the stream is over."""
        length = length_of(message)
        assert message.body is not None
        if (length is not None and length != message.body.wire_bytes) or 100 <= message.status < 200:
            message.reasons.add("malformed")
        self.finish(stream, message)
        self.settle(stream)

    def finish(self, stream: Stream, message: Incoming) -> None:
        """Makes an event of a message; a request is told at once."""
        told = message.finish()
        event = told.pop()
        self.told += told
        if isinstance(event, HttpRequest):
            stream.request, stream.asked = None, event
            self.told.append(event)
        elif isinstance(event, HttpResponse):
            stream.response, stream.answered = None, event

    def settle(self, stream: Stream) -> None:
        """Tells the response, if it is over and its request was told or will not come."""
        if stream.answered is None:
            return
        if stream.request is not None:
            if not stream.request.reasons:
                return
            self.finish(stream, stream.request)  # its end may be what was lost
        elif stream.asked is None and stream.id % 2 and stream.id > self.newest and not self.requests_lost:
            self._waiting.append(stream.id)
            return
        self.tell(stream)
        self.close(stream)

    def tell(self, stream: Stream, *reasons: str) -> None:
        """Tells the response, if there is one, and that it belongs to the request."""
        if stream.answered is not None:
            self.told.append(stream.answered)
        self.told.append(make_exchange(stream.asked, stream.answered, reasons))

    def cut(self, stream: Stream, reason: str, at: StreamData | StreamEnd) -> None:
        """Ends a stream; what is unfinished is incomplete."""
        if stream.tunnel is not None:
            self.told += stream.tunnel.end(_end_at(at))
        else:
            for message in (stream.request, stream.response):
                if message is not None:
                    if "gap" not in message.reasons:  # its end may be what was lost
                        message.reasons.add(reason)
                    self.finish(stream, message)
            if stream.asked is not None or stream.answered is not None:
                self.tell(stream, *(() if stream.answered else (reason,)))
        self.close(stream)

    def close(self, stream: Stream) -> None:
        """Forgets a stream."""
        del self.open[stream.id]
        self.held -= stream.held
        self._reserved -= stream.reserved
        self._closed[stream.id] = None
        if len(self._closed) > self._limits.max_streams:
            del self._closed[next(iter(self._closed))]


def _end_at(at: StreamData | StreamEnd) -> StreamEnd:
    """What a WebSocket on a stream is told at its end."""
    return StreamEnd(
        derived_id(at.id, "stream_end"),
        at.timestamp_ns,
        at.source,
        at.pid,
        at.comm,
        at.exe,
        at.connection_id,
        "end",
    )
