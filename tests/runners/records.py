"""Records as the kernel would write them, built by construct from the declared layouts."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from libagenttracer.events import Event, Loss, SslData
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.interface import ConnectionTotals, LibraryTable, LossCount
from libagenttracer.runners.records import (
    LossCause,
    RecordKind,
    SslFlag,
    SslFunction,
    process_record,
    ssl_data_record,
    ssl_handshake_record,
    ssl_sendfile_record,
)
from libagenttracer.runners.ssl_decoder import SslDecoder

__all__ = [
    "RING_BYTES",
    "Bench",
    "data",
    "handshake",
    "losses",
    "only_data",
    "only_losses",
    "process",
    "sendfile",
    "totals",
]

RING_BYTES = 1 << 20
TGID, START_NS, SSL, GENERATION_NS = 100, 5_000, 0x7F00DEADBEEF, 77


def header(kind: RecordKind, **changes: int) -> dict[str, int]:
    fields = {"time_ns": 1_000_000, "tgid": TGID, "tid": TGID + 1, "start_ns": START_NS, "uid": 1000}
    return {"kind": kind, **fields, **{name: changes[name] for name in changes if name in fields}}


def common(kind: RecordKind, function: SslFunction, **changes: int) -> dict[str, Any]:
    fields = {
        "ssl": SSL, "generation_ns": GENERATION_NS, "latency_ns": 2500, "function": function, "flags": 0,
        "library": 0,
    }  # fmt: skip
    return {"header": header(kind, **changes), **fields, **{k: v for k, v in changes.items() if k in fields}}


def process(comm: bytes = b"python", path: str = "/usr/bin/python3", **changes: int) -> bytes:
    """A process record; trailing bytes stand for the room that the kernel reserved and did not use."""
    names = [part.encode() + b"\0" for part in reversed(path.split("/")) if part]
    exe = b"".join(names)
    fields = {
        "parent_start_ns": 1, "exec_count": 3, "cgroup_id": 9, "ppid": 42, "gid": 1000, "flags": 0,
        "namespace_pid": 1, "args_bytes": 0, "cwd_bytes": 0, "text_bytes": len(exe),
    }  # fmt: skip
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = process_record.build(
        {
            "header": header(RecordKind.PROCESS, **changes),
            **fields,
            "comm": comm.ljust(16, b"\0"),
            "exe_bytes": len(exe),
            "text": exe,
        }
    )
    return raw + b"\xaa" * 50


def data(
    payload: bytes,
    *,
    index: int,
    offset: int,
    written: bool = False,
    fault: bool = False,
    call: tuple[int, int] | None = None,
    **changes: int,
) -> bytes:
    """A record of TLS plaintext. `call`: bytes of the whole call, and of it before this record."""
    function = SslFunction.SSL_write if written else SslFunction.SSL_read
    flags = SslFlag.WRITTEN * written | SslFlag.READ_FAULT * fault | changes.pop("flags", 0)
    if call:
        flags |= SslFlag.SPLIT
    raw: bytes = ssl_data_record.build(
        {
            "common": common(RecordKind.SSL_DATA, function, **{"flags": flags, **changes}),
            "offset": offset,
            "call_bytes": call[0] if call else len(payload),
            "call_offset": call[1] if call else 0,
            "index": index,
            "data_bytes": len(payload),
            "payload": bytes(len(payload)) if fault else payload,
        }
    )
    return raw + b"\xaa" * 33


def handshake(return_value: int = 1, **changes: int) -> bytes:
    fields = common(RecordKind.SSL_HANDSHAKE, SslFunction.SSL_do_handshake, **changes)
    raw: bytes = ssl_handshake_record.build(
        {"common": fields, "return_value": return_value, "calls": 2, "handshake_ns": 9000}
    )
    return raw


def sendfile(sent_bytes: int, *, index: int, offset: int, **changes: int) -> bytes:
    changes = {"flags": SslFlag.WRITTEN, **changes}
    raw: bytes = ssl_sendfile_record.build(
        {
            "common": common(RecordKind.SSL_SENDFILE, SslFunction.SSL_sendfile, **changes),
            "offset": offset,
            "sent_bytes": sent_bytes,
            "file_offset": 12,
            "fd": 5,
            "index": index,
        }
    )
    return raw


def losses(counts: Mapping[str, tuple[int, int]]) -> dict[LossCause, LossCount]:
    """The kernel's counters: those given, the others zero."""
    return {cause: LossCount(*counts.get(cause.name.lower(), (0, 0))) for cause in LossCause}


def totals(
    read: tuple[int, int] = (0, 0), written: tuple[int, int] = (0, 0), **changes: int
) -> ConnectionTotals:
    """What the kernel counted on a connection; for each direction records and bytes."""
    fields = {"tgid": TGID, "ssl": SSL, "generation_ns": GENERATION_NS, **changes}
    return ConnectionTotals(
        read_records=read[0],
        read_bytes=read[1],
        written_records=written[0],
        written_bytes=written[1],
        **fields,
    )


class Bench:
    """A decoder, and the ring in front of it."""

    def __init__(self, libraries: LibraryTable | None = None) -> None:
        self.identity = TracerIdentity(boot_id="boot", instance="instance")
        self.libraries = libraries or LibraryTable(["/usr/lib/libssl.so.3"])
        self.decoder = SslDecoder(self.identity, self.libraries, RING_BYTES)
        self.position = 0
        self.memory = bytearray(2 * RING_BYTES)  # the kernel maps its pages twice

    def feed(self, *records: bytes) -> list[Event]:
        """Puts records into the ring and decodes them as one batch."""
        begin, spans = self.position, []
        for record in records:
            at = self.position % RING_BYTES + 8
            self.memory[at : at + len(record)] = record
            spans.append((at, len(record)))
            self.position += (len(record) + 8 + 7) // 8 * 8
        return self.decoder.decode(memoryview(self.memory).toreadonly(), spans, begin)

    def settle(
        self,
        *seen: ConnectionTotals,
        final: bool = False,
        ring_full: tuple[int, int] = (0, 0),
        counts: Mapping[str, tuple[int, int]] = MappingProxyType({}),
    ) -> list[Event]:
        """Settles with these totals; the kernel's counters are records and bytes by cause."""
        counters = losses({"ring_full": ring_full, **counts})
        return self.decoder.settle(counters, seen, final=final)


def only_data(events: list[Event]) -> list[SslData]:
    assert all(isinstance(event, SslData) for event in events), events
    return [event for event in events if isinstance(event, SslData)]


def only_losses(events: list[Event]) -> list[Loss]:
    assert all(isinstance(event, Loss) for event in events), events
    return [event for event in events if isinstance(event, Loss)]
