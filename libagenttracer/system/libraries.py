"""Finds the OpenSSL libraries to probe: those that processes map, and the system's own."""

from __future__ import annotations

import glob
import mmap
import os
import re
import stat
from collections.abc import Iterable
from typing import NamedTuple

from ..errors import LibraryError
from ..locators import ProbePoint, locate_openssl
from .processes import executable_mappings

__all__ = ["Library", "file_identity", "mapped_libraries", "open_library", "system_libraries"]

# libssl.so.3, libssl.so.1.1, and the names that wheels give to bundled copies: libssl-8b66dd34.so.3
_LIBSSL = re.compile(r"^libssl([-.][^/]*)?\.so(\.[0-9.]+)?$")
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")


class Library(NamedTuple):
    """A library that can be probed.

    Attributes:
        path: as its users see it, for people.
        reach: a path by which it can be opened here and now.
        identity: (device, inode): the same file under several names is one library.
        points: its functions.
    """

    path: str
    reach: str
    identity: tuple[int, int]
    points: tuple[ProbePoint, ...]


def open_library(path: str, reach: str = "") -> Library:
    """Reads a library's symbols.

    Args:
        path: its name, for people.
        reach: where to open it, if not there.

    Raises:
        LibraryError: there is no such file, or nothing in it to probe.
    """
    reach = reach or path
    try:
        fd = os.open(reach, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # opening a FIFO must not wait
        try:
            status = os.fstat(fd)
            if stat.S_ISDIR(status.st_mode):
                raise LibraryError(path, "is a directory")
            if not stat.S_ISREG(status.st_mode) or not status.st_size:
                raise LibraryError(path, "not an ELF file")
            with mmap.mmap(fd, 0, prot=mmap.PROT_READ) as image:
                points = locate_openssl(image, path=path, machine=os.uname().machine)
        finally:
            os.close(fd)
    except OSError as error:
        raise LibraryError(path, (error.strerror or str(error)).lower()) from error
    return Library(path, reach, (status.st_dev, status.st_ino), tuple(points))


def file_identity(path: str) -> tuple[int, int] | None:
    """(device, inode), None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def system_libraries() -> list[str]:
    """The paths of the OpenSSL libraries in the system's folders, symbolic links resolved."""
    folders = [*_SYSTEM_FOLDERS, *glob.glob("/usr/lib/*-linux-gnu*")]
    found = {
        os.path.realpath(path)
        for folder in folders
        for path in glob.glob(f"{glob.escape(folder)}/libssl*.so*")
        if _LIBSSL.match(os.path.basename(path))
    }
    return sorted(found)


def mapped_libraries(pids: Iterable[int]) -> dict[str, str]:
    """The OpenSSL libraries that processes map, by a path to reach each: its name for people."""
    found: dict[str, str] = {}
    seen: set[tuple[str, int]] = set()
    for pid in pids:
        for item in executable_mappings(pid):
            if (item.path, item.inode) in seen or not _LIBSSL.match(os.path.basename(item.path)):
                continue
            seen.add((item.path, item.inode))
            found[_reach(item.path, item.inode, item.reach)] = item.path
    return found


def _reach(path: str, inode: int, fallback: str) -> str:
    """The plain path where it is still the file that is mapped, else the way through /proc."""
    try:
        if os.stat(path).st_ino == inode:
            return path
    except OSError:
        pass
    return fallback
