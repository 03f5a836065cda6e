"""What /proc says of processes. Everything here can vanish at any moment: then it says so, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import NoSuchProcess, TargetError

__all__ = [
    "MappedFile",
    "check_pid",
    "check_pid_namespace",
    "executable_mappings",
    "in_initial_pid_namespace",
    "leader_comm",
    "pids",
]

_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/uapi/linux/nsfs.h, PROC_PID_INIT_INO


class MappedFile(NamedTuple):
    """A file that a process maps executable.

    Attributes:
        path: as the process sees it.
        inode: its number.
        reach: a path under /proc by which this process can open it even if it was deleted, replaced,
            or lies in another mount namespace.
    """

    path: str
    inode: int
    reach: str


def pids() -> Iterator[int]:
    """The pids (thread groups) that exist now."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            yield int(name)


def check_pid(pid: int) -> None:
    """Raises NoSuchProcess, or TargetError for a thread that is not its group's leader."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            tgid = next(int(line.split()[1]) for line in status if line.startswith("Tgid:"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        raise NoSuchProcess(pid) from None
    if tgid != pid:
        raise TargetError(f"{pid} is a thread of process {tgid}: give the process's pid")


def check_pid_namespace() -> None:
    """Raises TargetError inside a pid namespace: a pid there is another process's for the kernel."""
    if not in_initial_pid_namespace():
        raise TargetError(
            "this process is in a pid namespace of its own (a container), where processes have other pids "
            "than for the kernel: a pid or a command cannot be traced from here; run it in the host's "
            "(docker run --pid=host), or choose by name (-c)"
        )


def in_initial_pid_namespace() -> bool:
    """Whether pids here are the kernel's own. Raises TargetError without /proc."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino == _INITIAL_PID_NAMESPACE
    except OSError as error:
        raise TargetError("/proc is not mounted: processes cannot be found without it") from error


def leader_comm(pid: int) -> str | None:
    """The name of the process's first thread, as the kernel keeps it (15 bytes at most)."""
    try:
        with open(f"/proc/{pid}/comm", "rb") as comm:
            return os.fsdecode(comm.read().rstrip(b"\n"))
    except OSError:
        return None


def executable_mappings(pid: int) -> list[MappedFile]:
    """The files that a process maps executable, each once; none if it has gone or may not be read."""
    found: dict[tuple[str, int], MappedFile] = {}
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            for line in maps:
                fields = line.rstrip(b"\n").split(maxsplit=5)
                if len(fields) < 6 or b"x" not in fields[1] or fields[4] == b"0":
                    continue
                path = os.fsdecode(fields[5]).removesuffix(" (deleted)")
                inode = int(fields[4])
                reach = f"/proc/{pid}/map_files/{fields[0].decode()}"
                found.setdefault((path, inode), MappedFile(path, inode, reach))
    except (OSError, ValueError):
        return []
    return list(found.values())
