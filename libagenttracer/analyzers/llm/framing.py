"""Takes the bodies of answers apart: into JSON values, each with the time at which it had come.

Server-sent events (HTML Standard, 9.2), newline-delimited JSON, a JSON array that is sent element by
element, and AWS event streams (https://smithy.io/2.0/aws/amazon-eventstream.html). The content type is
believed only as far as the body bears it out, since gateways get it wrong.
"""

from __future__ import annotations

import json
from binascii import crc32
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import msgspec

from ...events import HttpResponse, SseStream
from ..http.messages import STREAMED_TYPES
from ..sse import SseParser

__all__ = ["DONE", "Answer", "Item", "decode_json", "read_answer"]

DONE = "[DONE]"
_MAX_DEPTH = 100
_MAX_AWS_MESSAGE = 16 << 20  # the protocol's own bound
_MAX_AWS_HEADERS = 128 << 10
_AWS_TYPE = "application/vnd.amazon.eventstream"
_LINES_TYPES = STREAMED_TYPES - {_AWS_TYPE, "text/event-stream"}
_AWS_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}  # length of a header's value by its type
_AWS_BYTES, _AWS_STRING = 6, 7

_decode = msgspec.json.Decoder().decode
_next_value = json.JSONDecoder().raw_decode


class Item(NamedTuple):
    """A piece of a streamed answer; see `StreamReader.item`."""

    at_ns: int
    event: str
    data: Any


@dataclass
class Answer:
    """What a body holds.

    Attributes:
        items: of a stream; None if it is none.
        value: the JSON value of a body that is no stream.
        reasons: why it is incomplete; "bad_json": something in it is no JSON.
        timed: the times of the items are their own, not that of the whole body.
    """

    items: list[Item] | None = None
    value: Any = None
    reasons: set[str] = field(default_factory=set)
    timed: bool = True


def decode_json(raw: bytes | str) -> Any:
    """Decodes JSON of up to 100 levels.

    Raises:
        ValueError: it is none, or deeper.
    """
    try:
        value = _decode(raw)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError("not JSON") from error
    opening: list[Any] = ["[", "{"] if isinstance(raw, str) else [b"[", b"{"]
    if raw.count(opening[0]) + raw.count(opening[1]) > _MAX_DEPTH and not _is_shallow(value):
        raise ValueError("JSON is nested too deeply")
    return value


def _is_shallow(value: Any) -> bool:
    level = [value]
    for _ in range(_MAX_DEPTH):
        below: list[Any] = []
        for item in level:
            if type(item) is dict:
                below += item.values()
            elif type(item) is list:
                below += item
        if not below:
            return True
        level = below
    return False


def read_answer(response: HttpResponse, streams: Iterable[SseStream] = ()) -> Answer:
    """Reads the body of a response, or the streams that have it instead.

    Args:
        streams: the `sse_stream`s of this response, in order.
    """
    answer = Answer()
    streams = list(streams)
    if streams and (not response.body or any(stream.events for stream in streams)):
        for stream in streams:
            answer.reasons.update((stream.reason or "").split(","))
        answer.reasons.discard("")
        came = ((item.timestamp_ns, item.event, item.data) for stream in streams for item in stream.events)
        answer.items = _sse_items(came, answer.reasons)
        return answer
    body = response.body
    content_type = (response.header("content-type") or "").partition(";")[0].strip().lower()
    clock = _Clock(response)
    if content_type == _AWS_TYPE:
        answer.items = list(_aws_items(body, clock, answer.reasons))
    elif body.startswith((b"data:", b"event:")) or (
        content_type == "text/event-stream" and body.lstrip()[:1] not in (b"{", b"[")
    ):
        answer.items = _sse_items(_sse_events(body, clock, answer.reasons), answer.reasons)
    else:
        _read_json(body, clock, content_type, answer)
    if response.incomplete:
        answer.reasons.discard("aborted")  # why it breaks off is known
    answer.timed = bool(response.body_times)
    return answer


class _Clock:
    """When the bytes of a body came."""

    def __init__(self, response: HttpResponse) -> None:
        times = response.body_times or [(0, response.last_byte_ns)]
        self.begins = [begin for begin, _ in times]
        self.times = [at_ns for _, at_ns in times]

    def at(self, end: int) -> int:
        """When what ends before this offset had come."""
        return self.times[max(bisect_left(self.begins, end) - 1, 0)]


def _sse_events(body: bytes, clock: _Clock, reasons: set[str]) -> Iterator[tuple[int, str, str]]:
    parser = SseParser()
    ends = [*clock.begins[1:], len(body)]
    for begin, end, at_ns in zip(clock.begins, ends, clock.times, strict=True):
        for event, data, _ in parser.feed(body[begin:end]):
            yield at_ns, event, data
    parser.finish()
    if parser.unfinished:
        reasons.add("aborted")
    if parser.too_long:
        reasons.add("too_long")


def _sse_items(events: Iterable[tuple[int, str, str]], reasons: set[str]) -> list[Item]:
    items: list[Item] = []
    for at_ns, event, data in events:
        try:
            items.append(Item(at_ns, event, decode_json(data)))
        except ValueError:
            if data.strip() == DONE:
                items.append(Item(at_ns, DONE, None))
            elif data.strip():
                reasons.add("bad_json")
    return items


def _read_json(body: bytes, clock: _Clock, content_type: str, answer: Answer) -> None:
    """Reads one JSON value, an array that is a stream, or lines of JSON."""
    try:
        value = decode_json(body)
    except ValueError:
        if body.lstrip()[:1] == b"[":
            answer.items = list(_array_items(body, clock, answer.reasons))
            return
        lines = [line for line in body.split(b"\n") if line.strip()]
        if len(lines) > 1 and _is_object(lines[0]):
            answer.items = list(_line_items(body, clock, answer.reasons))
        else:
            answer.reasons.add("bad_json")
        return
    if isinstance(value, list):
        # elements' own times are not known, as such bodies are not followed while they come
        answer.items = [Item(clock.times[-1], "", element) for element in value]
    elif content_type in _LINES_TYPES:
        answer.items = list(_line_items(body, clock, answer.reasons))
    else:
        answer.value = value


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(decode_json(line), dict)
    except ValueError:
        return False


def _line_items(body: bytes, clock: _Clock, reasons: set[str]) -> Iterator[Item]:
    offset = 0
    for line in body.split(b"\n"):
        offset += len(line) + 1
        if line.strip():
            try:
                yield Item(clock.at(min(offset, len(body))), "", decode_json(line))
            except ValueError:
                reasons.add("bad_json")


def _array_items(body: bytes, clock: _Clock, reasons: set[str]) -> Iterator[Item]:
    """The elements of an array that breaks off."""
    reasons.add("bad_json")
    text = body.decode("utf-8", "replace").lstrip()
    position = 1
    while True:
        while text[position : position + 1] in (" ", "\t", "\r", "\n", ","):
            position += 1
        try:
            _, end = _next_value(text, position)
            value = decode_json(text[position:end])
        except (ValueError, RecursionError):
            return
        position = end
        yield Item(clock.times[-1], "", value)


def _aws_items(body: bytes, clock: _Clock, reasons: set[str]) -> Iterator[Item]:
    """The messages of an AWS event stream: up to the first that is broken, as nothing marks the next one."""
    offset = 0
    while offset < len(body):
        prelude = body[offset : offset + 12]
        length, headers_length = int.from_bytes(prelude[:4], "big"), int.from_bytes(prelude[4:8], "big")
        end = offset + length
        if len(prelude) < 12 or (end > len(body) and _crc_fits(prelude)):
            reasons.add("aborted")
            return
        message = body[offset:end]
        headers = None
        if (
            16 + headers_length <= length <= _MAX_AWS_MESSAGE
            and headers_length <= _MAX_AWS_HEADERS
            and _crc_fits(prelude)
            and _crc_fits(message)
        ):
            headers = _aws_headers(message[12 : 12 + headers_length])
        if headers is None:
            reasons.add("malformed")
            return
        yield _aws_item(headers, message[12 + headers_length : -4], clock.at(end), reasons)
        offset = end


def _crc_fits(data: bytes) -> bool:
    """Whether the last four bytes are the CRC of those before."""
    return crc32(data[:-4]) == int.from_bytes(data[-4:], "big")


def _aws_headers(raw: bytes) -> dict[str, str] | None:
    """Those that are strings; None if they are malformed."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(raw):
        start = at + 1 + raw[at]
        name, kind = raw[at + 1 : start], raw[start : start + 1]
        at = start + 1
        if not kind:
            return None
        if kind[0] in (_AWS_BYTES, _AWS_STRING):
            end = at + 2 + int.from_bytes(raw[at : at + 2], "big")
            if kind[0] == _AWS_STRING:
                headers[name.decode("utf-8", "replace")] = raw[at + 2 : end].decode("utf-8", "replace")
        elif kind[0] in _AWS_FIXED:
            end = at + _AWS_FIXED[kind[0]]
        else:
            return None
        if end > len(raw):
            return None
        at = end
    return headers


def _aws_item(headers: dict[str, str], payload: bytes, at_ns: int, reasons: set[str]) -> Item:
    names = (":event-type", ":exception-type", ":error-code")
    event = next((headers[name] for name in names if name in headers), "")
    if headers.get(":message-type") == "error":
        return Item(at_ns, event, {"message": headers.get(":error-message", "")})
    try:
        return Item(at_ns, event, decode_json(payload) if payload else {})
    except ValueError:
        reasons.add("bad_json")
        return Item(at_ns, event, None)
