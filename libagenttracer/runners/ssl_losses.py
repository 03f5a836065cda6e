"""What is missing of TLS connections: each gap at its place, and at the end what no gap has shown. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..events import Loss
from .identity import TracerIdentity
from .interface import ConnectionTotals, LossCount
from .process_table import KnownProcess
from .record_kinds import LossCause

__all__ = ["ConnectionState", "LossTeller", "drop_idle"]

_READ, _WRITE = "read", "write"


class ConnectionState:
    """What has come of a connection. Two-element lists: index 0 is read, 1 is written.

    Attributes:
        id: of its events.
        generation_ns: tells uses of the same address apart.
        process: looked up with its first record.
        records, bytes: so far, lost ones included.
        endless: no probe tells its end.
        stream: see `ssl_joining`; None for a connection that is seen as one.
    """

    __slots__ = (
        "bytes", "endless", "generation_ns", "id", "library", "process", "records", "stream", "unsettled",
        "used",
    )  # fmt: skip

    def __init__(self, tgid: int, ssl: int, generation_ns: int) -> None:
        self.id = f"{tgid}-{ssl:x}-{generation_ns:x}"
        self.generation_ns = generation_ns
        self.process: KnownProcess | None = None
        self.records = [0, 0]
        self.bytes = [0, 0]
        self.unsettled: ConnectionTotals | None = None
        self.used = 0
        self.endless = False
        self.library = 0
        self.stream: Any = None


class LossTeller:
    """Makes `Loss` events.

    Args:
        identity: for ids and times.
        now_ns: the time of the last record, since the epoch.
    """

    def __init__(self, identity: TracerIdentity, now_ns: Callable[[], int]) -> None:
        self._identity = identity
        self._now_ns = now_ns
        self._told: dict[LossCause, list[int]] = {cause: [0, 0] for cause in LossCause}
        self._looked = 0  # ring_full's count when the totals had nothing more to tell

    def settle(
        self,
        losses: dict[LossCause, LossCount],
        totals: Iterable[ConnectionTotals],
        connection_of: Callable[[ConnectionTotals, bool], ConnectionState | None],
        *,
        final: bool,
    ) -> list[tuple[ConnectionState | None, Loss]]:
        """What no gap has shown: losses at a connection's end, and those of no connection.

        Args:
            losses: the kernel's counters, read before `totals`.
            totals: the kernel's counts by connection; looked at only if something is missing.
            connection_of: gives a connection's state; None if it is not to be looked at.
            final: nothing more will come. Until then call it only when the ring is empty; a connection
                is looked at when it has rested since the call before.

        Returns:
            Losses, each with its connection.
        """
        found: list[tuple[ConnectionState | None, Loss]] = []
        for cause in (LossCause.MAP_FULL, LossCause.MISSED_RETURN, LossCause.TRUNCATED, LossCause.READ_FAULT):
            if final or cause not in (LossCause.TRUNCATED, LossCause.READ_FAULT):
                found += self._rest(cause, losses[cause])
        full = losses[LossCause.RING_FULL]
        if full.records > self._told[LossCause.RING_FULL][0] and (final or full.records != self._looked):
            unsettled = False
            for seen in totals:
                connection = connection_of(seen, final)
                if connection is not None:
                    found += self._connection(connection, seen, final)
                    unsettled |= connection.unsettled is seen
            # what stays untold is of no connection; looking is not for nothing: there may be many
            self._looked = 0 if unsettled else full.records
            if final:
                found += self._rest(LossCause.RING_FULL, full)
        return found

    def _connection(
        self, connection: ConnectionState, seen: ConnectionTotals, final: bool
    ) -> list[tuple[ConnectionState | None, Loss]]:
        if seen.read_records <= connection.records[0] and seen.written_records <= connection.records[1]:
            return []
        if not final and connection.unsettled != seen:
            connection.unsettled = seen
            return []
        return [
            (connection, self.gap(connection, seen.tgid, way, index, offset, self._now_ns()))
            for way, index, offset in (
                (0, seen.read_records, seen.read_bytes),
                (1, seen.written_records, seen.written_bytes),
            )
            if index > connection.records[way]
        ]

    def _rest(self, cause: LossCause, count: LossCount) -> list[tuple[ConnectionState | None, Loss]]:
        told = self._told[cause]
        records, lost_bytes = count.records - told[0], max(0, count.bytes - told[1])
        if records <= 0:
            return []
        told[0] += records
        told[1] += lost_bytes
        event_id = self._identity.next_id()
        return [(None, Loss(event_id, self._now_ns(), "ssl", cause.name.lower(), records, lost_bytes))]

    def gap(
        self, connection: ConnectionState, tgid: int, way: int, index: int, offset: int, timestamp_ns: int
    ) -> Loss:
        """Records are missing before this index and offset of the connection."""
        begin = connection.bytes[way]
        missing, lost_bytes = index - connection.records[way], offset - begin
        connection.records[way], connection.bytes[way] = index, offset
        # without a missing record, a call had more bytes than its records may hold
        cause = LossCause.RING_FULL if missing > 0 else LossCause.TRUNCATED
        count = missing if missing > 0 else 1
        return self.lost(cause, count, max(0, lost_bytes), connection, tgid, way, begin, timestamp_ns)

    def lost(
        self,
        cause: LossCause,
        count: int,
        lost_bytes: int,
        connection: ConnectionState,
        tgid: int,
        way: int,
        offset: int,
        timestamp_ns: int,
    ) -> Loss:
        """So much is missing at this offset of the connection."""
        told = self._told[cause]
        told[0] += count
        told[1] += lost_bytes
        return Loss(
            self._identity.next_id(),
            timestamp_ns,
            "ssl",
            cause.name.lower(),
            count,
            lost_bytes,
            tgid,
            connection.process.comm if connection.process else "",
            connection.id,
            _WRITE if way else _READ,  # type: ignore[arg-type]
            offset,
        )


def drop_idle(table: dict[Any, Any]) -> None:
    """Makes room: an eighth of the table, what has not been used for longest."""
    for key in sorted(table, key=lambda key: table[key].used)[: len(table) // 8]:
        del table[key]
