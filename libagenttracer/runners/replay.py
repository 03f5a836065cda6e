"""Reads a recording back into the events that were written."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from typing import IO

from ..errors import RecordingError
from ..events import Event, from_json

__all__ = ["Replay", "replay"]

logger = logging.getLogger("libagenttracer.replay")
_SHOWN = 5


class Replay:
    """Iterates over the events of a recording.

    Args:
        source: a path ("-": standard input), or an open file.
        strict: raise on a line that is no event, instead of skipping and counting it.

    Attributes:
        skipped: lines that were no events, so far.

    Raises (while iterating):
        RecordingError: the file cannot be read, or, if `strict`, a line of it.
    """

    def __init__(self, source: str | os.PathLike[str] | IO[bytes], *, strict: bool = False) -> None:
        self._source = source
        self._strict = strict
        self.skipped = 0

    def __iter__(self) -> Iterator[Event]:
        if not isinstance(self._source, (str, os.PathLike)):
            yield from self._events(self._source, "recording")
            return
        name = os.fspath(self._source)
        if name == "-":
            yield from self._events(sys.stdin.buffer, "standard input")
            return
        try:
            with open(name, "rb") as file:
                yield from self._events(file, name)
        except OSError as error:
            raise RecordingError(f"cannot read {name}: {error.strerror}") from error

    def _events(self, file: IO[bytes], name: str) -> Iterator[Event]:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                event = from_json(line)
            except RecordingError as error:
                cut = "" if line.endswith(b"\n") else " (the recording was cut off here)"
                problem = RecordingError(f"{name}, line {number}: {error}{cut}")
                if self._strict:
                    raise problem from error
                self.skipped += 1
                # the first ones are enough to see what is wrong; the count says the rest
                logger.log(logging.WARNING if self.skipped <= _SHOWN else logging.DEBUG, "%s", problem)
                continue
            yield event


def replay(source: str | os.PathLike[str] | IO[bytes], *, strict: bool = False) -> Replay:
    """The events of a recording; see `Replay`.

    for event in replay("trace.jsonl"): ...
    """
    return Replay(source, strict=strict)
