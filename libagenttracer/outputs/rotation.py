"""JSON Lines in a row of files: a new one when the file is big or old enough, the old ones compressed."""

from __future__ import annotations

import contextlib
import gzip
import logging
import os
import re
import shutil
import stat
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any, Literal

from ..errors import OutputError
from ..events import Event, to_json
from .writer import LineWriter

__all__ = ["RotatingJsonLines"]

logger = logging.getLogger("libagenttracer.outputs")
_STEP_BYTES = 1 << 20
_MAX_PENDING = 4  # files that wait for the compressor
_Opener = Callable[[IO[bytes]], Any]


class RotatingJsonLines:
    """Writes events as JSON Lines to `NAME`; full files become `NAME.000001`, `NAME.000002.gz` and so on.

    A file gets such a name only when it is whole and on the disk; until then it is `.NAME.000001.pending`,
    and what an interrupted run left under such a name is finished by the next one. A `NAME` that exists is
    not emptied, but becomes one of the numbered files. All are readable by their owner only (mode 0600).

    Syncing and compressing are done by one thread of its own: the caller only renames a file, which takes
    no time, and the compressors work outside of Python's lock. If they cannot keep up, files stay
    uncompressed, so the caller never waits for them but in `close()`.

    Args:
        path: of the file; there must be only one writer for it.
        max_bytes: of a file. A line is never cut: one that is longer has a file of its own.
        max_files: numbered files that are kept, the newest ones; None: all.
        max_age_s: of a file, from its first line on, looked at when something is written; None: any.
        compress: "gzip", "zstd" (needs the package zstandard), or None.
        unless: (device, inode) of a file that is being read, and so must not be written.

    Raises:
        OutputError: it cannot be written, or is no regular file, or zstandard is missing.
        ValueError: a number is not positive, or `compress` is unknown.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int = 256 << 20,
        max_files: int | None = 10,
        max_age_s: float | None = None,
        compress: Literal["gzip", "zstd"] | None = "gzip",
        unless: tuple[int, int] | None = None,
    ) -> None:
        for name, value in (("max_bytes", max_bytes), ("max_files", max_files), ("max_age_s", max_age_s)):
            if value is not None and value <= 0:
                raise ValueError(f"{name} must be positive: {value}")
        self._suffix, self._compressor = _compressor(compress)
        self.name = os.fspath(path)
        self._path = os.path.realpath(self.name)
        self._folder, base = os.path.split(self._path)
        self._base = base
        self._numbered = re.compile(rf"{re.escape(base)}\.(\d{{6,}})(?:\.gz|\.zst)?")
        self._pending = re.compile(rf"\.{re.escape(base)}\.(\d{{6,}})\.pending")
        self._max_bytes = max_bytes
        self._max_files = max_files
        self._max_age_s = max_age_s
        self._check(unless)
        self._writer: LineWriter | None = None
        self._size = 0
        self._began_s = 0.0
        self._worker = ThreadPoolExecutor(1, "libagenttracer-rotation")
        self._jobs: deque[Future[None]] = deque()
        self._next = 1 + max((number for number, _ in self._files(self._numbered)), default=0)
        for number, _ in self._files(self._pending):
            self._next = max(self._next, number + 1)
            self._submit(number)

    def write(self, events: Sequence[Event]) -> None:
        """Writes a batch; when it returns, the system has it.

        Raises:
            OutputError: as of `LineWriter.write`, or an earlier file could not be finished.
        """
        self._collect(wait=False)
        if self._max_age_s is not None and self._size and time.monotonic() - self._began_s > self._max_age_s:
            self._rotate()
        lines: list[bytes] = []
        size = self._size
        for event in events:
            line = to_json(event)
            if size and size + len(line) + 1 > self._max_bytes:
                self._write(lines)
                self._rotate()
                lines, size = [], 0
            lines.append(line)
            size += len(line) + 1
        self._write(lines)

    def close(self) -> None:
        """Closes the file, which keeps its name, and waits for the thread. Closing again does nothing."""
        try:
            if self._writer is not None:
                self._writer.close()
        finally:
            self._writer = None
            self._worker.shutdown()
            self._collect(wait=True)

    def _write(self, lines: list[bytes]) -> None:
        if not lines:
            return
        if self._writer is None:
            with contextlib.suppress(OSError):
                if os.stat(self._path).st_size:
                    self._set_aside()
            self._writer = LineWriter(self._path)
        if not self._size:
            self._began_s = time.monotonic()
        data = b"\n".join([*lines, b""])
        self._writer.write(data)
        self._size += len(data)

    def _check(self, unless: tuple[int, int] | None) -> None:
        """Whether it can be written is to be known at the start; nothing is changed."""
        try:
            fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
        except OSError as error:
            raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
        status = os.fstat(fd)
        os.close(fd)
        if not stat.S_ISREG(status.st_mode):
            raise OutputError(f"cannot write {self.name}: it is no regular file")
        if unless == (status.st_dev, status.st_ino):
            raise OutputError(f"{self.name} is the file that is being read: write to another one")

    def _rotate(self) -> None:
        if self._writer is None or not self._size:
            return
        self._writer.close()
        self._writer, self._size = None, 0
        self._set_aside()

    def _set_aside(self) -> None:
        number, self._next = self._next, self._next + 1
        try:
            os.rename(self._path, self._place(f".{self._base}.{number:06d}.pending"))
        except OSError as error:
            raise OutputError(f"cannot rotate {self.name}: {error.strerror}") from error
        self._submit(number)

    def _submit(self, number: int) -> None:
        waiting = sum(not job.done() for job in self._jobs)
        self._jobs.append(self._worker.submit(self._finish, number, waiting < _MAX_PENDING))

    def _collect(self, *, wait: bool) -> None:
        """Forgets jobs that are done; raises what went wrong in them."""
        while self._jobs and (wait or self._jobs[0].done()):
            error = self._jobs.popleft().exception()
            if isinstance(error, OSError):
                raise OutputError(f"cannot rotate {self.name}: {error.strerror}") from error
            if error is not None:
                raise error

    # in the thread

    def _finish(self, number: int, compress: bool) -> None:
        """Gives a file its name; whenever this is interrupted, it can be done again."""
        pending = self._place(f".{self._base}.{number:06d}.pending")
        final = self._place(f"{self._base}.{number:06d}")
        if any(os.path.exists(final + suffix) for suffix in (".gz", ".zst")):  # it was interrupted here
            os.unlink(pending)
        elif compress and self._compressor is not None:
            try:
                self._compress(self._compressor, pending, final + self._suffix)
            except OSError as error:  # the disk is full: it stays as it is
                logger.warning("cannot compress %s: %s", final, error.strerror)
        if os.path.exists(pending):
            with _own(pending) as file:
                os.fchmod(file.fileno(), 0o600)
                os.fsync(file.fileno())
            os.rename(pending, final)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        if self._max_files is not None:
            for _, name in self._files(self._numbered)[: -self._max_files]:
                os.unlink(self._place(name))

    def _compress(self, opener: _Opener, pending: str, final: str) -> None:
        partial = self._place(f".{os.path.basename(final)}.partial")
        with contextlib.suppress(FileNotFoundError):  # of an interrupted run
            os.unlink(partial)
        fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                with _own(pending) as source, opener(file) as packed:
                    shutil.copyfileobj(source, packed, _STEP_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            os.unlink(partial)
            raise
        os.rename(partial, final)
        os.unlink(pending)

    def _place(self, name: str) -> str:
        return os.path.join(self._folder, name)

    def _files(self, pattern: re.Pattern[str]) -> list[tuple[int, str]]:
        """The files whose names are of this form, with their numbers, the lowest first."""
        found = ((pattern.fullmatch(name), name) for name in os.listdir(self._folder))
        return sorted((int(match[1]), name) for match, name in found if match)


def _own(path: str) -> IO[bytes]:
    """Opens a file, but not where a link of somebody else's leads."""
    return open(os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")


def _compressor(compress: str | None) -> tuple[str, _Opener | None]:
    """The ending of a compressed file's name, and what opens a file for writing compressed."""
    if compress is None:
        return "", None
    if compress == "gzip":
        # the lowest level takes a third of the usual one's time, and the file is a fifth longer
        return ".gz", lambda file: gzip.GzipFile("", "wb", 1, file, mtime=0)
    if compress != "zstd":
        raise ValueError(f'compress must be "gzip", "zstd" or None: {compress!r}')
    try:
        import zstandard
    except ImportError as error:
        raise OutputError("compressing with zstd needs the package zstandard") from error
    return ".zst", lambda file: zstandard.ZstdCompressor(3).stream_writer(file, closefd=False)
