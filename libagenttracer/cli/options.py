"""Options and pieces that several commands share."""

from __future__ import annotations

import logging
import pwd
import re
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from ..outputs import JsonLines, RotatingJsonLines, Text
from ..runners.runner import Output

__all__ = ["SIZE", "USER_ID", "make_output", "output_options", "run_options", "set_verbosity"]

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


_OUTPUT = (
    click.option(
        "--format", "form", type=click.Choice(["auto", "json", "text"]), default="auto",
        help="auto: text on a terminal, JSON Lines in a pipe or file.",
    ),
    click.option("--extra", is_flag=True, help="In text: more of each event."),
    click.option("-o", "--output", metavar="FILE", help="Write there (mode 0600), not to standard output."),
    click.option(
        "--rotate-size", type=SIZE, help="With -o: begin a new file when this one is so big (100M)."
    ),
    click.option(
        "--rotate-age", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="… or so old."
    ),
    click.option(
        "--rotate-files", type=click.IntRange(1), default=10, show_default=True, help="Old ones to keep."
    ),
    click.option(
        "--compress", type=click.Choice(["none", "gzip", "zstd"]), default="gzip", show_default=True,
        help="What old files are compressed with.",
    ),
)  # fmt: skip
Command = TypeVar("Command", bound=Callable[..., Any])


def output_options(command: Command) -> Command:
    """Where events go and how; all of it is for `make_output`."""
    for option in reversed(_OUTPUT):
        command = option(command)
    return command


def run_options(*, ring_bytes: int, nice: int) -> Callable[[Command], Command]:
    """How a live run goes, and what it starts: --for, --ring-size, --nice, --as, -q, -v, COMMAND.

    Args:
        ring_bytes, nice: the defaults.
    """
    made = (
        click.option(
            "--for", "for_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
            help="End after this time.",
        ),
        click.option("--ring-size", type=SIZE, default=ring_bytes, help="Ring buffer (64K, 32M)."),
        click.option(
            "--nice", type=click.IntRange(-20, 19), default=nice, show_default=True,
            help="The tracer's own priority, where permitted: lower keeps up better, and disturbs more.",
        ),
        click.option(
            "--as", "user", metavar="USER", help="Run COMMAND as this user (under sudo: who called it)."
        ),
        click.option("-q", "--quiet", is_flag=True, help="No summary at the end."),
        click.option("-v", "--verbose", count=True, help="Say what is done; twice: what libbpf says too."),
        click.argument("command", nargs=-1, type=click.UNPROCESSED),
    )  # fmt: skip

    def add(command: Command) -> Command:
        for option in reversed(made):
            command = option(command)
        return command

    return add


def make_output(
    output: str | None = None,
    form: str = "auto",
    *,
    extra: bool = False,
    rotate_size: int | None = None,
    rotate_age: float | None = None,
    rotate_files: int = 10,
    compress: str = "gzip",
    unless: tuple[int, int] | None = None,
) -> Output:
    """The output that the options ask for. "auto": text on a terminal, JSON Lines in a pipe or file."""
    path = output
    if rotate_size is not None or rotate_age is not None:
        if path is None or path == "-" or form == "text":
            raise click.UsageError("--rotate-size and --rotate-age go with -o FILE, and with JSON Lines")
        return RotatingJsonLines(
            path,
            max_bytes=rotate_size or sys.maxsize,
            max_files=rotate_files,
            max_age_s=rotate_age,
            compress=None if compress == "none" else compress,  # type: ignore[arg-type]
            unless=unless,
        )
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
