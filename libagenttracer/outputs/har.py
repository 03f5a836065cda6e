"""HAR 1.2: HTTP exchanges as a file that browsers' developer tools open."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
from collections import OrderedDict
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from ..errors import OutputError
from ..events import (
    Event,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    SseStream,
    StreamEnd,
    WebSocketMessage,
)
from .har_entry import har_entry, socket_entry, socket_message

__all__ = ["Har"]

_encode = msgspec.json.Encoder().encode
_Held = HttpRequest | HttpResponse | SseStream
_SOCKET_OVERHEAD = 200  # what a message costs besides its payload


class _Socket:
    """A WebSocket's entry, which waits for its messages."""

    def __init__(self, entry: dict[str, Any], entry_bytes: int, connection_id: str, role: str) -> None:
        self.entry = entry
        self.entry_bytes = entry_bytes
        self.connection_id = connection_id
        self.role = role
        self.messages: list[dict[str, Any]] = []
        self.held_bytes = 0
        self.closed: set[str] = set()  # directions


class Har:
    """Writes HTTP exchanges as a HAR file, unredacted: it is readable by its owner only (mode 0600).

    Each exchange is written when it is over; a WebSocket with its messages when it is closed, or in parts if
    they become too many. Until `close()` the file has a name of its own beside the one that is asked for
    (`.NAME.….partial`); it is whole JSON after each `write()`, whatever happens later.

    Args:
        path: of a regular file, which is replaced at the end.
        max_held_bytes: of messages that wait for their exchange, and as many of WebSockets. If there are
            more, the oldest are given up: of these exchanges only the outline is written.
        unless: (device, inode) of a file that is being read, and so must not be written.

    Attributes:
        left_out: messages that were given up for lack of room.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_held_bytes: int = 64 << 20,
        unless: tuple[int, int] | None = None,
    ) -> None:
        self.name = os.fspath(path)
        self._path = os.path.realpath(self.name)
        self._max_held_bytes = max_held_bytes
        self._held: OrderedDict[str, _Held] = OrderedDict()
        self._held_bytes = 0
        self._late: OrderedDict[str, HttpExchange] = OrderedDict()  # by the stream that they wait for
        self._sockets: OrderedDict[str, _Socket] = OrderedDict()
        self._sockets_bytes = 0
        self._entries: list[bytes] = []
        self.left_out = 0
        with contextlib.suppress(OSError):
            status = os.stat(self._path)
            if not stat.S_ISREG(status.st_mode):
                raise OutputError(f"cannot write {self.name}: it is no regular file")
            if unless == (status.st_dev, status.st_ino):
                raise OutputError(f"{self.name} is the file that is being read: write to another one")
        folder, name = os.path.split(self._path)
        try:
            self._fd, self._partial = tempfile.mkstemp(".partial", f".{name}.", folder)
        except OSError as error:
            raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
        head = {"version": "1.2", "creator": {"name": "libagenttracer", "version": _version()}}
        self._end = 0
        self._separator = b"\n"
        try:
            self._append(b'{"log":' + _encode(head)[:-1] + b',"entries":[')
        except OutputError:
            os.close(self._fd)
            os.unlink(self._partial)
            raise

    def write(self, events: Sequence[Event]) -> None:
        """Takes a batch; writes the exchanges that are over.

        Raises:
            OutputError: the disk is full, for instance; what was written before is whole.
        """
        for event in events:
            if type(event) is HttpRequest or type(event) is SseStream:
                self._hold(event)
            elif type(event) is HttpResponse:
                if not 100 <= event.status < 200 or event.status == 101:  # interim ones are in no exchange
                    self._hold(event)
            elif type(event) is HttpExchange:
                self._exchange(event)
            elif type(event) is WebSocketMessage:
                self._message(event)
            elif type(event) is StreamEnd:
                self._connection_over(event.connection_id)
        if self._entries:
            entries, self._entries = self._entries, []
            self._append(self._separator + b",\n".join(entries))
            self._separator = b",\n"

    def close(self) -> None:
        """Writes what is unfinished and gives the file its name. Closing again does nothing.

        Raises:
            OutputError: it cannot be written; what was written before is in the partial file.
        """
        if self._fd < 0:
            return
        for exchange in self._late.values():
            self._finish(exchange)
        for key in [*self._sockets]:
            self._socket_over(key)
        self.left_out += sum(type(event) is not SseStream for event in self._held.values())
        self._held.clear()
        try:
            self.write(())
        finally:
            self._publish()

    def _publish(self) -> None:
        try:
            self._append(b"")  # its end says how much was left out
            os.fsync(self._fd)
            os.replace(self._partial, self._path)
        except OSError as error:
            raise OutputError(
                f"cannot write {self.name}: {error.strerror}; what there is, is in {self._partial}"
            ) from error
        finally:
            os.close(self._fd)
            self._fd = -1

    # messages wait for their exchange

    def _hold(self, event: _Held) -> None:
        self._take(event.id)  # nothing, unless two have one id
        self._held[event.id] = event
        self._held_bytes += _cost(event)
        while self._held_bytes > self._max_held_bytes and self._held:
            self._held_bytes -= _cost(self._held.popitem(last=False)[1])
            self.left_out += 1
        if type(event) is SseStream and event.id in self._late:
            self._finish(self._late.pop(event.id))

    def _take(self, key: str | None) -> Any:
        event = self._held.pop(key, None) if key is not None else None
        if event is not None:
            self._held_bytes -= _cost(event)
        return event

    def _exchange(self, exchange: HttpExchange) -> None:
        response = self._held.get(exchange.response_id or "")
        stream_id = response.body_in if type(response) is HttpResponse else None
        if stream_id is not None and stream_id not in self._held:
            self._late[stream_id] = exchange
            if len(self._late) > 1000:
                self._finish(self._late.popitem(last=False)[1])
        else:
            self._finish(exchange)

    def _finish(self, exchange: HttpExchange) -> None:
        request, response = self._take(exchange.request_id), self._take(exchange.response_id)
        entry = har_entry(exchange, request, response, self._take(response and response.body_in))
        if "_resourceType" in entry:
            if request.id in self._sockets:
                self._socket_over(request.id)
            cost = 2 * (_cost(request) + _cost(response))
            self._sockets[request.id] = socket = _Socket(entry, cost, exchange.connection_id, exchange.role)
            self._count(socket, cost)
        else:
            self._entry(entry)

    # WebSockets wait for their messages

    def _message(self, message: WebSocketMessage) -> None:
        key = message.request_id or f"{message.connection_id}/{message.stream_id}"
        socket, cost = self._sockets.get(key), 2 * len(message.payload) + _SOCKET_OVERHEAD
        if socket is None:
            socket = _Socket(socket_entry(message), 2000, message.connection_id, "client")
            self._sockets[key] = socket
            cost += socket.entry_bytes
        socket.messages.append(socket_message(message, socket.role))
        if message.opcode == "close":
            socket.closed.add(message.direction)
            if len(socket.closed) == 2:
                self._socket_over(key)
                return
        self._count(socket, cost)

    def _count(self, socket: _Socket, held_bytes: int) -> None:
        socket.held_bytes += held_bytes
        self._sockets_bytes += held_bytes
        while self._sockets_bytes > self._max_held_bytes and self._sockets:
            self._socket_over(max(self._sockets, key=lambda key: self._sockets[key].held_bytes), full=True)

    def _socket_over(self, key: str, *, full: bool = False) -> None:
        """Writes a WebSocket's entry. If there were only too many messages, it goes on in another entry."""
        socket = self._sockets.pop(key)
        self._sockets_bytes -= socket.held_bytes
        entry = {**socket.entry, "_webSocketMessages": socket.messages}
        if full:
            notes = [entry.get("comment"), "too many messages to hold: it goes on in a later entry"]
            entry["comment"] = "; ".join(filter(None, notes))
        self._entry(entry)
        if full and socket.messages:
            socket.messages = []
            socket.held_bytes = socket.entry_bytes
            self._sockets_bytes += socket.held_bytes
            self._sockets[key] = socket

    def _connection_over(self, connection_id: str) -> None:
        for key, socket in [*self._sockets.items()]:
            if socket.connection_id == connection_id:
                self._socket_over(key)

    # the file

    def _entry(self, entry: dict[str, Any]) -> None:
        try:
            self._entries.append(_encode(entry))
        except UnicodeEncodeError:  # names of processes need not be text
            self._entries.append(json.dumps(entry, ensure_ascii=False).encode(errors="replace"))

    def _append(self, data: bytes) -> None:
        """Adds to the entries; the end of the JSON follows, and is overwritten the next time."""
        tail = b"\n]"
        if self.left_out:
            why = "there was no room to hold them, or no exchange came"
            tail += b',"comment":' + _encode(f"{self.left_out} messages are not in the entries: {why}")
        tail += b"}}\n"
        end = self._end
        try:
            self._write(data + tail, end)
        except OSError as error:
            with contextlib.suppress(OSError):  # there was room for this before
                os.ftruncate(self._fd, end)
                self._write(b"\n]}}\n", end)
            raise OutputError(
                f"cannot write {self.name}: {error.strerror}; what was written before is whole"
            ) from error
        self._end = end + len(data)

    def _write(self, data: bytes, at: int) -> None:
        view = memoryview(data)
        while view:
            written = os.pwrite(self._fd, view, at)
            at += written
            view = view[written:]


def _cost(event: Any) -> int:
    """About the memory that an event takes."""
    if type(event) is SseStream:
        return sum(len(item.data) + 150 for item in event.events) + 500
    return len(event.body) + sum(len(name) + len(value) + 150 for name, value in event.headers) + 500


def _version() -> str:
    try:
        return version("libagenttracer")
    except PackageNotFoundError:  # run from its sources
        return "0"
