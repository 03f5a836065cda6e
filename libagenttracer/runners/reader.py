"""Reads the ring of our own objects: in batches, and asking for a wakeup only when it is worth one.

Needs no privileges: a process that is handed the two file descriptors can do it.
"""

from __future__ import annotations

import mmap
import struct
from typing import Any

from ..binding import Lease, RingBuffer
from ..binding._libbpf import ffi, lib
from .interface import LossCount
from .record_kinds import LossCause, ReaderState

__all__ = ["RingReader"]

_LOSSES_AT = 8  # struct ring_control: reader_state, reserved, then the counters
_KINDS_AT = _LOSSES_AT + 8 * 16  # LOSS_CAUSES of two numbers each
_LOST_KINDS = 128
_IDLE_NAPS = 3
_IDLE_TIMEOUT_S = 1.0


class RingReader:
    """The ring, and the control block that the programs share with it.

    While records come, the ring is looked at every `drain_s`, and the kernel wakes nobody unless it
    fills: a wakeup for each record would cost the traced program far more than its copy. When nothing has
    come for a few rounds, the kernel is asked to wake the reader at the next record, and the reader sleeps.

    Args:
        ring_fd, ring_bytes: the ring buffer map.
        control_fd: the `ring_control` map.
        drain_s: seconds between two looks while busy.
    """

    def __init__(self, ring_fd: int, ring_bytes: int, control_fd: int, *, drain_s: float = 0.01) -> None:
        self.ring = RingBuffer(ring_fd, ring_bytes=ring_bytes)
        self._control = mmap.mmap(control_fd, mmap.PAGESIZE, flags=mmap.MAP_SHARED)
        self._control_page: Any = ffi.from_buffer(self._control)
        self._drain_s = drain_s
        self._idle_rounds = 0
        self._counters = struct.Struct(f"<{2 * len(LossCause)}Q")
        self._kinds = struct.Struct(f"<{_LOST_KINDS}Q")

    def close(self) -> None:
        """Unmaps both. Calling it again does nothing."""
        if not self._control.closed:
            ffi.release(self._control_page)
            self._control.close()
            self.ring.close()

    def fileno(self) -> int:
        """Readable when the kernel has woken the reader."""
        return self.ring.fileno()

    def lease(self) -> Lease:
        """The next batch; the kernel need not wake anybody while it is read."""
        lib.lat_store_u32(self._control_page, ReaderState.RUNS)
        lease = self.ring.lease()
        if len(lease):
            self._idle_rounds = 0
        return lease

    def before_waiting(self) -> float:
        """Tells the kernel how to treat a sleeping reader; call it when a batch came back empty.

        Returns:
            Seconds to wait on `fileno()` at most; 0 if something has come meanwhile.
        """
        self._idle_rounds += 1
        waits = self._idle_rounds > _IDLE_NAPS
        lib.lat_store_u32(self._control_page, ReaderState.WAITS if waits else ReaderState.NAPS)
        # look again after the store, or a record that came in between would wait for the next one
        if waits and self.ring.pending_bytes:
            self._idle_rounds = 0
            return self._drain_s
        return _IDLE_TIMEOUT_S if waits else self._drain_s

    def after_waiting(self) -> None:
        """Takes note of the wakeup, so that `fileno()` is no longer readable."""
        self.ring.wait(0)

    def lost_kinds(self) -> dict[int, int]:
        """Records that did not fit into the ring, by kind or `LOST_CALLS` + `Call`: those counted so."""
        numbers = self._kinds.unpack_from(self._control, _KINDS_AT)
        return {kind: count for kind, count in enumerate(numbers) if count}

    def losses(self) -> dict[LossCause, LossCount]:
        """The kernel's loss counters, now."""
        numbers = self._counters.unpack_from(self._control, _LOSSES_AT)
        return {cause: LossCount(numbers[2 * cause], numbers[2 * cause + 1]) for cause in LossCause}
