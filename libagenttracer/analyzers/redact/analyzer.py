"""Replaces the credentials in all events by fingerprints."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from ...events import (
    Event,
    HttpBody,
    HttpMessage,
    ProcessExec,
    SseEvent,
    SseStream,
    SslData,
    StreamData,
    StreamEnd,
    WebSocketMessage,
)
from .scrub import Scrubber
from .streams import StreamWindow, is_clean, redact_documents, redact_lines

__all__ = ["Redactor"]

# given by the tracer itself, or too short for anything
_OWN = {
    *(
        "id",
        "timestamp_ns",
        "source",
        "pid",
        "tid",
        "ppid",
        "uid",
        "gid",
        "comm",
        "connection_id",
        "direction",
    ),
    *(
        "process_id",
        "exec_id",
        "parent_process_id",
        "child_process_id",
        "request_id",
        "response_id",
        "body_in",
    ),
    *(
        "http_request_id",
        "http_response_id",
        "http_exchange_id",
        "version",
        "method",
        "syscall",
        "access",
        "role",
    ),
    *("family", "protocol", "local_address", "remote_address", "query_type", "reason", "opcode", "transport"),
    *("content_encoding", "name", "function", "library", "sender", "api", "provider_name", "operation_name"),
}
_NO_TEXT = (int, float, bool, type(None))
_BINARY_STREAM = "application/vnd.amazon.eventstream"
_LINES = ("text/event-stream", "application/x-ndjson", "application/jsonl", "application/x-jsonlines")


class _Stream:
    """A stream that runs: what is held back of it, and what was changed, by its number in the stream."""

    __slots__ = ("changes", "connection_id", "count", "window")

    def __init__(self, scrubber: Scrubber, connection_id: str) -> None:
        self.window = StreamWindow(scrubber)
        self.connection_id = connection_id
        self.count = 0
        self.changes: dict[int, str] = {}


class Redactor:
    """Replaces credentials in all fields of all events by `[redacted:KIND:FINGERPRINT]` (docs/redaction.md).

    It belongs behind the analyzers that put things together, since a credential can lie across chunks. Events
    with raw bytes (`ssl_data`, `stream_data`, `http_body`) cannot be redacted and are left out. Events of
    streams are held back while they may hold the beginning of a credential, until the next words come, the
    stream is over, or has paused for `patience_ns`; what then looks like the beginning of one is replaced.

    Args:
        key: of the fingerprints, 1 to 64 bytes: with the same key the same credential has the same
            fingerprint. By default random.
        raw: events with raw bytes pass, unredacted.
        patience_ns: how long an event of a stream may be held back, nanoseconds of event time.
        max_streams: how many streams are followed at once; if there are more, the oldest is given up.

    Attributes:
        redacted: credentials that were replaced; the same one in two events counts twice.

    Raises:
        ValueError: the key is empty or too long, or a limit is not positive.
    """

    must_run = True  # nothing may pass it by

    def __init__(
        self,
        key: bytes | None = None,
        *,
        raw: bool = False,
        patience_ns: int = 10_000_000_000,
        max_streams: int = 1024,
    ) -> None:
        if patience_ns < 1 or max_streams < 1:
            raise ValueError("patience_ns and max_streams must be positive")
        self._scrubber = Scrubber(secrets.token_bytes(32) if key is None else key)
        self._raw = raw
        self._patience_ns = patience_ns
        self._max_streams = max_streams
        self._streams: OrderedDict[tuple[Any, ...], _Stream] = OrderedDict()
        self._special: dict[type[Event], Callable[[Any], Iterable[Event]]] = {
            SseEvent: self._sse_event,
            SseStream: self._sse_stream,
            WebSocketMessage: self._websocket_message,
            StreamEnd: self._stream_end,
        }
        for cls in (SslData, StreamData, HttpBody):
            self._special[cls] = self._raw_bytes
        self._fields: dict[type[Event], tuple[str, ...]] = {}

    @property
    def redacted(self) -> int:
        """Credentials that were replaced."""
        return self._scrubber.count

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives it without credentials, now or when it is told what follows."""
        special = self._special.get(type(event))
        return special(event) if special is not None else (self._clean(event),)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Gives what was held back for too long."""
        given: list[Event] = []
        for stream in self._streams.values():
            if now_ns - stream.window.last_ns >= self._patience_ns:
                given += self._shown(stream, stream.window.end(forced=True))
        return given

    def flush(self) -> Iterable[Event]:
        """Gives all that was held back."""
        given: list[Event] = []
        for stream in self._streams.values():
            given += self._shown(stream, stream.window.end())
        self._streams.clear()
        return given

    def _clean(self, event: Event) -> Event:
        cls = type(event)
        fields = self._fields.get(cls)
        if fields is None:
            fields = self._fields[cls] = tuple(name for name in cls.__struct_fields__ if name not in _OWN)
        changes = None
        for name in fields:
            value = getattr(event, name)
            if not value or isinstance(value, _NO_TEXT):
                continue
            new = self._field(event, name, value)
            if new is not value:
                if changes is None:
                    changes = {}
                changes[name] = new
        return msgspec.structs.replace(event, **changes) if changes else event

    def _field(self, event: Event, name: str, value: Any) -> Any:
        if isinstance(value, bytes):
            return self._body(event, value) if isinstance(event, HttpMessage) else self._scrubber.data(value)
        if isinstance(value, msgspec.Raw):
            return msgspec.Raw(self._scrubber.data(bytes(value)))
        if isinstance(event, HttpMessage) and name in ("headers", "trailers"):
            return self._scrubber.headers(value)
        if isinstance(event, ProcessExec) and name == "args":
            return self._scrubber.arguments(value)
        return self._scrubber.value(value)

    def _body(self, message: HttpMessage, body: bytes) -> bytes:
        content_type = (message.header("content-type") or "").partition(";")[0].strip().lower()
        if content_type == _BINARY_STREAM:
            return f"[left out: an event stream of {len(body)} bytes]".encode()
        if (
            content_type in _LINES
            or body.startswith((b"data:", b"event:"))
            or (body[:1] == b"{" and b"}\n{" in body)
        ):
            return redact_lines(self._scrubber, body)
        if body[:1] == b"[" and content_type.endswith("json"):
            return redact_documents(self._scrubber, body)
        return self._scrubber.data(body)

    def _raw_bytes(self, event: Event) -> Iterable[Event]:
        return (event,) if self._raw else ()

    def _sse_event(self, event: SseEvent) -> Iterable[Event]:
        return self._piece((event.response_id,), event, event.data)

    def _websocket_message(self, event: WebSocketMessage) -> Iterable[Event]:
        key = (event.connection_id, event.stream_id, event.direction)
        if event.opcode != "text":
            return (*self._end(key), self._clean(event)) if event.opcode == "close" else (self._clean(event),)
        try:
            return self._piece(key, event, event.payload.decode())
        except UnicodeDecodeError:
            return (self._clean(event),)

    def _piece(self, key: tuple[Any, ...], event: SseEvent | WebSocketMessage, data: str) -> list[Event]:
        given: list[Event] = []
        stream = self._streams.get(key)
        if stream is None:
            if len(self._streams) >= self._max_streams:
                _, oldest = self._streams.popitem(last=False)
                given += self._shown(oldest, oldest.window.end(forced=True))
            stream = self._streams[key] = _Stream(self._scrubber, event.connection_id)
        stream.window.last_ns = event.timestamp_ns
        given += self._shown(stream, stream.window.add((stream.count, event), data))
        stream.count += 1
        return given

    def _shown(self, stream: _Stream, released: list[tuple[Any, str]]) -> list[Event]:
        """The events that were released, with their data as they are now."""
        given: list[Event] = []
        for (number, event), data in released:
            if isinstance(event, WebSocketMessage):
                if data != event.payload.decode():
                    event = msgspec.structs.replace(event, payload=data.encode())  # noqa: PLW2901
            elif data != event.data:
                stream.changes[number] = data
                event = msgspec.structs.replace(event, data=data)  # noqa: PLW2901
            given.append(self._clean_rest(event))
        return given

    def _clean_rest(self, event: Any) -> Event:
        """The fields besides the data of an event of a stream."""
        changes = {
            name: new
            for name in ("event", "last_event_id", "target")
            if len(old := getattr(event, name, "")) > 16 and (new := self._scrubber.text(old)) is not old
        }
        cleaned: Event = msgspec.structs.replace(event, **changes) if changes else event
        return cleaned

    def _sse_stream(self, event: SseStream) -> Iterable[Event]:
        stream = self._streams.pop((event.response_id,), None)
        given: list[Event] = []
        if stream is not None:
            given += self._shown(stream, stream.window.end())
        if stream is None or stream.count != len(event.events):
            stream = _Stream(self._scrubber, "")  # its events were not seen, or not all
            stream.changes = self._changes([item.data for item in event.events])
        text = self._scrubber.text
        items = [
            item
            if n not in stream.changes and len(item.event) + len(item.last_event_id) <= 16
            else msgspec.structs.replace(
                item,
                data=stream.changes.get(n, item.data),
                event=text(item.event),
                last_event_id=text(item.last_event_id),
            )
            for n, item in enumerate(event.events)
        ]
        return (*given, msgspec.structs.replace(event, events=items))

    def _changes(self, stream: list[str]) -> dict[int, str]:
        if is_clean(stream):
            return {}
        window = StreamWindow(self._scrubber)
        released = [some for n, data in enumerate(stream) for some in window.add(n, data)]
        return {n: data for n, data in (*released, *window.end()) if data != stream[n]}

    def _stream_end(self, event: StreamEnd) -> Iterable[Event]:
        keys = [key for key, stream in self._streams.items() if stream.connection_id == event.connection_id]
        return (*(held for key in keys for held in self._end(key)), event)

    def _end(self, key: tuple[Any, ...]) -> list[Event]:
        stream = self._streams.pop(key, None)
        return self._shown(stream, stream.window.end()) if stream is not None else []
