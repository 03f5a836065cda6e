"""`process`: what processes do."""

from __future__ import annotations

import sys
from typing import Any

import click

from ..outputs.tree import ProcessTree
from ..runners.process import DEFAULT_RING_BYTES, DEFAULT_WINDOW_S, ProcessRunner
from ..runners.process_decoder import CATEGORIES, DEFAULT_CATEGORIES
from ..runners.runner import Runner
from ..system.launch import caller
from .chain import make_stages, stage_options
from .live import check_times, run_live
from .options import make_output, output_options, run_options, set_verbosity

__all__ = ["process_command"]

EPILOG = """\b
Examples:
  libagenttracer process -- make                     run a command and show what it does
  libagenttracer process --tree -q -o /dev/null -- make   only its processes, as a tree
  libagenttracer process -c python,node -o what.jsonl     all processes of these names, into a file
  libagenttracer process -p 4242 --events exec,exit,net   some kinds of events only
  libagenttracer process -d 100 -- ./configure       without what lives less than 0.1 s

\b
Exit status: the command's, if one was given; else 0, 1 after an error, 2 for wrong usage.
"""


@click.command("process", epilog=EPILOG)
@click.option(
    "-m", "--mode", type=click.Choice(["0", "1", "2"]), default="2", show_default=True,
    help="0: all events of all processes; 1: fork, exec and exit of all, the rest of those that match; "
    "2: only those that match.",
)  # fmt: skip
@click.option("-p", "--pid", "pids", type=click.IntRange(1), multiple=True, help="This process (repeatable).")
@click.option(
    "-c", "--comm", metavar="NAME,NAME",
    help="Processes whose first thread or executable has one of these names.",
)  # fmt: skip
@click.option("--cgroup", metavar="PATH", help="Processes of this cgroup (v2) and those below it.")
@click.option(
    "-d", "--duration", "minimum_ms", type=click.FloatRange(0), default=0, metavar="MS",
    help="Leave out processes that live less than this; events come that much later.",
)  # fmt: skip
@click.option(
    "--window", "window_s", type=click.FloatRange(0), default=DEFAULT_WINDOW_S, metavar="SECONDS",
    show_default=True,
    help="Equal file events of a process within this time become one with a count; 0: none do.",
)  # fmt: skip
@click.option(
    "--events", metavar="LIST",
    help=f"Of {', '.join(CATEGORIES)}. Default: {','.join(DEFAULT_CATEGORIES)}. "
    "io (bytes read and written, at close) slows every read and write.",
)  # fmt: skip
@stage_options
@click.option("--tree", is_flag=True, help="Show the processes as a tree at the end (on stderr).")
@output_options
@click.option(
    "--max-processes", type=click.IntRange(1), default=65536, show_default=True,
    help="How many processes are remembered.",
)  # fmt: skip
@run_options(ring_bytes=DEFAULT_RING_BYTES, nice=0)
def process_command(
    mode: str,
    pids: tuple[int, ...],
    comm: str | None,
    cgroup: str | None,
    minimum_ms: float,
    window_s: float,
    events: str | None,
    tree: bool,
    for_s: float | None,
    ring_size: int,
    max_processes: int,
    nice: int,
    user: str | None,
    quiet: bool,
    verbose: int,
    command: tuple[str, ...],
    **options: Any,
) -> int:
    """Show what processes do: their lives, files, sockets, signals, and lines entered in bash.

    Matching processes are traced with all their descendants; with no filter, every process is. With
    -- COMMAND, the command is started and traced from its exec on.
    """
    set_verbosity(verbose)
    check_times(for_s, minimum_ms, window_s)
    stages, made = make_stages(options)
    if user and not command:
        raise click.UsageError("--as goes with -- COMMAND")
    try:
        runner = ProcessRunner(
            pid=pids or None,
            comm=comm,
            cgroup=cgroup,
            mode=int(mode),
            minimum_ms=minimum_ms,
            window_s=window_s,
            events=None if events is None else events.split(","),
            command=command or None,
            user=user or (caller() if command else None),
            ring_bytes=ring_size,
            max_processes=max_processes,
            analyzers=stages.analyzers,
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    runner.add_output(make_output(**made))
    if tree:
        runner.add_output(ProcessTree(sys.stderr))
    stages.warn()
    announce = None if command else _announcement
    return run_live(runner, for_s, nice, quiet=quiet, announce=announce, notes=stages.notes)


def _announcement(runner: Runner) -> str:
    assert isinstance(runner, ProcessRunner)
    if runner.mode == 0 or runner.filter.everything:
        return "all processes"
    number = len(runner.matched_pids())
    return (
        f"{number} processes that match, and those that will"
        if number
        else "what will match: nothing does yet"
    )
