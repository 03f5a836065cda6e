"""Breaks text into lines of a terminal's width."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from typing import Any

__all__ = ["terminal_columns", "wrapped"]


def wrapped(text: str, width: int | None) -> Iterator[str]:
    """Lines of at most so many columns, broken at blanks where there are some; at least one.

    Args:
        text: without control characters but newlines and tabs.
        width: in columns, at least 2; None: only the text's own lines.
    """
    for line in text.split("\n"):
        yield from (line,) if width is None else _broken(line.expandtabs(4), width)


def _broken(line: str, width: int) -> Iterator[str]:
    start = 0
    while (end := _fitting(line, start, width)) < len(line):
        blank = line.rfind(" ", start, end + 1)
        if blank > start and line[start:blank].strip():  # not only the indentation before it
            yield line[start:blank].rstrip(" ")
            start = blank + 1
        else:
            yield line[start:end]
            start = end
    yield line[start:]


def _fitting(line: str, start: int, width: int) -> int:
    """Where the part ends that fits into so many columns; it has one character at least."""
    if line[start : start + width + 1].isascii():
        return min(start + width, len(line))
    columns = 0
    for at in range(start, len(line)):
        columns += 2 if unicodedata.east_asian_width(line[at]) in "WF" else 1
        if columns > width:
            return max(start + 1, at)
    return len(line)


def terminal_columns(target: Any) -> int | None:
    """The width of a terminal; None if it is none."""
    try:
        return os.get_terminal_size(target.fileno()).columns or None
    except (AttributeError, ValueError, OSError):  # a path, a closed file, a file
        return None
