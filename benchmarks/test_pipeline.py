"""What one event costs in Python: ring -> record -> event -> JSON line, 512 bytes of payload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from libagenttracer import SslData, to_json
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.interface import LibraryTable
from libagenttracer.runners.records import SslDataRecord, process_record, ssl_data_record
from libagenttracer.runners.ssl_decoder import SslDecoder

RECORDS = 256
PAYLOAD = {"text": b'data: {"delta": "hello"}\n'.ljust(512, b" "), "binary": bytes(range(256)) * 2}
SLOT_BYTES = 640
HEADER = {"time_ns": 10**12, "tgid": 4242, "tid": 4242, "start_ns": 10**9, "uid": 1000}


def ring(kind: str) -> tuple[memoryview, list[tuple[int, int]]]:
    """A batch as it lies in the ring, and where its records are."""
    area, spans = bytearray(SLOT_BYTES * RECORDS), []
    for index in range(RECORDS):
        raw = ssl_data_record.build(
            {
                "common": {
                    "header": {**HEADER, "kind": 2},
                    **{"ssl": 0x7F0000001000, "generation_ns": 10**11, "latency_ns": 2500},
                    **{"function": 1, "flags": 1, "library": 0},
                },
                **{"offset": index * 512, "call_bytes": 512, "call_offset": 0, "index": index},
                **{"data_bytes": 512, "payload": PAYLOAD[kind]},
            }
        )
        at = index * SLOT_BYTES + 8
        area[at : at + len(raw)] = raw
        spans.append((at, SLOT_BYTES - 8))
    return memoryview(bytes(area)), spans


def decoder() -> SslDecoder:
    made = SslDecoder(TracerIdentity("boot", "bench"), LibraryTable(["/usr/lib/libssl.so.3"]), 1 << 20)
    raw = process_record.build(
        {
            "header": {**HEADER, "kind": 1},
            **{"parent_start_ns": 1, "exec_count": 1, "cgroup_id": 1, "ppid": 1, "gid": 1000, "flags": 0},
            **{"namespace_pid": 1, "args_bytes": 0, "cwd_bytes": 0, "text_bytes": 12},
            **{"comm": b"python".ljust(16, b"\0"), "exe_bytes": 12, "text": b"python3\0bin\0"},
        }
    )
    made.decode(memoryview(raw), [(0, len(raw))], 0)
    return made


def per_item(benchmark: Any, function: Callable[[], object], items: int) -> None:
    benchmark(function)
    benchmark.extra_info["ns_per_item_median"] = round(benchmark.stats.stats.median / items * 1e9)
    print(f"\n{benchmark.name}: {benchmark.stats.stats.median / items * 1e9:.0f} ns each (median)")


def test_ring_to_record(benchmark: Any) -> None:
    view, spans = ring("text")

    def decode() -> None:
        unpack_from = SslDataRecord.unpack_from
        for offset, length in spans:
            unpack_from(view, offset, length)

    per_item(benchmark, decode, RECORDS)


@pytest.mark.parametrize("kind", PAYLOAD)
def test_ring_to_event(benchmark: Any, kind: str) -> None:
    view, spans = ring(kind)
    events = decoder().decode(view, spans, 0)
    assert len(events) == RECORDS
    made = decoder()

    def decode() -> None:
        made._connections.clear()  # or the second round would be a gap
        made.decode(view, spans, 0)

    per_item(benchmark, decode, RECORDS)


@pytest.mark.parametrize("kind", PAYLOAD)
def test_event_to_json(benchmark: Any, kind: str) -> None:
    view, spans = ring(kind)
    events = decoder().decode(view, spans, 0)
    assert isinstance(events[0], SslData)

    def encode() -> None:
        for event in events:
            to_json(event)

    per_item(benchmark, encode, RECORDS)
