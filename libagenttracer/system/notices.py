"""What the kernel tells of images that the tracer does not know yet, and the probes that make it do so.

The object (bpf/discover.bpf.c) is quiet about known images: whoever has looked at one calls `know()`.
"""

from __future__ import annotations

import logging
import os
import struct
from typing import NamedTuple

from ..binding import Link, Object, ObjectSpec, RingBuffer
from ..errors import BindingError
from .images import FileKey, ImageFile
from .kernel import has_btf_name
from .locating import LoaderProbe

__all__ = ["NOTICE", "ImageKey", "Notice", "Notices", "configure", "key_in_kernel"]

# struct notice of bpf/discover.bpf.c: kind, tgid, start_ns, image (inode, changed_ns, device, reserved),
# held, reserved
NOTICE = struct.Struct("<IIQQQI4xI4x")
# struct image_key of bpf/images.h
_KEY = struct.Struct("<QQI4x")
_MINOR_BITS = 20  # of the kernel's own dev_t
_EXEC = 1
_MAX_LOADERS = 256
_MAX_PROBLEMS = 64
logger = logging.getLogger("libagenttracer.discovery")


class ImageKey(NamedTuple):
    """A file's content as the kernel knows it. The device is the kernel's number, not that of `os.stat()`."""

    inode: int
    changed_ns: int
    device: int


class Notice(NamedTuple):
    """A wanted process runs or has loaded an image that is not known.

    Attributes:
        pid, start_ns: which process; when it started, nanoseconds since the boot.
        image: the image; inode 0 where the kernel cannot tell.
        is_exec: it has become this program; else it has loaded this library.
        held: it is stopped until it is let go.
    """

    pid: int
    start_ns: int
    image: ImageKey
    is_exec: bool
    held: bool


def key_in_kernel(key: FileKey) -> ImageKey:
    """What the kernel calls the file; on some filesystems (btrfs, overlayfs) it has another number."""
    device = os.major(key.device) << _MINOR_BITS | os.minor(key.device)
    return ImageKey(key.inode, key.changed_ns, device)


def configure(spec: ObjectSpec, *, hold: bool) -> ObjectSpec:
    """Prepares discover.bpf.o for loading: what the kernel does not have is left out.

    Args:
        hold: launched processes are to be held.
    """
    spec.globals["hold"] = int(hold)
    spec.globals["holder_uid"] = os.geteuid()
    finds_files = has_btf_name("bpf_find_vma")  # Linux 5.17
    spec.programs["on_loaded"].autoload = finds_files
    spec.programs["on_loaded_unknown"].autoload = not finds_files
    for name in ("on_launched_fork", "on_launched_exit"):
        spec.programs[name].autoload = hold
    return spec


class Notices:
    """Attaches the programs and reads their notices. One thread at a time may read.

    Args:
        object_: discover.bpf.o, loaded; it stays its owner's, who must close it after this.
        hold: launched processes are to be held (the object must have been loaded so).

    Attributes:
        problems: what does not work here, and why, for people.

    Raises:
        BindingError: execs cannot be watched.
    """

    def __init__(self, object_: Object, *, hold: bool = False) -> None:
        self._object = object_
        self._loaders: dict[tuple[int, int], Link] = {}
        self._ring = RingBuffer(object_.maps["notices"])
        try:
            if hold:
                object_.programs["on_launched_exit"].attach()
                object_.programs["on_launched_fork"].attach()
            object_.programs["on_discover_exec"].attach()
        except BaseException:
            self._ring.close()
            raise
        self._finds_files = "on_loaded" in object_.programs
        self.problems: list[str] = []

    @property
    def lost(self) -> int:
        """Notices that found no room."""
        return self._object.globals["lost_notices"]

    @property
    def unheld(self) -> int:
        """Launched processes that ran on although an image of theirs was not known."""
        return self._object.globals["unheld"]

    def fileno(self) -> int:
        """Readable when there are notices."""
        return self._ring.fileno()

    def read(self) -> list[Notice]:
        """All notices that wait."""
        self._ring.wait(0)
        found: list[Notice] = []
        while True:
            with self._ring.lease() as lease:
                raw = [bytes(lease.view[offset : offset + length]) for offset, length in lease.spans()]
            if not raw:
                return found
            for item in raw:
                kind, pid, start_ns, inode, changed_ns, device, held = NOTICE.unpack_from(item)
                image = ImageKey(inode, changed_ns, device)
                found.append(Notice(pid, start_ns, image, kind == _EXEC, bool(held)))

    def know(self, image: ImageKey) -> None:
        """There need be no notice of this image any more."""
        if not image.inode:
            return
        self._object.maps["known_images"][_KEY.pack(*image)] = b"\1"

    def watch_loader(self, image: ImageFile, probe: LoaderProbe) -> None:
        """Has a dynamic loader tell what it loads; for each once, whatever processes use it."""
        place = image.key.device, image.key.inode
        if place in self._loaders:
            return
        if len(self._loaders) >= _MAX_LOADERS:  # each takes a descriptor, and any file can look like one
            self._problem(f"no more than {_MAX_LOADERS} dynamic loaders tell what they load")
            return
        program, cookie = "on_loaded_unknown", 0
        if self._finds_files:
            program, cookie = "on_loaded", probe.cookie & (1 << 64) - 1
        try:
            self._loaders[place] = self._object.programs[program].attach_uprobe(
                image.reach, offset=probe.offset, cookie=cookie
            )
        except BindingError as error:
            self._problem(f"what {image.path} loads later is found by looking once a second ({error})")
            logger.debug("no probe in the loader %s: %s", image.path, error)

    def _problem(self, text: str) -> None:
        if text not in self.problems and len(self.problems) < _MAX_PROBLEMS:
            self.problems.append(text)

    def close(self) -> None:
        """Removes the probes in loaders and unmaps the ring; the object's owner closes the rest."""
        for link in self._loaders.values():
            link.close()
        self._loaders.clear()
        self._ring.close()
