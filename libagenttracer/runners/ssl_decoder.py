"""From TLS records to events. Pure: no I/O and no privileges; it sees payload, so it should have none.

It knows what it has seen of each connection, so a record that is missing shows as a gap in number and
offset, at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..events import Event, Loss, SslClose, SslData, SslHandshake, SslSendfile
from .identity import TracerIdentity
from .interface import ConnectionTotals, LibraryTable, LossCount
from .process_table import KnownProcess, ProcessTable
from .record_kinds import LossCause, RecordKind, SslFlag, SslFunction
from .records import ProcessRecord, SslCloseRecord, SslDataRecord, SslHandshakeRecord, SslSendfileRecord

__all__ = ["SslDecoder"]

MAX_CONNECTIONS = 65536
_HEADER_BYTES = 8  # the ring's own, in front of each record
_FUNCTIONS = {int(function): function.name for function in SslFunction}
_READ, _WRITE = "read", "write"
_WRITTEN, _JOINED_LATE, _READ_FAULT, _SPLIT = map(int, SslFlag)


class _Connection:
    """What has come of a connection; index 0: read, 1: written."""

    __slots__ = ("bytes", "generation_ns", "id", "process", "records", "unsettled", "used")

    def __init__(self, tgid: int, ssl: int, generation_ns: int) -> None:
        self.id = f"{tgid}-{ssl:x}-{generation_ns:x}"
        self.generation_ns = generation_ns
        self.process: KnownProcess | None = None  # looked up with its first record
        self.records = [0, 0]
        self.bytes = [0, 0]
        self.unsettled: ConnectionTotals | None = None
        self.used = 0


class SslDecoder:
    """Decodes batches of records.

    Args:
        identity: for ids and times.
        libraries: by the index in the records; may grow.
        ring_bytes: to tell a record's position.
    """

    def __init__(self, identity: TracerIdentity, libraries: LibraryTable, ring_bytes: int) -> None:
        self._identity = identity
        self._library = libraries.name
        self._mask = ring_bytes - 1
        self._table = ProcessTable(identity.boot)
        self._connections: dict[tuple[int, int], _Connection] = {}
        self._told: dict[LossCause, list[int]] = {cause: [0, 0] for cause in LossCause}
        self._last_ns = 0
        self.records = 0
        self.payload_bytes = 0
        self._handlers: dict[int, Callable[[memoryview, int, int, int, list[Event]], None]] = {
            RecordKind.PROCESS: self._on_process,
            RecordKind.SSL_DATA: self._on_data,
            RecordKind.SSL_HANDSHAKE: self._on_handshake,
            RecordKind.SSL_SENDFILE: self._on_sendfile,
            RecordKind.SSL_CLOSE: self._on_close,
        }

    def decode(self, view: memoryview, spans: Iterable[tuple[int, int]], position: int) -> list[Event]:
        """Decodes a batch.

        Args:
            view: the ring's data pages.
            spans: offset and length of each record in it.
            position: the ring position at which the batch begins, bytes since the ring was made.

        Returns:
            Events that own their bytes.
        """
        events: list[Event] = []
        handlers, mask = self._handlers, self._mask
        for offset, length in spans:
            at = position + ((offset - _HEADER_BYTES - position) & mask)
            handlers[view[offset]](view, offset, length, at, events)
            self.records += 1
        return events

    def settle(
        self, losses: dict[LossCause, LossCount], totals: Iterable[ConnectionTotals], *, final: bool
    ) -> list[Event]:
        """Tells the losses that no gap has shown: those at a connection's end, and those of no connection.

        Args:
            losses: the kernel's counters, read before `totals`.
            totals: the kernel's counts by connection; looked at only if something is missing.
            final: nothing more will come. Until then call it only when the ring is empty; a connection
                is looked at when it has rested since the call before.
        """
        events: list[Event] = []
        for cause in (LossCause.MAP_FULL, LossCause.MISSED_RETURN, LossCause.TRUNCATED, LossCause.READ_FAULT):
            if final or cause not in (LossCause.TRUNCATED, LossCause.READ_FAULT):
                self._tell_rest(cause, losses[cause], events)
        full = losses[LossCause.RING_FULL]
        if full.records > self._told[LossCause.RING_FULL][0]:
            for seen in totals:
                self._settle_connection(seen, events, final)
            if final:
                self._tell_rest(LossCause.RING_FULL, full, events)
        return events

    def _settle_connection(self, seen: ConnectionTotals, events: list[Event], final: bool) -> None:
        known = self._connections.get((seen.tgid, seen.ssl))
        if not final and known is not None and known.generation_ns != seen.generation_ns:
            return  # the address is used again, and records of its last use may still come
        connection = self._connection(seen.tgid, seen.ssl, seen.generation_ns)
        if seen.read_records <= connection.records[0] and seen.written_records <= connection.records[1]:
            return
        if not final and connection.unsettled != seen:
            connection.unsettled = seen
            return
        for way, index, offset in (
            (0, seen.read_records, seen.read_bytes),
            (1, seen.written_records, seen.written_bytes),
        ):
            if index > connection.records[way]:
                self._gap(connection, seen.tgid, way, index, offset, self._now_ns(), events)

    def _tell_rest(self, cause: LossCause, count: LossCount, events: list[Event]) -> None:
        told = self._told[cause]
        records, lost_bytes = count.records - told[0], count.bytes - told[1]
        if records > 0:
            told[0] += records
            told[1] += max(0, lost_bytes)
            events.append(
                Loss(
                    self._identity.next_id(),
                    self._now_ns(),
                    "ssl",
                    cause.name.lower(),
                    records,
                    max(0, lost_bytes),
                )
            )

    def _now_ns(self) -> int:
        """The time of the last record: this part has no clock of its own."""
        return self._last_ns + self._identity.epoch_offset_ns

    def _on_process(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        self._table.on_process(ProcessRecord.unpack_from(view, offset, length))

    def _on_data(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = SslDataRecord.unpack_from(view, offset, length)
        # by position, as in the layout: one unpacking instead of a dozen attribute look-ups
        (
            tgid, time_ns, tid, ssl, generation_ns, latency_ns, function, flags, library,
            stream_offset, index, data_bytes,
        ) = record._values  # fmt: skip
        connection = self._connections.get((tgid, ssl))
        if connection is None or connection.generation_ns != generation_ns:
            connection = self._connection(tgid, ssl, generation_ns)
        process = connection.process
        if process is None:
            process = connection.process = self._table.get(tgid, record.start_ns)
        else:
            self._table.touch(process)
        way = flags & _WRITTEN
        timestamp_ns = time_ns + self._identity.epoch_offset_ns
        self._last_ns = time_ns
        if index != connection.records[way] or stream_offset != connection.bytes[way]:
            self._gap(connection, tgid, way, index, stream_offset, timestamp_ns, events)
        connection.records[way] = index + 1
        connection.bytes[way] = stream_offset + data_bytes
        connection.used = self.records
        split = flags & _SPLIT
        fault = bool(flags & _READ_FAULT)
        payload = b"" if fault else record.payload.tobytes()
        self.payload_bytes += len(payload)
        events.append(
            SslData(
                self._identity.record_id(at),
                timestamp_ns,
                "ssl",
                tgid,
                tid,
                process.ppid,
                process.uid,
                process.comm,
                process.exe,
                _WRITE if way else _READ,  # type: ignore[arg-type]
                data_bytes,
                stream_offset,
                connection.id,
                _FUNCTIONS.get(function, str(function)),
                latency_ns,
                self._library(library),
                payload,
                record.call_bytes if split else None,
                record.call_offset if split else None,
                bool(flags & _JOINED_LATE),
                fault,
                "read_fault" if fault else None,
            )
        )
        if fault:
            self._lost(
                LossCause.READ_FAULT,
                1,
                data_bytes,
                connection,
                tgid,
                way,
                stream_offset,
                timestamp_ns,
                events,
            )

    def _common(self, record: Any, at: int) -> tuple[_Connection, Any]:
        """The connection of a record that is no data, and the fields that its event begins with."""
        connection = self._connection(record.tgid, record.ssl, record.generation_ns)
        process = connection.process = self._table.get(record.tgid, record.start_ns)
        self._last_ns = record.time_ns
        return connection, (
            self._identity.record_id(at),
            record.time_ns + self._identity.epoch_offset_ns,
            "ssl",
            record.tgid,
            record.tid,
            process.ppid,
            process.uid,
            process.comm,
            process.exe,
        )

    def _on_handshake(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = SslHandshakeRecord.unpack_from(view, offset, length)
        connection, common = self._common(record, at)
        events.append(
            SslHandshake(
                *(
                    *common,
                    connection.id,
                    _FUNCTIONS.get(record.function, str(record.function)),
                    record.latency_ns,
                    self._library(record.library),
                    "ok" if record.return_value == 1 else "incomplete",
                    record.return_value,
                    record.calls,
                    record.handshake_ns,
                    bool(record.flags & _JOINED_LATE),
                )
            )
        )

    def _on_sendfile(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = SslSendfileRecord.unpack_from(view, offset, length)
        connection, common = self._common(record, at)
        timestamp_ns = common[1]
        if record.index != connection.records[1] or record.offset != connection.bytes[1]:
            self._gap(connection, record.tgid, 1, record.index, record.offset, timestamp_ns, events)
        connection.records[1] = record.index + 1
        connection.bytes[1] = record.offset + record.sent_bytes
        events.append(
            SslSendfile(
                *(
                    *common,
                    "write",
                    record.sent_bytes,
                    record.offset,
                    connection.id,
                    "SSL_sendfile",
                    record.latency_ns,
                    self._library(record.library),
                    record.fd,
                    record.file_offset,
                    bool(record.flags & _JOINED_LATE),
                )
            )
        )

    def _on_close(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = SslCloseRecord.unpack_from(view, offset, length)
        connection, common = self._common(record, at)
        timestamp_ns = common[1]
        totals = (
            (0, record.read_records, record.read_bytes),
            (1, record.written_records, record.written_bytes),
        )
        for way, index, total_bytes in totals:
            if index != connection.records[way] or total_bytes != connection.bytes[way]:
                self._gap(connection, record.tgid, way, index, total_bytes, timestamp_ns, events)
        del self._connections[record.tgid, record.ssl]
        events.append(
            SslClose(
                *(
                    *common,
                    connection.id,
                    record.read_bytes,
                    record.written_bytes,
                    self._library(record.library),
                    bool(record.flags & _JOINED_LATE),
                )
            )
        )

    def _connection(self, tgid: int, ssl: int, generation_ns: int) -> _Connection:
        connection = self._connections.get((tgid, ssl))
        if connection is None or connection.generation_ns != generation_ns:
            if len(self._connections) >= MAX_CONNECTIONS:
                _drop_idle(self._connections)
            connection = _Connection(tgid, ssl, generation_ns)
            connection.used = self.records
            self._connections[tgid, ssl] = connection
        return connection

    def _gap(
        self,
        connection: _Connection,
        tgid: int,
        way: int,
        index: int,
        offset: int,
        timestamp_ns: int,
        events: list[Event],
    ) -> None:
        """Records are missing before this index and offset."""
        begin = connection.bytes[way]
        missing, lost_bytes = index - connection.records[way], offset - begin
        connection.records[way], connection.bytes[way] = index, offset
        # without a missing record, a call had more bytes than its records may hold
        cause = LossCause.RING_FULL if missing > 0 else LossCause.TRUNCATED
        count = missing if missing > 0 else 1
        self._lost(cause, count, max(0, lost_bytes), connection, tgid, way, begin, timestamp_ns, events)

    def _lost(
        self,
        cause: LossCause,
        count: int,
        lost_bytes: int,
        connection: _Connection,
        tgid: int,
        way: int,
        offset: int,
        timestamp_ns: int,
        events: list[Event],
    ) -> None:
        told = self._told[cause]
        told[0] += count
        told[1] += lost_bytes
        events.append(
            Loss(
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
        )


def _drop_idle(table: dict[Any, Any]) -> None:
    """Makes room: an eighth of the table, what has not been used for longest."""
    for key in sorted(table, key=lambda key: table[key].used)[: len(table) // 8]:
        del table[key]
