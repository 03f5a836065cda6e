"""What /proc says of processes. Everything here can vanish at any moment: then it says so, or nothing."""

from __future__ import annotations

import os
from collections.abc import Iterator

from ..errors import NoSuchProcess, TargetError

__all__ = [
    "check_pid",
    "check_pid_namespace",
    "in_initial_pid_namespace",
    "leader_comm",
    "pids",
    "process_names",
]

_COMM_MAX_BYTES = 15  # TASK_COMM_LEN without its NUL
_INITIAL_PID_NAMESPACE = 0xEFFFFFFC  # include/uapi/linux/nsfs.h, PROC_PID_INIT_INO


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


def process_names(pid: int) -> frozenset[str]:
    """The name of the process's first thread, and its executable's file name as far as such a name goes."""
    names = {leader_comm(pid)}
    try:
        exe = os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
        names.add(os.fsdecode(os.fsencode(os.path.basename(exe))[:_COMM_MAX_BYTES]))
    except OSError:
        pass
    return frozenset(name for name in names if name)
