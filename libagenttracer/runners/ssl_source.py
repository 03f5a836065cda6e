"""The privileged half of TLS tracing: finds what is to be probed, loads, attaches. It never sees a payload.

What it hands out is narrow: two file descriptors of the ring, the names of libraries, and counters. What
decodes payload (reader.py, ssl_decoder.py) needs no privileges and could run in another process.
"""

from __future__ import annotations

import logging
import struct
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence

from ..binding import Link, Object, Program, ProgramStats, supports_uprobe_multi
from ..binding.programs import close_links
from ..errors import AgentTracerError, BindingError, LibraryError, NotSupported
from ..locators.base import Found
from ..system.discovery import Discovery
from ..system.images import FileKey, ImageFile
from ..system.locate_cache import LocateCache
from ..system.notices import configure
from ..system.processes import check_pid, check_pid_namespace, pids, process_names
from ..system.seen import SeenImage
from .coverage import coverage_of
from .filters import Filter
from .interface import ConnectionTotals, LibraryCoverage, LibraryTable
from .optional_probes import follow_sockets
from .record_kinds import FUNCTION_SLOTS, LIBRARY_ENDLESS, SslFunction
from .records import Connection, ConnectionKey
from .ssl_programs import END_ROLES, PROGRAMS, Attachment
from .tracking import Tracking, open_object

__all__ = ["MAX_LIBRARIES", "SslSource"]

MAX_LIBRARIES = 256
_FIRST_LOOK_S = 30.0  # how long a start may wait for what named processes map
_FIRST_LOOK_ALL_S = 5.0  # … and if nobody was named
_INDEX_RESTS_S = 30.0
_UNINDEXED = "calls are counted for all libraries together: this kernel (before 5.15) cannot tell them apart"
logger = logging.getLogger("libagenttracer.ssl")


class SslSource:
    """Probes in all TLS libraries that are wanted.

    Args:
        filter_: which processes.
        libraries: paths of libraries to probe, instead of those that are found.
        attach: "matched": probe only what processes that match map; "all": the libraries of the system too,
            so that a process that starts later has them from its first byte on. None: "all" unless a
            command is launched, which is held until its libraries are probed.
        ring_bytes: size of the ring.
        handshake: tell of handshakes.
        closes: tell when connections are over.
        launched: a command that waits to be started.
        progress: is told, in a line, what takes long.
        give_up: asked while the start waits: whether to go on without.

    Attributes:
        libraries: the probed ones.
        ring_fd, control_fd, ring_bytes: for the reader.
        notes: what does not work here.

    Raises:
        TargetError, BindingError: see docs/errors.md.
    """

    def __init__(
        self,
        filter_: Filter,
        *,
        libraries: Sequence[str] | None,
        attach: str | None = None,
        ring_bytes: int,
        handshake: bool,
        closes: bool,
        launched: int | None = None,
        progress: Callable[[str], object] | None = None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.filter = filter_
        self._globals = {"show_handshakes": int(handshake), "show_closes": int(closes)}
        self._multi = supports_uprobe_multi()
        self._given = list(libraries) if libraries is not None else None
        self._launched = launched
        self._everywhere = (attach or ("matched" if launched is not None else "all")) == "all"
        self.libraries = LibraryTable()
        self.notes: list[str] = []
        self._indexes: dict[tuple[int, int], int] = {}
        self._free: deque[tuple[float, int]] = deque()  # indexes of images that have gone, and since when
        self._past_hits: OrderedDict[FileKey, dict[str, int]] = OrderedDict()  # of these images
        self._earlier_hits: dict[int, dict[str, int]] = {}  # what an index had counted before
        self._failed: dict[str, BindingError] = {}
        self._links: dict[tuple[int, int], list[Link]] = {}
        self._lock = threading.Lock()  # of the objects and links: discovery attaches from threads of its own
        self._detached = False
        if filter_.pids:
            check_pid_namespace()
            for pid in filter_.pids:
                check_pid(pid)
        self._tracking = Tracking(filter_, ring_bytes, launched=launched)
        self._objects: dict[str, Object] = {}
        self._discovery: Discovery | None = None
        try:
            sockets, note = follow_sockets(self._tracking)
            if sockets is not None:
                self._objects["tls_socket"] = sockets
            self.notes += [note] if note else []
            self._globals["sockets_followed"] = int(sockets is not None)
            base = self._object("ssl")
            base.programs["on_thread_exit"].attach()
            self._tracking.start()
            self._discovery = self._discover(progress)
            self._first_look(give_up)
        except BaseException:
            self.close()
            raise
        self.ring_fd = base.maps["records"].fileno()
        self.control_fd = base.maps["ring_control"].fileno()
        self.ring_bytes = self._tracking.ring_bytes

    # what is looked at

    def _discover(self, progress: Callable[[str], object] | None) -> Discovery:
        follow = self._given is None
        object_: Object | None = None
        if follow:
            spec = self._tracking.join(open_object("discover"))
            try:
                object_ = configure(spec, hold=self._launched is not None).load()
                self._objects["discover"] = object_
            except BindingError as error:
                self.notes.append(f"new programs are looked for once a second only: {error}")
        wanted: Callable[[], Iterable[int]] = self._wanted_pids if follow else tuple
        discovery = Discovery(
            self._attach_image,
            wanted,
            detach=self._detach_image,
            progress=progress,
            object_=object_,
            launched=None if object_ is None else self._launched,
            cache=LocateCache(),
        )
        if follow:
            if self._everywhere:
                discovery.look_at_system()
            discovery.look_at_commands(sorted(self.filter.comms))
        else:
            discovery.look_at_files(self._given or ())
        discovery.start()
        return discovery

    def _first_look(self, give_up: Callable[[], bool]) -> None:
        """Waits until what runs now has been looked at, so that nothing of it is missed from here on."""
        assert self._discovery is not None
        named = self._given is not None or not self.filter.everything
        end_s = time.monotonic() + (_FIRST_LOOK_S if named else _FIRST_LOOK_ALL_S)
        while not self._discovery.settle(0.1) and time.monotonic() < end_s and not give_up():
            pass
        if self._given is None:
            return
        for item in self._discovery.report():
            if item.path in self._given and item.state != "probed":
                told = item.reason or "; ".join(result.reason for result in item.not_reachable)
                raise LibraryError(item.path, told or "no TLS functions were found in it")

    def _wanted_pids(self) -> Iterable[int]:
        if self.filter.everything:
            return pids()
        names = self.filter.cut_comms()
        by_name = {pid for pid in pids() if not names.isdisjoint(process_names(pid))} if names else set()
        return by_name | self.matched_pids()

    def matched_pids(self) -> frozenset[int]:
        """Processes that match by pid or lineage, now."""
        return self._tracking.matched_pids()

    # attaching

    def _object(self, name: str) -> Object:
        """A loaded object; the first one has the maps that the others share."""
        loaded = self._objects.get(name)
        if name in self._failed:  # the verifier would take its time again
            raise self._failed[name]
        if loaded is None:
            spec = self._tracking.join(open_object(name), *self._objects.values())
            for key, value in self._globals.items():
                spec.globals[key] = value
            if self._multi:
                wanted = {
                    part.program for parts in PROGRAMS.values() for part in parts if part.object == name
                }
                for program in wanted:
                    spec.programs[program].use_uprobe_multi()
            try:
                loaded = self._objects[name] = spec.load()
            except BindingError as error:
                self._failed[name] = error
                raise
        return loaded

    def _attach_image(self, image: ImageFile, found: list[Found]) -> None:
        """Called by discovery, from a thread of its own, one call at a time."""
        roles = {point.function for item in found for point in item.points}
        with self._lock:
            if self._detached:
                return
            index = self._new_index(image.path)
            cookie = index | (0 if roles & END_ROLES else LIBRARY_ENDLESS)
            try:
                links = self._attach_points(image.reach, found, cookie if self.libraries.indexed else 0)
            except NotSupported:
                self.libraries.indexed = False  # before Linux 5.15 a probe cannot carry the index
                links = self._attach_points(image.reach, found, 0)
            place = image.key.device, image.key.inode
            self._links[place] = links
            self._indexes[place] = index
            self.libraries.set(index, image.path)
        logger.debug("probing %s: %s", image.path, ", ".join(sorted(roles)))

    def _new_index(self, path: str) -> int:
        # records with an index that was used before are read by then
        if self._free and time.monotonic() - self._free[0][0] > _INDEX_RESTS_S:
            return self._free.popleft()[1]
        index = len(self.libraries.paths)
        if index >= MAX_LIBRARIES:
            raise LibraryError(path, f"more than {MAX_LIBRARIES} files cannot be probed at once")
        return index

    def _detach_image(self, image: ImageFile) -> None:
        place = image.key.device, image.key.inode
        with self._lock:
            close_links(self._links.pop(place, []))
            index = self._indexes.pop(place, None)
            if index is None:
                return
            self._past_hits[image.key] = self._hits(index)
            if len(self._past_hits) > MAX_LIBRARIES:
                self._past_hits.popitem(last=False)
            self._earlier_hits[index] = self._counted(index)
            self._free.append((time.monotonic(), index))

    def _attach_points(self, path: str, found: list[Found], cookie: int) -> list[Link]:
        places: dict[Attachment, list[int]] = {}
        for item in found:
            for point in item.points:
                for part in PROGRAMS.get(point.function, ()):
                    places.setdefault(part, []).append(point.offset)
        links: list[Link] = []
        try:
            # returns first: a call that is seen to begin will be seen to end
            for part in sorted(places, key=lambda part: not part.returns):
                program = self._object(part.object).programs[part.program]
                links += self._attach_program(program, path, places[part], part.returns, cookie)
        except AgentTracerError:
            close_links(links)
            raise
        return links

    def _attach_program(
        self, program: Program, path: str, offsets: list[int], returns: bool, cookie: int
    ) -> list[Link]:
        if self._multi:
            cookies = [cookie] * len(offsets)
            return [program.attach_uprobe_multi(path, offsets, returns=returns, cookies=cookies)]
        return [
            program.attach_uprobe(path, offset=offset, returns=returns, cookie=cookie) for offset in offsets
        ]

    # the end

    def detach(self) -> None:
        """Removes the probes: nothing more is written, what is in the ring can still be read."""
        if self._discovery is not None:
            self._discovery.close()
        with self._lock:
            self._detached = True
            for item in self._objects.values():
                close_links(item.links)

    def close(self) -> None:
        """Detaches and frees everything. Calling it again does nothing."""
        if self._discovery is not None:
            self._discovery.close()
        with self._lock:
            self._detached = True
            for item in reversed(self._objects.values()):
                item.close()
        self._tracking.close()

    # what it tells

    def coverage(self) -> list[LibraryCoverage]:
        """All images with TLS in them, or that could not be looked at, with the calls seen in each."""
        assert self._discovery is not None
        return [
            coverage_of(seen, self._hits_of(seen))
            for seen in self._discovery.report()
            if seen.results or (seen.reason and (seen.pids or self._given)) or seen.state == "searching"
        ]

    def _hits_of(self, seen: SeenImage) -> dict[str, int]:
        if seen.key is None:
            return {}
        index = self._indexes.get((seen.key.device, seen.key.inode))
        return self._past_hits.get(seen.key, {}) if index is None else self._hits(index)

    def discovery_notes(self) -> list[str]:
        """What does not work here, and what was missed."""
        unindexed = [] if self.libraries.indexed else [_UNINDEXED]
        return unindexed + self.notes + (self._discovery.notes() if self._discovery is not None else [])

    def connection_totals(self) -> Iterator[ConnectionTotals]:
        """The kernel's counts of all connections that it remembers."""
        for key, value in self._objects["ssl"].maps["connections"].items():
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
        with self._lock:
            programs = [program for item in self._objects.values() for program in item.programs.values()]
            return {program.name: program.stats() for program in programs}

    def _hits(self, index: int) -> dict[str, int]:
        """Calls of a probed image, by function."""
        before = self._earlier_hits.get(index, {})
        counted = self._counted(index)
        return {
            name: count - before.get(name, 0)
            for name, count in counted.items()
            if count > before.get(name, 0)
        }

    def _counted(self, index: int) -> dict[str, int]:
        counters = self._objects["ssl"].maps["probe_hits"]
        hits: dict[str, int] = {}
        for function in SslFunction:
            key = struct.pack("<I", (index if self.libraries.indexed else 0) * FUNCTION_SLOTS + function)
            count = sum(int.from_bytes(value, "little") for value in counters[key])
            if count:
                hits[function.name] = count
        return hits
