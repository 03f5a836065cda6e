"""Makes the pieces of HTTP/1 connections, records real ones, and tells what became of them."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Literal

from libagenttracer.analyzers.http.http1 import Http1
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpMessage,
    HttpRequest,
    HttpResponse,
    StreamData,
    StreamEnd,
    derived_id,
)

__all__ = [
    "Direction",
    "Script",
    "Wire",
    "bytewise",
    "cut",
    "exchanges",
    "outline",
    "recorded",
    "request",
    "response",
    "run",
    "told",
]

Direction = Literal["read", "write"]
Script = list[tuple[Direction, bytes]]


class Wire:
    """Gives the pieces of one connection."""

    def __init__(self, *, joined_late: bool = False) -> None:
        self._joined_late = joined_late
        self._offsets: dict[str, int] = {"read": 0, "write": 0}
        self._missing: dict[str, int] = {"read": 0, "write": 0}
        self._count = 0

    def piece(self, direction: Direction, payload: bytes, *, starts_call: bool = True) -> StreamData:
        self._count += 1
        missing, self._missing[direction] = self._missing[direction], 0
        piece = StreamData(
            *(derived_id("connection", "piece", self._count), self._count * 1000, "ssl", 7, "agent", "", "c"),
            *(direction, self._offsets[direction], payload, missing, starts_call, self._joined_late),
        )
        self._offsets[direction] += len(payload)
        return piece

    def lose(self, direction: Direction, count: int) -> None:
        self._offsets[direction] += count
        self._missing[direction] += count

    def end(self, cause: Any = "reused") -> StreamEnd:
        self._count += 1
        return StreamEnd(
            *(derived_id("connection", "end", self._count), self._count * 1000, "ssl", 7, "agent", "", "c"),
            cause,
        )


def request(method: str, target: str, body: bytes | None = None, *headers: str) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "Host: h.example", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def response(status: int, body: bytes | None = None, *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status} Word", *headers]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


def bytewise(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    at = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


def run(
    script: Script,
    split: Callable[[bytes], list[bytes]] = lambda data: [data],
    *,
    limits: Limits | None = None,
    cause: str = "reused",
    joined_late: bool = False,
) -> list[Event]:
    """What the handler gives for these bytes, cut into pieces."""
    wire = Wire(joined_late=joined_late)
    handler = Http1(limits or Limits())
    events: list[Event] = []
    for direction, data in script:
        for number, part in enumerate(split(data)):
            events += handler.data(wire.piece(direction, part, starts_call=number == 0))
    events += handler.end(wire.end(cause))
    return events


def told(events: Iterable[Event]) -> list[Any]:
    """The events without what depends on how the bytes were cut."""
    events = [*events]
    names = {event.id: number for number, event in enumerate(e for e in events if type(e) is not HttpBody)}
    result: list[Any] = []
    parts: dict[str, bytes] = {}
    for event in events:
        if isinstance(event, HttpBody):
            assert event.offset == len(parts.get(event.response_id, b""))
            parts[event.response_id] = parts.get(event.response_id, b"") + event.payload
            continue
        if isinstance(event, HttpResponse) and event.id in parts:
            assert parts[event.id] == event.body
        fields = {name: getattr(event, name) for name in event.__struct_fields__}
        for name in [name for name in fields if name.endswith("_ns")] + ["body_times", "duration_ms"]:
            fields.pop(name, None)
        for name in ("id", "request_id", "response_id"):
            if name in fields:
                fields[name] = names.get(fields[name])
        result.append((type(event).__name__, fields))
    assert len({event.id for event in events}) == len(events)
    return result


def outline(events: Iterable[Event]) -> list[str]:
    """One line for each event but parts of bodies: what, and in brackets why it is incomplete."""
    lines = []
    for event in events:
        if isinstance(event, HttpExchange):
            line = f"{event.method or '-'} {event.target or '-'} -> {event.status or '-'}"
        elif isinstance(event, HttpRequest):
            line = f"{event.method} {event.target} {event.body.decode()!r}"
        elif isinstance(event, HttpResponse):
            line = f"{event.status} {event.body.decode()!r}"
        else:
            continue
        if isinstance(event, HttpExchange | HttpMessage) and event.incomplete:
            line += f" [{event.reason}]"
        lines.append(line)
    return lines


def exchanges(events: Iterable[Event]) -> list[HttpExchange]:
    return [event for event in events if isinstance(event, HttpExchange)]


@contextlib.contextmanager
def recorded(port: int) -> Iterator[tuple[int, list[Script]]]:
    """A relay on loopback to a server: gives its port, and what each connection carried, in order."""
    scripts: list[Script] = []
    threads: list[threading.Thread] = []
    lock = threading.Lock()

    def pump(source: socket.socket, target: socket.socket, direction: Direction, script: Script) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                with lock:
                    script.append((direction, data))
                target.sendall(data)
        with contextlib.suppress(OSError):
            target.shutdown(socket.SHUT_WR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(("127.0.0.1", port), timeout=10)
                script: Script = []
                scripts.append(script)
                ways: list[tuple[socket.socket, socket.socket, Direction]] = [
                    (client, server, "write"),
                    (server, client, "read"),
                ]
                for way in ways:
                    thread = threading.Thread(target=pump, args=(*way, script), daemon=True)
                    threads.append(thread)
                    thread.start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        acceptor = threading.Thread(target=accept, daemon=True)
        acceptor.start()
        yield listener.getsockname()[1], scripts
        for thread in threads:
            thread.join(10)
        listener.shutdown(socket.SHUT_RDWR)
    acceptor.join(10)
