"""What one event of a process costs in Python: ring -> record -> event -> JSON line."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from libagenttracer import to_json
from libagenttracer.events import Event
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.process_decoder import ProcessDecoder
from libagenttracer.runners.record_kinds import Call
from tests.runners import records

from .test_pipeline import per_item

EVENTS = 256
RING_BYTES = 1 << 20
ARGUMENTS = b"cc\0-O1\0-c\0-o\0part_17.o\0part_17.c\0"


def file_open(number: int) -> list[bytes]:
    path = f"/usr/include/x86_64-linux-gnu/bits/{number}.h"
    return [records.file(Call.openat, resolved=path, fd=3, flags=0o100000)]


def failed_open(number: int) -> list[bytes]:
    name, where = b"bits/%d.h" % number, "/usr/include/x86_64-linux-gnu"
    return [records.file(Call.openat, name, where, fd=-2, result=-2)]


def process_exec(number: int) -> list[bytes]:
    some = records.become(b"/usr/bin/cc", "/usr/bin/x86_64-linux-gnu-gcc-12", args_bytes=len(ARGUMENTS))
    return [records.exec_args(ARGUMENTS), some]


def process_fork(number: int) -> list[bytes]:
    return [records.fork(200 + number, 9)]


def process_exit(number: int) -> list[bytes]:
    return [records.end(runtime_ns=5_000_000, user_ns=4_000_000, system_ns=4_000_000)]


def net_connect(number: int) -> list[bytes]:
    places: dict[str, Any] = {"local": b"\x7f\0\0\1", "remote": b"\x0a\0\0\1", "remote_port": 443}
    return [records.net(Call.connect, int(socket.AF_INET), protocol=6, **places)]


MAKERS: dict[str, Callable[[int], list[bytes]]] = {
    made.__name__: made
    for made in (file_open, failed_open, process_exec, process_fork, process_exit, net_connect)
}
EVENT_TYPES = {"failed_open": "file_open"}  # the others are named by theirs


def ring(kind: str) -> tuple[memoryview, list[tuple[int, int]]]:
    """A batch as it lies in the ring, and where its records are."""
    area, spans = bytearray(RING_BYTES), []
    at = 0
    for number in range(EVENTS):
        for raw in MAKERS[kind](number):
            area[at + 8 : at + 8 + len(raw)] = raw
            spans.append((at + 8, len(raw)))
            at += (len(raw) + 8 + 7) // 8 * 8
    return memoryview(bytes(area)), spans


def decoder() -> ProcessDecoder:
    made = ProcessDecoder(TracerIdentity("boot", "bench"), RING_BYTES)
    raw = records.process()
    made.decode(memoryview(raw), [(0, len(raw))], 0)
    return made


def events_of(kind: str) -> list[Event]:
    events = decoder().decode(*ring(kind), 0)
    assert len(events) == EVENTS
    return events


@pytest.mark.parametrize("kind", MAKERS)
def test_ring_to_event(benchmark: Any, kind: str) -> None:
    view, spans = ring(kind)
    assert {event.event_type for event in events_of(kind)} == {EVENT_TYPES.get(kind, kind)}
    decode = decoder().decode
    per_item(benchmark, lambda: decode(view, spans, 0), EVENTS)


@pytest.mark.parametrize("kind", MAKERS)
def test_event_to_json(benchmark: Any, kind: str) -> None:
    events = events_of(kind)

    def encode() -> None:
        for event in events:
            to_json(event)

    per_item(benchmark, encode, EVENTS)
