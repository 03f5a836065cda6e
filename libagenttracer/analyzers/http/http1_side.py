"""One direction of an HTTP/1 connection: from bytes to messages (RFC 9112)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

import msgspec

from ...events import HttpBody, HttpRequest, HttpResponse, StreamData, derived_id
from .http1_parse import HEAD_END, Chunked, Kind, is_start, match_start, read_headers
from .limits import Limits
from .messages import Incoming, text_of

__all__ = ["Owner", "Side"]

_ABSOLUTE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^/?#@]*@)?([^/?#]*)")

_TELLING = 256  # bytes of a first line that tell whether it is one
# what the next bytes are
_HEAD, _LENGTH, _CHUNKED, _UNTIL_END, _LOST, _HELD = range(6)


class Owner(Protocol):
    """Who is told what comes."""

    def begins(self, message: Incoming, side: Side) -> None:
        """The head of a message was read: finds the request that a response is for."""

    def head_done(self, message: Incoming) -> None:
        """The message is ready for its body."""

    def came(self, parts: Iterable[HttpBody]) -> None:
        """Parts of a body."""

    def done(self, message: Incoming, events: list[HttpBody | HttpRequest | HttpResponse]) -> None:
        """The message is over."""

    def lost(self, kind: Kind) -> None:
        """Whole messages of this kind may be missing here."""


class Side:
    """Takes the bytes of one direction.

    Args:
        kind: what they carry.
        owner: who is told.
        limits: of heads and bodies.
        lost: the first bytes may be in the middle of a message.

    Attributes:
        current: the message whose body is coming.
        begun: messages that began in the latest piece.
        late: the head that is told comes late: the next messages of the other direction may have come
            already, or what it says is not what was sent.
        found: the beginning of the head that is told was looked for.
        held: while `hold()` is in force: what has come since then.
    """

    def __init__(self, kind: Kind, owner: Owner, limits: Limits, *, lost: bool) -> None:
        self.kind: Kind = kind
        self.current: Incoming | None = None
        self.begun = 0
        self.late = False
        self.found = False
        self.held: list[StreamData] = []
        self._held_bytes = 0
        self._max_held: int | None = None
        self._owner = owner
        self._limits = limits
        self._next = _LOST if lost else _HEAD
        self._head = bytearray()  # of which the end has not come
        self._first: StreamData | None = None  # the piece in which the head began
        self._number = 0  # of the head, among those that began in that piece
        self._line_known = False  # the head's first line has come
        self._last_ns = 0
        self._remaining = 0
        self._chunked: Chunked | None = None

    def feed(self, piece: StreamData) -> None:
        """Takes the next piece."""
        self.begun = 0
        if piece.missing_bytes:
            self._gap(piece.missing_bytes)
        data = piece.payload
        uncertain = self._next == _LOST or (self.current is not None and "unpaired" in self.current.reasons)
        if uncertain and piece.starts_call and is_start(self.kind, data):
            self._end_current("gap")
            self._next = _HEAD
            self.found = True
        start, end = 0, len(data)
        while start < end:
            if self._next == _HEAD:
                start = self._read_head(piece, start)
            elif self._next == _LENGTH:
                start = self._read_length(piece, start)
            elif self._next == _CHUNKED:
                start = self._read_chunks(piece, start)
            elif self._next == _UNTIL_END:
                self._add(data[start:], piece)
                return
            elif self._next == _HELD:
                self._hold(piece, start)
                return
            else:
                return

    def in_body(self) -> bool:
        """Whether what comes next belongs to a body."""
        return self._next in (_LENGTH, _CHUNKED, _UNTIL_END)

    def answered(self) -> None:
        """A message of the other direction that is for none that was told begins."""
        self.late = self.late or bool(self._head)

    def hold(self, max_bytes: int | None = None) -> None:
        """What comes next may be another protocol: it is kept back until that is known.

        Args:
            max_bytes: if it is more, it is taken for HTTP.
        """
        self._next = _HELD
        self._max_held = max_bytes

    def release(self) -> None:
        """What was held back is HTTP."""
        if self._next != _HELD:
            return
        self._next = _HEAD
        held, self.held, self._held_bytes = self.held, [], 0
        for piece in held:
            self.feed(piece)

    def drop(self) -> None:
        """The message that is coming is over, since it was taken for what it is not."""
        self._end_current("gap")
        self._next = _LOST

    def end(self, *, known: bool) -> None:
        """No more comes.

        Args:
            known: since the connection is over.
        """
        if self._next == _UNTIL_END and known:
            self._end_current()
        elif self._next == _HEAD:
            self._end_head("aborted")
        self._end_current("aborted")
        self._next = _LOST

    def _gap(self, missing_bytes: int) -> None:
        if self._next == _HELD:
            return
        if self.current is not None and self._next in (_LENGTH, _UNTIL_END):
            self.current.gap()
            if self._next == _UNTIL_END:
                return
            if 0 < missing_bytes <= self._remaining:  # so it is known where the next message begins
                self._remaining -= missing_bytes
                if not self._remaining:
                    self._complete()
                return
        self._lose("gap")

    def _lose(self, reason: str) -> None:
        """It is not known what the next bytes are."""
        if self._next == _HEAD:
            self._end_head(reason)
        self._end_current(reason)
        self._next = _LOST
        self._owner.lost(self.kind)

    def _read_head(self, piece: StreamData, start: int) -> int:
        data = piece.payload
        before = len(self._head)
        if not before:
            while start < len(data) and data[start] in (10, 13):  # RFC 9112, 2.2: empty lines
                start += 1
            if start == len(data):
                return start
            self._first, self._number, self.late = piece, self.begun, False
            self._line_known = False
            self.begun += 1
            stop = data.find(HEAD_END, start) + 4
            if stop >= 4:
                self._last_ns = piece.timestamp_ns
                return self._head_complete(data[start:stop], data, stop)
        self._last_ns = piece.timestamp_ns
        self._head += memoryview(data)[start:]
        end = self._head.find(HEAD_END, max(before - 3, 0)) + 4
        if end >= 4:
            head = bytes(memoryview(self._head)[:end])
            self._head.clear()
            return self._head_complete(head, data, start + end - before)
        if len(self._head) > self._limits.max_head_bytes:
            self._lose("too_long")
        elif not self._line_known:
            # a long line is looked at again only where it may end
            telling = before < _TELLING or b"\n" in data or b"\r" in data
            if telling and not is_start(self.kind, self._head):
                self._lose("malformed")
            self._line_known = b"\n" in self._head
        return len(data)

    def _head_complete(self, head: bytes, data: bytes, stop: int) -> int:
        """Takes a head, and a body that comes whole with it.

        Args:
            data: the piece in which the head ends, at `stop`.

        Returns:
            Where in the piece the next thing begins.
        """
        message = self._message(head)
        too_long = len(head) > self._limits.max_head_bytes
        if message is None:
            self._lose("malformed")
        elif not self._parse(message, head) or too_long:  # its body cannot be told from what follows
            self.late = self.late or self.found
            self._owner.begins(message, self)
            self._begin(message)
            self._lose("too_long" if too_long else "malformed")
        else:
            stop = self._frame(message, data, stop)
            self.found = False
        return stop

    def _end_head(self, reason: str) -> None:
        """The rest of a head will not come."""
        head = bytes(self._head)
        self._head.clear()
        message = self._message(head) if head else None
        if message is not None:
            self._parse(message, head)
            self.late = self.late or self.found or reason == "gap"
            self._owner.begins(message, self)
            self._begin(message)
            self._end_current(reason)

    def _message(self, head: bytes) -> Incoming | None:
        """The message that begins with these bytes, if they look like one."""
        line = match_start(self.kind, head)
        if line is None or self._first is None:
            return None
        message = Incoming(self._first, self._number, self.kind, self._limits)
        message.last_ns = self._last_ns
        if self.kind == "request":
            method, target, version = line.groups()
            message.method = method.decode()
            message.target = text_of(target)
        else:
            version, status, phrase = line.groups()
            message.status = int(status)
            message.reason_phrase = text_of(phrase or b"")
        message.version = version.decode()
        return message

    def _parse(self, message: Incoming, head: bytes) -> bool:
        """Reads the headers; False: it cannot be known what they mean."""
        message.headers, strict, sound = read_headers(self.kind, head)
        if not strict:
            message.reasons.add("malformed")
        if self.kind == "request":
            absolute = None if message.target[0] == "/" else _ABSOLUTE.match(message.target)
            if absolute:  # RFC 9112, 3.2.2: it stands above the header
                message.authority = absolute[1]
            elif message.method == "CONNECT":
                message.authority = message.target
            else:
                message.authority = message.values().get("host", "")
        return sound

    def _begin(self, message: Incoming, length: int | None = None, transfer_encoding: str = "") -> None:
        if len(message.headers) > self._limits.max_headers:
            del message.headers[self._limits.max_headers :]
            message.reasons.add("too_long")
        message.head_done(length, transfer_encoding)
        self.current = message
        self._owner.head_done(message)

    def _frame(self, message: Incoming, data: bytes, stop: int) -> int:
        """Finds how long the body is: RFC 9112, 6.3. Arguments and result as of `_head_complete`."""
        values = message.values()
        value = values.get("content-length")
        length = int(value) if value else None  # httptools lets only one of them pass, and only digits
        coding = values.get("transfer-encoding")
        self._owner.begins(message, self)
        request = message.request
        if self.kind == "response" and _is_bodiless(message.status, request.method if request else ""):
            self._begin(message)
            self._complete()
        elif coding:
            codings = [name.strip().lower() for name in coding.split(",")]
            if length is not None or message.version == "1.0":
                message.reasons.add("malformed")
            if codings[-1] == "chunked":
                self._begin(message, None, ", ".join(codings[:-1]))
                self._next = _CHUNKED
                self._chunked = Chunked()
            else:
                self._begin(message, None, ", ".join(codings))
                self._next = _UNTIL_END
                if message.kind == "request":
                    self._lose("malformed")
        elif length is None and message.kind == "response":
            self._begin(message)
            self._next = _UNTIL_END
        else:
            length = length or 0
            end = stop + length
            most = self._limits
            is_here = end <= len(data) and length <= most.max_body_bytes
            if is_here and len(message.headers) <= most.max_headers and message.is_plain():
                # most are: a way without the steps in between
                self._owner.head_done(message)
                self._owner.done(message, [message.finish_plain(data[stop:end])])
                return end
            self._begin(message, length)
            self._remaining = length
            self._next = _LENGTH
            if not length:
                self._complete()
        return stop

    def _add(self, data: bytes, piece: StreamData) -> None:
        assert self.current is not None
        parts = self.current.add_body(data, piece)
        if parts:
            self._owner.came(parts)

    def _read_length(self, piece: StreamData, start: int) -> int:
        data = piece.payload
        size = len(data) - start
        size = min(size, self._remaining)
        message = self.current
        assert message is not None
        parts = message.add_body(data[start : start + size], piece)  # no copy if it is all of them
        if parts:
            self._owner.came(parts)
        self._remaining -= size
        if not self._remaining:
            self._complete()
        return start + size

    def _read_chunks(self, piece: StreamData, start: int) -> int:
        message, chunked = self.current, self._chunked
        assert message is not None
        assert chunked is not None
        body, stop = chunked.read(piece.payload, start)
        if body:
            self._add(body, piece)
        message.last_ns = piece.timestamp_ns
        if chunked.over:
            message.trailers = chunked.trailers[: self._limits.max_headers]
            if len(message.trailers) < len(chunked.trailers):
                message.reasons.add("too_long")
            self._complete()
        elif chunked.broken:
            self._lose("malformed")
        elif chunked.framing_bytes > self._limits.max_head_bytes:
            self._lose("too_long")
        return stop

    def _complete(self) -> None:
        self._next = _HEAD
        self._end_current()

    def _end_current(self, *reasons: str) -> None:
        message, self.current = self.current, None
        self._chunked = None
        if message is not None:
            self._owner.done(message, message.finish(*reasons))

    def _hold(self, piece: StreamData, start: int) -> None:
        if start:
            piece = msgspec.structs.replace(
                piece,
                id=derived_id(piece.id, "rest"),
                offset=piece.offset + start,
                payload=piece.payload[start:],
                missing_bytes=0,
                starts_call=False,
            )
        self.held.append(piece)
        self._held_bytes += len(piece.payload)
        if self._max_held is not None and self._held_bytes > self._max_held:
            self.release()


def _is_bodiless(status: int, method: str) -> bool:
    if status < 200 or status in (204, 304):
        return True
    return method == "HEAD" or (method == "CONNECT" and status < 300)
