"""Who is who: what the kernel's process records have told, by pid and start time."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from .record_kinds import ProcessFlag
from .records import comm_of, path_of

__all__ = ["DEFAULT_MAX_PROCESSES", "KnownProcess", "ProcessTable"]

DEFAULT_MAX_PROCESSES = 65536
_ENDED_KEPT = 1024  # records of other CPUs may still come after that of the end


class KnownProcess:
    """A process.

    Attributes:
        pid, start_ns: its identity on this boot; start_ns in nanoseconds since the boot.
        ppid, uid, comm, exe: at its last exec, or when it was first seen.
        process_id, exec_id, parent_process_id: see `events.ProcessEvent`.
        used: for the table.
    """

    __slots__ = (
        "comm", "exe", "exec_id", "parent_process_id", "pid", "ppid", "process_id", "start_ns", "uid", "used",
    )  # fmt: skip

    def __init__(self, boot: str, pid: int, start_ns: int) -> None:
        self.pid = pid
        self.start_ns = start_ns
        self.ppid = 0
        self.uid = 0
        self.comm = ""
        self.exe = ""
        self.process_id = process_id(boot, pid, start_ns)
        self.exec_id = self.process_id
        self.parent_process_id = ""
        self.used = 0


def process_id(boot: str, pid: int, start_ns: int) -> str:
    """Boot, pid and start time: no other process ever has it."""
    return f"{boot}-{pid}-{start_ns:x}"


class ProcessTable:
    """The known processes, bounded: what has not been used for longest is forgotten.

    Args:
        boot: the boot's part of the ids.
        max_processes: how many are kept.
    """

    def __init__(self, boot: str, max_processes: int = DEFAULT_MAX_PROCESSES) -> None:
        self._boot = boot
        self._max = max_processes
        self._known: dict[tuple[int, int], KnownProcess] = {}
        self._ended: dict[tuple[int, int], None] = {}
        self._uses = 0

    def __len__(self) -> int:
        return len(self._known) - len(self._ended)

    def __iter__(self) -> Any:
        """Those that have not ended."""
        return iter([process for key, process in self._known.items() if key not in self._ended])

    def get(self, pid: int, start_ns: int) -> KnownProcess:
        """A process; if its record was lost, only its pid and `process_id` are known."""
        process = self._known.get((pid, start_ns))
        if process is None:
            process = self._add(pid, start_ns)
        self.touch(process)
        return process

    def touch(self, process: KnownProcess) -> None:
        """It is in use: others are forgotten before it."""
        self._uses = process.used = self._uses + 1

    def on_process(self, record: Any) -> KnownProcess:
        """Takes note of a `ProcessRecord`."""
        process = self.get(record.tgid, record.start_ns)
        process.ppid = record.ppid
        process.uid = record.uid
        process.comm = comm_of(record.comm)
        exe = record.text[: record.exe_bytes].tobytes()
        process.exe = path_of(exe, anonymous=bool(record.flags & ProcessFlag.EXE_ANONYMOUS)) if exe else ""
        process.exec_id = f"{process.process_id}-{record.exec_count}"
        process.parent_process_id = process_id(self._boot, record.ppid, record.parent_start_ns)
        return process

    def on_fork(self, parent: KnownProcess, record: Any) -> KnownProcess:
        """Takes note of a `ForkRecord`: the child is as its parent is."""
        child = self.get(record.child_tgid, record.child_start_ns)
        child.ppid = record.ppid
        child.uid = record.uid
        child.comm = parent.comm
        child.exe = parent.exe
        child.exec_id = child.process_id + parent.exec_id[len(parent.process_id) :]
        child.parent_process_id = process_id(self._boot, record.ppid, record.parent_start_ns)
        return child

    def on_exit(self, process: KnownProcess) -> None:
        """It has ended; it is forgotten somewhat later."""
        self._ended[process.pid, process.start_ns] = None
        if len(self._ended) > _ENDED_KEPT:
            key = next(iter(self._ended))
            del self._ended[key]
            self._known.pop(key, None)

    def keep_only(self, alive: Collection[tuple[int, int]]) -> None:
        """After losses: forgets those whose end was lost.

        Args:
            alive: pid and start time of all processes that the kernel knows.
        """
        for key in [key for key in self._known if key not in alive]:
            del self._known[key]
            self._ended.pop(key, None)

    def _add(self, pid: int, start_ns: int) -> KnownProcess:
        if len(self._known) >= self._max:
            known = self._known
            for key in sorted(known, key=lambda key: known[key].used)[: max(1, self._max // 8)]:
                del known[key]
                self._ended.pop(key, None)
        process = self._known[pid, start_ns] = KnownProcess(self._boot, pid, start_ns)
        return process
