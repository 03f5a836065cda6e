"""Options for what the events go through on their way to the output, for all commands that show events."""

from __future__ import annotations

import importlib.metadata
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import click

from ..analyzers import Analyzer, FilterAnalyzer, Redactor, decoders
from ..errors import FilterError

__all__ = ["Stages", "decode_options", "make_stages", "stage_options"]

ENTRY_POINTS = "libagenttracer.analyzers"
Command = TypeVar("Command", bound=Callable[..., Any])

_DECODE = (
    click.option("--http", is_flag=True, help="Decode HTTP/1.1, HTTP/2 and WebSocket."),
    click.option("--sse-merge", "sse", is_flag=True, help="Show streams of server-sent events, each as one."),
    click.option("--llm", is_flag=True, help="Show calls of language models: prompts, answers, tokens."),
    click.option("--mcp", is_flag=True, help="Show calls of the Model Context Protocol."),
    click.option("--raw", is_flag=True, help="With one of these: the plaintext too (never redacted)."),
)
_STAGES = (
    click.option(
        "--analyzer", "names", multiple=True, metavar="NAME",
        help="An analyzer that another package brings (repeatable).",
    ),
    click.option("--filter", "include", metavar="EXPR", help="Only events it holds for (docs/filters.md)."),
    click.option("--exclude", metavar="EXPR", help="No events for which this holds."),
    click.option("--no-redact", is_flag=True, help="Show secrets as they are."),
)  # fmt: skip


def decode_options(command: Command) -> Command:
    """--http, --sse-merge, --llm, --mcp, --raw."""
    for option in reversed(_DECODE):
        command = option(command)
    return command


def stage_options(command: Command) -> Command:
    """--analyzer, --filter, --exclude, --no-redact."""
    for option in reversed(_STAGES):
        command = option(command)
    return command


@dataclass
class Stages:
    """The analyzers that the options ask for.

    Raises:
        click.UsageError: an expression is wrong, or there is no such analyzer.
    """

    http: bool = False
    sse: bool = False
    llm: bool = False
    mcp: bool = False
    raw: bool = False
    names: tuple[str, ...] = ()
    include: str | None = None
    exclude: str | None = None
    no_redact: bool = False
    analyzers: list[Analyzer] = field(init=False)
    filter: FilterAnalyzer | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        if self.raw and not self.decoding:
            raise click.UsageError("--raw goes with --http, --sse-merge, --llm or --mcp")
        found = decoders(http=self.http, sse=self.sse, llm=self.llm, mcp=self.mcp, raw=self.raw)
        found += [_load(name) for name in self.names]
        if not self.no_redact:
            # without decoding, plaintext is what was asked for
            found.append(Redactor(secrets.token_bytes(16), raw=self.raw or not self.decoding))
        if self.include is not None or self.exclude is not None:
            try:
                self.filter = FilterAnalyzer(self.include, self.exclude)
            except FilterError as error:
                raise click.UsageError(str(error)) from error
            found.append(self.filter)
        self.analyzers = found

    @property
    def decoding(self) -> bool:
        """Whether anything is decoded."""
        return self.http or self.sse or self.llm or self.mcp

    def warn(self) -> None:
        """Says on stderr what is not redacted."""
        if self.no_redact:
            print("libagenttracer: --no-redact: secrets are shown as they are", file=sys.stderr)

    def notes(self) -> list[str]:
        """What the summary says of them."""
        if self.filter is not None and self.filter.filtered:
            return [f"{self.filter.filtered} events were left out by the filter"]
        return []


def make_stages(options: dict[str, Any]) -> tuple[Stages, dict[str, Any]]:
    """Takes the options of a command apart: the stages, and what is about the output."""
    names = {item.name for item in fields(Stages) if item.init}
    stages = Stages(**{name: value for name, value in options.items() if name in names})
    return stages, {name: value for name, value in options.items() if name not in names}


def _load(name: str) -> Analyzer:
    """An analyzer by its entry point: a class or a function without arguments."""
    points = {point.name: point for point in importlib.metadata.entry_points(group=ENTRY_POINTS)}
    if name not in points:
        known = ", ".join(sorted(points)) or "none is installed"
        raise click.UsageError(f"there is no analyzer {name!r}: {known} (entry points {ENTRY_POINTS!r})")
    try:
        made: Analyzer = points[name].load()()
    except Exception as error:  # whatever somebody else's code does when it is loaded
        raise click.UsageError(f"the analyzer {name!r} cannot be loaded: {error!r}") from error
    return made
