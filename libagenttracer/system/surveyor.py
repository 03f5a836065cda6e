"""Looks at images: each content of each file once, with long searches in the background.

Knows nothing of notices and of holding; discovery.py decides when to look at what.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from ..errors import AgentTracerError, LibraryError
from ..locators.base import Found
from .images import FileKey, ImageFile, Mapping, file_key, open_image, open_mapping
from .locate_cache import LocateCache
from .locate_worker import TIME_LIMIT_S
from .locating import LoaderProbe, look_deep, look_quick
from .seen import SeenImage

__all__ = ["Attach", "Surveyor"]

MAX_SEARCHES = 2  # at a time
MAX_SEEN = 65536
MAX_WAITING = 256  # for a search: each is an open file
_PROGRESS_AFTER_S = 0.7

Attach = Callable[[ImageFile, list[Found]], object]
logger = logging.getLogger("libagenttracer.discovery")


class Surveyor:
    """The images that have been looked at.

    Args:
        attach: is called once for each image with something to probe, one call at a time, from a thread of
            ours. The file stays open as long as it may be probed: attach by `image.reach`. An error it
            raises becomes the image's reason.
        detach: is called when such a file was written over: its probes are at wrong places now.
        loader: is called with each dynamic loader.
        settled: is called when an image is settled, from any of our threads.
        cache: keeps results of long searches; None: nothing does.
        time_limit_s: for a long search.
    """

    def __init__(
        self,
        attach: Attach,
        *,
        detach: Callable[[ImageFile], object] | None = None,
        loader: Callable[[ImageFile, LoaderProbe], object] = lambda image, probe: None,
        settled: Callable[[FileKey], object] = lambda key: None,
        cache: LocateCache | None = None,
        time_limit_s: float = TIME_LIMIT_S,
    ) -> None:
        self._attach, self._detach = attach, detach
        self._loader, self._settled = loader, settled
        self._cache, self._time_limit_s = cache, time_limit_s
        self._lock = threading.Lock()  # of what follows
        self._seen: dict[FileKey, SeenImage] = {}
        self._unopened: dict[tuple[int, int, str], SeenImage] = {}
        self._probed: dict[tuple[int, int], SeenImage] = {}  # by device and inode: a probe sits on the inode
        self._unused: set[int] = set()
        self._searches: dict[FileKey, float] = {}  # since when
        self._workers: set[subprocess.Popen[bytes]] = set()
        self._attaching = threading.Lock()
        self._pool = ThreadPoolExecutor(MAX_SEARCHES, thread_name_prefix="lat-search")
        self._closed = False

    def look_at_mapping(self, mapping: Mapping) -> FileKey | None:
        """Looks at what a process maps, if that is new; None if it cannot be reached."""
        with contextlib.suppress(OSError):
            key = file_key(os.stat(f"/proc/{mapping.pid}/map_files/{mapping.addresses}"))
            if self._is_known(key, mapping.pid):
                return key
        place = mapping.device, mapping.inode, mapping.path
        try:
            image = open_mapping(mapping)
        except (LibraryError, OSError) as error:
            reason = error.reason if isinstance(error, LibraryError) else str(error.strerror).lower()
            if not os.path.exists(f"/proc/{mapping.pid}"):
                return None  # nobody can tell any more
            with self._lock:
                if len(self._unopened) >= MAX_SEEN:
                    self._unopened.clear()
                self._unopened.setdefault(place, SeenImage(mapping.path, reason=reason)).note(mapping.pid)
            return None
        with self._lock:
            self._unopened.pop(place, None)
        return self._look(image, mapping.pid)

    def look_at_file(self, path: str) -> FileKey | None:
        """Looks at a file, if it is new."""
        try:
            return self._look(open_image(path), 0)
        except LibraryError as error:
            with self._lock:
                self._unopened[0, 0, path] = SeenImage(path, reason=error.reason)
            return None

    def is_searching(self, keys: Iterable[FileKey]) -> bool:
        """Whether one of these is not settled yet."""
        with self._lock:
            return any(key in self._searches for key in keys)

    @property
    def searches(self) -> int:
        """How many long searches go on or wait."""
        with self._lock:
            return len(self._searches)

    def slow_searches(self, told: set[FileKey]) -> list[SeenImage]:
        """Those that take long enough to be spoken of; `told` gets their keys, so that each comes once."""
        with self._lock:
            now_s = time.monotonic()
            slow = [
                key
                for key, since_s in self._searches.items()
                if key not in told and now_s - since_s > _PROGRESS_AFTER_S
            ]
            told.update(slow)
            return [self._seen[key].copy() for key in slow if key in self._seen]

    def check_probed(self) -> bool:
        """Forgets files that were written over since they were probed. True if there was one."""
        with self._lock:
            probed = list(self._probed.values())
        dropped = [self._drop_if_changed(seen) for seen in probed]  # all of them, not up to the first
        return any(dropped)

    def report(self) -> list[SeenImage]:
        """All images, as they are now."""
        with self._lock:
            distinct = {id(seen): seen for seen in (*self._seen.values(), *self._unopened.values())}
            return [seen.copy() for seen in distinct.values()]

    def close(self) -> None:
        """Ends all searches and closes all files."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        self._pool.shutdown(wait=True, cancel_futures=True)
        with self._lock:
            for seen in self._seen.values():
                seen.release()

    def _is_known(self, key: FileKey, pid: int) -> bool:
        with self._lock:
            seen = self._seen.get(key)
            if seen is not None:
                seen.note(pid)
            return seen is not None

    def _look(self, image: ImageFile, pid: int) -> FileKey:
        key = image.key
        if self._is_known(key, pid):
            image.close()
            return key
        place = key.device, key.inode
        with self._lock:
            before = self._probed.get(place)
        if before is not None and not self._drop_if_changed(before):
            image.close()
            with self._lock:  # only its name, links or rights have changed
                self._seen[key] = before
                before.note(pid)
            self._settled(key)
            return key
        seen = SeenImage(image.path, key, image.size_bytes, image=image)
        seen.note(pid)
        with self._lock:
            if len(self._seen) >= MAX_SEEN:
                self._forget_some()
            self._seen[key] = seen
        try:
            look = look_quick(image)
        except LibraryError as error:
            self._settle(seen, reason=error.reason)
            return key
        seen.build_id = look.build_id
        if look.loader is not None:
            self._loader(image, look.loader)
        if not look.unsettled:
            seen.results = look.results
            self._settle(seen)
            return key
        with self._lock:
            crowded = len(self._searches) >= MAX_WAITING
            if not crowded:
                seen.state = "searching"
                self._searches[key] = time.monotonic()
                if not self._closed:
                    self._pool.submit(self._search, seen, image)
        if crowded:
            self._settle(seen, reason=f"more than {MAX_WAITING} files waited to be searched")
        return key

    def _search(self, seen: SeenImage, image: ImageFile) -> None:
        reason = ""
        with self._lock:
            self._searches[image.key] = time.monotonic()
        try:
            seen.results = look_deep(
                image, self._cache, time_limit_s=self._time_limit_s, started=self._started
            )
        except LibraryError as error:
            reason = error.reason
        except Exception as error:  # whatever it is, a held process must not wait for it
            logger.exception("the search of %s failed", image.path)
            reason = f"the search failed ({error or type(error).__name__})"
        self._settle(seen, reason)

    def _started(self, worker: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._workers = {other for other in self._workers if other.returncode is None} | {worker}
            if self._closed:
                worker.kill()

    def _settle(self, seen: SeenImage, reason: str = "") -> None:
        """Attaches if there is something to; afterwards nothing is open about the image."""
        image, key = seen.image, seen.key
        assert image is not None
        assert key is not None
        found = seen.found
        probed = False
        if found and not reason and image.changed():
            reason = "it was written over while it was looked at"
        if found and not reason and not self._closed:
            with self._attaching:
                try:
                    self._attach(image, found)
                    probed = True
                except AgentTracerError as error:
                    reason = error.reason if isinstance(error, LibraryError) else str(error)
                except Exception as error:  # the thread must go on
                    logger.exception("%s could not be probed", seen.path)
                    reason = f"{type(error).__name__}: {error}"
        with self._lock:
            seen.reason = reason
            seen.state = "probed" if probed else "not probed"
            self._searches.pop(key, None)
            if probed:
                self._probed[key.device, key.inode] = seen
            else:
                seen.release()
        self._settled(key)

    def _drop_if_changed(self, seen: SeenImage) -> bool:
        """If a probed file's content is another now: removes the probes, and forgets it."""
        with self._lock:
            image = seen.image
            if image is None or not image.changed():
                return False
        logger.warning("%s was written over while it was probed: its probes are removed", seen.path)
        self._drop(seen, image)
        with self._lock:
            self._seen = {key: other for key, other in self._seen.items() if other is not seen}
        return True

    def _drop(self, seen: SeenImage, image: ImageFile) -> None:
        if self._detach is not None:
            with self._attaching:
                self._detach(image)
        with self._lock:
            self._probed.pop((image.key.device, image.key.inode), None)
            seen.state = "not probed"
            seen.release()

    def drop_deleted(self) -> None:
        """Removes the probes of deleted files once the processes that map them have ended.

        Else an agent that builds programs would fill the disk: an open file keeps its space.
        """
        with self._lock:
            probed = list(self._probed.values())
        deleted = [
            seen
            for seen in probed
            if (image := seen.image) is not None and image.is_deleted() and not seen.may_be_mapped()
        ]
        for seen in deleted:
            if id(seen) in self._unused and (image := seen.image) is not None:  # and so the time before
                self._drop(seen, image)
        self._unused = {id(seen) for seen in deleted}

    def _forget_some(self) -> None:
        """Makes room: what has nothing to probe can be looked at again."""
        idle = [key for key, seen in self._seen.items() if seen.image is None]
        for key in idle[: len(idle) // 2]:
            del self._seen[key]
