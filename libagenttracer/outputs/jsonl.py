"""JSON Lines: one event a line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import IO, Any

from ..events import Event, to_json
from .writer import LineWriter

__all__ = ["JsonLines"]


class JsonLines:
    """Writes events as JSON Lines, unredacted: a file is made with mode 0600.

    Args:
        target: a path, or an open file.
        unless: (device, inode) of a file that is being read, and so must not be written.

    Raises:
        OutputError: it cannot be written.
    """

    def __init__(
        self, target: str | os.PathLike[str] | IO[Any] | None, *, unless: tuple[int, int] | None = None
    ) -> None:
        self._writer = LineWriter(target, unless=unless)

    def write(self, events: Sequence[Event]) -> None:
        """Writes a batch; when it returns, the system has it."""
        lines = [to_json(event) for event in events]
        lines.append(b"")
        self._writer.write(b"\n".join(lines))

    def close(self) -> None:
        """Closes the file if this made it."""
        self._writer.close()
