"""Text for people: what was said, by whom, in which direction."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from typing import IO, Any

from ..events import Event, Loss, SslData, SslHandshake, SslSendfile, to_json
from .writer import LineWriter

__all__ = ["Text", "printable"]

# what could drive a terminal or turn a line round: C0 but tab and newline, DEL, C1, bidirectional controls
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")
_COLORS = {"write": "\x1b[36m", "read": "\x1b[32m", "loss": "\x1b[1;31m", "dim": "\x1b[2m"}
_RESET = "\x1b[0m"
_HEX_BYTES = 16


def printable(text: str) -> str:
    """Text that cannot do anything to a terminal: controls are shown as escapes, CR LF as a newline."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), text.replace("\r\n", "\n"))


def _name(text: str | None) -> str:
    """As `printable`, and on one line: a name must not look like another event."""
    return printable(text or "").replace("\n", "\\n").replace("\t", "\\t")


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class Text:
    """Writes events as text.

    Args:
        target: a path, or an open file.
        color: with ANSI colours.
        extra: user, thread, latency, place in the connection and library too.
        max_bytes: of each payload, how much is shown; the rest is mentioned.
        unless: (device, inode) of a file that is being read, and so must not be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[Any] | None,
        *,
        color: bool = False,
        extra: bool = False,
        max_bytes: int = 16384,
        unless: tuple[int, int] | None = None,
    ) -> None:
        self._writer = LineWriter(target, unless=unless)
        self._color = color
        self._extra = extra
        self._max_bytes = max_bytes

    def write(self, events: Sequence[Event]) -> None:
        """Writes a batch."""
        text = "".join(self.format(event) for event in events)
        self._writer.write(text.encode(errors="backslashreplace"))

    def close(self) -> None:
        """Closes the file if this made it."""
        self._writer.close()

    def format(self, event: Event) -> str:
        """One event as text, with a newline at its end."""
        clock = time.strftime("%H:%M:%S", time.localtime(event.timestamp_ns // 1_000_000_000))
        clock += f".{event.timestamp_ns // 1_000_000 % 1000:03d}"
        if isinstance(event, SslData):
            return self._data(clock, event)
        if isinstance(event, SslHandshake):
            who = self._who(event.comm, event.pid)
            head = f"{clock} {who} handshake {_name(event.result)} ({_name(event.function)})"
            tail = f" {event.handshake_ns / 1e6:.1f} ms, {event.calls} calls  [{_name(event.connection_id)}]"
            return self._paint("dim", head + tail) + "\n"
        if isinstance(event, SslSendfile):
            head = f"{clock} {self._who(event.comm, event.pid)} -> SSL_sendfile {event.data_len} bytes"
            where = f"from fd {event.fd} at {event.file_offset}, not readable"
            return f"{head} {where}  [{_name(event.connection_id)}]\n"
        if isinstance(event, Loss):
            return self._paint("loss", f"{clock} {self._loss(event)}") + "\n"
        return f"{clock} {_name(to_json(event).decode())}\n"

    def _data(self, clock: str, event: SslData) -> str:
        arrow = "->" if event.direction == "write" else "<-"
        who = self._who(event.comm, event.pid)
        head = f"{clock} {who} {arrow} {event.data_len} bytes  [{_name(event.connection_id)}]"
        if event.call_len is not None:
            head += f"  part of {event.call_len}, from {event.call_offset}"
        if event.incomplete:
            head += f"  incomplete: {_name(event.reason)}"
        if self._extra:
            head += (
                f"\n  uid {event.uid}  tid {event.tid}  ppid {event.ppid}  {_name(event.function)} "
                f"{event.latency_ns / 1000:.0f} us  offset {event.offset}\n"
                f"  {_name(event.library)}  {_name(event.exe)}"
            )
        return f"{self._paint(event.direction, head)}\n{self._payload(event.payload)}"

    def _payload(self, payload: bytes) -> str:
        shown = payload[: self._max_bytes]
        try:
            # the cut may go through a character
            text = printable(shown.decode() if len(shown) == len(payload) else shown.decode(errors="ignore"))
            if not payload.startswith(shown.decode(errors="ignore").encode()):
                raise ValueError
        except ValueError:
            shown = shown[:256]
            text = _hexdump(shown)
        rest = len(payload) - len(shown)
        body = text if text.endswith("\n") or not text else text + "\n"
        return body + (f"… {rest} more bytes (JSON output has all of them)\n" if rest else "")

    def _who(self, comm: str, pid: int) -> str:
        return f"{_name(comm) or '?'}[{pid}]"

    def _loss(self, event: Loss) -> str:
        where = (
            f" on {_name(event.connection_id)}, {event.direction} at {event.offset}"
            if event.connection_id
            else ""
        )
        return f"LOST {event.count} records, {event.lost_bytes} bytes ({_name(event.cause)}){where}"

    def _paint(self, color: str, text: str) -> str:
        return f"{_COLORS[color]}{text}{_RESET}" if self._color else text


def _hexdump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), _HEX_BYTES):
        part = data[at : at + _HEX_BYTES]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"  {at:06x}  {part.hex(' '):<{_HEX_BYTES * 3}} {letters}\n")
    return "".join(lines)
