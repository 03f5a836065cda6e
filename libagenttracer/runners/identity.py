"""Who this tracer is, and what time it is for it: from these come event ids and epoch times."""

from __future__ import annotations

import hashlib
import time
import uuid

__all__ = ["TracerIdentity"]


class TracerIdentity:
    """One run of a tracer on one boot of a machine.

    Attributes:
        boot: short form of the boot's id, for the ids of processes.
        epoch_offset_ns: to be added to CLOCK_BOOTTIME for nanoseconds since the epoch. Sampled once, so
            that order and durations survive when the clock is set.
    """

    def __init__(self, boot_id: str | None = None, instance: str | None = None) -> None:
        if boot_id is None:
            with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
                boot_id = file.read().strip()
        self.boot = hashlib.blake2b(boot_id.encode(), digest_size=4).hexdigest()
        digest = hashlib.blake2b(f"{boot_id}/{instance or uuid.uuid4()}".encode(), digest_size=8).hexdigest()
        # UUID version 8 (RFC 9562, 5.8): 60 bits of ours, variant, then the number of the event
        self._record_prefix = f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-8000-"
        self._other_prefix = f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-9000-"
        self._others = 0
        self.epoch_offset_ns = _epoch_offset_ns()

    def record_id(self, position: int) -> str:
        """The id of the event that a record gives: by its place in the ring, which no other record has."""
        return self._record_prefix + (position & 0xFFFFFFFFFFFF).to_bytes(6, "big").hex()

    def next_id(self) -> str:
        """An id for an event that comes from no record."""
        self._others += 1
        return f"{self._other_prefix}{self._others:012x}"


def _epoch_offset_ns() -> int:
    """Real time minus boot time, from the pair of readings that lie closest together."""
    best = None
    for _ in range(5):
        before = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        real = time.time_ns()
        after = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        if best is None or after - before < best[0]:
            best = (after - before, real - (before + after) // 2)
    assert best is not None
    return best[1]
