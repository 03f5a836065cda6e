"""From records of processes to events. Pure: no I/O and no privileges.

Calls on files and sockets are in file_decoder.py and net_decoder.py; this is the way in.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any

from ..errors import LayoutError
from ..events import Event, Loss, ProcessExec, ProcessExit, ProcessFork, ShellLine, SignalSend
from .file_decoder import FILE_EVENTS, ResolvedPaths, decode_file, decode_file_close, resolved_paths
from .identity import TracerIdentity
from .interface import LossCount
from .net_decoder import NET_EVENTS, decode_net
from .process_table import DEFAULT_MAX_PROCESSES, KnownProcess, ProcessTable
from .record_kinds import LOST_CALLS, Call, LossCause, ProcessFlag, RecordKind
from .records import (
    ExecArgsRecord,
    ExitRecord,
    FileCloseRecord,
    FileRecord,
    ForkRecord,
    NetRecord,
    PathsRecord,
    ProcessRecord,
    ShellLineRecord,
    SignalRecord,
    path_of,
)

__all__ = ["CATEGORIES", "DEFAULT_CATEGORIES", "ProcessDecoder"]

DEFAULT_CATEGORIES = ("fork", "exec", "exit", "file", "net", "signal", "readline", "dns")
CATEGORIES = (*DEFAULT_CATEGORIES, "io")

_HEADER_BYTES = 8  # the ring's own, in front of each record
_MAX_PENDING_ARGS = 4096
_MAX_PENDING_PATHS = 4096
_PAGE_BYTES = 4096
_SIGNAL_CALLS = {int(call): call.name for call in Call if Call.kill <= call <= Call.rt_tgsigqueueinfo}
# what a lost record would have become
_KIND_EVENTS: dict[int, str] = {
    RecordKind.FORK: "process_fork",
    RecordKind.EXEC: "process_exec",
    RecordKind.EXIT: "process_exit",
    RecordKind.SIGNAL: "signal_send",
    RecordKind.SHELL_LINE: "shell_line",
    RecordKind.FILE_CLOSE: "file_close",
    RecordKind.DNS: "dns_query",
    **{LOST_CALLS + call: name for call, name in (FILE_EVENTS | NET_EVENTS).items()},
}


class ProcessDecoder:
    """Decodes batches of records.

    Args:
        identity: for ids and times.
        ring_bytes: to tell a record's position.
        categories: which events are wanted; others only keep the process table.
        max_processes: size of the process table.

    Attributes:
        table: the known processes.
        records: how many were decoded.
    """

    def __init__(
        self,
        identity: TracerIdentity,
        ring_bytes: int,
        categories: Collection[str] = DEFAULT_CATEGORIES,
        max_processes: int = DEFAULT_MAX_PROCESSES,
    ) -> None:
        self._identity = identity
        self._mask = ring_bytes - 1
        self._wanted = frozenset(categories)
        self.table = ProcessTable(identity.boot, max_processes)
        self.records = 0
        self._args: dict[tuple[int, int], tuple[int, bytearray]] = {}  # with the number of the exec
        self._paths: dict[int, ResolvedPaths] = {}  # by thread
        self._told: dict[tuple[LossCause, str | None], list[int]] = {}
        self._told_missed: dict[str, int] = {}
        self._last_ns = 0
        self._handlers: dict[int, Callable[[memoryview, int, int, int, list[Event]], None]] = {
            RecordKind.PROCESS: self._on_process,
            RecordKind.FORK: self._on_fork,
            RecordKind.EXEC_ARGS: self._on_args,
            RecordKind.EXEC: self._on_exec,
            RecordKind.EXIT: self._on_exit,
            RecordKind.SIGNAL: self._on_signal,
            RecordKind.SHELL_LINE: self._on_line,
            RecordKind.PATHS: self._on_paths,
            RecordKind.FILE: self._on_file,
            RecordKind.FILE_CLOSE: self._on_file_close,
            RecordKind.NET: self._on_net,
        }

    @property
    def epoch_offset_ns(self) -> int:
        """To be added to CLOCK_BOOTTIME for nanoseconds since the epoch."""
        return self._identity.epoch_offset_ns

    def decode(self, view: memoryview, spans: Iterable[tuple[int, int]], position: int) -> list[Event]:
        """Decodes a batch; arguments and result as of `SslDecoder.decode`."""
        events: list[Event] = []
        handlers, mask = self._handlers, self._mask
        for offset, length in spans:
            at = position + ((offset - _HEADER_BYTES - position) & mask)
            handler = handlers.get(view[offset]) if length else None
            if handler is None:
                raise LayoutError(f"a record of kind {view[offset] if length else None} is none of a process")
            handler(view, offset, length, at, events)
            self.records += 1
        return events

    def settle(self, losses: dict[LossCause, LossCount], kinds: dict[int, int]) -> list[Event]:
        """Tells the losses that were counted since the last call.

        Args:
            losses: the kernel's counters by cause.
            kinds: of those that did not fit into the ring, the counters by kind of record.
        """
        events: list[Event] = []
        named = 0
        for kind, count in kinds.items():
            if name := _KIND_EVENTS.get(kind):
                self._tell(LossCause.RING_FULL, name, LossCount(count, 0), events)
                named += count
        for cause, loss in losses.items():
            # of those that did not fit, the rest are records that only name a process
            records = max(0, loss.records - named) if cause is LossCause.RING_FULL else loss.records
            self._tell(cause, None, LossCount(records, loss.bytes), events)
        return events

    def not_run(self, missed: dict[str, int]) -> list[Event]:
        """Tells of programs that the kernel did not run, since they were running already on that CPU.

        Args:
            missed: by program; of all processes, also of those that nobody asked for.
        """
        events: list[Event] = []
        for program, count in missed.items():
            more = count - self._told_missed.get(program, 0)
            if more > 0:
                self._told_missed[program] = count
                now_ns = self._last_ns + self._identity.epoch_offset_ns
                events.append(
                    Loss(self._identity.next_id(), now_ns, "process", "not_run", more, 0, kind=program)
                )
        return events

    def _tell(self, cause: LossCause, kind: str | None, count: LossCount, events: list[Event]) -> None:
        told = self._told.setdefault((cause, kind), [0, 0])
        records, lost_bytes = count.records - told[0], count.bytes - told[1]
        if records > 0:
            told[:] = count
            now_ns = self._last_ns + self._identity.epoch_offset_ns
            events.append(
                Loss(
                    self._identity.next_id(),
                    now_ns,
                    "process",
                    cause.name.lower(),
                    records,
                    lost_bytes,
                    kind=kind,
                )
            )

    def _common(self, at: int, process: KnownProcess, time_ns: int, tid: int, uid: int) -> Any:
        """The fields that all events of processes begin with."""
        self._last_ns = time_ns
        return (
            self._identity.record_id(at),
            time_ns + self._identity.epoch_offset_ns,
            "process",
            process.pid,
            tid,
            process.ppid,
            uid,
            process.comm,
            process.process_id,
            process.exec_id,
            process.parent_process_id,
        )

    def _common_of(self, record: Any, process: KnownProcess, at: int) -> Any:
        return self._common(at, process, record.time_ns, record.tid, record.uid)

    def _on_process(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        self.table.on_process(ProcessRecord.unpack_from(view, offset, length))

    def _on_fork(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = ForkRecord.unpack_from(view, offset, length)
        parent = self.table.get(record.tgid, record.start_ns)
        child = self.table.on_fork(parent, record)
        if "fork" in self._wanted:
            events.append(ProcessFork(*(*self._common_of(record, parent, at), child.pid, child.process_id)))

    def _on_args(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = ExecArgsRecord.unpack_from(view, offset, length)
        key = (record.tgid, record.start_ns)
        if record.offset == 0:
            if len(self._args) >= _MAX_PENDING_ARGS:  # their execs were lost
                self._args.clear()
            self._args[key] = (record.exec_count, bytearray(record.payload))
            return
        exec_count, parts = self._args.get(key, (0, bytearray()))
        if exec_count == record.exec_count and len(parts) == record.offset:
            parts += record.payload  # else a part is missing: what is there shows as truncated

    def _on_exec(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = ProcessRecord.unpack_from(view, offset, length)
        process = self.table.on_process(record)
        exec_count, parts = self._args.pop((record.tgid, record.start_ns), (0, bytearray()))
        given = bytes(parts) if exec_count == record.exec_count else b""
        if "exec" not in self._wanted:
            return
        exe_end = record.exe_bytes
        cwd_end = exe_end + record.cwd_bytes
        text = record.text.tobytes()
        truncated = len(given) < record.args_bytes
        args = given.split(b"\0")
        if args[-1] == b"":
            args.pop()  # each one is ended by NUL
        flags = record.flags
        events.append(
            ProcessExec(
                *(
                    *self._common_of(record, process, at),
                    text[cwd_end:].rstrip(b"\0").decode(errors="surrogateescape"),
                    [arg.decode(errors="surrogateescape") for arg in args],
                    path_of(text[exe_end:cwd_end]) if not flags & ProcessFlag.CWD_TRUNCATED else "",
                    process.exe,
                    record.args_bytes,
                    record.gid,
                    record.cgroup_id,
                    record.namespace_pid,
                    truncated,
                    bool(flags & (ProcessFlag.EXE_DELETED | ProcessFlag.EXE_ANONYMOUS)),
                    bool(flags & ProcessFlag.COMPAT),
                )
            )
        )

    def _on_exit(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = ExitRecord.unpack_from(view, offset, length)
        process = self.table.get(record.tgid, record.start_ns)
        self.table.on_exit(process)
        self._args.pop((record.tgid, record.start_ns), None)
        if "exit" not in self._wanted:
            return
        status = record.status
        signal = status & 0x7F
        user_ns, system_ns = _cpu_times(record.user_ns, record.system_ns, record.runtime_ns)
        events.append(
            ProcessExit(
                *(
                    *self._common_of(record, process, at),
                    None if signal else status >> 8 & 0xFF,
                    signal or None,
                    bool(status & 0x80),
                    round((record.time_ns - record.start_ns) / 1e6, 3),
                    round(user_ns / 1e6, 3),
                    round(system_ns / 1e6, 3),
                    record.max_rss_pages * _PAGE_BYTES,
                )
            )
        )

    def _on_signal(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = SignalRecord.unpack_from(view, offset, length)
        process = self.table.get(record.tgid, record.start_ns)
        common = self._common_of(record, process, at)
        name = _SIGNAL_CALLS.get(record.call)
        if name is None:
            raise LayoutError(f"a record of a signal has the call number {record.call}")
        events.append(SignalSend(*(*common, record.target, record.signal, record.result, name)))

    def _on_line(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = ShellLineRecord.unpack_from(view, offset, length)
        process = self.table.get(record.tgid, record.start_ns)
        line = record.payload.tobytes().decode(errors="surrogateescape")
        events.append(ShellLine(*(*self._common_of(record, process, at), line, bool(record.flags))))

    def _on_paths(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = PathsRecord.unpack_from(view, offset, length)
        if len(self._paths) >= _MAX_PENDING_PATHS:  # the records of their calls were lost
            self._paths.clear()
        self._paths[record.tid] = resolved_paths(record)

    def _on_file(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = FileRecord.unpack_from(view, offset, length)
        tgid, time_ns, start_ns, tid, uid, resolved_ns, *_ = (
            record._values
        )  # by position: it runs for every call
        process = self.table.get(tgid, start_ns)
        common = self._common(at, process, time_ns, tid, uid)
        resolved = self._paths.pop(tid, None) if resolved_ns else None
        if resolved is not None and resolved.time_ns != resolved_ns:
            resolved = None
        events.append(decode_file(record, common, resolved))

    def _on_file_close(
        self, view: memoryview, offset: int, length: int, at: int, events: list[Event]
    ) -> None:
        record = FileCloseRecord.unpack_from(view, offset, length)
        process = self.table.get(record.tgid, record.start_ns)
        events.append(decode_file_close(record, self._common_of(record, process, at)))

    def _on_net(self, view: memoryview, offset: int, length: int, at: int, events: list[Event]) -> None:
        record = NetRecord.unpack_from(view, offset, length)
        process = self.table.get(record.tgid, record.start_ns)
        events += decode_net(
            record, self._common_of(record, process, at), self._wanted, self._identity.next_id
        )


def _cpu_times(user_ns: int, system_ns: int, runtime_ns: int) -> tuple[int, int]:
    """What waitpid's rusage says: the scheduler's exact sum, divided as the ticks are (cputime_adjust)."""
    if not system_ns:
        return runtime_ns, 0
    if not user_ns:
        return 0, runtime_ns
    system_ns = runtime_ns * system_ns // (user_ns + system_ns)
    return runtime_ns - system_ns, system_ns
