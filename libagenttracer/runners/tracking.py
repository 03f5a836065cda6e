"""The object that follows processes, and the ring that all objects of a tracer share."""

from __future__ import annotations

import os
import struct
from importlib import resources

from ..binding import Object, ObjectSpec
from ..errors import NoSuchProcess, ObjectError
from ..system.cgroups import cgroup_pids, open_cgroup
from ..system.processes import in_initial_pid_namespace
from .filters import Filter

__all__ = ["Tracking", "open_object", "round_ring_bytes"]

MIN_RING_BYTES = 32768
MAX_RING_BYTES = 1 << 30
_SHARED_MAPS = ("records", "ring_control", "processes", "filter_comms", "filter_cgroup")
_TLS_MAPS = ("threads", "connections", "tls_sockets", "probe_hits")
_PROCESS_STATE = struct.Struct("<QII")
_MATCHED, _MATCHED_AT_EXEC = 1, 2  # enum matched of bpf/tracking.h
# payload capacities of bpf/ssl.bpf.c's records, and what is in front of them at most
_CHUNK_BYTES = (65536, 16384, 4096, 1024)
_RECORD_OVERHEAD_BYTES = 128
_ARCHITECTURES = {"x86_64": "x86_64", "aarch64": "arm64"}


def round_ring_bytes(wanted: int) -> int:
    """The next size that a ring may have: a power of two from 32 KiB to 1 GiB.

    Raises:
        ValueError: more than that was wanted, or nothing.
    """
    if not 0 < wanted <= MAX_RING_BYTES:
        raise ValueError("the ring's size must be between 1 byte and 1 GiB")
    return max(MIN_RING_BYTES, 1 << (wanted - 1).bit_length())


def open_object(name: str) -> ObjectSpec:
    """Opens a compiled object that the package brings, for this machine.

    Raises:
        ObjectError: there is none, or it is damaged.
    """
    machine = os.uname().machine
    folder = _ARCHITECTURES.get(machine)
    if folder is None:
        raise ObjectError(
            "read object", name, hint=f"there are objects for x86-64 and arm64, not for {machine}"
        )
    file = resources.files("libagenttracer") / "bpf_objects" / folder / f"{name}.bpf.o"
    try:
        data = file.read_bytes()
    except OSError as error:
        raise ObjectError(
            "read object", str(file), error.errno or 0, hint="the installation is damaged: install it again"
        ) from error
    try:
        return ObjectSpec(data, name=name)
    except ObjectError as error:
        raise ObjectError(
            "read object", str(file), log=error.log, hint="the installation is damaged: install it again"
        ) from error


class Tracking:
    """Loads track.bpf.o; further objects join it and share its maps.

    Args:
        filter_: which processes are wanted.
        ring_bytes: size of the ring, rounded up to a power of two.
        launched: a command that waits to be started: it matches from its exec on.
        life_of_all: processes that do not match are seen too.

    Raises:
        TargetError: the filter's cgroup cannot be used.
        BindingError: see docs/errors.md.
    """

    def __init__(
        self, filter_: Filter, ring_bytes: int, *, launched: int | None = None, life_of_all: bool = False
    ) -> None:
        self.filter = filter_
        self._all = filter_.everything or life_of_all
        self._launched = launched
        self.ring_bytes = round_ring_bytes(ring_bytes)
        spec = open_object("track")
        spec.maps["records"].max_entries = self.ring_bytes
        self._configure(spec)
        self.object = spec.load()
        for key in filter_.comm_keys():
            self.object.maps["filter_comms"][key] = b"\1"
        if filter_.cgroup is not None:
            try:
                with open_cgroup(filter_.cgroup) as fd:
                    self.object.maps["filter_cgroup"][bytes(4)] = struct.pack("<I", fd)
            except BaseException:
                self.object.close()
                raise

    def _configure(self, spec: ObjectSpec) -> None:
        spec.globals["filter_flags"] = int(self.filter.flags)
        spec.globals["filter_uid"] = self.filter.uid or 0
        spec.globals["wake_bytes"] = self.ring_bytes // 4
        # no record above an eighth of the ring, so that one does not push out many
        room = self.ring_bytes // 8 - _RECORD_OVERHEAD_BYTES
        spec.globals["max_chunk_bytes"] = next(size for size in _CHUNK_BYTES if size <= room)
        # when everything is traced, not what the tracer itself does
        ignore = self._all and in_initial_pid_namespace()
        spec.globals["ignored_tgid"] = os.getpid() if ignore else 0

    def join(self, spec: ObjectSpec, *others: Object) -> ObjectSpec:
        """Makes another object use this one's ring, filter and processes; load it afterwards.

        Args:
            others: objects whose maps of TLS state it shares too, where it has them.
        """
        for owner, names in ((self.object, _SHARED_MAPS), *((other, _TLS_MAPS) for other in others)):
            for name in names:
                if name in spec.maps and name in owner.maps:
                    spec.maps[name].reuse(owner.maps[name])
        self._configure(spec)
        return spec

    def start(self) -> None:
        """Attaches, and then marks what matches already: in this order nothing is missed.

        Raises:
            NoSuchProcess: a pid of the filter does not exist (any more).
        """
        for name in ("on_exit", "on_exec", "on_fork"):
            if name != "on_fork" or self.filter.follow_forks:
                self.object.programs[name].attach()
        for pid in self.filter.pids:
            how = _MATCHED_AT_EXEC if pid == self._launched else _MATCHED
            self.object.maps["filter_pids"][struct.pack("<I", pid)] = bytes([how])
        if self.filter.cgroup is not None and self.filter.follow_forks:
            for pid in cgroup_pids(self.filter.cgroup):
                self.object.maps["filter_pids"][struct.pack("<I", pid)] = bytes([_MATCHED])
        if self.filter.everything:
            return
        seed = self.object.programs["seed"]
        before = -1
        while self.object.globals["seeded"] != before:
            before = self.object.globals["seeded"]
            seed.run_iterator()
        marked = self.matched_pids()
        for pid in self.filter.pids - marked:
            raise NoSuchProcess(pid)

    def known_processes(self) -> frozenset[tuple[int, int]]:
        """Pid and start time (nanoseconds since the boot) of all processes that the programs know."""
        return frozenset(
            (struct.unpack("<I", key)[0], _PROCESS_STATE.unpack(value)[0])
            for key, value in self.object.maps["processes"].items()
        )

    def matched_pids(self) -> frozenset[int]:
        """The processes that match by lineage or pid, now (not those that match by name only)."""
        found = set()
        for key, value in self.object.maps["processes"].items():
            if _PROCESS_STATE.unpack(value)[1]:
                found.add(struct.unpack("<I", key)[0])
        return frozenset(found)

    def close(self) -> None:
        """Detaches and frees everything."""
        self.object.close()
