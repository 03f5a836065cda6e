"""Outputs as analyzers: what passes them in a chain is written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

from ..errors import OutputError
from ..events import Event
from .jsonl import JsonLines
from .rotation import RotatingJsonLines
from .text import Text

__all__ = ["FileLogger", "OutputAnalyzer"]


class _Output(Protocol):
    def write(self, events: Sequence[Event]) -> None: ...

    def close(self) -> None: ...


class OutputAnalyzer:
    """Writes the events that pass, and passes them on. It is an analyzer but for its I/O.

    An error does not keep events from those behind: `feed()` raises nothing, the next `tick()` or `flush()`
    raises the first OutputError since the last one. What was in the batch that failed is not written again.

    Args:
        output: anything with `write(events)` and `close()`; it is closed by `flush()`. None: standard
            output, as text if it is a terminal, else as JSON Lines.
        batch: so many events are written at once; fewer at each tick. None: 256, and 1 on a terminal.

    Attributes:
        lost: events that could not be written.

    Raises:
        OutputError: standard output is closed.
        ValueError: `batch` is not positive.
    """

    def __init__(self, output: _Output | None = None, *, batch: int | None = None) -> None:
        if batch is not None and batch < 1:
            raise ValueError(f"batch must be positive: {batch}")
        terminal = False
        if output is None:
            terminal = sys.stdout is not None and sys.stdout.isatty()
            output = Text(sys.stdout, color=True) if terminal else JsonLines(sys.stdout)
        self._output = output
        self._batch = batch or (1 if terminal else 256)
        self._events: list[Event] = []
        self._error: OutputError | None = None
        self.lost = 0

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes note of an event, and gives it on."""
        self._events.append(event)
        if len(self._events) >= self._batch:
            self._write()
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Writes what was not written yet.

        Raises:
            OutputError: something since the last tick could not be written.
        """
        self._write()
        self._raise()
        return ()

    def flush(self) -> Iterable[Event]:
        """Writes the rest and closes the output.

        Raises:
            OutputError: as of `tick`, or it could not be closed.
        """
        self._write()
        try:
            self._output.close()
        except OutputError as error:
            self._error = self._error or error
        self._raise()
        return ()

    def _write(self) -> None:
        events, self._events = self._events, []
        if not events:
            return
        try:
            self._output.write(events)
        except OutputError as error:
            self.lost += len(events)
            self._error = self._error or error

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error


class FileLogger(OutputAnalyzer):
    """Writes the events that pass to a file, as JSON Lines; see `OutputAnalyzer`.

    Args:
        path: of the file. Without any of the following it is emptied first.
        max_bytes, max_files, max_age_s, compress: if one of the first three is given, the file rotates: see
            `RotatingJsonLines`.
        batch: as of `OutputAnalyzer`.

    Raises:
        OutputError, ValueError: as these do.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        max_bytes: int | None = None,
        max_files: int | None = None,
        max_age_s: float | None = None,
        compress: Literal["gzip", "zstd"] | None = None,
        batch: int | None = None,
    ) -> None:
        output: _Output
        if max_bytes is None and max_files is None and max_age_s is None:
            if compress is not None:
                raise ValueError(
                    "only a file that rotates is compressed: give max_bytes, max_files or max_age_s"
                )
            output = JsonLines(path)
        else:
            output = RotatingJsonLines(
                path,
                max_bytes=256 << 20 if max_bytes is None else max_bytes,
                max_files=max_files,
                max_age_s=max_age_s,
                compress=compress,
            )
        super().__init__(output, batch=batch)
