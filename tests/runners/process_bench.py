"""What the tests of the process decoders share."""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from typing import Any

from libagenttracer.events import (
    Event,
)
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.process_decoder import CATEGORIES, ProcessDecoder

from .records import RING_BYTES

O_CREAT, O_TMPFILE, O_PATH = 0o100, 0o20200000, 0o10000000
AT_REMOVEDIR = 0x200
NOBODY = 0xFFFFFFFF
INET, INET6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
A_QUERY = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\7example\3org\0" + struct.pack(">2H", 1, 1)


class Bench:
    """A decoder, and the ring in front of it."""

    def __init__(self, categories: Collection[str] = CATEGORIES, **options: Any) -> None:
        self.identity = TracerIdentity(boot_id="boot", instance="instance")
        self.decoder = ProcessDecoder(self.identity, RING_BYTES, categories, **options)
        self.position = 0
        self.memory = bytearray(2 * RING_BYTES)

    def feed(self, *raw: bytes) -> list[Event]:
        """Puts records into the ring and decodes them as one batch."""
        begin, spans = self.position, []
        for record in raw:
            at = self.position % RING_BYTES + 8
            self.memory[at : at + len(record)] = record
            spans.append((at, len(record)))
            self.position += (len(record) + 8 + 7) // 8 * 8
        return self.decoder.decode(memoryview(self.memory).toreadonly(), spans, begin)

    def one(self, raw: bytes) -> Any:
        """The only event of a record."""
        (event,) = self.feed(raw)
        return event

    def name(self, pid: int, start_ns: int, execs: int | None = None) -> str:
        """An id as it should be."""
        end = "" if execs is None else f"-{execs}"
        return f"{self.identity.boot}-{pid}-{start_ns:x}{end}"
