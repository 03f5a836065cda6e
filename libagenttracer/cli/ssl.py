"""`ssl`: TLS plaintext of live processes."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import time
from typing import Any

import click

from ..errors import OutputClosed, OutputError
from ..runners.runner import Stats
from ..runners.ssl import DEFAULT_RING_BYTES, SslRunner
from ..system.launch import caller
from .options import SIZE, USER_ID, make_output, set_verbosity

__all__ = ["ssl_command"]

EPILOG = """\b
Examples:
  libagenttracer ssl -- curl https://example.org     run a command and show what it says
  libagenttracer ssl -p 4242 -f                      a process and its descendants
  libagenttracer ssl -c python,node -o trace.jsonl   all processes of these names, into a file
  libagenttracer ssl | jq .data.payload              everything, as JSON Lines

\b
Exit status: the command's, if one was given; else 0, 1 after an error, 2 for wrong usage.
"""


@click.command("ssl", epilog=EPILOG, context_settings={"ignore_unknown_options": False})
@click.option(
    "-p", "--pid", "pids", type=click.IntRange(1), multiple=True, help="Only this process (repeatable)."
)
@click.option("-c", "--comm", help="Only processes whose first thread has one of these names (NAME,NAME).")
@click.option("-u", "--uid", type=USER_ID, help="Only processes of this user (number or name).")
@click.option("-f", "--follow-forks", is_flag=True, help="Descendants of matching processes too.")
@click.option("--handshake", is_flag=True, help="Show handshakes too.")
@click.option(
    "--lib",
    "libraries",
    multiple=True,
    metavar="PATH",
    help="Probe this library, not those found (repeatable).",
)
@click.option("--extra", is_flag=True, help="In text: user, thread, latency, offset and library too.")
@click.option(
    "--format", "form", type=click.Choice(["auto", "json", "text"]), default="auto",
    help="auto: text on a terminal, JSON Lines in a pipe or file.",
)  # fmt: skip
@click.option("-o", "--output", metavar="FILE", help="Write there (mode 0600), not to standard output.")
@click.option(
    "--for", "for_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="End after this time."
)
@click.option(
    "--ring-size", type=SIZE, default=DEFAULT_RING_BYTES, help="Ring buffer, for instance 64K or 32M."
)
@click.option(
    "--nice", type=click.IntRange(-20, 19), default=-10, show_default=True,
    help="The tracer's own scheduling priority, where that is permitted: it has to keep up.",
)  # fmt: skip
@click.option("--as", "user", metavar="USER", help="Run COMMAND as this user (under sudo: who called it).")
@click.option("-q", "--quiet", is_flag=True, help="No summary at the end.")
@click.option("-v", "--verbose", count=True, help="Say what is done; twice: what libbpf says too.")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def ssl_command(
    pids: tuple[int, ...],
    comm: str | None,
    uid: int | None,
    follow_forks: bool,
    handshake: bool,
    libraries: tuple[str, ...],
    extra: bool,
    form: str,
    output: str | None,
    for_s: float | None,
    ring_size: int,
    nice: int,
    user: str | None,
    quiet: bool,
    verbose: int,
    command: tuple[str, ...],
) -> int:
    """Show what processes send and receive inside TLS (OpenSSL 1.1 and 3.x).

    With no filter, every process is traced. With -- COMMAND, the command is started and traced with its
    descendants from the first byte on. The output is not redacted.
    """
    set_verbosity(verbose)
    if for_s is not None and not math.isfinite(for_s):
        raise click.UsageError("--for takes a number of seconds")
    if user and not command:
        raise click.UsageError("--as goes with -- COMMAND")
    try:
        runner = SslRunner(
            pid=pids or None,
            comm=comm,
            uid=uid,
            follow_forks=follow_forks,
            command=command or None,
            user=user or (caller() if command else None),
            libraries=libraries or None,
            handshake=handshake,
            ring_bytes=ring_size,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    runner.add_output(make_output(output, form, extra=extra))
    return _run(runner, for_s, nice, quiet=quiet, announce=not command)


def _run(runner: SslRunner, for_s: float | None, nice: int, *, quiet: bool, announce: bool) -> int:
    began_s = time.monotonic()
    try:
        runner.start()
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    _handle_signals(runner)
    with contextlib.suppress(OSError):  # after the command was started: it keeps its own
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    if announce and not quiet:
        probed = [item.path for item in runner.stats.libraries if not item.problem]
        print(f"tracing {', '.join(probed) or 'no library yet'}; Ctrl-C ends it", file=sys.stderr, flush=True)
    problem: OutputError | None = None
    try:
        runner.run(for_s)
    except OutputError as error:
        problem = error
    if not quiet:
        print(summary(runner.stats, time.monotonic() - began_s), file=sys.stderr)
    if problem is not None:
        if runner.launched is not None:
            runner.launched.wait()  # untraced from here on, but it still gets our signals
        if not isinstance(problem, OutputClosed) or runner.launched is None:
            raise problem
    return runner.exit_status or 0


def _handle_signals(runner: SslRunner) -> None:
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
    if runner.launched is not None:
        numbers += [signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2]
    for number in numbers:
        signal.signal(number, handle)


def _in_foreground() -> bool:
    try:
        return os.isatty(0) and os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return False


def summary(stats: Stats, seconds: float) -> str:
    """The lines that are shown at the end."""
    lost = ", ".join(f"{cause} {count.records} ({count.bytes} bytes)" for cause, count in stats.lost.items())
    lines = [
        f"{stats.events} events, {stats.payload_bytes} bytes of plaintext in {seconds:.1f} s; "
        f"lost: {lost or 'nothing'}"
    ]
    if "ring_full" in stats.lost:
        lines.append("  the ring was full: a larger --ring-size, or a filter, helps")
    for program, count in stats.missed_runs.items():
        lines.append(f"  the kernel did not run {program} {count} times")
    for item in stats.libraries:
        hits = ", ".join(f"{name} {count}" for name, count in item.hits.items()) or "no calls"
        lines.append(f"  {item.path}: {item.problem or hits}")
    if not stats.libraries:
        lines.append("  no OpenSSL library was found")
    return "\n".join(lines)
