"""WebSocket (RFC 6455) with permessage-deflate (RFC 7692), read from outside in both directions.

The framing is wsproto's. After bytes were lost, or something that is no frame, a direction is read again from
the next call on whose bytes are whole frames; nothing of what lies between is guessed.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterable
from typing import Literal

from wsproto.frame_protocol import Frame, FrameDecoder, Opcode, ParseFailed

from ...events import Event, HttpRequest, HttpResponse, StreamData, StreamEnd, WebSocketMessage, derived_id
from .handler import Handler
from .limits import Limits
from .websocket_deflate import CompressedBit, deflate_parameters

__all__ = ["WebSocket", "is_masked"]

_TAIL = b"\x00\x00\xff\xff"  # what the sender of a compressed message leaves out (RFC 7692, 7.2.1)
_AFTER_LAST_BLOCK = b"\x00" + _TAIL  # behind a block that says that it is the last (7.2.3.4)
_STEP_BYTES = 1 << 20  # decompressed at a time
_NAMES: dict[Opcode, Literal["text", "binary", "close", "ping", "pong"]] = {
    Opcode.TEXT: "text",
    Opcode.BINARY: "binary",
    Opcode.CONTINUATION: "binary",  # of a message whose beginning was not seen
    Opcode.CLOSE: "close",
    Opcode.PING: "ping",
    Opcode.PONG: "pong",
}


class WebSocket(Handler):
    """Follows a connection, or a stream of HTTP/2, from the moment on at which it became a WebSocket.

    Args:
        request: the one that opened it.
        response: its answer, which says what extensions are used.
        limits: `max_body_bytes` of a message, `max_ratio` and `ratio_floor_bytes` of its compression.
        client_direction: the direction in which the client's messages go.
        stream_id: of HTTP/2.
    """

    def __init__(
        self,
        request: HttpRequest,
        response: HttpResponse,
        limits: Limits,
        client_direction: Literal["read", "write"],
        stream_id: int | None = None,
    ) -> None:
        self.successor: Handler | None = None
        parameters = deflate_parameters(response)
        self._ways = {
            direction: _Way(
                (request.target, request.authority, request.id, stream_id),
                limits,
                from_client=direction == client_direction,
                deflate=parameters is not None or response.unknown_headers > 0,
                takeover=f"{'client' if direction == client_direction else 'server'}_no_context_takeover"
                not in (parameters or ()),
            )
            for direction in ("read", "write")
        }

    @classmethod
    def joined_late(cls, limits: Limits, client_direction: Literal["read", "write"]) -> WebSocket:
        """Follows a connection whose beginning was not seen: what extensions it uses is not known."""
        made = cls.__new__(cls)
        made.successor = None
        made._ways = {
            direction: _Way(
                ("", "", None, None),
                limits,
                from_client=direction == client_direction,
                deflate=True,
                takeover=True,
                lost="joined_late",
            )
            for direction in ("read", "write")
        }
        return made

    def data(self, piece: StreamData) -> Iterable[Event]:
        """Takes the next piece; gives the messages that end in it."""
        return self._ways[piece.direction].data(piece)

    def end(self, end: StreamEnd) -> Iterable[Event]:
        """Gives what is unfinished."""
        return [message for way in self._ways.values() for message in way.end()]


class _Message:
    """A message while it comes."""

    def __init__(self, opcode: Opcode, start: StreamData, number: int, compressed: bool) -> None:
        self.opcode = opcode
        self.start = start
        self.number = number
        self.compressed = compressed
        self.wire_bytes = 0
        self.made_bytes = 0  # by decompression
        self.kept = io.BytesIO()
        self.reasons: set[str] = set()


class _Way:
    """One direction."""

    def __init__(
        self,
        opened: tuple[str, str, str | None, int | None],
        limits: Limits,
        *,
        from_client: bool,
        deflate: bool,
        takeover: bool,
        lost: str = "",
    ) -> None:
        self._opened = opened  # target, authority, id of the request; stream
        self._limits = limits
        self._from_client = from_client
        self._deflate = deflate
        self._takeover = takeover
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._unknown_context = lost  # why compressed messages cannot be read
        self._had_gap = False
        self._lost = bool(lost)  # where a frame begins is not known
        self._message: _Message | None = None  # whose fragments come
        self._start: tuple[StreamData, int] | None = (
            None  # where the current frame began, and its number there
        )
        self._frames = 0  # that began in this piece
        self._hole = False  # in the current control frame
        self._last_ns = 0
        self._bits = CompressedBit()
        self._decoder = self._new_decoder()

    def _new_decoder(self) -> FrameDecoder:
        self._bits = CompressedBit()
        return FrameDecoder(not self._from_client, [self._bits] if self._deflate else [])

    def data(self, piece: StreamData) -> list[Event]:
        self._frames = 0
        told = self._gap(piece.missing_bytes) if piece.missing_bytes else []
        if not piece.payload:
            return told
        self._last_ns = piece.timestamp_ns
        if self._lost:
            if not piece.starts_call or not self._begins_with_frames(piece.payload):
                return told
            self._lost = False
        self._decoder.receive_bytes(piece.payload)
        return told + self._frames_of(piece)

    def end(self) -> list[Event]:
        return self._give_up("aborted")

    def _frames_of(self, piece: StreamData) -> list[Event]:
        """Reads the frames that are there."""
        told: list[Event] = []
        decoder = self._decoder
        while True:
            if self._start is None and len(decoder.buffer):
                self._start = (piece, self._frames)
                self._frames += 1
            try:
                frame = decoder.process_buffer()
            except ParseFailed:
                if self._message is None:  # something has to say that messages are missing
                    assert self._start is not None
                    self._message = _Message(Opcode.BINARY, *self._start, compressed=False)
                return told + self._lose("malformed")
            if frame is None:
                return told
            told += self._frame(frame, bytes(frame.payload))  # type: ignore[arg-type]  # it is bytes here

    def _frame(self, frame: Frame, payload: bytes, *reasons: str) -> list[Event]:
        """Takes a frame, or a part of one."""
        told: list[Event] = []
        if frame.opcode.iscontrol():
            told.append(self._control(frame.opcode, payload, *reasons))
            self._start = None
            return told
        message = self._message
        if message is not None and frame.opcode is not Opcode.CONTINUATION:  # the last one has no end
            told += self._drop_message("malformed")
            message = None
        if message is None:
            message = self._message = self._new_message(frame.opcode)
        if reasons:
            message.reasons.update(reasons)
            if message.compressed:
                self._unknown_context = reasons[0]
        self._add(message, payload)
        if frame.frame_finished:
            self._start = None
            if frame.message_finished:
                if message.compressed:
                    self._end_compressed(message)
                told.append(self._finished(message))
                self._message = None
        return told

    def _new_message(self, opcode: Opcode) -> _Message:
        assert self._start is not None
        message = _Message(opcode, *self._start, compressed=self._bits.bit and not opcode.iscontrol())
        if message.compressed and not self._takeover:
            self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
            self._unknown_context = ""
        if opcode is Opcode.CONTINUATION:  # its first frame is missing, and may have been compressed
            self._unknown_context = "gap" if self._had_gap else "malformed"
            message.reasons.add(self._unknown_context)
        return message

    def _add(self, message: _Message, payload: bytes) -> None:
        message.wire_bytes += len(payload)
        if message.compressed:
            self._inflate(message, payload)
        elif message.opcode is not Opcode.CONTINUATION or not self._deflate:
            self._keep(message, payload)

    def _keep(self, message: _Message, payload: bytes) -> None:
        room = self._limits.max_body_bytes - message.kept.tell()
        if len(payload) > room:
            message.reasons.add("too_long")
            payload = payload[:room]
        message.kept.write(payload)

    def _inflate(self, message: _Message, payload: bytes) -> None:
        """Decompresses; goes on beyond the size limit, since later messages may refer to what is there."""
        if self._unknown_context:
            message.reasons.add(self._unknown_context)
            return
        inflater, limits = self._inflater, self._limits
        while True:
            try:
                out = inflater.decompress(payload, _STEP_BYTES)
            except zlib.error:
                self._lose_context(message, "bad_encoding")
                return
            message.made_bytes += len(out)
            if message.made_bytes > max(limits.ratio_floor_bytes, limits.max_ratio * message.wire_bytes):
                self._lose_context(message, "bomb")
                return
            self._keep(message, out)
            payload = inflater.unconsumed_tail
            if len(inflater.unused_data) > len(_AFTER_LAST_BLOCK):
                self._lose_context(message, "bad_encoding")
                return
            if not payload and len(out) < _STEP_BYTES:
                return

    def _end_compressed(self, message: _Message) -> None:
        self._inflate(message, _TAIL)
        if self._inflater.eof and not self._unknown_context:
            if self._inflater.unused_data != _AFTER_LAST_BLOCK:
                message.reasons.add("bad_encoding")
            # a new decompressor would not know the window that the next message may refer to
            self._unknown_context = "bad_encoding"

    def _lose_context(self, message: _Message, reason: str) -> None:
        message.reasons.add(reason)
        self._unknown_context = reason

    def _control(self, opcode: Opcode, payload: bytes, *reasons: str) -> WebSocketMessage:
        message = self._new_message(opcode)
        message.reasons.update(reasons)
        close_code = None
        if self._hole:
            self._hole = False
            message.reasons.add("gap")
        elif opcode is Opcode.CLOSE and payload:
            close_code = int.from_bytes(payload[:2], "big")
            if len(payload) < 2 or not 1000 <= close_code < 5000:
                message.reasons.add("malformed")
                close_code = close_code if len(payload) > 1 else None
            message.kept.write(payload[2:])
        else:
            message.kept.write(payload)
        return self._finished(message, close_code)

    def _finished(self, message: _Message, close_code: int | None = None) -> WebSocketMessage:
        opcode, start, payload = message.opcode, message.start, message.kept.getvalue()
        if opcode in (Opcode.TEXT, Opcode.CLOSE) and not message.reasons and not _is_text(payload):
            message.reasons.add("malformed")
        target, authority, request_id, stream_id = self._opened
        return WebSocketMessage(
            id=derived_id(start.id, "websocket_message", message.number),
            timestamp_ns=start.timestamp_ns,
            source=start.source,
            pid=start.pid,
            comm=start.comm,
            exe=start.exe,
            connection_id=start.connection_id,
            direction=start.direction,
            opcode=_NAMES[opcode],
            target=target,
            authority=authority,
            request_id=request_id,
            stream_id=stream_id,
            payload=payload,
            last_byte_ns=self._last_ns,
            close_code=close_code,
            compressed=message.compressed,
            incomplete=bool(message.reasons),
            reason=",".join(sorted(message.reasons)) or None,
        )

    def _drop_message(self, reason: str) -> list[Event]:
        message, self._message = self._message, None
        if message is None:
            return []
        message.reasons.add(reason)
        if message.compressed:
            self._unknown_context = reason
        return [self._finished(message)]

    def _give_up(self, reason: str) -> list[Event]:
        """Tells the messages that have begun."""
        told = self._drop_message(reason)
        header = self._decoder.header
        if header is not None and (header.opcode.iscontrol() or not told):
            message = self._new_message(header.opcode)
            message.reasons.add(reason)
            told.append(self._finished(message))
        return told

    def _lose(self, reason: str) -> list[Event]:
        """From here on it is not known where a frame begins."""
        told = self._give_up(reason)
        self._lost = True
        self._unknown_context = reason
        self._start = None
        self._hole = False
        self._decoder = self._new_decoder()
        return told

    def _gap(self, missing: int) -> list[Event]:
        """Bytes are missing. If they are all of the current frame, it is known where the next one begins."""
        self._had_gap = True
        if self._lost:
            return []
        decoder, header = self._decoder, self._decoder.header
        if header is None or missing > header.payload_len - decoder.payload_consumed - len(decoder.buffer):
            return self._lose("gap")
        if header.opcode.iscontrol():  # at most 125 bytes, which wsproto holds until they are all there
            self._hole = True
            decoder.receive_bytes(bytes(missing))
            frame = decoder.process_buffer()
        else:
            # one byte stands for the missing ones; it is then left out
            decoder.payload_consumed += missing - 1
            decoder.masker.process(bytearray((missing - 1) % 4))  # type: ignore[union-attr]  # set with the header
            decoder.receive_bytes(b"\0")
            frame = decoder.process_buffer()
        return [] if frame is None else self._frame(frame, b"", "gap")

    def _begins_with_frames(self, payload: bytes) -> bool:
        """Whether bytes can hardly be anything but frames: they end where a frame does, or in a frame whose
        length takes eight bytes (six of them are zero or so)."""
        trial = self._new_decoder()
        trial.receive_bytes(payload)
        try:
            while (frame := trial.process_buffer()) is not None:
                whole = frame.frame_finished and frame.message_finished and not self._bits.bit
                if frame.opcode is Opcode.TEXT and whole and not _is_text(bytes(frame.payload)):  # type: ignore[arg-type]
                    return False
        except ParseFailed:
            return False
        finally:
            self._decoder = self._new_decoder()
        if trial.header is None:
            return not len(trial.buffer)
        return 0xFFFF < trial.header.payload_len < 1 << 32


def _is_text(payload: bytes) -> bool:
    try:
        payload.decode()
    except UnicodeDecodeError:
        return False
    return True


def is_masked(payload: bytes) -> bool:
    """Whether a call's bytes are whole frames of a client (RFC 6455, 5.2); one call in thousands looks so by
    chance."""
    start = 0
    while start < len(payload):
        head = payload[start : start + 2]
        if len(head) < 2 or head[0] & 0x30 or head[0] & 15 not in (0, 1, 2, 8, 9, 10) or head[1] < 0x80:
            return False
        length, size = head[1] & 0x7F, {126: 2, 127: 8}.get(head[1] & 0x7F, 0)
        if size:
            length = int.from_bytes(payload[start + 2 : start + 2 + size], "big")
        start += 2 + size + 4 + length
    return start == len(payload) > 0
