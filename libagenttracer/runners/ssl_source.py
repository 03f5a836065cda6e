"""The privileged half of TLS tracing: finds libraries, loads, attaches. It never sees a payload.

What it hands out is narrow: two file descriptors of the ring, the libraries' names, and counters. What
decodes payload (reader.py, ssl_decoder.py) needs no privileges and could run in another process.
"""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterable, Iterator, Sequence

from ..binding import Link, Object, Program, ProgramStats, supports_uprobe_multi
from ..binding.programs import close_links
from ..errors import AgentTracerError, BindingError, LibraryError, NotSupported
from ..system.libraries import Library, file_identity, mapped_libraries, open_library, system_libraries
from ..system.processes import check_pid, check_pid_namespace, leader_comm, pids
from .filters import Filter
from .interface import ConnectionTotals, LibraryCoverage, LibraryTable
from .record_kinds import FUNCTION_SLOTS, SslFunction
from .records import Connection, ConnectionKey
from .tracking import Tracking, open_object

__all__ = ["SslSource"]

MAX_LIBRARIES = 256
logger = logging.getLogger("libagenttracer.ssl")

_ENTRY_PROGRAMS = {
    "SSL_read": "ssl_read",
    "SSL_write": "ssl_write",
    "SSL_read_ex": "ssl_read_ex",
    "SSL_write_ex": "ssl_write_ex",
    "SSL_write_ex2": "ssl_write_ex2",
    "SSL_sendfile": "ssl_sendfile",
    "SSL_do_handshake": "ssl_do_handshake",
    "SSL_connect": "ssl_connect",
    "SSL_accept": "ssl_accept",
    "SSL_clear": "ssl_clear",
    "SSL_free": "ssl_free",
}
_RETURN_PROGRAMS = {
    "SSL_read": "data_return",
    "SSL_write": "data_return",
    "SSL_read_ex": "data_return",
    "SSL_write_ex": "data_return",
    "SSL_write_ex2": "data_return",
    "SSL_sendfile": "sendfile_return",
    "SSL_do_handshake": "handshake_return",
    "SSL_connect": "handshake_return",
    "SSL_accept": "handshake_return",
    "SSL_new": "ssl_new_return",
}
_HANDSHAKE = frozenset({"SSL_do_handshake", "SSL_connect", "SSL_accept"})
_CLOSE = frozenset({"SSL_free"})


class SslSource:
    """Probes in all OpenSSL libraries that are wanted.

    Args:
        filter_: which processes.
        libraries: paths of libraries to probe, instead of those that are found.
        ring_bytes: size of the ring.
        handshake: probe the handshake functions too.
        closes: tell when connections are over.
        launched: a command that waits to be started.

    Attributes:
        libraries: the probed ones.
        ring_fd, control_fd, ring_bytes: for the reader.

    Raises:
        TargetError, BindingError: see docs/errors.md.
    """

    def __init__(
        self,
        filter_: Filter,
        *,
        libraries: Sequence[str] | None,
        ring_bytes: int,
        handshake: bool,
        closes: bool,
        launched: int | None = None,
    ) -> None:
        self.filter = filter_
        self._left_out = frozenset() if handshake else _HANDSHAKE
        if not closes:
            self._left_out |= _CLOSE
        self._multi = supports_uprobe_multi()
        self._given = libraries is not None
        self.libraries = LibraryTable()
        self._known: set[tuple[int, int]] = set()
        self._problems: dict[str, str] = {}
        self._scanned: dict[int, int] = {}
        if filter_.pids:
            check_pid_namespace()
            for pid in filter_.pids:
                check_pid(pid)
        opened = [open_library(path) for path in libraries or ()]  # errors first, before anything is loaded
        self._tracking = Tracking(filter_, ring_bytes, launched=launched)
        self._object: Object | None = None
        try:
            self._object = self._load()
            self._object.programs["on_thread_exit"].attach()
            self._tracking.start()
            for library in opened:
                self._attach(library)
            if not self._given:
                self._discover(self._wanted_pids(), system=True)
        except BaseException:
            self.close()
            raise
        maps = self._object.maps
        self.ring_fd = maps["records"].fileno()
        self.control_fd = maps["ring_control"].fileno()
        self.ring_bytes = self._tracking.ring_bytes

    def _load(self) -> Object:
        spec = self._tracking.join(open_object("ssl"))
        if self._multi:
            for name in {*_ENTRY_PROGRAMS.values(), *_RETURN_PROGRAMS.values()}:
                spec.programs[name].use_uprobe_multi()
        return spec.load()

    def close(self) -> None:
        """Detaches and frees everything. Calling it again does nothing."""
        if self._object is not None:
            self._object.close()
        self._tracking.close()

    def detach(self) -> None:
        """Removes the probes: nothing more is written, what is in the ring can still be read."""
        if self._object is not None:
            close_links(self._object.links)

    def rescan(self) -> None:
        """Looks for libraries that wanted processes have mapped since the last look."""
        if not self._given:
            self._discover(self._young_pids(), system=False)

    def matched_pids(self) -> frozenset[int]:
        """Processes that match by pid or lineage, now."""
        return self._tracking.matched_pids()

    def coverage(self) -> list[LibraryCoverage]:
        """All libraries that were tried, with the calls seen in each."""
        found = [LibraryCoverage(path, self._hits(index)) for index, path in enumerate(self.libraries.paths)]
        return found + [LibraryCoverage(path, problem=text) for path, text in self._problems.items()]

    def connection_totals(self) -> Iterator[ConnectionTotals]:
        """The kernel's counts of all connections that it remembers."""
        assert self._object is not None
        for key, value in self._object.maps["connections"].items():
            name, seen = (
                ConnectionKey.unpack_from(memoryview(key), 0, len(key)),
                Connection.unpack_from(memoryview(value), 0, len(value)),
            )
            yield ConnectionTotals(
                name.tgid,
                name.ssl,
                seen.generation_ns,
                seen.read_bytes,
                seen.read_records,
                seen.written_bytes,
                seen.written_records,
            )

    def program_stats(self) -> dict[str, ProgramStats]:
        """The kernel's account of each program."""
        assert self._object is not None
        return {name: program.stats() for name, program in self._object.programs.items()}

    def _hits(self, index: int) -> dict[str, int]:
        assert self._object is not None
        hits = {}
        for function in SslFunction:
            key = struct.pack("<I", index * FUNCTION_SLOTS + function)
            count = sum(int.from_bytes(value, "little") for value in self._object.maps["probe_hits"][key])
            if count:
                hits[function.name] = count
        return hits

    def _wanted_pids(self) -> Iterable[int]:
        if self.filter.everything:
            return pids()
        names = self.filter.cut_comms()
        by_name = {pid for pid in pids() if leader_comm(pid) in names} if names else set()
        return by_name | self.matched_pids()

    def _young_pids(self) -> Iterable[int]:
        """Wanted processes: new ones each time, as a library may be mapped late; old ones now and then."""
        current = set(self._wanted_pids())
        self._scanned = {pid: self._scanned.get(pid, 0) + 1 for pid in current}
        return [pid for pid, times in self._scanned.items() if times <= 10 or times % 10 == 0]

    def _discover(self, among: Iterable[int], *, system: bool) -> None:
        candidates = {path: path for path in system_libraries()} if system else {}
        candidates.update(mapped_libraries(among))
        for reach, path in candidates.items():
            identity = file_identity(reach)
            if identity is None or identity in self._known:
                continue  # it has vanished, or it was looked at before
            self._known.add(identity)
            try:
                self._attach(open_library(path, reach))
            except LibraryError as error:
                self._problems[path] = error.reason
            except BindingError as error:
                self._problems[path] = str(error)
                logger.warning("%s is not traced: %s", path, error)

    def _attach(self, library: Library) -> None:
        index = len(self.libraries.paths)
        if index >= MAX_LIBRARIES:
            raise LibraryError(library.path, f"more than {MAX_LIBRARIES} libraries cannot be probed at once")
        self._known.add(library.identity)
        try:
            self._attach_points(library, index if self.libraries.indexed else 0)
        except NotSupported:
            self.libraries.indexed = False  # before Linux 5.15 a probe cannot carry the index
            self._attach_points(library, 0)
        self.libraries.paths.append(library.path)
        logger.debug("probing %s: %s", library.path, ", ".join(p.function for p in library.points))

    def _attach_points(self, library: Library, cookie: int) -> None:
        assert self._object is not None
        links = []
        try:
            # returns first: a call that is seen to begin will be seen to end
            for table, returns in ((_RETURN_PROGRAMS, True), (_ENTRY_PROGRAMS, False)):
                offsets: dict[str, list[int]] = {}
                for point in library.points:
                    if point.function in table and point.function not in self._left_out:
                        offsets.setdefault(table[point.function], []).append(point.offset)
                for name, places in offsets.items():
                    links += self._attach_program(
                        self._object.programs[name], library.reach, places, returns, cookie
                    )
        except AgentTracerError:
            close_links(links)
            raise

    def _attach_program(
        self, program: Program, path: str, offsets: list[int], returns: bool, cookie: int
    ) -> list[Link]:
        if self._multi:
            cookies = [cookie] * len(offsets)
            return [program.attach_uprobe_multi(path, offsets, returns=returns, cookies=cookies)]
        return [
            program.attach_uprobe(path, offset=offset, returns=returns, cookie=cookie) for offset in offsets
        ]
