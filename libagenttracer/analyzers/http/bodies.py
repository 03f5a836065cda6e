"""A message's body as it comes: content encodings removed, within limits.

A decoder gives its output in small parts, and the limits are checked after each of them. So what a small
input can become never stands in memory.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Protocol

from .limits import Limits

__all__ = ["Body"]

_INPUT = 16 << 10  # bytes that a decoder is given at once: zlib and brotli copy what they cannot take yet
_OUTPUT = 64 << 10  # bytes that a decoder gives at once, about
# zstandard's decompressor gives all that its input becomes; a block of 4 bytes can become 128 KiB
_ZSTD_INPUT = 64
_ZSTD_WINDOW = 8 << 20  # all that a sender may use: RFC 9659, 3


class _BadEncodingError(Exception):
    """The bytes are not what the encoding asks for."""


class _Decoder(Protocol):
    complete: bool  # the input could end here

    def decode(self, data: bytes | memoryview) -> Iterable[bytes]:
        """Gives what the next bytes become; raises `_BadEncodingError`."""


class _Zlib:
    """gzip (RFC 1952), also several members in a row; deflate (RFC 1950), which some send raw (RFC 1951).

    Args:
        window_bits: as in zlib; 0: it is deflate.
    """

    def __init__(self, window_bits: int) -> None:
        self.complete = False
        self._window_bits = window_bits
        self._zlib = zlib.decompressobj(window_bits) if window_bits else None
        self._head = b""

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self._zlib is None:
            data = self._head + data
            if len(data) < 2:
                self._head = data
                return
            # RFC 1950, 2.2: the method is 8, and both bytes are a multiple of 31
            wrapped = data[0] & 15 == 8 and int.from_bytes(data[:2], "big") % 31 == 0
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS)
        while data:
            if self.complete:
                data = bytes(data).lstrip(b"\0")  # padding, as gzip itself takes it
                if not data:
                    return
                if self._window_bits == 0:
                    raise _BadEncodingError
                self._zlib = zlib.decompressobj(self._window_bits)
                self.complete = False
            try:
                while True:
                    part = self._zlib.decompress(data, _OUTPUT)
                    yield part
                    data = self._zlib.unconsumed_tail
                    if not data and len(part) < _OUTPUT:
                        break
            except zlib.error as error:
                raise _BadEncodingError from error
            self.complete = self._zlib.eof
            data = self._zlib.unused_data


class _Brotli:
    """RFC 7932."""

    def __init__(self) -> None:
        import brotli  # type: ignore[import-untyped]

        self.complete = False
        self._brotli = brotli.Decompressor()
        self._error = brotli.error

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        if self.complete:
            raise _BadEncodingError
        try:
            while True:
                part = self._brotli.process(data, output_buffer_limit=_OUTPUT)
                yield part
                # it may hold output even where it can take more
                if len(part) < _OUTPUT and self._brotli.can_accept_more_data():
                    break
                data = b""
        except self._error as error:
            raise _BadEncodingError from error
        self.complete = self._brotli.is_finished()


class _Zstd:
    """RFC 8878; also several frames in a row."""

    def __init__(self) -> None:
        import zstandard

        self.complete = False
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW)
        self._frame: Any = None
        self._error = zstandard.ZstdError

    def decode(self, data: bytes | memoryview) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), _ZSTD_INPUT):
                rest = bytes(data[start : start + _ZSTD_INPUT])
                while rest:
                    if self._frame is None:
                        self._frame = self._decompressor.decompressobj(write_size=32 << 10)
                    yield self._frame.decompress(rest)
                    self.complete = self._frame.eof
                    if not self.complete:
                        break
                    rest = self._frame.unused_data
                    self._frame = None
        except self._error as error:
            raise _BadEncodingError from error


_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": lambda: _Zlib(zlib.MAX_WBITS + 16),
    "x-gzip": lambda: _Zlib(zlib.MAX_WBITS + 16),
    "deflate": lambda: _Zlib(0),
    "br": _Brotli,
    "zstd": _Zstd,
}


class Body:
    """Takes a body's bytes as they were carried (transfer encoding removed), and gives what they mean.

    Bytes of an encoding that is not known are kept as they are.

    Args:
        content_encoding: the header's value; "" for none.
        expected_bytes: its length where that is known: memory for it is taken at once, in one piece.
        limits: what is kept at most.

    Attributes:
        wire_bytes: bytes taken.
        length: bytes of the decoded body so far, those beyond the limit not counted.
        reasons: why it is incomplete, as in `HttpMessage.reason`; empty: it is not.
    """

    wire_bytes = 0
    length = 0
    _first = b""  # what is kept, until there is more than one part of it
    _kept: io.BytesIO | None = None
    _expected = 0
    _known = True  # all encodings are
    _over = False  # nothing more is kept
    _decoders: Sequence[_Decoder] = ()  # the outermost encoding first

    def __init__(self, content_encoding: str, expected_bytes: int | None, limits: Limits) -> None:
        self.reasons: set[str] = set()
        self._limits = limits
        if content_encoding:
            self._set_decoders(content_encoding)
        if expected_bytes and not self._decoders:
            self._expected = min(expected_bytes, limits.max_body_bytes)

    def _set_decoders(self, content_encoding: str) -> None:
        names = [name.strip().lower() for name in content_encoding.split(",")]
        names = [name for name in reversed(names) if name and name != "identity"]
        if len(names) > self._limits.max_encodings or any(name not in _DECODERS for name in names):
            self._known = False
            return
        self._decoders = [_DECODERS[name]() for name in names]
        self._given = [0] * len(names)  # bytes that each of them gave

    def add(self, data: bytes | memoryview, *, give: bool = True) -> bytes:
        """Takes the next bytes.

        Args:
            data: as they were carried.
            give: False: they are only kept, which saves a copy.

        Returns:
            What they decode to (b"" once the limit is passed).
        """
        if self._decoders:
            return self._add_encoded(memoryview(data), give)
        self.wire_bytes += len(data)
        if self._over:
            return b""
        return self._keep(data if type(data) is bytes else bytes(data))

    def _add_encoded(self, data: memoryview, give: bool) -> bytes:
        decoded = []
        try:
            for start in range(0, len(data), _INPUT):
                some = data[start : start + _INPUT]
                self.wire_bytes += len(some)
                for part in () if self._over else self._decode(some, 0):
                    kept = self._keep(part)
                    if give:
                        decoded.append(kept)
                    if self._over:
                        break
        except _BadEncodingError:
            self._stop("bad_encoding")
            self.wire_bytes += len(data) - start - len(some)
        return b"".join(decoded)

    def _decode(self, data: bytes | memoryview, index: int) -> Iterator[bytes]:
        limits = self._limits
        for part in self._decoders[index].decode(data):
            self._given[index] += len(part)
            if self._given[index] > max(limits.ratio_floor_bytes, limits.max_ratio * self.wire_bytes):
                self._stop("bomb")
                return
            if index + 1 == len(self._decoders):
                yield part
            elif part:
                yield from self._decode(part, index + 1)
            if self._over:
                return

    def _keep(self, data: bytes) -> bytes:
        room = self._limits.max_body_bytes - self.length
        if len(data) > room:
            data = data[:room]
            self._stop("too_long")
        if not self.length:
            self._first = data
        elif data:
            if self._kept is None:
                # memory that calloc gives is not touched before it is written; getvalue() does not copy it
                self._kept = io.BytesIO(bytes(self._expected))
                self._kept.write(self._first)
                self._first = b""
            self._kept.write(data)
        self.length += len(data)
        return data

    def _stop(self, reason: str) -> None:
        self.reasons.add(reason)
        self._over = True

    def gap(self) -> None:
        """Takes note that bytes are missing here: what follows in a compressed body cannot be decoded."""
        if self._decoders:
            self._over = True

    def finish(self) -> bytes:
        """The body is over: gives what the decoder still held, and notes if that is not its end."""
        if not self._known or self._decoders:
            complete = self._over or all(decoder.complete for decoder in self._decoders)
            if self.wire_bytes and not (self._known and complete):
                self.reasons.add("bad_encoding")
        self._over = True
        return b""

    def value(self) -> bytes:
        """The whole decoded body."""
        if self._kept is None:
            return self._first
        self._kept.truncate(self.length)
        return self._kept.getvalue()
