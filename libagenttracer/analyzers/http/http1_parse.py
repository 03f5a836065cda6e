"""Reads heads and the chunked coding of HTTP/1 (RFC 9112) with httptools.

There is a new parser for each head and each chunked body, and it is given exactly the bytes that belong
together: nothing of one message can change how the next one is read.
"""

from __future__ import annotations

import re
from typing import Literal

import httptools

from .messages import text_of

__all__ = ["HEAD_END", "Chunked", "Kind", "is_start", "match_start", "read_headers"]

Kind = Literal["request", "response"]
Headers = list[tuple[str, str]]

HEAD_END = b"\r\n\r\n"
# what a message begins with; httptools looks closer at it
_START_LINE: dict[Kind, re.Pattern[bytes]] = {
    "request": re.compile(rb"([A-Z][A-Z-]{0,19}) ([^ \r\n]+) HTTP/(1\.[01])\r\n"),
    "response": re.compile(rb"HTTP/(1\.[01]) ([1-9][0-9]{2})(?: ([^\r\n]*))?\r\n"),
}
# a part of that, where the line's end has not come yet
_START: dict[Kind, re.Pattern[bytes]] = {
    "request": re.compile(rb"[A-Z][A-Z-]{0,19}(?: [^\r\n]*\r?)?\Z"),
    "response": re.compile(rb"(?:H|HT|HTT|HTTP|HTTP/|HTTP/1|HTTP/1\.[^\r\n]*\r?)\Z"),
}
_PARSER: dict[Kind, type[httptools.HttpRequestParser | httptools.HttpResponseParser]] = {
    "request": httptools.HttpRequestParser,
    "response": httptools.HttpResponseParser,
}
_CHUNKED_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class _Parsed:
    """What httptools tells."""

    __slots__ = ("headers", "over", "parts")

    def __init__(self) -> None:
        self.headers: Headers = []
        self.parts: list[bytes] = []
        self.over = False

    def on_header(self, name: bytes, value: bytes) -> None:
        try:
            self.headers.append((name.decode(), value.decode()))
        except UnicodeDecodeError:
            self.headers.append((text_of(name), text_of(value)))

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)

    def on_message_complete(self) -> None:
        self.over = True


def match_start(kind: Kind, data: bytes | bytearray) -> re.Match[bytes] | None:
    """The start line: method, target, version; or version, status, reason phrase (which may be missing)."""
    return _START_LINE[kind].match(data)


def is_start(kind: Kind, data: bytes | bytearray) -> bool:
    """Whether a message may begin with these bytes; they may end within the start line."""
    return bool(_START_LINE[kind].match(data) or _START[kind].match(data))


def read_headers(kind: Kind, head: bytes) -> tuple[Headers, bool, bool]:
    """Reads a head, or as much of it as there is.

    Returns:
        The headers; whether they keep to the rules; whether it can be known what they mean.
    """
    for strict in (True, False):
        parsed = _Parsed()
        parser = _PARSER[kind](parsed)
        if not strict:
            parser.set_dangerous_leniencies(
                lenient_headers=True, lenient_chunked_length=True, lenient_transfer_encoding=True
            )
        try:
            parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            pass
        except httptools.HttpParserError:
            continue
        return parsed.headers, strict, True
    return parsed.headers, False, False


class Chunked:
    """A chunked body.

    Attributes:
        over: its end has come.
        broken: it is none.
        trailers: the headers behind it.
        framing_bytes: those that came since the latest bytes of the body.
    """

    def __init__(self) -> None:
        self.over = False
        self.broken = False
        self.trailers: Headers = []
        self.framing_bytes = 0
        self._parsed = _Parsed()
        self._parser = httptools.HttpRequestParser(self._parsed)
        self._parser.set_dangerous_leniencies(lenient_spaces_after_chunk_size=True)
        self._parser.feed_data(_CHUNKED_HEAD)
        self._parsed.headers.clear()
        self._tail = b""  # the last bytes that the parser was given

    def read(self, data: bytes, start: int) -> tuple[bytes, int]:
        """Reads on from a place, up to where the body may end, which is always behind an empty line.

        Returns:
            Bytes of the body; the place behind what was read.
        """
        end = data.find(HEAD_END, start)
        stop = len(data) if end < 0 else end + 4
        if self._tail:  # which may hold the empty line's beginning
            end = (self._tail + data[start : start + 3]).find(HEAD_END)
            if end >= 0:
                stop = start + end + 4 - len(self._tail)
        some = data[start:stop]
        self._tail = some[-3:] if len(some) > 2 else (self._tail + some)[-3:]
        parsed = self._parsed
        try:
            self._parser.feed_data(some)
        except httptools.HttpParserError:
            self.broken = True
        self.over = parsed.over and not self.broken
        self.trailers = parsed.headers
        if not parsed.parts:
            self.framing_bytes += len(some)
            return b"", stop
        self.framing_bytes = 0
        body = parsed.parts[0] if len(parsed.parts) == 1 else b"".join(parsed.parts)
        parsed.parts.clear()
        return body, stop
