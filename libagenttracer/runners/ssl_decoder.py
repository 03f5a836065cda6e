"""From TLS records to events. Pure: no I/O and no privileges; it sees payload, so it should have none.

It knows what it has seen of each connection, so a record that is missing shows as a gap in number and
offset, at its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ..events import Event, Loss, SslClose, SslConnection, SslData, SslHandshake, SslSendfile, SslUnseen
from .identity import TracerIdentity
from .interface import ConnectionTotals, LibraryTable, LossCount
from .process_table import ProcessTable
from .record_kinds import (
    AEAD_FUNCTIONS,
    LIBRARY_ENDLESS,
    Binding,
    LossCause,
    RecordKind,
    SslFlag,
    SslFunction,
)
from .records import (
    ProcessRecord,
    SocketOverRecord,
    SslCloseRecord,
    SslDataRecord,
    SslHandshakeRecord,
    SslSendfileRecord,
    SslSocketRecord,
    TlsSocketRecord,
)
from .ssl_joining import Joiner
from .ssl_losses import ConnectionState, LossTeller, drop_idle
from .ssl_sockets import Socket, SocketTable

__all__ = ["SslDecoder"]

MAX_CONNECTIONS = 65536
UNSEEN_AFTER_NS = 5_000_000_000
MAX_UNSEEN = 20
_HEADER_BYTES = 8  # the ring's own, in front of each record
_FUNCTIONS = {int(function): function.name for function in SslFunction}
_AEAD_FIRST = min(AEAD_FUNCTIONS)
_BINDINGS = {
    Binding.received: "next_to_call",
    Binding.sent: "next_to_call",
    Binding.inside_call: "inside_call",
    Binding.object: "object",
}
_READ, _WRITE = "read", "write"
_WRITTEN, _JOINED_LATE, _READ_FAULT, _SPLIT = map(int, SslFlag)
_UNKNOWN_SOCKET: tuple[None, ...] = (None,) * 7


class SslDecoder:
    """Decodes batches of records.

    Args:
        identity: for ids and times.
        libraries: by the index in the records; may grow.
        ring_bytes: to tell a record's position.

    Attributes:
        records, payload_bytes: decoded so far.
        unseen: processes of which nothing is seen although they talk, in words; the first ones.
    """

    def __init__(self, identity: TracerIdentity, libraries: LibraryTable, ring_bytes: int) -> None:
        self._identity = identity
        self._library = libraries.name
        self._mask = ring_bytes - 1
        self._table = ProcessTable(identity.boot)
        self._connections: dict[tuple[int, int], ConnectionState] = {}
        self._losses = LossTeller(identity, self._now_ns)
        self._sockets = SocketTable()
        self._joiner = Joiner()
        self._seen: set[tuple[int, int]] = set()  # processes of which a probe was hit
        self._told_unseen: set[tuple[int, int, bool]] = set()
        self._last_ns = 0
        self.records = 0
        self.payload_bytes = 0
        self.unseen: list[str] = []
        self._handlers: dict[int, Callable[[memoryview, int, int, int, list[Event]], None]] = {
            RecordKind.PROCESS: self._on_process,
            RecordKind.SSL_DATA: self._on_data,
            RecordKind.SSL_HANDSHAKE: self._on_handshake,
            RecordKind.SSL_SENDFILE: self._on_sendfile,
            RecordKind.SSL_CLOSE: self._on_close,
            RecordKind.TLS_SOCKET: self._on_tls_socket,
            RecordKind.SSL_SOCKET: self._on_ssl_socket,
            RecordKind.SOCKET_OVER: self._on_socket_over,
            RecordKind.SOCKET_TALKS: self._on_socket_talks,
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
        self,
        losses: dict[LossCause, LossCount],
        totals: Iterable[ConnectionTotals],
        *,
        final: bool,
        now_ns: int = 0,
    ) -> list[Event]:
        """Tells the losses that no gap has shown, and the processes of which nothing is seen.

        Args:
            losses: the kernel's counters, read before `totals`.
            totals: the kernel's counts by connection; looked at only if something is missing.
            final: nothing more will come. Until then call it only when the ring is empty.
            now_ns: since the boot, taken before the ring was found empty; 0: the last record's time.
        """
        events: list[Event] = []
        now_ns = max(now_ns, self._last_ns)
        for connection, loss in self._losses.settle(losses, totals, self._settled, final=final):
            self._tell_loss(connection, loss, events)
        events += self._joiner.settle(now_ns + self._identity.epoch_offset_ns, final=final)
        before_ns = now_ns + 1 if final else now_ns - UNSEEN_AFTER_NS
        for item in self._sockets.unasked(before_ns):
            if item.protocol == "quic" or (item.tgid, item.start_ns) not in self._seen:
                events += self._tell_unseen(item)
        return events

    def _settled(self, seen: ConnectionTotals, final: bool) -> ConnectionState | None:
        known = self._connections.get((seen.tgid, seen.ssl))
        if not final and known is not None and known.generation_ns != seen.generation_ns:
            return None  # the address is used again, and records of its last use may still come
        return self._connection(seen.tgid, seen.ssl, seen.generation_ns)

    def _tell_loss(self, connection: ConnectionState | None, loss: Loss, events: list[Event]) -> None:
        if connection is not None and (connection.stream is not None or self._joiner.holds(connection)):
            events += self._joiner.feed(connection, loss)
        else:
            events.append(loss)

    def _tell_unseen(self, item: Socket) -> list[Event]:
        """Once for each process; QUIC, which is never seen, besides."""
        key = item.tgid, item.start_ns, item.protocol == "quic"
        if key in self._told_unseen:
            return []
        if len(self._told_unseen) >= MAX_CONNECTIONS:
            self._told_unseen.clear()
        self._told_unseen.add(key)
        process = self._table.get(item.tgid, item.start_ns)
        where = item.server_name or item.remote_address
        if len(self.unseen) < MAX_UNSEEN:
            self.unseen.append(f"{process.comm}[{item.tgid}] talks {item.protocol} to {where}, not seen")
        common = (item.tgid, item.tid, process.ppid, process.uid, process.comm, process.exe)
        timestamp_ns = item.seen_ns + self._identity.epoch_offset_ns
        event_id = self._identity.next_id()
        return [SslUnseen(*(event_id, timestamp_ns, "ssl", *common, item.protocol, *item.fields()))]

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
            self._first_data(connection, record)
        else:
            self._table.touch(process)
        way = flags & _WRITTEN
        timestamp_ns = time_ns + self._identity.epoch_offset_ns
        self._last_ns = time_ns
        joined = function >= _AEAD_FIRST
        told = events
        if joined:  # where it belongs may not be known yet
            told = []
        if index != connection.records[way] or stream_offset != connection.bytes[way]:
            told.append(self._losses.gap(connection, tgid, way, index, stream_offset, timestamp_ns))
        connection.records[way] = index + 1
        connection.bytes[way] = stream_offset + data_bytes
        connection.used = self.records
        split = flags & _SPLIT
        fault = bool(flags & _READ_FAULT)
        payload = b"" if fault else record.payload.tobytes()
        self.payload_bytes += len(payload)
        told.append(
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
            cause = LossCause.READ_FAULT
            told.append(
                self._losses.lost(cause, 1, data_bytes, connection, tgid, way, stream_offset, timestamp_ns)
            )
        if joined:
            for event in told:
                events += self._joiner.feed(connection, event)  # type: ignore[arg-type]

    def _first_data(self, connection: ConnectionState, record: Any) -> None:
        connection.library = record.library
        connection.endless = bool(record.library & LIBRARY_ENDLESS)
        self._has_seen(record.tgid, record.start_ns)

    def _has_seen(self, tgid: int, start_ns: int) -> None:
        if len(self._seen) >= MAX_CONNECTIONS:
            self._seen.clear()
        self._seen.add((tgid, start_ns))

    def _common(self, record: Any, at: int) -> tuple[ConnectionState, Any]:
        """The connection of a record that is no data, and the fields that its event begins with."""
        connection = self._connection(record.tgid, record.ssl, record.generation_ns)
        process = self._table.get(record.tgid, record.start_ns)
        self._has_seen(record.tgid, record.start_ns)
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
            events.append(
                self._losses.gap(connection, record.tgid, 1, record.index, record.offset, timestamp_ns)
            )
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
                events.append(
                    self._losses.gap(connection, record.tgid, way, index, total_bytes, timestamp_ns)
                )
        del self._connections[record.tgid, record.ssl]
        carried = record.read_bytes, record.written_bytes
        late = bool(record.flags & _JOINED_LATE)
        events.append(SslClose(*(*common, connection.id, *carried, self._library(record.library), late)))

    def _on_tls_socket(
        self, view: memoryview, offset: int, length: int, at: int, events: list[Event]
    ) -> None:
        record = TlsSocketRecord.unpack_from(view, offset, length)
        self._last_ns = record.time_ns
        self._sockets.on_socket(record)

    def _on_ssl_socket(
        self, view: memoryview, offset: int, length: int, at: int, events: list[Event]
    ) -> None:
        record = SslSocketRecord.unpack_from(view, offset, length)
        connection, common = self._common(record, at)
        item = self._sockets.get(record.socket, record.socket_ns)
        id_ = connection.id
        released: list[Event] = []
        if record.function >= _AEAD_FIRST:
            if item is None or connection.stream is not None:
                return
            known = item.stream is not None
            id_ = f"{record.tgid}-tcp-{record.socket_ns:x}"  # no address of the kernel in a recording
            released = self._joiner.bind(connection, item, id_)
            if known:  # the keys of the other direction have told it already
                events += released
                return
        elif item is not None:
            item.bind(connection)
        fields = _UNKNOWN_SOCKET if item is None else item.fields()
        events.append(SslConnection(*(*common, id_, *fields, _BINDINGS.get(record.binding, "object"))))
        events += released

    def _on_socket_talks(
        self, view: memoryview, offset: int, length: int, at: int, events: list[Event]
    ) -> None:
        record = SocketOverRecord.unpack_from(view, offset, length)
        self._last_ns = record.time_ns
        self._sockets.talks(record.socket, record.socket_ns)

    def _on_socket_over(
        self, view: memoryview, offset: int, length: int, at: int, events: list[Event]
    ) -> None:
        record = SocketOverRecord.unpack_from(view, offset, length)
        item = self._sockets.pop(record.socket, record.socket_ns)
        self._last_ns = record.time_ns
        if item is None:
            return
        process = self._table.get(record.tgid, record.start_ns)
        common = (
            record.time_ns + self._identity.epoch_offset_ns, "ssl", record.tgid, record.tid, process.ppid,
            process.uid, process.comm, process.exe,
        )  # fmt: skip
        ends = [(one.id, one.bytes, self._library(one.library), False) for one in item.bound if one.endless]
        if item.stream is not None:
            ends.append((item.stream.id, item.stream.bytes, item.stream.library, item.stream.joined_late))
        for id_, carried, library, late in ends:
            if any(carried):
                events.append(SslClose(*(self._identity.next_id(), *common, id_, *carried, library, late)))

    def _connection(self, tgid: int, ssl: int, generation_ns: int) -> ConnectionState:
        connection = self._connections.get((tgid, ssl))
        if connection is None or connection.generation_ns != generation_ns:
            if len(self._connections) >= MAX_CONNECTIONS:
                drop_idle(self._connections)
            connection = ConnectionState(tgid, ssl, generation_ns)
            connection.used = self.records
            self._connections[tgid, ssl] = connection
        return connection
