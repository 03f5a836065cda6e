"""Options and pieces that several commands share."""

from __future__ import annotations

import logging
import pwd
import re
import sys
from typing import Any

import click

from ..outputs import JsonLines, Text
from ..runners.runner import Output

__all__ = ["SIZE", "USER_ID", "make_output", "set_verbosity"]

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


class _Size(click.ParamType):  # type: ignore[type-arg]  # generic since click 8.2
    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)([kmg]?)(?:i?b)?", value.strip().lower())
        if not match or not int(match[1]):
            self.fail(f"{value!r} is no size: give bytes, or 64K, 32M, 1G", param, ctx)
        return int(match[1]) * _UNITS[match[2]]


class _UserId(click.ParamType):  # type: ignore[type-arg]
    name = "UID"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if value.isdigit():
            return int(value)
        try:
            return pwd.getpwnam(value).pw_uid
        except KeyError:
            self.fail(f"there is no user {value!r}", param, ctx)


SIZE = _Size()
USER_ID = _UserId()


def make_output(path: str | None, form: str, *, extra: bool, unless: tuple[int, int] | None = None) -> Output:
    """The output that the options ask for. "auto": text on a terminal, JSON Lines in a pipe or file."""
    target: Any = path if path is not None and path != "-" else sys.stdout
    terminal = target is sys.stdout and target is not None and target.isatty()
    if form == "json" or (form == "auto" and not terminal):
        return JsonLines(target, unless=unless)
    return Text(target, color=terminal, extra=extra, unless=unless)


def set_verbosity(level: int) -> None:
    """-v: what the tracer does; -vv: what libbpf says too."""
    if level:
        logging.getLogger("libagenttracer").setLevel(logging.DEBUG)
        logging.getLogger("libagenttracer.libbpf").setLevel(logging.DEBUG if level > 1 else logging.INFO)
