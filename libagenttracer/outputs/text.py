"""Text for people: what was said and done, by whom."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import IO, Any

from ..events import (
    AnalyzerFailure,
    Event,
    LlmCall,
    Loss,
    SslClose,
    SslConnection,
    SslData,
    SslHandshake,
    SslSendfile,
    SslUnseen,
    to_json,
)
from .conversation import Conversation
from .http_text import HttpText
from .process_text import one_line, printable, process_line
from .wrapping import terminal_columns
from .writer import LineWriter

__all__ = ["Text", "printable"]

_COLORS = {
    "write": "\x1b[36m",
    "read": "\x1b[32m",
    "loss": "\x1b[1;31m",
    "dim": "\x1b[2m",
    "process": "\x1b[1m",
    "file": "\x1b[34m",
    "net": "\x1b[35m",
    "signal": "\x1b[33m",
    "failure": "\x1b[31m",
}
_RESET = "\x1b[0m"
_HEX_BYTES = 16


class Text:
    """Writes events as text.

    Args:
        target: a path, or an open file.
        color: with ANSI colours.
        extra: user, thread, latency, place in the connection and library too; of processes the parent,
            the system call, memory and the like.
        max_bytes: of each payload, how much is shown; the rest is mentioned.
        width: of a line, for texts that are wrapped; None: that of the terminal, if `target` is one.
        unless: (device, inode) of a file that is being read, and so must not be written.
    """

    def __init__(
        self,
        target: str | os.PathLike[str] | IO[Any] | None,
        *,
        color: bool = False,
        extra: bool = False,
        max_bytes: int = 16384,
        width: int | None = None,
        unless: tuple[int, int] | None = None,
    ) -> None:
        self._writer = LineWriter(target, unless=unless)
        self._color = color
        self._extra = extra
        self._max_bytes = max_bytes
        self._http = HttpText(extra, self._paint)
        self._conversation = Conversation(extra, self._paint, width or terminal_columns(target))
        self._lines: dict[type[Event], tuple[str, Callable[[Any], str]]] = {
            SslHandshake: ("dim", self._handshake),
            SslSendfile: ("write", self._sendfile),
            SslClose: ("dim", self._close),
            SslConnection: ("dim", self._connection),
            SslUnseen: ("loss", self._unseen),
            Loss: ("loss", self._loss),
            AnalyzerFailure: ("loss", self._failure),
        }

    def write(self, events: Sequence[Event]) -> None:
        """Writes a batch."""
        text = "".join(self.format(event) for event in events)
        self._writer.write(text.encode(errors="backslashreplace"))

    def close(self) -> None:
        """Closes the file if this made it."""
        self._writer.close()

    def format(self, event: Event) -> str:
        """One event as text, with a newline at its end; "" if another event's text says it too."""
        clock = time.strftime("%H:%M:%S", time.localtime(event.timestamp_ns // 1_000_000_000))
        clock += f".{event.timestamp_ns // 1_000_000 % 1000:03d}"
        if isinstance(event, SslData):
            return self._data(clock, event)
        if isinstance(event, LlmCall):
            return f"{clock} {self._conversation.text(event)}"
        line = self._line(event)
        return f"{clock} {line}\n" if line else ""

    def _line(self, event: Event) -> str:
        own = self._lines.get(type(event))
        if own is not None:
            color, line_of = own
            return self._paint(color, line_of(event))
        line = self._http.line(event)
        if line is None:
            line = process_line(event, self._extra, self._paint)
        return one_line(to_json(event).decode()) if line is None else line

    def _sendfile(self, event: SslSendfile) -> str:
        head = f"{self._who(event.comm, event.pid)} -> SSL_sendfile {event.data_len} bytes"
        where = f"from fd {event.fd} at {event.file_offset}, not readable"
        return f"{head} {where}  [{one_line(event.connection_id)}]"

    def _close(self, event: SslClose) -> str:
        carried = f"closed, sent {event.written_bytes} bytes, received {event.read_bytes}"
        return f"{self._who(event.comm, event.pid)} {carried}  [{one_line(event.connection_id)}]"

    def _connection(self, event: SslConnection) -> str:
        who = self._who(event.comm, event.pid)
        return f"{who} connected {_ends(event)}  [{one_line(event.connection_id)}]"

    def _unseen(self, event: SslUnseen) -> str:
        what = f"{self._who(event.comm, event.pid)} talks {one_line(event.protocol)} {_ends(event)}"
        return f"{what}: NOT SEEN, no probe of it was hit (doctor -p {event.pid} says more)"

    def _failure(self, event: AnalyzerFailure) -> str:
        what = f"{event.analyzer} FAILED and is skipped from now on: {event.error} ({event.place})"
        return one_line(what)

    def _handshake(self, event: SslHandshake) -> str:
        head = f"{self._who(event.comm, event.pid)} handshake {one_line(event.result)}"
        took = f"{event.handshake_ns / 1e6:.1f} ms, {event.calls} calls"
        return f"{head} ({one_line(event.function)}) {took}  [{one_line(event.connection_id)}]"

    def _data(self, clock: str, event: SslData) -> str:
        arrow = "->" if event.direction == "write" else "<-"
        who = self._who(event.comm, event.pid)
        head = f"{clock} {who} {arrow} {event.data_len} bytes  [{one_line(event.connection_id)}]"
        if event.call_len is not None:
            head += f"  part of {event.call_len}, from {event.call_offset}"
        if event.incomplete:
            head += f"  incomplete: {one_line(event.reason)}"
        if self._extra:
            head += (
                f"\n  uid {event.uid}  tid {event.tid}  ppid {event.ppid}  {one_line(event.function)} "
                f"{event.latency_ns / 1000:.0f} us  offset {event.offset}\n"
                f"  {one_line(event.library)}  {one_line(event.exe)}"
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
        return f"{one_line(comm) or '?'}[{pid}]"

    def _loss(self, event: Loss) -> str:
        where = (
            f" on {one_line(event.connection_id)}, {event.direction} at {event.offset}"
            if event.connection_id
            else ""
        )
        kind = f" of {one_line(event.kind)}" if event.kind else ""
        return f"LOST {event.count} records{kind}, {event.lost_bytes} bytes ({one_line(event.cause)}){where}"

    def _paint(self, color: str, text: str) -> str:
        return f"{_COLORS[color]}{text}{_RESET}" if self._color else text


def _ends(event: SslConnection | SslUnseen) -> str:
    """Where a connection goes, and from where."""
    remote = _end(event.remote_address, event.remote_port)
    name = f"{one_line(event.server_name)} " if event.server_name else ""
    local = f" from {_end(event.local_address, event.local_port)}" if event.local_address else ""
    return f"to {name}{f'({remote})' if name else remote}{local}"


def _end(address: str | None, port: int | None) -> str:
    if address is None:
        return "an unknown address"
    host = f"[{one_line(address)}]" if ":" in address else one_line(address)
    return f"{host}:{port}"


def _hexdump(data: bytes) -> str:
    lines = []
    for at in range(0, len(data), _HEX_BYTES):
        part = data[at : at + _HEX_BYTES]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"  {at:06x}  {part.hex(' '):<{_HEX_BYTES * 3}} {letters}\n")
    return "".join(lines)
