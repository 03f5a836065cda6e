"""Executable files that processes map, opened so that they stay at hand whatever becomes of the process.

A file is reached through /proc/PID/map_files where that is allowed, which works for deleted and replaced
files, memfds, and other mount namespaces; else through /proc/PID/root or by its plain path, and then only
if it is the same file. It is read with pread(), never mapped: a mapping of a file that somebody cuts short
meanwhile would kill the tracer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import LibraryError

__all__ = [
    "MAX_IMAGE_BYTES",
    "FileKey",
    "ImageFile",
    "Mapping",
    "executable_images",
    "file_key",
    "open_image",
    "open_mapping",
]

MAX_IMAGE_BYTES = 4 << 30  # no executable is larger; a sparse file can claim to be
_READ_BYTES = 0x7FFFF000  # as much as Linux reads at once: nothing is there twice to be put together
# /proc/PID/maps: range, access, offset, device, inode, path (newlines in it as \012)
_LINE = re.compile(rb"([0-9a-f]+-[0-9a-f]+) ..x. [0-9a-f]+ ([0-9a-f]+):([0-9a-f]+) (\d+) +(\S.*)")
_OCTAL = re.compile(rb"\\(\d{3})")
_DELETED = " (deleted)"


class FileKey(NamedTuple):
    """One content of one file: an inode number is used again, and a file can be written over.

    Attributes:
        device: as in `os.stat()`.
        inode: its number.
        changed_ns: time of its last change (ctime), which nobody can set.
    """

    device: int
    inode: int
    changed_ns: int


class Mapping(NamedTuple):
    """A file that a process maps executable.

    Attributes:
        pid: of the process.
        addresses: the first such range, as /proc/PID/map_files calls it.
        device, inode: as /proc/PID/maps states them. The device is not always that of `os.stat()`
            (btrfs, overlayfs on older kernels).
        path: as the kernel shows it to us: in another mount namespace it is that of the process.
        deleted: whether it has no name any more.
    """

    pid: int
    addresses: str
    device: int
    inode: int
    path: str
    deleted: bool


class ImageFile:
    """An open file; close it, or use it as a context manager.

    Attributes:
        path: for people, as the kernel shows it.
        fd: its descriptor (close-on-exec); -1 once it is closed.
        key: which content of which file.
        size_bytes, modified_ns: when it was opened.
    """

    def __init__(self, path: str, fd: int) -> None:
        status = os.fstat(fd)
        self.path = path
        self.fd = fd
        self.key = file_key(status)
        self.size_bytes = status.st_size
        self.modified_ns = status.st_mtime_ns

    def __repr__(self) -> str:
        return f"<ImageFile {self.path}{', closed' if self.fd < 0 else ''}>"

    def __enter__(self) -> ImageFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def reach(self) -> str:
        """A path of this very file, good in this process while it is open: to attach probes by."""
        return f"/proc/self/fd/{self.fd}"

    def changed(self) -> bool:
        """Whether the content is no longer what it was: written over in place, cut, or grown."""
        status = os.fstat(self.fd)
        return (status.st_size, status.st_mtime_ns) != (self.size_bytes, self.modified_ns)

    def is_deleted(self) -> bool:
        """Whether it has no name any more."""
        return not os.fstat(self.fd).st_nlink

    def read(self, size: int = -1, offset: int = 0) -> bytes:
        """Bytes of it, all by default; fewer if it ends before.

        Raises:
            LibraryError: it cannot be read.
        """
        left = self.size_bytes - offset if size < 0 else size
        parts = []
        try:
            while left > 0 and (part := os.pread(self.fd, min(left, _READ_BYTES), offset)):
                parts.append(part)
                left -= len(part)
                offset += len(part)
        except OSError as error:
            raise LibraryError(self.path, _reason(error)) from error
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Closes the descriptor. Calling it again does nothing."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)


def file_key(status: os.stat_result) -> FileKey:
    """The key of a file that was asked for its status."""
    return FileKey(status.st_dev, status.st_ino, status.st_ctime_ns)


def executable_images(pid: int) -> Iterator[Mapping]:
    """The files that a process maps executable, each once.

    Raises:
        PermissionError: its mappings may not be seen.
        ProcessLookupError: it has gone.
    """
    try:
        with open(f"/proc/{pid}/maps", "rb") as maps:
            lines = maps.read().split(b"\n")  # what else ends a line for Python can be in a path
    except FileNotFoundError:
        raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH)) from None
    seen: set[tuple[bytes, ...]] = set()
    for line in lines:
        match = _LINE.fullmatch(line)
        if match is None or match[4] == b"0" or match.groups()[1:] in seen:
            continue
        seen.add(match.groups()[1:])
        path = os.fsdecode(_OCTAL.sub(lambda code: bytes([int(code[1], 8) & 0xFF]), match[5]))
        yield Mapping(
            pid,
            match[1].decode(),
            os.makedev(int(match[2], 16), int(match[3], 16)),
            int(match[4]),
            path.removesuffix(_DELETED),
            path.endswith(_DELETED),
        )


def open_mapping(mapping: Mapping) -> ImageFile:
    """Opens what a process maps.

    Raises:
        LibraryError: it cannot be reached, or is nothing that can hold code.
    """
    refused: LibraryError | None = None
    # the mapping or the process has gone, or the capability for it is missing
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):
        return _open(f"/proc/{mapping.pid}/map_files/{mapping.addresses}", mapping.path)
    if mapping.deleted:
        raise LibraryError(mapping.path, "deleted, and its process has gone or may not be looked into")
    for path in (f"/proc/{mapping.pid}/root{mapping.path}", mapping.path):
        try:
            image = _open(path, mapping.path)
        except OSError as error:
            refused = refused or LibraryError(mapping.path, _reason(error))
            continue
        # the numbers need not be those of stat(), but where they are the same it is the same file
        if image.key.inode == mapping.inode and _same_device(image.key.device, mapping.device):
            return image
        image.close()
        refused = LibraryError(mapping.path, "another file has taken its place")
    raise refused or LibraryError(mapping.path, "cannot be reached")


def open_image(path: str) -> ImageFile:
    """Opens a file by its path.

    Raises:
        LibraryError: there is none, or it is nothing that can hold code.
    """
    try:
        return _open(path, path)
    except OSError as error:
        raise LibraryError(path, _reason(error)) from error


def _open(path: str, name: str) -> ImageFile:
    """Opens a regular file without ever opening anything else: a device or FIFO could act, or wait."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        status = os.fstat(place)
        if stat.S_ISDIR(status.st_mode):
            raise LibraryError(name, "is a directory")
        if not stat.S_ISREG(status.st_mode) or not status.st_size:
            raise LibraryError(name, "not an ELF file")
        if status.st_size > MAX_IMAGE_BYTES:
            raise LibraryError(name, f"too large to look into ({status.st_size >> 20} MB)")
        fd = os.open(f"/proc/self/fd/{place}", os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY)
    finally:
        os.close(place)
    return ImageFile(name, fd)


def _same_device(stated: int, seen: int) -> bool:
    """Devices without a block device (major 0) have more than one number on some filesystems."""
    return stated == seen or not os.major(stated) or not os.major(seen)


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
