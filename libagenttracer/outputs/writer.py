"""Writes whole lines to a file descriptor: all of them, or an error that leaves only whole ones behind."""

from __future__ import annotations

import contextlib
import os
import select
import stat
from typing import IO, Any

from ..errors import OutputClosed, OutputError

__all__ = ["LineWriter"]


class LineWriter:
    """A file of our own, or a stream that belongs to somebody else.

    Args:
        target: a path, or an open file. A file that is made is readable by its owner only (mode 0600): what
            is captured holds secrets. One that exists is opened at once, but emptied (and its mode changed
            likewise) only when there is something to write, or at the end: a run that fails to start
            destroys nothing.
        unless: (device, inode) of a file that must not be written, because it is being read.

    Raises:
        OutputError: it cannot be opened.
    """

    def __init__(
        self, target: str | os.PathLike[str] | IO[Any] | None, *, unless: tuple[int, int] | None = None
    ) -> None:
        if target is None:  # Python's sys.stdout when it was closed before the start
            raise OutputError("standard output is closed")
        self._own = isinstance(target, (str, os.PathLike))
        if isinstance(target, (str, os.PathLike)):
            self.name = os.fspath(target)
            try:
                self._fd = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            except OSError as error:
                raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
        else:
            self.name = getattr(target, "name", "output")
            target.flush()
            self._fd = target.fileno()
            self._target = target  # keeps it open
        status = os.fstat(self._fd)
        self._regular = stat.S_ISREG(status.st_mode)
        self._fresh = self._own and self._regular
        if self._regular and unless == (status.st_dev, status.st_ino):
            if self._own:
                os.close(self._fd)
            raise OutputError(f"{self.name} is the file that is being read: write to another one")

    def write(self, data: bytes) -> None:
        """Writes whole lines.

        Raises:
            OutputClosed: a pipe's reader has gone.
            OutputError: anything else, a full disk for instance; a line that did not fit is removed again.
        """
        view = memoryview(data)
        try:
            self._empty()
            while view:
                try:
                    view = view[os.write(self._fd, view) :]
                except BlockingIOError:  # somebody made the pipe or terminal non-blocking
                    select.select([], [self._fd], [])
        except BrokenPipeError:
            raise OutputClosed(f"{self.name}: nobody reads it any more") from None
        except OSError as error:
            done = len(data) - len(view)
            surplus = done - (data.rfind(b"\n", 0, done) + 1)
            whole = ""
            if self._regular:
                with contextlib.suppress(OSError):
                    end = os.lseek(self._fd, 0, os.SEEK_CUR) - surplus
                    os.ftruncate(self._fd, end)
                    os.lseek(self._fd, end, os.SEEK_SET)
                    whole = "; what was written before is whole"
            raise OutputError(f"cannot write {self.name}: {error.strerror}{whole}") from error

    def _empty(self) -> None:
        if self._fresh:
            self._fresh = False
            os.ftruncate(self._fd, 0)
            os.fchmod(self._fd, 0o600)

    def close(self) -> None:
        """Closes a file of our own."""
        fd = self._fd
        if not self._own or fd < 0:
            return
        try:
            self._empty()
            os.close(fd)
        except OSError as error:  # NFS and quotas report here what they could not store
            raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
        finally:
            self._fd = -1
