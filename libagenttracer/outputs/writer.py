"""Writes whole lines to a file descriptor: all of them, or an error that leaves only whole ones behind."""

from __future__ import annotations

import os
import stat
from typing import IO, Any

from ..errors import OutputClosed, OutputError

__all__ = ["LineWriter"]


class LineWriter:
    """A file of our own, or a stream that belongs to somebody else.

    Args:
        target: a path, or an open file. A file that is made is readable by its owner only (mode 0600): what
            is captured holds secrets. One that exists is emptied, and its mode changed likewise.
    """

    def __init__(self, target: str | os.PathLike[str] | IO[Any]) -> None:
        self._own = isinstance(target, (str, os.PathLike))
        self._written_bytes = 0
        if isinstance(target, (str, os.PathLike)):
            self.name = os.fspath(target)
            try:
                self._fd = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
                self._regular = stat.S_ISREG(os.fstat(self._fd).st_mode)
                if self._regular:
                    os.fchmod(self._fd, 0o600)
            except OSError as error:
                raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
        else:
            self.name = getattr(target, "name", "output")
            target.flush()
            self._fd = target.fileno()
            self._regular = False

    def write(self, data: bytes) -> None:
        """Writes whole lines.

        Raises:
            OutputClosed: a pipe's reader has gone.
            OutputError: anything else, a full disk for instance; a line that did not fit is removed again.
        """
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except BrokenPipeError:
            raise OutputClosed(f"{self.name}: nobody reads it any more") from None
        except OSError as error:
            done = len(data) - len(view)
            kept = data.rfind(b"\n", 0, done) + 1
            if self._regular and kept != done:
                os.ftruncate(self._fd, self._written_bytes + kept)
            raise OutputError(
                f"cannot write {self.name}: {error.strerror}; what was written before is whole"
            ) from error
        self._written_bytes += len(data)

    def close(self) -> None:
        """Closes a file of our own."""
        fd, self._fd = self._fd, -1
        if self._own and fd >= 0:
            try:
                os.close(fd)
            except OSError as error:  # NFS and quotas report here what they could not store
                raise OutputError(f"cannot write {self.name}: {error.strerror}") from error
