"""Which processes are traced."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntFlag

__all__ = ["COMM_MAX_BYTES", "Filter", "FilterFlag"]

COMM_MAX_BYTES = 15  # TASK_COMM_LEN without its NUL


class FilterFlag(IntFlag):
    """enum filter_flags of bpf/tracking.h."""

    PIDS = 1
    COMMS = 2
    UID = 4
    DESCENDANTS = 8
    CGROUP = 16
    EXE = 32


@dataclass(frozen=True)
class Filter:
    """A choice of processes: any of these pids, comms or cgroup, and of this user; all, if nothing is given.

    Attributes:
        pids: thread-group ids.
        comms: names of the first thread, as the kernel keeps them (15 bytes; longer ones are cut alike).
        uid: a real user id.
        follow_forks: the descendants of a matching process match too.
        cgroup: path of a cgroup's directory (v2); those below it are part of it.
        match_exe: `comms` are file names of executables too.
    """

    pids: frozenset[int] = frozenset()
    comms: frozenset[str] = frozenset()
    uid: int | None = None
    follow_forks: bool = False
    cgroup: str | None = None
    match_exe: bool = False

    @classmethod
    def of(
        cls,
        pid: int | Iterable[int] | None = None,
        comm: str | Iterable[str] | None = None,
        uid: int | None = None,
        follow_forks: bool = False,
    ) -> Filter:
        """Makes one from the arguments of the public functions; `comm` may be "a,b"."""
        pids = [] if pid is None else [pid] if isinstance(pid, int) else list(pid)
        comms = [] if comm is None else comm.split(",") if isinstance(comm, str) else list(comm)
        if any(number <= 0 for number in pids):
            raise ValueError("a pid is a positive number")
        if uid is not None and not 0 <= uid < 2**32:
            raise ValueError("a uid is a number from 0 to 4294967295")
        if comm is not None and not all(name for name in comms):
            raise ValueError("an empty name can match no process")
        if len(comms) > 64:
            raise ValueError("at most 64 names can be given")
        return cls(frozenset(pids), frozenset(comms), uid, follow_forks)

    @property
    def flags(self) -> FilterFlag:
        """For the kernel programs."""
        flags = FilterFlag(0)
        if self.pids:
            flags |= FilterFlag.PIDS
        if self.comms:
            flags |= FilterFlag.COMMS
        if self.uid is not None:
            flags |= FilterFlag.UID
        if self.follow_forks:
            flags |= FilterFlag.DESCENDANTS
        if self.cgroup is not None:
            flags |= FilterFlag.CGROUP
        if self.match_exe:
            flags |= FilterFlag.EXE
        return flags

    @property
    def everything(self) -> bool:
        """Whether no process is left out by pid, name or cgroup."""
        return not self.pids and not self.comms and self.cgroup is None

    def comm_keys(self) -> list[bytes]:
        """The comms as keys of the kernel's map."""
        return [os.fsencode(name)[:COMM_MAX_BYTES].ljust(16, b"\0") for name in sorted(self.comms)]

    def cut_comms(self) -> frozenset[str]:
        """The comms as /proc shows them."""
        return frozenset(os.fsdecode(key.rstrip(b"\0")) for key in self.comm_keys())
