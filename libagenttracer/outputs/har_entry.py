"""One HTTP exchange as an entry of a HAR 1.2 file.

Format: http://www.softwareishard.com/blog/har-12-spec/; what begins with an underscore is an extension, as
the format asks for. `_webSocketMessages`, `_eventSourceMessages`, `_resourceType` and `_transferSize` are
those of Chrome's developer tools. These refuse a whole file for one date that they cannot read, so a cookie's
date is left out where it is no date.
"""

from __future__ import annotations

import re
from base64 import b64encode
from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import parse_qsl, quote

from ..events import HttpExchange, HttpMessage, HttpRequest, HttpResponse, SseStream, WebSocketMessage

__all__ = ["event_stream_text", "har_entry", "socket_entry", "socket_message"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_OPCODES = {"text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}  # RFC 6455, 5.2
_NO_HOST = "unknown.invalid"  # RFC 2606: nobody has it
_IN_URL = "%:/?#[]@!$&'()*+,;=~"  # RFC 3986: what may stand there, besides letters and digits
_Json = dict[str, Any]


def har_entry(
    exchange: HttpExchange,
    request: HttpRequest | None,
    response: HttpResponse | None,
    stream: SseStream | None = None,
) -> _Json:
    """The entry of an exchange.

    Args:
        exchange: it; what is known of it is in the entry also where the messages are missing.
        request, response: its messages, if they are at hand.
        stream: what has the response's body, if that is a stream of events (`HttpResponse.body_in`).
    """
    notes = []
    if exchange.incomplete:
        notes.append(f"incomplete: {exchange.reason or 'something is missing'}")
    for name, wanted, message in (
        ("request", exchange.request_id, request),
        ("response", exchange.response_id, response),
    ):
        if wanted is not None and message is None:
            notes.append(f"the {name}'s headers and body are not at hand")
    socket = is_socket(request, response)
    timings = _timings(exchange)
    entry: _Json = {
        "startedDateTime": _date(exchange.timestamp_ns),
        "time": timings["send"] + timings["wait"] + timings["receive"],
        "request": _request(exchange, request, "wss" if socket else "https"),
        "response": _response(exchange, response, stream, notes),
        "cache": {},
        "timings": timings,
        "connection": exchange.connection_id,
        "_pid": exchange.pid,
        "_comm": exchange.comm,
        "_role": exchange.role,
        "_exchangeId": exchange.id,
    }
    if exchange.stream_id is not None:
        entry["_streamId"] = exchange.stream_id
    if stream is not None:
        entry["_eventSourceMessages"] = [
            {
                "time": item.timestamp_ns / 1e9,
                "eventName": item.event,
                "eventId": item.last_event_id,
                "data": item.data,
            }
            for item in stream.events
        ]
    if socket:
        entry["_resourceType"] = "websocket"
    if notes:
        entry["comment"] = "; ".join(notes)
    return entry


def socket_entry(message: WebSocketMessage) -> _Json:
    """An entry for messages of a WebSocket whose opening is not at hand."""
    at_ns = message.timestamp_ns
    exchange = HttpExchange(
        *(message.id, at_ns, message.source, message.pid, message.comm, message.exe, message.connection_id),
        *(message.request_id, None, message.stream_id, "client", "GET", message.target, message.authority),
        *(101, None, None, None, None, None),
    )
    entry = har_entry(exchange, None, None)
    entry["request"]["url"] = _url("wss", message.authority, message.target)
    entry["_resourceType"] = "websocket"
    entry["comment"] = "the opening of this WebSocket was not seen: the process is taken for its client"
    del entry["_exchangeId"], entry["_role"]
    return entry


def socket_message(message: WebSocketMessage, role: str) -> _Json:
    """An item of `_webSocketMessages`: "send" is what the client sends; binary data in base64.

    Args:
        message: it.
        role: of the traced process, "client" or "server".
    """
    sent = (message.direction == "write") == (role == "client")
    item: _Json = {
        "type": "send" if sent else "receive",
        "time": message.timestamp_ns / 1e9,
        "opcode": _OPCODES[message.opcode],
    }
    if message.opcode == "binary":
        item["data"] = b64encode(message.payload).decode()
    else:
        item["data"], encoding = _text(message.payload)
        if encoding:
            item["_encoding"] = encoding
    if message.close_code is not None:
        item["_closeCode"] = message.close_code
    if message.incomplete:
        item["_incomplete"] = message.reason or ""
    return item


def is_socket(request: HttpRequest | None, response: HttpResponse | None) -> bool:
    """Whether this opened a WebSocket (RFC 6455, 4; RFC 8441, 5)."""
    if request is None or response is None or request.header("sec-websocket-version") is None:
        return False
    return response.status == 101 or (request.method == "CONNECT" and 200 <= response.status < 300)


def event_stream_text(stream: SseStream) -> str:
    """A stream's body, put together again from its events: the same events, not the same bytes."""
    parts, last_id = [], ""
    for item in stream.events:
        if item.last_event_id != last_id:
            last_id = item.last_event_id
            parts.append(f"id: {last_id}\n")
        if item.event != "message":
            parts.append(f"event: {item.event}\n")
        parts += [f"data: {line}\n" for line in item.data.split("\n")]
        parts.append("\n")
    return "".join(parts)


def _request(exchange: HttpExchange, request: HttpRequest | None, scheme: str) -> _Json:
    target = exchange.target
    made: _Json = {
        "method": exchange.method,
        "url": _url(scheme, exchange.authority, target),
        "httpVersion": _version(request),
        "cookies": _sent_cookies(request),
        "headers": _headers(request),
        "queryString": [
            {"name": name, "value": value}
            for name, value in parse_qsl(
                target.partition("#")[0].partition("?")[2].encode(errors="replace").decode(),
                keep_blank_values=True,
            )
        ],
        "headersSize": -1,  # as carried; not known
        "bodySize": -1 if request is None else request.body_bytes,
    }
    if request is not None and request.body:
        text, encoding = _text(request.body)
        made["postData"] = {"mimeType": request.header("content-type") or "", "text": text}
        if encoding:  # the format has no place for it
            made["postData"].update(_encoding=encoding, comment="the text is in base64")
    return made


def _response(
    exchange: HttpExchange, response: HttpResponse | None, stream: SseStream | None, notes: list[str]
) -> _Json:
    content: _Json = {"size": 0, "mimeType": "x-unknown"}
    made: _Json = {
        "status": exchange.status,
        "statusText": response.reason_phrase if response else "",
        "httpVersion": _version(response),
        "cookies": _set_cookies(response),
        "headers": _headers(response),
        "content": content,
        "redirectURL": (response.header("location") or "") if response else "",
        "headersSize": -1,
        "bodySize": response.body_bytes if response else -1,
    }
    if response is None:
        return made
    made["_transferSize"] = response.body_bytes  # or it would be taken for the sum of both
    content["mimeType"] = response.header("content-type") or "x-unknown"
    if response.trailers:
        made["_trailers"] = [{"name": name, "value": value} for name, value in response.trailers]
    if response.body_in is None:
        content["size"] = len(response.body)
        content["text"], encoding = _text(response.body)
        if encoding:
            content["encoding"] = encoding
        if response.content_encoding:
            content["compression"] = len(response.body) - response.body_bytes
    elif stream is not None:
        content["text"] = text = event_stream_text(stream)
        content["size"] = len(text.encode(errors="replace"))
        content["comment"] = "put together again from its events"
        if stream.incomplete:
            notes.append(f"the stream of events is incomplete: {stream.reason or 'something is missing'}")
    else:
        content["size"] = response.body_bytes
        content["comment"] = f"the body is in the event {response.body_in}, which is not at hand"
    return made


def _timings(exchange: HttpExchange) -> dict[str, float]:
    """Milliseconds. None of them may be negative but for those that are not known (-1)."""
    first, last = exchange.request_first_byte_ns, exchange.request_last_byte_ns
    answer, end = exchange.response_first_byte_ns, exchange.response_last_byte_ns
    return {
        "blocked": -1,
        "dns": -1,
        "connect": -1,
        "ssl": -1,
        "send": _between(first, last),
        "wait": _between(last, answer),
        "receive": _between(answer, end),
    }


def _between(first_ns: int | None, last_ns: int | None) -> float:
    return 0 if first_ns is None or last_ns is None else max(0, last_ns - first_ns) / 1e6


def _date(at_ns: int) -> str:
    return (_EPOCH + timedelta(microseconds=at_ns // 1000)).isoformat(timespec="microseconds")


def _version(message: HttpMessage | None) -> str:
    if message is None or not message.version:
        return "unknown"
    return "HTTP/2.0" if message.version == "2" else f"HTTP/{message.version}"


def _url(scheme: str, authority: str, target: str) -> str:
    """The absolute URL (RFC 9112, 3.2: a target is a path, a whole URL, a host and port, or "*")."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", target):
        return quote(target, safe=_IN_URL, errors="surrogatepass")
    if not target.startswith("/") and target not in ("", "*"):
        authority, target = target, ""  # of CONNECT
    if not target.startswith("/"):
        target = f"/{target}"
    host = quote(authority, safe="%:[]@!$&'()*+,;=~", errors="surrogatepass") or _NO_HOST
    return f"{scheme}://{host}{quote(target, safe=_IN_URL, errors='surrogatepass')}"


def _headers(message: HttpMessage | None) -> list[_Json]:
    return [{"name": name, "value": value} for name, value in message.headers] if message else []


def _text(data: bytes) -> tuple[str, str]:
    """Bytes as text, and its encoding: "" where it is the text itself."""
    try:
        return data.decode(), ""
    except UnicodeDecodeError:
        return b64encode(data).decode(), "base64"


def _values(message: HttpMessage | None, name: str) -> list[str]:
    return [value for key, value in message.headers if key.lower() == name] if message else []


def _sent_cookies(request: HttpRequest | None) -> list[_Json]:
    """Of the request (RFC 6265, 4.2.1)."""
    pairs = [pair.partition("=") for value in _values(request, "cookie") for pair in value.split(";")]
    return [{"name": name.strip(), "value": value.strip()} for name, equals, value in pairs if equals]


def _set_cookies(response: HttpResponse | None) -> list[_Json]:
    """Of the response (RFC 6265, 5.2)."""
    cookies = []
    for header in _values(response, "set-cookie"):
        first, *rest = header.split(";")
        name, equals, value = first.partition("=")
        if not equals:
            continue
        cookie: _Json = {"name": name.strip(), "value": value.strip(), "httpOnly": False, "secure": False}
        for attribute in rest:
            key, _, value = attribute.partition("=")
            key, value = key.strip().lower(), value.strip()
            if key in ("path", "domain"):
                cookie[key] = value
            elif key == "httponly":
                cookie["httpOnly"] = True
            elif key == "secure":
                cookie["secure"] = True
            elif key == "expires" and (date := _http_date(value)):
                cookie["expires"] = date
        cookies.append(cookie)
    return cookies


def _http_date(text: str) -> str | None:
    try:
        date = parsedate_to_datetime(text)
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        return date.astimezone(timezone.utc).isoformat()
    except (ValueError, TypeError, IndexError, OverflowError):  # whatever stands there
        return None
