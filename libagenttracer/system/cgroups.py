"""Control groups (v2): opening one for the kernel, and who is in it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from ..errors import TargetError

__all__ = ["cgroup_pids", "open_cgroup"]

_CGROUP2_FILE = "cgroup.controllers"  # every directory of a v2 hierarchy has it, and none of v1


@contextlib.contextmanager
def open_cgroup(path: str) -> Iterator[int]:
    """A descriptor of the cgroup's directory.

    Raises:
        TargetError: it is none, or one of cgroup v1.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise TargetError(f"cgroup {path}: {error.strerror}") from error
    try:
        if not os.path.exists(os.path.join(path, _CGROUP2_FILE)):
            raise TargetError(
                f"{path} is no cgroup v2 directory: give one below the mount point of cgroup2 "
                "(mount -t cgroup2 shows it, mostly /sys/fs/cgroup)"
            )
        yield fd
    finally:
        os.close(fd)


def cgroup_pids(path: str) -> set[int]:
    """The processes in the cgroup and in those below it, now."""
    found: set[int] = set()
    for directory, _, files in os.walk(path):
        if "cgroup.procs" in files:
            with contextlib.suppress(OSError), open(os.path.join(directory, "cgroup.procs"), "rb") as procs:
                found.update(int(line) for line in procs)
    return found
