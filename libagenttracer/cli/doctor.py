"""`doctor`: what can be traced here, and why not what cannot."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click
import msgspec

from .. import __version__
from ..runners.doctor import DoctorReport, doctor
from ..system.launch import caller
from .doctor_text import report_text
from .live import check_times, handle_signals

__all__ = ["doctor_command"]

EXIT_NOT_TRACEABLE = 1
EPILOG = """\b
Examples:
  libagenttracer doctor                       this machine: all that the tracer can use
  libagenttracer doctor -p 4242               a process that runs
  libagenttracer doctor -p 4242 --for 10      the same, traced for ten seconds: calls are counted
  libagenttracer doctor node ./agent /opt/x   programs and libraries; nothing is run
  libagenttracer doctor -- curl https://example.org   runs a command, and shows what was seen of it

\b
Looking at files and at processes of your own needs no privileges. What a command prints goes to
standard error, the report to standard output. docs/doctor.md explains the report.

\b
Exit status: 0 everything that was asked for can be traced; 1 something cannot; 2 wrong usage.
"""


class _WithCommand(click.Command):
    """What follows "--" is a command; what stands before it, paths."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Takes the command away before the options are read."""
        command: list[str] | None = None
        if "--" in args:
            at = args.index("--")
            args, command = args[:at], args[at + 1 :]
            if not command:
                raise click.UsageError("there is no command after --", ctx)
        rest = super().parse_args(ctx, args)
        ctx.params["command"] = command
        return rest


@click.command("doctor", cls=_WithCommand, epilog=EPILOG)
@click.option(
    "-p", "--pid", "pids", type=click.IntRange(1), multiple=True, help="Look at this process (repeatable)."
)
@click.option(
    "--for", "for_s", type=click.FloatRange(0, min_open=True), metavar="SECONDS",
    help="With -p: trace the processes so long, and count calls.",
)  # fmt: skip
@click.option("--as", "user", metavar="USER", help="Run COMMAND as this user (under sudo: who called it).")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("-v", "--verbose", is_flag=True, help="List what is there on the machine too.")
@click.option("-q", "--quiet", is_flag=True, help="Do not say on standard error what takes long.")
@click.argument("paths", nargs=-1, metavar="[PATH]... [-- COMMAND...]")
def doctor_command(
    pids: tuple[int, ...],
    for_s: float | None,
    user: str | None,
    as_json: bool,
    verbose: bool,
    quiet: bool,
    paths: tuple[str, ...],
    command: list[str] | None,
) -> int:
    """Say what can be traced, and why not what cannot.

    Without arguments: what the tracer can use of this machine, and what is missing without the rest. For a
    process, a file or a command: which TLS is in it, how it was found, where it is probed and how often it
    was called, or why not and what to do.
    """
    check_times(for_s)
    if for_s is not None and not pids:
        raise click.UsageError("--for goes with -p")
    if user and not command:
        raise click.UsageError("--as goes with -- COMMAND")
    with _stdout_as_stderr() if command else contextlib.nullcontext():
        report = doctor(
            pid=dict.fromkeys(pids),
            paths=dict.fromkeys(paths),
            command=command,
            user=user or (caller() if command else None),
            for_s=for_s,
            progress=(lambda text: None) if quiet else _say,
            started=handle_signals,
        )
    if as_json:
        sys.stdout.write(_json(report) + "\n")
    else:
        click.echo(report_text(report, everything=verbose))
    return 0 if report.ok else EXIT_NOT_TRACEABLE


@contextlib.contextmanager
def _stdout_as_stderr() -> Iterator[None]:
    """What the command prints should not stand in the report."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def _json(report: DoctorReport) -> str:
    content = {
        "version": __version__,
        "ok": report.ok,
        "ready": report.machine.ready,
        **msgspec.to_builtins(report),
    }
    return msgspec.json.format(msgspec.json.encode(_clean(content)), indent=2).decode()


def _clean(value: Any) -> Any:
    """Names of files can have bytes that are no text."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, (list, tuple)) else value


def _say(text: str) -> None:
    print(f"libagenttracer: {text}", file=sys.stderr, flush=True)
