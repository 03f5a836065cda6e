"""HTTP messages (RFC 9110), whatever version carried them, and WebSocket messages (RFC 6455)."""

from __future__ import annotations

from typing import Literal

import msgspec

from .base import event_type
from .connection import ConnectionEvent
from .ssl import Direction

__all__ = ["HttpBody", "HttpExchange", "HttpMessage", "HttpRequest", "HttpResponse", "WebSocketMessage"]

Headers = list[tuple[str, str]]


class HttpMessage(ConnectionEvent, frozen=True, gc=False):
    """What requests and responses share. `timestamp_ns` is the time of the first byte.

    Attributes:
        direction: which way it went: "write" if the process sent it.
        version: "1.0", "1.1", "2".
        headers: pairs of name and value, in order, repeated ones kept, names as they were sent (HTTP/2: in
            small letters, without those that begin with a colon). Bytes that are no UTF-8 are taken for
            ISO 8859-1.
        body: with transfer and content encodings removed.
        last_byte_ns: when its last byte came, nanoseconds since the epoch.
        stream_id: of HTTP/2.
        trailers: headers behind the body.
        body_bytes: length of the body as it was carried (content encodings in place, transfer encoding
            removed).
        content_encoding: what was removed, in the order of the header; "" for none.
        unknown_headers: headers whose name or value cannot be known, since what they refer to was not seen.
        incomplete: something is missing; `reason` says what, in words separated by commas: "gap" (bytes
            were lost), "joined_late", "too_long" (the body passed the limit), "bad_encoding" (`body` is
            what could be decoded), "bomb", "aborted" (connection or stream ended in the middle),
            "unknown_headers", "malformed", "unpaired".
    """

    direction: Direction
    version: str
    headers: Headers
    body: bytes
    last_byte_ns: int
    stream_id: int | None = None
    trailers: Headers = msgspec.field(default_factory=list)
    body_bytes: int = 0
    content_encoding: str = ""
    unknown_headers: int = 0
    incomplete: bool = False
    reason: str | None = None

    def header(self, name: str) -> str | None:
        """The first header of this name (small letters), if there is one."""
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None


@event_type("http_request")
class HttpRequest(HttpMessage, frozen=True, gc=False, kw_only=True):
    """A request.

    Attributes:
        method: as sent; "" where it cannot be known.
        target: path and query as sent (or what else stands there); "" where it cannot be known.
        authority: host and port that it is for (the Host header, or HTTP/2's :authority), "" where unknown.
    """

    method: str
    target: str
    authority: str = ""


@event_type("http_response")
class HttpResponse(HttpMessage, frozen=True, gc=False, kw_only=True):
    """A response; interim ones (100 to 199) are told too.

    Attributes:
        status: 0 where it cannot be known.
        reason_phrase: of HTTP/1.
        body_times: for bodies that are streams of events (see `HttpBody`), and for JSON of unknown length:
            pairs of an offset in `body` and the time at which the bytes from there on came, nanoseconds since
            the epoch.
        body_in: id of the event that has the body instead (then `body` is empty): an `sse_stream`.
    """

    status: int
    reason_phrase: str = ""
    body_times: list[tuple[int, int]] = msgspec.field(default_factory=list)
    body_in: str | None = None


@event_type("http_body")
class HttpBody(ConnectionEvent, frozen=True, gc=False):
    """A part of a response's body that is a stream of events, as soon as it comes.

    Given for text/event-stream, newline-delimited JSON and AWS event streams, so that they can be followed
    while they run. The parts together are the `body` of the response that follows.

    Attributes:
        response_id: id of the `http_response` that will follow.
        request_id: id of its request, where known.
        stream_id: of HTTP/2.
        content_type: without parameters, in small letters.
        offset: bytes of the body before it.
        payload: with encodings removed.
        missing_bytes: -1: bytes of unknown number are missing just before it; 0: none.
        last: the body is over.
    """

    response_id: str
    request_id: str | None
    stream_id: int | None
    content_type: str
    offset: int
    payload: bytes
    missing_bytes: int = 0
    last: bool = False


@event_type("http_exchange")
class HttpExchange(ConnectionEvent, frozen=True, gc=False):
    """A request and its response; comes after both. `timestamp_ns` is that of the request's first byte, or of
    the response's where there is no request.

    Attributes:
        request_id, response_id: of the events; null if it was not seen.
        stream_id: of HTTP/2.
        method, target, authority, status: as in these.
        role: "client" if the process sent the request, "server" if it received it.
        request_first_byte_ns, request_last_byte_ns, response_first_byte_ns, response_last_byte_ns:
            nanoseconds since the epoch.
        duration_ms: from the request's first byte to the response's last one.
        incomplete: one of them is missing or incomplete, or that they belong together is not certain.
        reason: as in `HttpMessage`; also "no_request", "no_response".
    """

    request_id: str | None
    response_id: str | None
    stream_id: int | None
    role: Literal["client", "server"]
    method: str
    target: str
    authority: str
    status: int
    request_first_byte_ns: int | None
    request_last_byte_ns: int | None
    response_first_byte_ns: int | None
    response_last_byte_ns: int | None
    duration_ms: float | None
    incomplete: bool = False
    reason: str | None = None


@event_type("websocket_message")
class WebSocketMessage(ConnectionEvent, frozen=True, gc=False):
    """A message on a WebSocket: fragments joined, unmasked, decompressed; the time is that of its first byte.

    Attributes:
        direction: "write" if the process sent it.
        opcode: "text", "binary", "close", "ping", "pong".
        target, authority: of the request that opened it, "" where unknown.
        request_id: that request, where known.
        stream_id: of HTTP/2 (RFC 8441).
        payload: of "close": the reason in words.
        last_byte_ns: when its last byte came.
        close_code: of "close".
        compressed: it was sent with permessage-deflate (RFC 7692).
        incomplete, reason: as in `HttpMessage`.
    """

    direction: Direction
    opcode: Literal["text", "binary", "close", "ping", "pong"]
    target: str
    authority: str
    request_id: str | None
    stream_id: int | None
    payload: bytes
    last_byte_ns: int
    close_code: int | None = None
    compressed: bool = False
    incomplete: bool = False
    reason: str | None = None
