"""Messages while they come in, for all versions of HTTP, and the events that they become."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal

from ...events import (
    ConnectionEvent,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    StreamData,
    derived_id,
)
from .bodies import Body
from .limits import Limits

__all__ = ["STREAMED_TYPES", "Incoming", "make_exchange", "text_of"]

# bodies that are followed while they come
STREAMED_TYPES = frozenset(
    {
        "text/event-stream",
        "application/x-ndjson",
        "application/jsonl",
        "application/x-jsonlines",
        "application/stream+json",
        "application/vnd.amazon.eventstream",
    }
)
Headers = list[tuple[str, str]]
_MAX_TIMES = 65536  # of one body
HeadWatcher = Callable[["Incoming"], None]


def text_of(raw: bytes) -> str:
    """A header's name or value, or a target."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("iso-8859-1")


def _message_id(piece_id: str, kind: Literal["request", "response"], number: int) -> str:
    """As `derived_id`; for an event that came of a record without a hash, since there are many."""
    if number < 256 and piece_id[18:24] == "-8000-":
        return f"{piece_id[:20]}{'1' if kind == 'request' else '2'}{number:02x}{piece_id[23:]}"
    return derived_id(piece_id, f"http_{kind}", number)


class Incoming:
    """A request or response of which something has come.

    Args:
        piece: the one in which it begins.
        number: tells it from other messages that begin in this piece (of the same kind).
        kind: "request" or "response".
        limits: for its body.
        stream_id: of HTTP/2.

    Attributes:
        id: of the event that it will be.
        first_id: of the piece in which it begins.
        first_ns, last_ns: times of its first byte and of its latest.
        reasons: why it is incomplete, see `HttpMessage.reason`.
        request: of a response: what it answers, where that is known.
        headers, trailers, version, method, target, authority, status, reason_phrase, unknown_headers: as in
            the events; set them before `head_done()` (trailers: before `finish()`).
    """

    # what few messages change
    version = method = target = authority = reason_phrase = ""
    status = unknown_headers = 0
    request: HttpRequest | Incoming | None = None
    streamed_type = ""  # its content type, if its body is followed while it comes
    body: Body | None = None
    _values: dict[str, str] | None = None  # of the headers, names in small letters
    _content_encoding = ""
    _gap = False
    _timed = False  # when its parts came is noted, although they are not told
    _parts = 0

    def __init__(
        self,
        piece: StreamData,
        number: int,
        kind: Literal["request", "response"],
        limits: Limits,
        stream_id: int | None = None,
    ) -> None:
        self.kind = kind
        self.id = _message_id(piece.id, kind, number)
        self.first_id = piece.id
        self.direction = piece.direction
        self.first_ns = self.last_ns = piece.timestamp_ns
        self.stream_id = stream_id
        self.headers: Headers = []
        self.trailers: Headers = []
        self.reasons: set[str] = set()
        self._limits = limits
        self._times: list[tuple[int, int]] = []
        self._whose = (piece.source, piece.pid, piece.comm, piece.exe, piece.connection_id)

    def header(self, name: str) -> str | None:
        """The value of this header (small letters); see `values()`."""
        return self.values().get(name)

    def values(self) -> dict[str, str]:
        """Headers by name (small letters), values of repeated ones joined by commas (RFC 9110, 5.3).

        Headers that are set after the first call are not there.
        """
        values = self._values
        if values is None:
            values = {key.lower(): value for key, value in self.headers}
            if len(values) < len(self.headers):
                several: dict[str, list[str]] = {}
                for any_case, value in self.headers:
                    several.setdefault(any_case.lower(), []).append(value)
                values = {key: ", ".join(some) for key, some in several.items()}
            self._values = values
        return values

    def head_done(self, expected_bytes: int | None = None, transfer_encoding: str = "") -> None:
        """The headers are complete.

        Args:
            expected_bytes: the length of the body as it is carried, where known.
            transfer_encoding: encodings of HTTP/1 that are left in what `add_body()` will be given.
        """
        values = self.values()
        encoding = self._content_encoding = values.get("content-encoding", "")
        if transfer_encoding:
            encoding = f"{encoding}, {transfer_encoding}"
        self.body = Body(encoding, expected_bytes, self._limits)
        if self.kind == "response":
            content_type = values.get("content-type")
            if content_type:
                content_type = content_type.partition(";")[0].strip().lower()
                if content_type in STREAMED_TYPES:
                    self.streamed_type = content_type
                # an array that is written while it grows, as Gemini's
                self._timed = expected_bytes is None and content_type == "application/json"

    def add_body(self, data: bytes | memoryview, piece: StreamData) -> list[HttpBody]:
        """Takes bytes of the body; gives parts that can be told already."""
        self.last_ns = piece.timestamp_ns
        assert self.body is not None
        if not self.streamed_type and not self._timed:
            self.body.add(data, give=False)
            return []
        offset = self.body.length
        decoded = self.body.add(data)
        if not decoded:
            return []
        times = self._times
        if not times or (times[-1][1] != piece.timestamp_ns and len(times) < _MAX_TIMES):
            times.append((offset, piece.timestamp_ns))
        if self._timed:
            return []
        return [self._part(piece.timestamp_ns, offset, decoded)]

    def gap(self) -> None:
        """Bytes of it are missing here."""
        self.reasons.add("gap")
        self._gap = True
        if self.body is not None:
            self.body.gap()

    def _part(self, at_ns: int, offset: int, payload: bytes, *, last: bool = False) -> HttpBody:
        source, pid, comm, exe, connection_id = self._whose
        self._parts += 1
        missing, self._gap = -1 if self._gap else 0, False
        return HttpBody(
            id=derived_id(self.id, "http_body", self._parts),
            timestamp_ns=at_ns,
            source=source,
            pid=pid,
            comm=comm,
            exe=exe,
            connection_id=connection_id,
            response_id=self.id,
            request_id=self.request.id if self.request is not None else None,
            stream_id=self.stream_id,
            content_type=self.streamed_type,
            offset=offset,
            payload=payload,
            missing_bytes=missing,
            last=last,
        )

    def forget(self, *, headers: bool) -> None:
        """Lets go of its body, and of its headers, when it has been told."""
        self.body = None
        if headers:
            self.headers, self.trailers, self._values = [], [], None

    def is_plain(self) -> bool:
        """Whether its body is neither encoded nor followed while it comes; asked before `head_done()`."""
        values = self.values()
        if "content-encoding" in values:
            return False
        content_type = values.get("content-type")
        return not content_type or content_type.partition(";")[0].strip().lower() not in STREAMED_TYPES

    def finish_plain(self, body: bytes) -> HttpRequest | HttpResponse:
        """The message that came in one piece: as `head_done()`, `add_body()` and `finish()` would give it."""
        return self._event(body, len(body))

    def finish(self, *reasons: str) -> list[HttpBody | HttpRequest | HttpResponse]:
        """The message is over; gives what was still to be told of its body, and it.

        Args:
            reasons: why it is incomplete, if it is.
        """
        if self.body is None:
            self.head_done()
        body = self.body
        assert body is not None
        self.reasons.update(reasons)
        told: list[Any] = []
        offset = body.length
        rest = body.finish()
        self.reasons |= body.reasons
        if self.streamed_type:
            told.append(self._part(self.last_ns, offset, rest, last=True))
        if self.unknown_headers:
            self.reasons.add("unknown_headers")
        told.append(self._event(body.value(), body.wire_bytes))
        return told

    def _event(self, body: bytes, wire_bytes: int) -> HttpRequest | HttpResponse:
        common = (
            *(self.id, self.first_ns, *self._whose, self.direction, self.version, self.headers),
            *(body, self.last_ns, self.stream_id, self.trailers, wire_bytes),
            self._content_encoding if wire_bytes else "",
            *(self.unknown_headers, bool(self.reasons)),
            ",".join(sorted(self.reasons)) if self.reasons else None,
        )
        if self.kind == "request":
            return HttpRequest(*common, method=self.method, target=self.target, authority=self.authority)
        return HttpResponse(
            *common, status=self.status, reason_phrase=self.reason_phrase, body_times=self._times
        )


def make_exchange(
    request: HttpRequest | None,
    response: HttpResponse | None,
    reasons: Collection[str] = (),
) -> HttpExchange:
    """The event that ties a request to its response; one of them may be missing."""
    either: ConnectionEvent | None = request or response
    assert either is not None
    if request is None or response is None or request.incomplete or response.incomplete:
        reasons = {*reasons, *_missing(request, "no_request"), *_missing(response, "no_response")}
    sent_by_us = request.direction == "write" if request else bool(response and response.direction == "read")
    return HttpExchange(
        *(_exchange_id(either.id), either.timestamp_ns, either.source, either.pid),
        *(either.comm, either.exe, either.connection_id),
        request.id if request else None,
        response.id if response else None,
        (request or response).stream_id,  # type: ignore[union-attr]
        "client" if sent_by_us else "server",
        request.method if request else "",
        request.target if request else "",
        request.authority if request else "",
        response.status if response else 0,
        request.timestamp_ns if request else None,
        request.last_byte_ns if request else None,
        response.timestamp_ns if response else None,
        response.last_byte_ns if response else None,
        (response.last_byte_ns - request.timestamp_ns) / 1e6 if request and response else None,
        bool(reasons),
        ",".join(sorted(reasons)) if reasons else None,
    )


def _exchange_id(message_id: str) -> str:
    """Each message is in one exchange at most."""
    if message_id[18:20] == "-8":
        return f"{message_id[:20]}{int(message_id[20], 16) + 2:x}{message_id[21:]}"
    return derived_id(message_id, "http_exchange")


def _missing(message: HttpRequest | HttpResponse | None, otherwise: str) -> list[str]:
    if message is None:
        return [otherwise]
    return message.reason.split(",") if message.reason else []
