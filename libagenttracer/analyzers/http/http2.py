"""HTTP/2 (RFC 9113), read from outside in both directions of a connection.

Frames are hyperframe's, header compression is hpack's. h2 itself does not fit: it plays one side, and asks
for everything since the beginning.

A request and its response belong together by the number of their stream, whatever was lost. After a loss a
message of which something may be missing is incomplete, and so is one whose headers cannot all be known.
Those that begin later, and are seen whole, are complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from hpack import HPACKError, OversizedHeaderListError
from hyperframe.exceptions import HyperframeError, InvalidFrameError
from hyperframe.frame import (
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
)

from ...events import Event, StreamData, StreamEnd
from .handler import Handler
from .hpack_state import HeaderDecoder
from .http2_frames import FrameReader
from .http2_head import Head, length_of
from .http2_streams import Stream, Streams
from .http2_tunnel import Tunnel
from .limits import Limits
from .messages import Incoming
from .websocket import WebSocket

__all__ = ["Http2"]

_Direction = Literal["read", "write"]
_Kind = Literal["request", "response"]
_UNKNOWN = Head((), Limits())


class _Way:
    """One direction."""

    def __init__(self, direction: _Direction, limits: Limits, late: bool) -> None:
        self.direction: _Direction = direction
        self.frames = FrameReader(late=late, max_block_bytes=limits.max_head_bytes)
        self.headers = HeaderDecoder(limits)
        self.loss = "joined_late" if late else ""  # why something may not have been seen
        # the header block that is coming
        self.block: bytearray | None = None
        self.hole = ""  # why it cannot be read
        self.start: StreamData | None = None
        self.stream_id = 0
        self.promised: int | None = None  # the stream of a request that the server makes
        self.end_stream = False

    def begin_block(self, frame: HeadersFrame | PushPromiseFrame) -> None:
        self.block = bytearray()
        self.hole = ""
        self.start = self.frames.start
        self.stream_id = frame.stream_id
        self.promised = frame.promised_stream_id if isinstance(frame, PushPromiseFrame) else None
        self.end_stream = "END_STREAM" in frame.flags


class Http2(Handler):
    """Follows a connection.

    A request that the server promises (server push) is told as if the client had sent it.

    Args:
        limits: `max_streams` and `max_held_bytes` are those of the connection. If there are more streams the
            oldest one is given up ("aborted"), if they hold more the one that holds most ("too_long").
        on_head: called with a message when its headers are complete.
        joined_late: the connection was first seen after it had begun, or its beginning is missing.
    """

    def __init__(
        self,
        limits: Limits,
        on_head: Callable[[Incoming], None] | None = None,
        *,
        joined_late: bool = False,
    ) -> None:
        self.successor: Handler | None = None
        self._limits = limits
        self._on_head = on_head
        self._ways = {
            "read": _Way("read", limits, joined_late),
            "write": _Way("write", limits, joined_late),
        }
        self._client: _Direction | None = None  # the one in which the client sends, once it is known
        self._streams = Streams(limits, requests_lost=joined_late)
        self._messages = 0

    def data(self, piece: StreamData) -> Iterable[Event]:
        """Takes the next piece; gives the messages that end in it."""
        way = self._ways[piece.direction]
        try:
            if piece.missing_bytes:
                self._on_gap(way, piece)
            for frame, data, done in way.frames.read(piece):
                if type(frame) is DataFrame and way.block is None:
                    self._on_data(way, frame, data, done, piece)
                elif done:
                    self._on_frame(way, frame, piece)
        except HyperframeError:
            self._lose(way, "malformed", piece)
        self._streams.keep_limits(piece)
        return self._streams.take_told()

    def end(self, end: StreamEnd) -> Iterable[Event]:
        """Gives what is unfinished."""
        for stream in [*self._streams.open.values()]:
            self._streams.cut(stream, "aborted", end)
        return self._streams.take_told()

    def _on_frame(self, way: _Way, frame: Frame, piece: StreamData) -> None:
        if isinstance(frame, (HeadersFrame, PushPromiseFrame, ContinuationFrame)):
            self._on_fragment(way, frame, piece)
        elif way.block is not None:
            raise InvalidFrameError  # nothing may come between
        elif isinstance(frame, RstStreamFrame):
            stream = self._streams.open.get(frame.stream_id)
            if stream is not None:
                self._streams.cut(stream, "aborted", piece)
        elif isinstance(frame, SettingsFrame):
            other = self._ways["read" if way.direction == "write" else "write"].frames
            length = frame.settings.get(SettingsFrame.MAX_FRAME_SIZE, 0)
            other.max_frame = max(other.max_frame, length)
        elif isinstance(frame, GoAwayFrame) and not way.frames.hole and self._client is not None:
            parity = 0 if way.direction == self._client else 1  # of the streams that the other side began
            for stream in [*self._streams.open.values()]:
                if stream.id > frame.last_stream_id and stream.id % 2 == parity:
                    self._streams.cut(stream, "aborted", piece)

    def _on_fragment(
        self, way: _Way, frame: HeadersFrame | PushPromiseFrame | ContinuationFrame, piece: StreamData
    ) -> None:
        goes_on = isinstance(frame, ContinuationFrame)
        if goes_on != (way.block is not None) or (goes_on and frame.stream_id != way.stream_id):
            raise InvalidFrameError
        if not isinstance(frame, ContinuationFrame):
            way.begin_block(frame)
        block = way.block
        assert block is not None
        if not way.hole:
            way.hole = way.frames.hole
            block += frame.data
            if len(block) > self._limits.max_head_bytes:
                way.hole = "too_long"
        if "END_HEADERS" in frame.flags:
            way.block = None
            self._on_block(way, bytes(block), piece)

    def _on_block(self, way: _Way, block: bytes, piece: StreamData) -> None:
        if way.hole:
            way.headers.lost()
            self._on_head_of(way, _UNKNOWN, piece)
            return
        try:
            head = Head(way.headers.fields(block), self._limits)
        except OversizedHeaderListError:
            way.hole = "too_long"
            self._on_head_of(way, _UNKNOWN, piece)
        except HPACKError as error:
            way.hole = "malformed"
            self._on_head_of(way, _UNKNOWN, piece)
            raise InvalidFrameError from error
        else:
            self._on_head_of(way, head, piece)

    def _on_head_of(self, way: _Way, head: Head, piece: StreamData) -> None:
        """Takes headers, or trailers, of the stream that `way` says."""
        if self._client is None and not self._find_client(way, head):
            return
        from_client = way.direction == self._client
        if way.promised is not None:
            if not from_client:
                self._on_promise(way, head, piece)
            return
        stream = self._stream_of(way, from_client, piece)
        if stream is None:
            return
        if stream.tunnel is not None:
            self._on_tunnel(stream, stream.tunnel, memoryview(b""), True, way.end_stream, piece)
            return
        kind: _Kind = "request" if from_client else "response"
        message = stream.request if from_client else stream.response
        if message is None:
            if (stream.asked if from_client else stream.answered) is not None:
                return  # it is over
            message = self._begin(way, stream, kind, head, way.start, way.hole)
        elif not message.status and ":status" in head.pseudo and not from_client:
            # one of which this was not known; so it was an interim one
            self._streams.told += message.finish()
            message = self._begin(way, stream, kind, head, way.start, way.hole)
        else:
            head.ends(message, self._limits)
            self._streams.hold(stream, head.size)
            if way.hole or not way.end_stream:
                message.reasons.add(way.hole or "malformed")
        message.last_ns = piece.timestamp_ns
        if way.end_stream:
            self._streams.end_message(stream, message)
        elif message is stream.response:
            self._on_response(stream, message)

    def _stream_of(self, way: _Way, from_client: bool, piece: StreamData) -> Stream | None:
        """The stream on which headers came, which may begin it; None: it is over, or there is no such."""
        streams, stream_id = self._streams, way.stream_id
        stream = streams.open.get(stream_id)
        if stream is None:
            if from_client:
                if stream_id <= streams.newest or stream_id % 2 == 0:
                    return None
                if way.hole and streams.is_closed(stream_id):  # its response was told without it
                    return None
            elif streams.is_closed(stream_id):
                return None
            stream = self._open(stream_id, piece)
        if from_client:
            streams.begun(stream_id)
        return stream

    def _open(self, stream_id: int, piece: StreamData) -> Stream:
        for way in self._ways.values():
            way.frames.max_stream = max(way.frames.max_stream, stream_id)
        return self._streams.add(stream_id, piece)

    def _find_client(self, way: _Way, head: Head) -> bool:
        """Finds out which direction is the client's."""
        is_client = way.frames.is_client
        if is_client is None:
            if way.promised is None and not {":method", ":status"} & head.pseudo.keys():
                return False
            is_client = way.promised is None and ":method" in head.pseudo
        self._client = "read" if is_client == (way.direction == "read") else "write"
        return True

    def _begin(
        self, way: _Way, stream: Stream, kind: _Kind, head: Head, start: StreamData | None, hole: str
    ) -> Incoming:
        """A message begins, with a block or, where that is lost, without."""
        assert start is not None
        self._messages += 1
        message = Incoming(start, self._messages & 0xFFFFFFFF, kind, self._limits, stream.id)
        head.begins(message, hole or way.loss or "malformed")
        if hole:
            message.reasons.add(hole)
        if kind == "request":
            assert self._client is not None
            message.direction = self._client
            stream.request = message
            stream.protocol = head.pseudo.get(":protocol", "")
        else:
            stream.response = message
            message.request = stream.request or stream.asked
        message.head_done(self._streams.reserve(stream, length_of(message) or 0))
        self._streams.hold(stream, head.size)
        if self._on_head is not None:
            self._on_head(message)
        return message

    def _on_promise(self, way: _Way, head: Head, piece: StreamData) -> None:
        stream_id = way.promised
        if not stream_id or stream_id in self._streams.open or self._streams.is_closed(stream_id):
            return
        stream = self._open(stream_id, piece)
        message = self._begin(way, stream, "request", head, way.start, way.hole)
        message.last_ns = piece.timestamp_ns
        self._streams.finish(stream, message)

    def _on_response(self, stream: Stream, message: Incoming) -> None:
        """The head of a response, which goes on, is there."""
        status, asked = message.status, message.request
        if 100 <= status < 200:
            stream.response = None
            self._streams.told += message.finish()
        elif 200 <= status < 300 and asked is not None and asked.method == "CONNECT":
            if stream.request is not None:
                self._streams.finish(stream, stream.request)
            self._streams.finish(stream, message)
            self._streams.tell(stream)
            if stream.protocol != "websocket":
                self._streams.close(stream)
                return
            assert stream.asked is not None
            assert stream.answered is not None
            assert self._client is not None
            socket = WebSocket(stream.asked, stream.answered, self._limits, self._client, stream.id)
            stream.tunnel = Tunnel(socket, stream.id)
            if stream.asked.body_bytes:  # what should not come before the answer is not followed
                stream.tunnel.gap(self._client)

    def _on_data(self, way: _Way, frame: DataFrame, data: memoryview, done: bool, piece: StreamData) -> None:
        stream = self._streams.open.get(frame.stream_id)
        if stream is None:
            return  # it is closed, or its beginning was not seen
        end_stream = done and "END_STREAM" in frame.flags
        if stream.tunnel is not None:
            self._on_tunnel(stream, stream.tunnel, data, done, end_stream, piece)
            return
        from_client = way.direction == self._client
        message = stream.request if from_client else stream.response
        if message is None:
            if (stream.asked if from_client else stream.answered) is not None:
                return
            kind: _Kind = "request" if from_client else "response"
            message = self._begin(way, stream, kind, _UNKNOWN, way.frames.start, "")
        if data:
            assert message.body is not None
            before = message.body.length
            self._streams.told += message.add_body(data, piece)
            self._streams.hold(stream, message.body.length - before)
        if end_stream:
            message.last_ns = piece.timestamp_ns
            self._streams.end_message(stream, message)

    def _on_tunnel(
        self,
        stream: Stream,
        tunnel: Tunnel,
        data: memoryview,
        done: bool,
        end_stream: bool,
        piece: StreamData,
    ) -> None:
        self._streams.told += tunnel.data(piece, data, done=done, end_stream=end_stream)
        if tunnel.over:
            self._streams.cut(stream, "", piece)

    def _on_gap(self, way: _Way, piece: StreamData) -> None:
        frames = way.frames
        if not frames.gap(piece.missing_bytes):
            self._lose(way, "gap", piece)
        elif isinstance(frames.frame, DataFrame):
            stream = self._streams.open.get(frames.frame.stream_id)
            if stream is not None:
                padded = "PADDED" in frames.frame.flags
                self._mark(way, stream, "gap", None if padded else piece.missing_bytes)

    def _mark(self, way: _Way, stream: Stream, reason: str, missing: int | None) -> None:
        """A part of what this direction carries of the stream is missing here."""
        if stream.tunnel is not None:
            stream.tunnel.gap(way.direction, missing)
            return
        message = stream.request if way.direction == self._client else stream.response
        if message is not None:
            message.gap()
            message.reasons.add(reason)

    def _lose(self, way: _Way, reason: str, piece: StreamData) -> None:
        """Frames are missing, and it is not known how many, nor where the next one begins."""
        frames = way.frames
        if frames.lost:
            return
        if isinstance(frames.frame, (HeadersFrame, PushPromiseFrame)) and way.block is None:
            way.begin_block(frames.frame)
        frames.lose()
        if way.block is not None:
            way.block = None
            way.hole = reason
            self._on_head_of(way, _UNKNOWN, piece)
        way.headers.lost()
        way.loss = reason
        if way.direction == self._client or self._client is None:
            self._streams.requests_lost = True
        for stream in self._streams.open.values():
            self._mark(way, stream, reason, None)
