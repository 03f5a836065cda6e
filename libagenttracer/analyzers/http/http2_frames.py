"""The frames of one direction of an HTTP/2 connection (RFC 9113, 4 and 6), also after bytes were lost.

The frames are hyperframe's. What DATA frames carry is given as it comes; of other frames only those are kept
that say something about messages.

When it is not known where a frame begins, a place is looked for at which frames follow one another that could
all be: of known types, with no other flags, lengths and stream ids than they can have. Text never looks like
that, since the length's first byte is zero there; other bytes hardly ever do. From then on only such frames
are taken; the first other one means that the place was wrong, or that something else is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from hyperframe.exceptions import HyperframeError, InvalidFrameError, InvalidPaddingError
from hyperframe.frame import (
    FRAMES,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)

from ...events import StreamData

__all__ = ["PREFACE", "FrameReader", "begins_with_frames"]

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"  # with which a client begins: RFC 9113, 3.4
_HEADER_BYTES = 9
_LENGTH = 1 << 14  # of a frame, if no setting allows more
_LENGTH_WHEN_LATE = 1 << 20  # the settings were not seen
_SETTINGS_SOUGHT = 600  # bytes of a frame of settings that is looked for: there are few of them
_CONTROL_BYTES = 1 << 14  # of a frame that is no part of headers: longer ones are not read
_UNSEEN_STREAMS = 2000  # may have been begun in a gap
_STREAMS_WHEN_LATE = 1 << 24
_BLOCK = (HeadersFrame, PushPromiseFrame, ContinuationFrame)
_CONTROL = (SettingsFrame, RstStreamFrame, GoAwayFrame)
_FLAGS = {cls: sum(flag.bit for flag in cls.defined_flags) for cls in FRAMES.values()}
_LENGTHS: dict[type[Frame], int] = {PriorityFrame: 5, RstStreamFrame: 4, PingFrame: 8, WindowUpdateFrame: 4}
# only what is quick to see: on a stream, on none, or WINDOW_UPDATE; one cannot begin with CONTINUATION
_PERHAPS = re.compile(
    rb"(?=\0..(?:[\0-\3\5][\0-\x2d](?!\0{4})[\0-\x7f]|[\4\6\7][\0\1]\0{4}|\x08\0[\0-\x7f]))", re.DOTALL
)


class FrameReader:
    """Cuts one direction into frames.

    Args:
        late: what comes first need not be the beginning.
        max_block_bytes: of a frame with headers; longer ones are not read.

    Attributes:
        is_client: whether it began with what only clients send; None: not known.
        lost: it is not known where a frame begins.
        frame: the one that is being read.
        start: the piece in which it, or the one just given, began.
        hole: why `frame`, or the one just given, was not read wholly ("gap", "too_long"); "": it was.
        max_stream: the highest stream that both directions have used so far; 0: none.
        max_frame: how long frames may be, as far as known.
    """

    def __init__(self, *, late: bool, max_block_bytes: int) -> None:
        self.is_client: bool | None = None
        self.lost = late
        self.frame: Frame | None = None
        self.start: StreamData | None = None
        self.hole = ""
        self.max_stream = 0
        self.max_frame = _LENGTH_WHEN_LATE if late else _LENGTH
        self._max_block_bytes = max_block_bytes
        self._strict = late
        self._fresh = not late
        self._held = bytearray()  # of what can only be read as a whole: preface, frame header, payload
        self._left = 0  # bytes of the payload that are still to come
        self._padding = 0  # at the end of them
        self._pad_length = False  # the next byte says how long it is

    def read(self, piece: StreamData) -> Iterator[tuple[Frame, memoryview, bool]]:
        """Takes the next piece, and gives a tuple for each frame that ends in it.

        For DATA frames there is also one for each part. They have the data of this part, padding taken away,
        and whether the frame ends with it.

        Raises:
            HyperframeError: something is no frame. Then use `lose()`; the rest of the piece is skipped.
        """
        view = memoryview(piece.payload)
        at = 0
        if self.lost:
            at = self._find(piece.payload, piece.starts_call)
            if at < 0:
                return
            self.lost = False
        elif self._fresh and view:
            at = self._read_preface(view)
        while self.frame is not None or at < len(view):
            frame = self.frame
            if frame is None:
                at = self._read_header(view, at, piece)
                continue
            if type(frame) is DataFrame:
                data, at = self._read_data(view, at, frame)
            else:
                data, at = self._read_whole(view, at, frame)
            done = self.frame is None
            if data or done:
                yield frame, data, done
            if not done:
                return

    def _read_header(self, view: memoryview, at: int, piece: StreamData) -> int:
        if not self._held:
            self.start = piece
        head, at = self._take(view, at, _HEADER_BYTES)
        if head is not None:
            self._begin(head)
        return at

    def _read_data(self, view: memoryview, at: int, frame: DataFrame) -> tuple[memoryview, int]:
        """What the frame carries; returns where it goes on too."""
        if self._pad_length and (at < len(view) or not self._left):
            if not self._left or view[at] >= self._left:
                raise InvalidPaddingError
            self._padding, self._pad_length = view[at], False
            self._left -= 1
            at += 1
        count = min(self._left, len(view) - at)
        data = view[at : at + max(0, min(count, self._left - self._padding))]
        self._left -= count
        if not self._left:
            self.frame = None
        return data, at + count

    def _read_whole(self, view: memoryview, at: int, frame: Frame) -> tuple[memoryview, int]:
        """Reads the frame, once it is all there, or skips it."""
        count = min(self._left, len(view) - at)
        if not self.hole:
            body, _ = self._take(view, at, self._left + len(self._held))
            if body is not None:
                frame.parse_body(memoryview(body))
        self._left -= count
        if not self._left:
            self.frame = None
        return view[:0], at + count

    def gap(self, missing: int) -> bool:
        """Bytes are missing here. Returns whether they are all of the current frame, which then goes on."""
        if self.lost or self.frame is None or missing > self._left:
            return False
        self.hole = "gap"
        self._held.clear()
        self._left -= missing
        if self._pad_length:  # so it is not known what is padding
            self._pad_length = False
            self._padding = self._left
        self._padding = min(self._padding, self._left)
        return True

    def lose(self) -> None:
        """From here on it is not known where a frame begins."""
        self.lost = self._strict = True
        self._fresh = False
        self.frame = None
        self._held.clear()
        self._pad_length = False

    def _take(self, view: memoryview, at: int, size: int) -> tuple[bytes | memoryview | None, int]:
        """The next `size` bytes, once they are all there, and where it goes on."""
        held = self._held
        if not held and len(view) - at >= size:
            return view[at : at + size], at + size
        stop = at + size - len(held)
        held += view[at:stop]
        if len(held) < size:
            return None, len(view)
        taken = bytes(held)
        held.clear()
        return taken, stop

    def _read_preface(self, view: memoryview) -> int:
        """Takes what a client begins with; returns where it goes on."""
        at = 0
        if not self._held and view[0] != PREFACE[0]:
            self.is_client = False
        else:
            preface, at = self._take(view, 0, len(PREFACE))
            if preface is None:
                return at
            if preface != PREFACE:
                raise InvalidFrameError
            self.is_client = True
        self._fresh = False
        return at

    def _begin(self, head: bytes | memoryview) -> None:
        self.hole = ""
        self._padding = 0
        if self._strict:
            frame, length = self._checked(head)
        else:
            frame, length = Frame.parse_frame_header(memoryview(head))
        kind = type(frame)
        if kind is DataFrame:
            self._pad_length = "PADDED" in frame.flags
        elif kind in _BLOCK:
            if length > self._max_block_bytes:
                self.hole = "too_long"
        elif kind not in _CONTROL or length > _CONTROL_BYTES:
            self.hole = "too_long"
        self.frame, self._left = frame, length

    def _checked(self, head: bytes | memoryview) -> tuple[Frame, int]:
        """A frame's header, if it can be one."""
        frame, length = Frame.parse_frame_header(memoryview(head), strict=True)
        kind = type(frame)
        max_stream = self.max_stream + _UNSEEN_STREAMS if self.max_stream else _STREAMS_WHEN_LATE
        if (
            head[4] & ~_FLAGS[kind]
            or head[5] & 0x80  # reserved
            or length > self.max_frame
            or frame.stream_id > max_stream
            or _LENGTHS.get(kind, length) != length
        ):
            raise InvalidFrameError
        return frame, length

    def _find(self, data: bytes, starts_call: bool) -> int:
        """Where frames begin; -1: nowhere."""
        if data.startswith(PREFACE):
            self.is_client = True
            return len(PREFACE)
        wrong: set[tuple[int, int]] = set()
        for match in _PERHAPS.finditer(data):
            at = match.start()
            if self._follow(data, at, wrong, sure=not at and starts_call):
                return at
        return -1

    def _follow(self, data: bytes, at: int, wrong: set[tuple[int, int]], *, sure: bool) -> bool:
        """Whether there are frames from here to the end, and enough of them.

        Args:
            wrong: where there are none: this keeps the effort proportional to the length.
            sure: something begins here.
        """
        view = memoryview(data)
        streams = count = block = 0
        passed: list[tuple[int, int]] = []
        try:
            while len(data) - at >= _HEADER_BYTES:
                if (at, block) in wrong:
                    raise InvalidFrameError
                passed.append((at, block))
                frame, length = self._checked(view[at : at + _HEADER_BYTES])
                kind = type(frame)
                if (kind is ContinuationFrame) != bool(block) or (block and frame.stream_id != block):
                    raise InvalidFrameError
                if kind is SettingsFrame and length > _SETTINGS_SOUGHT:  # each place would be read to the end
                    raise InvalidFrameError
                if kind in _BLOCK:
                    block = 0 if "END_HEADERS" in frame.flags else frame.stream_id
                at += _HEADER_BYTES
                if kind is not DataFrame and length <= len(data) - at:
                    frame.parse_body(view[at : at + length])
                at += length
                count += 1
                streams += bool(frame.stream_id)
        except HyperframeError:
            wrong.update(passed)
            return False
        whole = at == len(data)
        if sure:
            # a single frame that goes on is only taken for one if it belongs to something known
            return count > 1 or (count == 1 and (whole or 0 < frame.stream_id <= self.max_stream))
        return bool(streams) and (count > 2 or (whole and count > 1))


def begins_with_frames(payload: bytes) -> bool:
    """Whether the bytes at the beginning of a call look like frames, or like a client's beginning."""
    reader = FrameReader(late=True, max_block_bytes=0)
    return payload.startswith(PREFACE) or reader._follow(payload, 0, set(), sure=True)
