"""Server-sent events out of responses' bodies: each when it has come, and the whole stream at its end."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field

import msgspec

from ..events import (
    Event,
    HttpBody,
    HttpResponse,
    SseEvent,
    SseItem,
    SseStream,
    StreamEnd,
    derived_id,
    derived_ids,
)

__all__ = ["SseMerger", "SseParser"]

_TYPE = "text/event-stream"
_BOM = b"\xef\xbb\xbf"
_MAX_ID = 4096  # characters: the last id is told with each event
_MAX_RETRY_DIGITS = 15
_ITEM_BYTES = 96  # that an event takes besides its text


class SseParser:
    """Reads a stream of server-sent events (HTML Standard, 9.2.6). No input makes it raise.

    Args:
        max_event_bytes: of one event's lines together; a longer one is passed over.

    Attributes:
        comments: lines that were comments, so far.
        retry_ms: the last reconnection time, milliseconds.
        last_event_id: the last id.
        too_long: an event or an id was passed over for its length.
        unfinished: set by `finish`: the stream ended within an event, which is dropped as the standard asks.
    """

    def __init__(self, max_event_bytes: int = 8 << 20) -> None:
        self.comments = 0
        self.retry_ms: int | None = None
        self.last_event_id = ""
        self.too_long = False
        self.unfinished = False
        self._max = max_event_bytes
        self._held = bytearray()  # what has come of the current event, without a line end at its end
        self._line_end = False  # that one
        self._after_cr = False  # a line feed that follows belongs to the line end before
        self._start: bytes | None = b""  # while this may be the beginning of a byte order mark
        self._skip = False  # to the next empty line

    def feed(self, data: bytes) -> list[tuple[str, str, str]]:
        """Takes the next bytes.

        Returns:
            The events that are complete now: type, data, and the last id.
        """
        if self._start is not None:
            data = self._start + data
            if len(data) < len(_BOM) and _BOM.startswith(data):
                self._start = data
                return []
            self._start = None
            data = data.removeprefix(_BOM)
        if self._after_cr or b"\r" in data:
            data = self._unified(data)
        if not data:
            return []
        if self._line_end:
            data = b"\n" + data
        cut = data.rfind(b"\n\n")
        if cut < 0:
            self._hold(data)
            return []
        blocks, rest = data[:cut], data[cut + 2 :]
        if self._held:
            self._held += blocks
            blocks = bytes(self._held)
            self._held.clear()
        if self._skip:
            self._skip = False
            blocks = blocks.partition(b"\n\n")[2]
        self._hold(rest)
        if len(blocks) > self._max:
            blocks = self._without_long(blocks)
        return self._events(blocks.decode("utf-8", "replace"))

    def gap(self) -> None:
        """Bytes are missing here: what follows is read from the next empty line on."""
        self._held.clear()
        self._line_end = self._after_cr = False
        self._skip = True
        self._start = None
        self.last_event_id = ""  # another one may have been in there

    def finish(self) -> None:
        """The stream is over."""
        lines = (self._start or self._held).split(b"\n")
        self.unfinished = any(line[:1] not in (b"", b":") for line in lines)
        self._held.clear()

    def _unified(self, data: bytes) -> bytes:
        """With line feeds for all line ends."""
        if self._after_cr and data:
            data = data.removeprefix(b"\n")
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _hold(self, data: bytes) -> None:
        self._line_end = data.endswith(b"\n")
        if self._line_end:
            data = data[:-1]
        if self._skip:
            return
        self._held += data if self._held else data.lstrip(b"\n")
        if len(self._held) > self._max:
            self._held.clear()
            self._skip = self.too_long = True

    def _without_long(self, blocks: bytes) -> bytes:
        kept = []
        for block in blocks.split(b"\n\n"):
            if len(block.strip(b"\n")) > self._max:
                self.too_long = True
            else:
                kept.append(block)
        return b"\n\n".join(kept)

    def _events(self, text: str) -> list[tuple[str, str, str]]:
        events: list[tuple[str, str, str]] = []
        last_id = self.last_event_id
        for block in text.split("\n\n"):
            lines = block.split("\n")
            count = len(lines)
            # nearly all events look like one of these
            if count == 2 and lines[0].startswith("event: ") and lines[1].startswith("data: "):
                events.append((lines[0][7:] or "message", lines[1][6:], last_id))
            elif count == 1 and block.startswith("data: "):
                events.append(("message", block[6:], last_id))
            else:
                self._any_lines(lines, events)
                last_id = self.last_event_id
        return events

    def _any_lines(self, lines: list[str], events: list[tuple[str, str, str]]) -> None:
        """Takes whole lines, behind which is an empty one."""
        event = ""
        data: list[str] = []
        lines.append("")
        for line in lines:
            if not line:
                if data:
                    events.append((event or "message", "\n".join(data), self.last_event_id))
                event = ""
                data = []
                continue
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if not name:
                self.comments += 1
            elif name == "data":
                data.append(value)
            elif name == "event":
                event = value
            elif name == "id" and "\0" not in value:
                if len(value) > _MAX_ID:
                    self.too_long = True
                    value = ""
                self.last_event_id = value
            elif name == "retry" and value.isascii() and value.isdigit() and len(value) <= _MAX_RETRY_DIGITS:
                self.retry_ms = int(value)


@dataclass
class _Stream:
    """A stream of events while it comes."""

    first: HttpBody
    parser: SseParser
    id: str
    last_byte_ns: int
    items: list[SseItem] = field(default_factory=list)
    count: int = 0
    held_bytes: int = 0
    reasons: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.event_id = derived_ids(self.id, "sse_event")


class SseMerger:
    """Gives an `SseEvent` for each event as soon as it has come, and an `SseStream` when the stream is over.

    Takes the `HttpBody` parts of type text/event-stream (they don't pass) and the `HttpResponse` behind them;
    this follows the `SseStream`, and its body is left out, as `body_in` says: unless there was no event in
    it. A response whose body comes without parts is read as well.

    Args:
        each: give each event by itself; else only the stream.
        max_event_bytes: of one event; longer ones are missing.
        max_stream_bytes: of a stream; its later events are not in the `SseStream`.
        max_stream_events: how many of them are.
        max_streams: that are open; if there are more, the one without news for the longest time ends.
        max_held_bytes: of all of them together; likewise.

    Raises:
        ValueError: `max_streams` is not positive.
    """

    def __init__(
        self,
        *,
        each: bool = True,
        max_event_bytes: int = 8 << 20,
        max_stream_bytes: int = 32 << 20,
        max_stream_events: int = 1 << 18,
        max_streams: int = 1024,
        max_held_bytes: int = 128 << 20,
    ) -> None:
        if max_streams < 1:
            raise ValueError(f"max_streams is not positive: {max_streams}")
        self._each = each
        self._max_event_bytes = max_event_bytes
        self._max_stream_bytes = max_stream_bytes
        self._max_stream_events = max_stream_events
        self._max_streams = max_streams
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._streams: OrderedDict[str, _Stream] = (
            OrderedDict()
        )  # by response, that with the latest news last

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives what became complete, and the event itself if it passes."""
        if isinstance(event, HttpBody):
            return self._part(event) if event.content_type == _TYPE else (event,)
        if isinstance(event, HttpResponse):
            return self._response(event)
        if isinstance(event, StreamEnd) and self._streams:
            connection = event.connection_id
            ended = [key for key, s in self._streams.items() if s.first.connection_id == connection]
            return [*(self._end(key, "aborted") for key in ended), event]
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Nothing waits for a time."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Gives the streams that are not over."""
        return [self._end(key, "aborted") for key in [*self._streams]]

    def _part(self, part: HttpBody) -> list[Event]:
        told: list[Event] = []
        key = part.response_id
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._max_streams:
                told.append(self._end(next(iter(self._streams)), "aborted"))
            stream = self._streams[key] = _Stream(
                part,
                SseParser(self._max_event_bytes),
                derived_id(key, "sse_stream", part.offset & 0xFFFFFFFF),
                part.timestamp_ns,
            )
            if part.offset:  # it had been given up
                stream.parser.gap()
                stream.reasons.add("joined_late")
        else:
            self._streams.move_to_end(key)
        if part.missing_bytes:
            stream.parser.gap()
            stream.reasons.add("gap")
        told += self._events(stream, part.payload, part.timestamp_ns)
        if part.last:
            stream.parser.finish()
        while self._held_bytes > self._max_held_bytes:
            told.append(self._end(next(iter(self._streams)), "aborted"))
        return told

    def _events(self, stream: _Stream, payload: bytes, at_ns: int) -> list[Event]:
        """Takes the next bytes of a stream; gives each event."""
        stream.last_byte_ns = at_ns
        found = stream.parser.feed(payload)
        if stream.held_bytes > self._max_stream_bytes or len(stream.items) >= self._max_stream_events:
            if found:
                stream.reasons.add("too_long")
        else:
            stream.held_bytes += len(payload)
            self._held_bytes += len(payload)
            self._held_bytes += _ITEM_BYTES * len(found)
            stream.items += [SseItem(at_ns, event, data, last_id) for event, data, last_id in found]
        index = stream.count
        stream.count += len(found)
        if not self._each:
            return []
        first, event_id = stream.first, stream.event_id
        source, pid, comm = first.source, first.pid, first.comm
        exe, connection = first.exe, first.connection_id
        response_id, request_id = first.response_id, first.request_id
        return [
            SseEvent(
                event_id(number),
                at_ns,
                source,
                pid,
                comm,
                exe,
                connection,
                response_id,
                request_id,
                number,
                event,
                data,
                last_id,
            )
            for number, (event, data, last_id) in enumerate(found, index)
        ]

    def _response(self, response: HttpResponse) -> Iterable[Event]:
        told: list[Event] = []
        if response.id not in self._streams:
            content_type = (response.header("content-type") or "").partition(";")[0].strip().lower()
            if content_type != _TYPE or not response.body:
                return (response,)
            told = self._body(response)
        stream = self._streams.get(response.id)
        if stream is None:  # it alone had more than is held
            return [*told, response]
        stream.last_byte_ns = response.last_byte_ns
        told.append(self._end(response.id, *(response.reason or "").split(",")))
        if stream.count or not response.body:
            response = msgspec.structs.replace(response, body=b"", body_in=stream.id)
        told.append(response)
        return told

    def _body(self, response: HttpResponse) -> list[Event]:
        """Reads a body of which no parts came."""
        told: list[Event] = []
        times = response.body_times or [(0, response.last_byte_ns)]
        ends = [offset for offset, _ in times[1:]] + [len(response.body)]
        for (begin, at_ns), end in zip(times, ends, strict=True):
            part = HttpBody(
                *(response.id, at_ns, response.source, response.pid, response.comm, response.exe),
                *(response.connection_id, response.id, None, response.stream_id, _TYPE, begin),
                response.body[begin:end],
                last=end == ends[-1],
            )
            told += self._part(part)
        return told

    def _end(self, key: str, *reasons: str) -> SseStream:
        stream = self._streams.pop(key)
        self._held_bytes -= stream.held_bytes + _ITEM_BYTES * len(stream.items)
        parser, first = stream.parser, stream.first
        why = stream.reasons.union(reasons) - {""}
        if parser.too_long:
            why.add("too_long")
        if parser.unfinished and not why:
            why.add("aborted")
        return SseStream(
            id=stream.id,
            timestamp_ns=stream.items[0].timestamp_ns if stream.items else first.timestamp_ns,
            source=first.source,
            pid=first.pid,
            comm=first.comm,
            exe=first.exe,
            connection_id=first.connection_id,
            response_id=first.response_id,
            request_id=first.request_id,
            events=stream.items,
            last_byte_ns=stream.last_byte_ns,
            comments=parser.comments,
            retry_ms=parser.retry_ms,
            incomplete=bool(why),
            reason=",".join(sorted(why)) or None,
        )
