"""Short ways to make events of processes, and to send them through an analyzer."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterable
from typing import Any, TypeVar

from libagenttracer.analyzers import Analyzer
from libagenttracer.events import (
    Event,
    FileChmod,
    FileChown,
    FileClose,
    FileDelete,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
    NetSend,
    ProcessExec,
    ProcessExit,
    ProcessFork,
)

__all__ = [
    "MS",
    "REPEATABLE",
    "close",
    "counts",
    "exec_",
    "exit_",
    "fork",
    "make",
    "open_",
    "process_id",
    "run",
    "send",
]

MS = 1_000_000
EventType = TypeVar("EventType", bound=Event)
_numbers = itertools.count(1)

# what each class that stands for several calls needs besides the process
_FILE = {"path": "/tmp/a", "result": 0, "syscall": "call"}
REPEATABLE: dict[type[Event], dict[str, Any]] = {
    FileOpen: {**_FILE, "access": "read", "flags": 0, "fd": 3},
    FileDelete: _FILE,
    FileRename: {**_FILE, "new_path": "/tmp/b", "flags": 0},
    FileMkdir: {**_FILE, "mode": 0o755},
    FileRmdir: _FILE,
    FileLink: {**_FILE, "new_path": "/tmp/b", "symbolic": False},
    FileChmod: {**_FILE, "mode": 0o644, "fd": 3},
    FileChown: {**_FILE, "new_uid": 1, "new_gid": None, "fd": 3},
    FileTruncate: {**_FILE, "length": 0, "fd": 3},
    NetSend: {
        **{"family": "inet", "protocol": "udp", "local_address": "10.0.0.1", "local_port": 5000},
        **{"remote_address": "10.0.0.2", "remote_port": 53, "result": 0, "fd": 4, "data_len": 10},
    },
}


def process_id(pid: int) -> str:
    return f"boot-{pid}-1" if pid else ""


def make(cls: type[EventType], at: float, pid: int, **fields: Any) -> EventType:
    """An event of a class.

    Args:
        at: milliseconds since the epoch.
        pid: of the process that did it; its ids follow from that.
    """
    who = {
        **{"pid": pid, "tid": pid, "ppid": 1, "uid": 1000, "comm": f"p{pid}"},
        **{"process_id": process_id(pid), "exec_id": f"{process_id(pid)}-0", "parent_process_id": ""},
    }
    head = {
        "id": str(uuid.UUID(int=next(_numbers))),
        "timestamp_ns": round(at * MS),
        "source": "process",
    }
    return cls(**{**head, **who, **REPEATABLE.get(cls, {}), **fields})


def open_(at: float, pid: int = 5, path: str = "/tmp/a", **fields: Any) -> FileOpen:
    return make(FileOpen, at, pid, path=path, **fields)


def close(at: float, pid: int = 5) -> FileClose:
    return make(FileClose, at, pid, **_FILE, fd=3, bytes_read=0, bytes_written=0)


def send(at: float, pid: int = 5, **fields: Any) -> NetSend:
    return make(NetSend, at, pid, **fields)


def fork(at: float, pid: int, child: int, **fields: Any) -> ProcessFork:
    return make(ProcessFork, at, pid, child_pid=child, child_process_id=process_id(child), **fields)


def exec_(at: float, pid: int, *args: str, **fields: Any) -> ProcessExec:
    own = {"filename": args[0] if args else "/bin/true", "args": [*args], "cwd": "/", "exe": "/bin/true"}
    numbers = {"args_bytes": 1, "gid": 1000, "cgroup_id": 1, "namespace_pid": pid}
    return make(ProcessExec, at, pid, **{**own, **numbers, **fields})


def exit_(at: float, pid: int, lived_ms: float, **fields: Any) -> ProcessExit:
    own = {"exit_code": 0, "signal": None, "core_dumped": False, "duration_ms": lived_ms}
    used = {"user_ms": 0.0, "system_ms": 0.0, "max_rss_bytes": 4096}
    return make(ProcessExit, at, pid, **{**own, **used, **fields})


def run(analyzer: Analyzer, events: Iterable[Event]) -> list[Event]:
    """All that comes out, the end included."""
    given = [out for event in events for out in analyzer.feed(event)]
    return [*given, *analyzer.flush()]


def counts(events: Iterable[Event]) -> int:
    """How many calls the events stand for."""
    return sum(getattr(event, "count", 1) for event in events)
