"""What long searches have found, kept on disk, so that a large binary is searched once.

The key is a digest of the whole file: no file can pass for another, so nobody can plant a result for a
file that is not theirs. The folder is trusted only if it is ours alone; anything odd is left aside, and the
search is made again.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import secrets
import stat
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec

from ..locators.base import Found, NotReachable, ProbePoint
from .images import ImageFile

__all__ = ["FORMAT", "LocateCache", "Result", "content_digest", "decode_results", "encode_results"]

FORMAT = 2  # of the files, and of what locators find: count up when a locator finds more than before
MAX_ENTRIES = 512
MAX_ENTRY_BYTES = 1 << 20
_DIGEST_BYTES = 1 << 22
_ELF_HEADER_BYTES = 64
# Elf64_Phdr: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
_PROGRAM = struct.Struct("<IIQQQQQQ")
_LOADED, _EXECUTABLE = 1, 1  # PT_LOAD, PF_X
_FILE_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
logger = logging.getLogger("libagenttracer.discovery")

Result = Found | NotReachable


class _Found(msgspec.Struct, tag="found", frozen=True, forbid_unknown_fields=True):
    stack: str
    points: tuple[tuple[str, int], ...]
    method: str
    version: str
    confidence: Literal["certain", "likely"]
    notes: tuple[str, ...]


class _NotReachable(msgspec.Struct, tag="not reachable", frozen=True, forbid_unknown_fields=True):
    stack: str
    reason: str
    advice: str


class _Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    digest: str
    results: list[_Found | _NotReachable]


_ENTRY = msgspec.json.Decoder(_Entry)


def content_digest(image: ImageFile) -> str:
    """SHA-256 of the whole file, in hexadecimal.

    Raises:
        LibraryError: it cannot be read.
    """
    digest, at = hashlib.sha256(), 0
    while part := image.read(_DIGEST_BYTES, at):
        digest.update(part)  # the interpreter's lock is free meanwhile
        at += len(part)
    return digest.hexdigest()


def encode_results(results: Sequence[Result], digest: str) -> bytes:
    """As JSON."""
    entries = [
        _Found(
            item.stack,
            tuple((point.function, point.offset) for point in item.points),
            item.method,
            item.version,
            item.confidence,
            item.notes,
        )
        if isinstance(item, Found)
        else _NotReachable(item.stack, item.reason, item.advice)
        for item in results
    ]
    return msgspec.json.encode(_Entry(FORMAT, digest, entries))


def decode_results(raw: bytes, image: ImageFile) -> tuple[str, list[Result]]:
    """The digest and the results in JSON that need not be trusted.

    Raises:
        ValueError: it is not of that form, or a point lies where no code of this file is.
    """
    entry = _ENTRY.decode(raw)  # its errors are ValueErrors
    if entry.format != FORMAT:
        raise ValueError(f"format {entry.format}, not {FORMAT}")
    results: list[Result] = []
    code = _code_ranges(image)
    for item in entry.results:
        if isinstance(item, _NotReachable):
            results.append(NotReachable(item.stack, item.reason, item.advice))
            continue
        for function, offset in item.points:
            if not any(offset in part for part in code):
                raise ValueError(f"{function} at {offset:#x} is not in the file's code")
        points = tuple(ProbePoint(*point) for point in item.points)
        results.append(Found(item.stack, points, item.method, item.version, item.confidence, item.notes))
    return entry.digest, results


class LocateCache:
    """A folder of results.

    Args:
        folder: None: below $XDG_CACHE_HOME, or ~/.cache.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = _default_folder() if folder is None else folder

    def get(self, digest: str, image: ImageFile) -> list[Result] | None:
        """What was found in a file of this digest; None if nothing is known, or nothing to be believed."""
        with contextlib.ExitStack() as opened:
            try:
                folder = self._open_folder(create=False)
                opened.callback(os.close, folder)
                fd = os.open(f"{digest}.json", os.O_RDONLY | _FILE_FLAGS, dir_fd=folder)
                opened.callback(os.close, fd)
                _check(os.fstat(fd), stat.S_IFREG)
                raw = os.read(fd, MAX_ENTRY_BYTES + 1)
                if len(raw) > MAX_ENTRY_BYTES:
                    raise ValueError("too large")
                stored, results = decode_results(raw, image)
                if stored != digest:
                    raise ValueError("it is about another file")
            except FileNotFoundError:
                return None
            except (OSError, ValueError) as error:
                logger.debug("cached result %s in %s is not used: %s", digest, self.folder, error)
                return None
            with contextlib.suppress(OSError):
                os.utime(fd)  # the oldest go first
        return results

    def put(self, digest: str, results: Sequence[Result]) -> None:
        """Keeps a result. That it cannot be kept is only said to the log."""
        raw = encode_results(results, digest)
        if len(raw) > MAX_ENTRY_BYTES:
            return
        scratch = f".{secrets.token_hex(8)}.tmp"
        try:
            folder = self._open_folder(create=True)
        except (OSError, ValueError) as error:
            logger.debug("no results are kept in %s: %s", self.folder, error)
            return
        try:
            self._thin_out(folder)
            fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FILE_FLAGS, 0o600, dir_fd=folder)
            try:
                os.write(fd, raw)
            finally:
                os.close(fd)
            os.replace(scratch, f"{digest}.json", src_dir_fd=folder, dst_dir_fd=folder)
        except OSError as error:
            logger.debug("a result could not be kept in %s: %s", self.folder, error)
            with contextlib.suppress(OSError):
                os.unlink(scratch, dir_fd=folder)
        finally:
            os.close(folder)

    def _open_folder(self, *, create: bool) -> int:
        if create:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            _check(os.fstat(fd), stat.S_IFDIR)
        except ValueError:
            os.close(fd)
            raise
        return fd

    @staticmethod
    def _thin_out(folder: int) -> None:
        """Removes the entries that were used longest ago, so that the new one has room."""
        entries = []
        with os.scandir(folder) as found:
            for item in found:
                with contextlib.suppress(OSError):
                    entries.append((item.stat(follow_symlinks=False).st_mtime_ns, item.name))
        for _, name in sorted(entries)[: max(0, len(entries) - MAX_ENTRIES + 1)]:
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)


def _code_ranges(image: ImageFile) -> list[range]:
    """Where in the file code is: its executable PT_LOAD segments (ELF-64: e_phoff, e_phnum, Elf64_Phdr).

    Raises:
        ValueError: it has no program headers that could be read.
    """
    begin = image.read(_ELF_HEADER_BYTES)
    if len(begin) < _ELF_HEADER_BYTES:
        raise ValueError("not an ELF file")
    (table_at,) = struct.unpack_from("<Q", begin, 32)
    entry_bytes, count = struct.unpack_from("<HH", begin, 54)
    if entry_bytes != _PROGRAM.size or table_at > image.size_bytes:
        raise ValueError("no program headers")
    table = image.read(entry_bytes * count, table_at)
    return [
        range(offset, min(offset + file_bytes, image.size_bytes))
        for kind, flags, offset, _, _, file_bytes, _, _ in _PROGRAM.iter_unpack(
            table[: len(table) // entry_bytes * entry_bytes]
        )
        if kind == _LOADED and flags & _EXECUTABLE
    ]


def _default_folder() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification: relative ones are to be ignored
        base = os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "libagenttracer", f"locators-{FORMAT}")


def _check(status: os.stat_result, kind: int) -> None:
    """Raises ValueError unless it is of that kind, ours, and nobody else may write to it."""
    if stat.S_IFMT(status.st_mode) != kind:
        raise ValueError("not of the kind that is expected there")
    if status.st_uid != os.geteuid():
        raise ValueError(f"it belongs to user {status.st_uid}")
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ValueError("others may write to it")
