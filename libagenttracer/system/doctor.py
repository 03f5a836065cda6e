"""What this machine and this process's rights allow, as far as it can be told without loading anything.

What the kernel takes is tried in runners/kernel_features.py.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import os
import re
import resource
import stat
from dataclasses import dataclass
from typing import Literal

from ..errors import TargetError
from .images import executable_images
from .locate_cache import LocateCache
from .processes import in_initial_pid_namespace

__all__ = [
    "FOR_FILES",
    "Check",
    "State",
    "check_capabilities",
    "check_surroundings",
    "held_capabilities",
    "kernel_version",
]

State = Literal["yes", "no", "unknown"]

_LOCKDOWN = "/sys/kernel/security/lockdown"
_MEMLOCK_UNTIL = (5, 11)  # since then maps and programs are charged to the cgroup
_MIN_FILES = 1024
_ROOT = "run it as root (sudo)"
# include/uapi/linux/capability.h; what is missing without each
_CAPABILITIES = (
    ("CAP_BPF", 39, "no program can be loaded: nothing can be traced", True),
    ("CAP_PERFMON", 38, "no program can be attached: nothing can be traced", True),
    ("CAP_SYS_PTRACE", 19, "what processes of other users map may not be seen", False),
    (
        "CAP_CHECKPOINT_RESTORE",
        40,
        "executables that were deleted or replaced, or lie in another mount namespace, may not be reached",
        False,
    ),
    ("CAP_DAC_READ_SEARCH", 2, "executables and tracefs files that only root may read are not read", False),
    ("CAP_KILL", 5, "with --as, the command is not held while its program is looked at", False),
    ("CAP_SYS_NICE", 23, "the tracer's own priority cannot be raised: under load it loses more", False),
    ("CAP_SYS_ADMIN", 21, "nothing, where the finer ones above are held", False),
)
_STANDS_FOR = {  # what has the same effect
    "CAP_BPF": ("CAP_SYS_ADMIN",),
    "CAP_PERFMON": ("CAP_SYS_ADMIN",),
    "CAP_CHECKPOINT_RESTORE": ("CAP_SYS_ADMIN",),
    "CAP_DAC_READ_SEARCH": ("CAP_DAC_OVERRIDE",),
}
_DAC_OVERRIDE = 1
FOR_FILES = ("cache folder", "capstone (disassembler)")  # the checks that concern looking at files


@dataclass
class Check:
    """Something that the tracer needs, or can make use of.

    Attributes:
        name: for people.
        state: whether it is there; "unknown" if that could not be tried.
        detail: what was found, or why it is not there.
        without: what does not work without it.
        advice: what to do about that.
        vital: nothing can be traced without it.
    """

    name: str
    state: State
    detail: str = ""
    without: str = ""
    advice: str = ""
    vital: bool = False


def kernel_version() -> tuple[int, int]:
    """Major and minor version of the running kernel; (0, 0) if its release does not begin with them."""
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def held_capabilities() -> frozenset[str]:
    """The names of those capabilities that matter here and are effective in this thread."""
    with open("/proc/thread-self/status", encoding="ascii", errors="replace") as status:
        bits = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    numbers = {name: number for name, number, _, _ in _CAPABILITIES} | {"CAP_DAC_OVERRIDE": _DAC_OVERRIDE}
    return frozenset(name for name, number in numbers.items() if bits >> number & 1)


def check_capabilities() -> list[Check]:
    """The capabilities, and what is missing without each."""
    held = held_capabilities()
    checks = []
    for name, _, without, vital in _CAPABILITIES:
        other = next((item for item in _STANDS_FOR.get(name, ()) if item in held), "")
        detail = "held" if name in held else f"{other} stands for it" if other else "missing"
        state: State = "yes" if name in held or other else "no"
        checks.append(Check(name, state, detail, without, _ROOT, vital))
    if checks[-1].state == "no" and held.issuperset(_STANDS_FOR):
        checks[-1].state, checks[-1].detail = "yes", "missing, and not needed: the others are held"
    return checks


def check_surroundings() -> list[Check]:
    """Settings, mounts and packages."""
    checks = [_pid_namespace(), _map_files(), _cgroup2(), _cache(), _capstone(), _open_files()]
    if (lockdown := _lockdown()) is not None:
        checks.append(lockdown)
    if kernel_version() < _MEMLOCK_UNTIL:
        checks.append(_locked_memory())
    return checks


def _pid_namespace() -> Check:
    check = Check(
        "pids are the kernel's",
        "yes",
        "the initial pid namespace",
        "-p PID and -- COMMAND are refused: a pid here is another process's for the kernel",
        "run it in the host's pid namespace (docker run --pid=host), or choose by name (-c)",
    )
    try:
        if not in_initial_pid_namespace():
            check.state, check.detail = "no", "a pid namespace of its own (a container)"
    except TargetError as error:
        check.state, check.detail, check.advice = "no", str(error), "mount -t proc proc /proc"
    return check


def _map_files() -> Check:
    check = Check(
        "/proc/PID/map_files",
        "unknown",
        without="executables that were deleted or replaced, or lie in another mount namespace, may not be "
        "reached",
        advice=f"{_ROOT}: it needs CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN",
    )
    try:
        mapping = next(executable_images(os.getpid()), None)
        if mapping is not None:
            os.close(os.open(f"/proc/self/map_files/{mapping.addresses}", os.O_RDONLY | os.O_CLOEXEC))
            check.state = "yes"
    except OSError as error:
        check.state, check.detail = "no", _reason(error)
    return check


def _cgroup2() -> Check:
    place = ""
    with contextlib.suppress(OSError), open("/proc/self/mountinfo", errors="replace") as mounts:
        for line in mounts:  # …, root, mount point, options, optional fields, "-", type, …
            before, _, after = line.partition(" - ")
            if after.startswith("cgroup2 "):
                place = before.split()[4]
                break
    return Check(
        "cgroup v2",
        "yes" if place else "no",
        f"at {place}" if place else "not mounted",
        "process --cgroup has nothing to choose from",
        "mount -t cgroup2 none /sys/fs/cgroup",
    )


def _cache() -> Check:
    folder = LocateCache().folder
    check = Check(
        FOR_FILES[0],
        "yes",
        str(folder),
        "large executables are searched again each time (seconds)",
        "make it writable for you alone, or set XDG_CACHE_HOME",
    )
    try:
        status = os.lstat(folder)
    except OSError as error:
        if error.errno == errno.ENOENT:  # it is made when it is needed, if its parent can be
            there = next((parent for parent in folder.parents if parent.exists()), folder.parent)
            if os.access(there, os.W_OK | os.X_OK):
                return check
            error = PermissionError(errno.EACCES, f"{there} cannot be written to")
        check.state, check.detail = "no", f"{folder}: {_reason(error)}"
        return check
    if not stat.S_ISDIR(status.st_mode):
        check.state, check.detail = "no", f"{folder} is no directory"
    elif status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        check.state, check.detail = "no", f"{folder} is not yours alone, so it is not trusted"
    return check


def _capstone() -> Check:
    try:
        version = importlib.metadata.version("capstone")
    except importlib.metadata.PackageNotFoundError:
        version = ""
    return Check(
        FOR_FILES[1],
        "yes" if version else "no",
        version or "not installed",
        "TLS stacks in executables without symbols are not found: Bun, Claude Code, Codex, Deno, grpcio, uv",
        "pip install capstone",
    )


def _open_files() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = soft == resource.RLIM_INFINITY or soft >= _MIN_FILES
    return Check(
        "open files",
        "yes" if enough else "no",
        f"at most {soft}",
        "not all probes may be attached: each takes a descriptor, where the kernel has no uprobe_multi",
        f"ulimit -n {_MIN_FILES}",
    )


def _lockdown() -> Check | None:
    """Only "confidentiality" forbids reading memory from BPF (kernel_lockdown(7))."""
    try:
        with open(_LOCKDOWN, encoding="ascii", errors="replace") as file:
            level = re.search(r"\[(\w+)\]", file.read())
    except OSError:
        return None
    if level is None:
        return None
    forbidden = level[1] == "confidentiality"
    return Check(
        "no kernel lockdown",
        "no" if forbidden else "yes",
        f"lockdown={level[1]}",
        "programs may not read memory: nothing can be traced",
        "boot with lockdown=integrity, or without Secure Boot",
        vital=True,
    )


def _locked_memory() -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    infinite = resource.RLIM_INFINITY in (soft, hard)
    return Check(
        "locked memory",
        "yes" if infinite or os.geteuid() == 0 else "no",
        "unlimited" if soft == resource.RLIM_INFINITY else f"at most {soft >> 10} KiB",
        "before Linux 5.11 the ring buffer counts as locked memory: it does not fit",
        "ulimit -l unlimited",
    )


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
