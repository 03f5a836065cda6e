"""Runs a live runner from the command line: signals, priority, the command's end, the summary."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import textwrap
import time
from collections.abc import Callable
from typing import Any

import click

from ..errors import OutputClosed, OutputError
from ..outputs.process_text import one_line
from ..outputs.wrapping import terminal_columns
from ..runners.interface import LibraryCoverage
from ..runners.runner import Runner, Stats
from ..runners.ssl import SslRunner

__all__ = ["check_times", "handle_signals", "run_live", "summary"]

_NO_BREAK = "\u00a0"  # a name and its number stay on one line


def check_times(*seconds: float | None) -> None:
    """Raises UsageError for what is no number of seconds."""
    if any(item is not None and not math.isfinite(item) for item in seconds):
        raise click.UsageError("a time is a number of seconds")


def run_live(
    runner: Runner,
    for_s: float | None,
    nice: int,
    *,
    quiet: bool,
    announce: Callable[[Runner], str] | None,
    notes: Callable[[], list[str]] = list,
) -> int:
    """Runs it to its end, and says so; returns the exit status.

    Args:
        runner: with its outputs.
        for_s: ends it after so many seconds.
        nice: the tracer's own priority.
        quiet: nothing but errors on stderr.
        announce: says what is traced, once it is; None: say nothing.
        notes: what else the summary says.
    """
    began_s = time.monotonic()
    handle_signals(runner)  # before the command runs: it may be told at once to end
    try:
        runner.start()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with contextlib.suppress(OSError):  # after the command was started: it keeps its own
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if announce is not None and not quiet:
        print(f"tracing {announce(runner)}; Ctrl-C ends it", file=sys.stderr, flush=True)
    problem: OutputError | None = None
    try:
        runner.run(for_s)
    except OutputError as error:
        problem = error
    if not quiet:
        stats = runner.stats
        stats.notes.extend(notes())
        seconds, tls = time.monotonic() - began_s, isinstance(runner, SslRunner)
        print(summary(stats, seconds, tls=tls, width=terminal_columns(sys.stderr)), file=sys.stderr)
    if problem is not None:
        if runner.launched is not None:
            runner.launched.wait()  # untraced from here on, but it still gets our signals
        if not isinstance(problem, OutputClosed) or runner.launched is None:
            raise problem
    return runner.exit_status or 0


def handle_signals(runner: Runner) -> None:
    """Ctrl-C and kill end the run properly; with a command, they go to the command, which ends it."""
    told = False

    def handle(number: int, frame: Any) -> None:
        nonlocal told
        command = runner.launched
        if command is None or command.poll() is not None or told:
            runner.stop()  # a second Ctrl-C lets the command be
            return
        told = number == signal.SIGINT
        # a terminal has sent its SIGINT and SIGQUIT to the command too
        if number not in (signal.SIGINT, signal.SIGQUIT) or not _in_foreground():
            command.send_signal(number)

    numbers = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    if runner.command is not None:
        numbers += [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
    for number in numbers:
        signal.signal(number, handle)


def _in_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def summary(stats: Stats, seconds: float, *, tls: bool, width: int | None = None) -> str:
    """The lines that are shown at the end.

    Args:
        tls: it was TLS that was traced.
        width: columns that longer lines are wrapped to; None: they are not.
    """
    lost = ", ".join(
        f"{cause} {count.records}" + (f" ({count.bytes} bytes)" if tls or count.bytes else "")
        for cause, count in stats.lost.items()
    )
    if stats.missed_runs:  # whether of a process that is wanted, nobody can say
        lost += f"{', ' if lost else ''}not_run {sum(stats.missed_runs.values())}"
    plaintext = f", {stats.payload_bytes} bytes of plaintext" if tls else ""
    lines = [f"{stats.events} events{plaintext} in {seconds:.1f} s; lost: {lost or 'nothing'}"]
    if "ring_full" in stats.lost:
        lines.append("  the ring was full: a larger --ring-size, or a filter, helps")
    if "io_uring" in stats.lost:
        lines.append("  calls that were made through io_uring cannot be seen, only counted")
    if "compat_call" in stats.lost:
        lines.append("  32-bit calls of 64-bit programs (int 0x80) cannot be seen, only counted")
    if "compat" in stats.lost:
        lines.append("  calls of 32-bit programs cannot be seen")
    lines += [f"  the kernel did not run {name} {count} times" for name, count in stats.missed_runs.items()]
    lines += [f"  {note}" for note in stats.notes]
    lines += [line for item in stats.libraries if item.hits or item.problem for line in _library_lines(item)]
    if quiet := [_named(item) for item in stats.libraries if not item.hits and not item.problem]:
        lines.append(f"  no calls: {', '.join(quiet)}")
    if tls and not stats.libraries:
        lines.append("  no TLS library was found")
    return "\n".join(part for line in lines for part in _lines(line, width))


def _library_lines(item: LibraryCoverage) -> list[str]:
    """A library or executable: what is in it, and how often it was called, or why not and what to do."""
    hits = ", ".join(f"{name}{_NO_BREAK}{count}" for name, count in item.hits.items())
    lines = [f"  {_named(item)}: {item.problem or hits}"]
    lines += [f"    {stack.advice}" for stack in item.stacks if stack.advice]
    return lines


def _named(item: LibraryCoverage) -> str:
    stacks = [stack.title for stack in item.stacks if not stack.reason]
    return f"{item.path} ({'; '.join(stacks)})" if stacks else item.path


def _lines(line: str, width: int | None) -> list[str]:
    """One line of the summary, wrapped; names in it, which are others' words, cannot break it."""
    indent = line[: len(line) - len(line.lstrip())]
    text = one_line(line[len(indent) :])
    if width is None:
        parts = [indent + text]
    else:
        parts = textwrap.wrap(
            text,
            max(width, 20),
            initial_indent=indent,
            subsequent_indent=indent + "  ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return [part.replace(_NO_BREAK, " ") for part in parts]
