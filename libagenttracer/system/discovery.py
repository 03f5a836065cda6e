"""Follows the system: finds the images that wanted processes map, as they come to map them.

    kernel: exec, dlopen ─▶ notices ─▶ ┐
    start, once a second: /proc/PID/maps ─▶ thread of discovery ─▶ Surveyor ─▶ attach
                                                 │                  └ long searches in workers
                                                 └─▶ held processes are let go

All of it happens in threads of its own; the capture never waits for it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ..binding import Object
from ..binding.programs import close_links
from .hold import HOLD_LIMIT_S, Holder
from .images import FileKey, ImageFile, Mapping, executable_images
from .locate_cache import LocateCache
from .locate_worker import TIME_LIMIT_S
from .notices import ImageKey, Notice, Notices, key_in_kernel
from .places import program_files, system_libraries
from .processes import in_initial_pid_namespace
from .seen import SeenImage
from .surveyor import Attach, Surveyor

__all__ = ["Discovery"]

_RESCAN_S = 1.0
# a new process is looked at in each of so many rounds, and then in every so manyth: without, and with, the
# kernel telling what is loaded
_YOUNG_LOOKS, _OLD_EVERY = (10, 3), (10, 60)
_CHECK_PROBED_EVERY = 10
_BUSY_POLL_S = 0.2
_MAX_KNOWN = 16384  # as many as the kernel remembers
_NOBODY = 0  # stands for the processes to come, as a pid
logger = logging.getLogger("libagenttracer.discovery")


@dataclass
class _Waiting:
    """A process that has images which are not settled yet."""

    pid: int
    is_held: bool = False
    keys: set[FileKey] = field(default_factory=set)
    images: set[ImageKey] = field(default_factory=set)  # to be known to the kernel afterwards


class Discovery:
    """Finds what wanted processes map, and has it probed.

    Args:
        attach: see `Surveyor`; it gets the open file and what was found in it.
        wanted: gives the pids of the processes that are wanted now; called about once a second.
        detach: see `Surveyor`.
        progress: is told, in a line, what takes long or could not be done.
        object_: discover.bpf.o, loaded after `notices.configure()`, its maps shared with the tracking; its
            owner closes it after this. None: processes are only looked at once a second.
        launched: the process that waits to become the command: held, with its descendants, while images of
            theirs are not known.
        cache: where results of long searches are kept; None: nowhere.
        search_limit_s: for a long search.
        hold_limit_s: how long a process may be held.

    Make it after the tracking has been started, so that the kernel knows who is wanted before it is asked.
    Call `start()`, then what is to be looked at first, then perhaps `settle()`; at the end `close()`.
    """

    def __init__(
        self,
        attach: Attach,
        wanted: Callable[[], Iterable[int]],
        *,
        detach: Callable[[ImageFile], object] | None = None,
        progress: Callable[[str], object] | None = None,
        object_: Object | None = None,
        launched: int | None = None,
        cache: LocateCache | None = None,
        search_limit_s: float = TIME_LIMIT_S,
        hold_limit_s: float = HOLD_LIMIT_S,
    ) -> None:
        self._wanted = wanted
        self._progress = progress or (lambda text: None)
        self._object = object_
        self._notices: Notices | None = None
        self._holder: Holder | None = None
        self.problems: list[str] = []
        self._tasks: deque[Callable[[], object]] = deque()
        self._tasks_lock = threading.Lock()
        self._idle = threading.Event()
        self._waiting: dict[int, _Waiting] = {}
        self._rounds: dict[int, int] = {}
        self._round = 0
        self._refused: dict[int, SeenImage] = {}
        self._looked: dict[int, dict[Mapping, FileKey]] = {}  # what a process mapped when last looked at
        self._told: set[FileKey] = set()
        self._known: set[FileKey] = set()  # to the kernel
        self._launched = launched
        self._closing = False
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="lat-discovery", daemon=True)
        try:
            if object_ is not None:
                self._open_notices(object_, launched, hold_limit_s)
        except BaseException:
            if self._notices is not None:
                self._notices.close()
            if self._holder is not None:
                self._holder.close()
            os.close(self._wake)
            raise
        self._surveyor = Surveyor(
            attach,
            detach=detach,
            loader=self._notices.watch_loader if self._notices else lambda image, probe: None,
            settled=lambda key: self._ring(),
            cache=cache,
            time_limit_s=search_limit_s,
        )

    def _open_notices(self, object_: Object, launched: int | None, hold_limit_s: float) -> None:
        if not in_initial_pid_namespace():
            self.problems.append("in a pid namespace of its own new images are looked for once a second")
            return
        self._notices = Notices(object_, hold=launched is not None)
        if launched is None:
            return
        try:
            self._holder = Holder(object_.maps["held"], object_.maps["launched"], limit_s=hold_limit_s)
        except OSError as error:
            self.problems.append(f"the command is not held while it is looked at: {error}")
        else:
            self._holder.add_launched(launched)

    # what to look at

    def start(self) -> None:
        """Begins to follow. What is wanted now is looked at first."""
        self._thread.start()

    def look_at(self, pid: int) -> None:
        """Looks at what a process maps, soon."""

        def look() -> None:
            self._looked.pop(pid, None)
            self._look_at(pid)

        self._do(look)

    def look_at_files(self, paths: Iterable[str]) -> None:
        """Looks at files, whoever may map them later."""
        wanted = list(paths)
        self._do(lambda: self._look_at_files(wanted))

    def look_at_commands(self, names: Iterable[str]) -> None:
        """Looks at the programs that these names would start, so that their first process has them."""
        wanted = list(names)
        self._do(lambda: self._look_at_files(path for name in wanted for path in program_files(name)))

    def look_at_system(self) -> None:
        """Looks at the TLS libraries and dynamic loaders in the system's folders."""
        self._do(lambda: self._look_at_files(system_libraries()))

    def settle(self, timeout_s: float | None = None) -> bool:
        """Waits until everything asked for so far has been looked at. False: it takes longer."""
        return self._idle.wait(timeout_s)

    def report(self) -> list[SeenImage]:
        """All images that were looked at, and what could not be."""
        return [*self._surveyor.report(), *(seen.copy() for seen in list(self._refused.values()))]

    def notes(self) -> list[str]:
        """What does not work here, and what was missed."""
        notes = list(self.problems)
        if self._notices is not None:
            notes += self._notices.problems
            if self._notices.lost:
                notes.append(f"{self._notices.lost} times a new program or library was not told of in time")
            if self._notices.unheld and self._holder is not None:
                notes.append(
                    f"{self._notices.unheld} times a process was not held while its program was looked at, "
                    "since its parent would have noticed: its first bytes may be missing"
                )
        return notes

    def close(self) -> None:
        """Stops following, lets everybody go, closes all files. Calling it again does nothing."""
        if self._closing:
            return
        self._closing = True
        self._ring()
        if self._thread.is_alive():
            self._thread.join()
        self._surveyor.close()
        if self._notices is not None:
            self._notices.close()
        if self._object is not None:
            close_links(self._object.links)  # nobody is held from here on
        if self._holder is not None:
            self._holder.close()
        with self._tasks_lock:
            os.close(self._wake)
            self._wake = -1

    # the thread

    def _do(self, task: Callable[[], object]) -> None:
        with self._tasks_lock:
            self._tasks.append(task)
            self._idle.clear()
        self._ring()

    def _ring(self) -> None:
        with self._tasks_lock:  # the number may be another file's once it is closed
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._notices is not None:
            poll.register(self._notices.fileno(), select.POLLIN)
        next_round_s = 0.0
        while not self._closing:
            try:
                if time.monotonic() >= next_round_s:
                    self._rescan()
                    next_round_s = time.monotonic() + _RESCAN_S
                pause_s = self._step(next_round_s - time.monotonic())
            except Exception:  # nobody would notice that the thread has ended
                logger.exception("discovery failed; it goes on")
                pause_s = _BUSY_POLL_S
            poll.poll(1000 * max(0.0, pause_s))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)

    def _step(self, pause_s: float) -> float:
        """Does what there is to do. Returns how many seconds to wait at most for more."""
        if self._notices is not None:
            self._heed(self._notices.read())
        while (task := self._next_task()) is not None:
            task()
            if self._notices is not None:  # who is held has waited long enough
                self._heed(self._notices.read())
        self._release()
        for seen in self._surveyor.slow_searches(self._told):
            self._progress(f"looking for TLS in {seen.path} ({seen.size_bytes >> 20} MB)…")
        with self._tasks_lock:
            if not self._tasks and not self._surveyor.searches:
                self._idle.set()
        if self._surveyor.searches or self._waiting:
            pause_s = min(pause_s, _BUSY_POLL_S)
        if self._holder is not None and (check_s := self._holder.check()) is not None:
            pause_s = min(pause_s, check_s)
        return pause_s

    def _next_task(self) -> Callable[[], object] | None:
        with self._tasks_lock:
            return self._tasks.popleft() if self._tasks and not self._closing else None

    def _heed(self, notices: list[Notice]) -> None:
        for notice in notices:
            waiting = self._waiting.setdefault(notice.pid, _Waiting(notice.pid))
            waiting.is_held |= notice.held
            waiting.images.add(notice.image)
            if notice.is_exec:
                self._looked.pop(notice.pid, None)
        for pid in {notice.pid for notice in notices}:
            self._waiting[pid].keys |= self._look_at(pid)
        self._release()

    def _release(self) -> None:
        """Lets those go whose images are settled, and those who have been held too long."""
        for pid, waiting in list(self._waiting.items()):
            if self._surveyor.is_searching(waiting.keys):
                continue
            del self._waiting[pid]
            if self._notices is not None:
                # those of notices always: the kernel may have forgotten them
                for image in waiting.images | {key_in_kernel(key) for key in waiting.keys - self._known}:
                    self._notices.know(image)
                self._known = waiting.keys if len(self._known) > _MAX_KNOWN else self._known | waiting.keys
            if self._holder is not None and waiting.is_held:
                self._holder.let_go(pid)
        if self._holder is None or not any(waiting.is_held for waiting in self._waiting.values()):
            return
        for pid, (_, for_s) in self._holder.held().items():
            if for_s > self._holder.limit_s:
                text = f"process {pid} was let go after {for_s:.0f} s, before its program had been searched"
                self.problems.append(text)
                self._progress(text)
                self._holder.let_go(pid)
                if pid in self._waiting:
                    self._waiting[pid].is_held = False

    def _rescan(self) -> None:
        """Looks at wanted processes: new ones each time, old ones now and then."""
        self._round += 1
        told = self._notices is not None
        young, every = _YOUNG_LOOKS[told], _OLD_EVERY[told]
        current = set(self._wanted()) - {os.getpid()}
        if self._launched is not None and _is_copy_of_us(self._launched):
            current.discard(self._launched)  # it still waits: what it maps is the tracer's
        self._rounds = {pid: self._rounds.get(pid, 0) + 1 for pid in current}
        self._looked = {pid: images for pid, images in self._looked.items() if pid in current}
        self._refused = {pid: seen for pid, seen in self._refused.items() if pid in current}
        for pid, rounds in self._rounds.items():
            if (rounds <= young or rounds % every == 0) and not self._closing:
                keys = self._look_at(pid)
                if self._notices is not None and rounds == 1:
                    waiting = self._waiting.setdefault(pid, _Waiting(pid))
                    waiting.keys |= keys
                    self._heed(self._notices.read())
        if self._round % _CHECK_PROBED_EVERY == 0:
            if self._surveyor.check_probed():
                self._looked.clear()
            self._surveyor.drop_deleted()
        if self._holder is not None:  # whose notice was lost
            for pid in self._holder.held():
                if pid not in self._waiting:
                    self._waiting[pid] = _Waiting(pid, is_held=True, keys=self._look_at(pid))

    def _look_at(self, pid: int) -> set[FileKey]:
        """Looks at what a process maps. Returns the images."""
        before, now = self._looked.get(pid, {}), dict[Mapping, FileKey]()
        try:
            for mapping in executable_images(pid):
                # at the same addresses it is the same file: a mapping keeps it from being replaced
                key = before.get(mapping) or self._surveyor.look_at_mapping(mapping)
                if key is not None:
                    now[mapping] = key
        except ProcessLookupError:
            pass
        except OSError as error:
            if pid not in self._refused:
                reason = f"what it maps cannot be seen: {(error.strerror or str(error)).lower()}"
                self._refused[pid] = SeenImage(f"process {pid}", reason=reason, pids={pid})
        self._looked[pid] = now
        return set(now.values())

    def _look_at_files(self, paths: Iterable[str]) -> None:
        for path in paths:
            key = self._surveyor.look_at_file(path)
            if key is not None:  # nobody need be held for it once it is settled
                self._waiting.setdefault(_NOBODY, _Waiting(_NOBODY)).keys.add(key)


def _is_copy_of_us(pid: int) -> bool:
    """Whether a child has not become another program since it was forked: addresses at exec are random."""
    try:
        with open(f"/proc/{pid}/auxv", "rb") as its, open("/proc/self/auxv", "rb") as ours:
            return its.read() == ours.read()
    except OSError:
        return False
