"""`replay`: shows a recording again, decoded as a live run would be."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

import click

from ..analyzers import Chain
from ..events import Event
from ..outputs import Har
from ..runners.replay import Replay
from ..runners.runner import Output
from .chain import decode_options, make_stages, stage_options
from .options import make_output, output_options

__all__ = ["replay_command"]

BATCH_EVENTS = 256
EPILOG = """\b
Examples:
  libagenttracer replay trace.jsonl --format text | less
  libagenttracer replay trace.jsonl --llm                 what the models were asked
  libagenttracer replay trace.jsonl --http --har out.har  for a browser's developer tools
"""


@click.command("replay", epilog=EPILOG)
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@decode_options
@stage_options
@output_options
@click.option("--har", metavar="FILE", help="Write the exchanges there as HAR 1.2 too (with --http).")
@click.option("--strict", is_flag=True, help="Fail at a line that is no event, instead of skipping it.")
def replay_command(
    file: str,
    har: str | None,
    strict: bool,
    **options: Any,
) -> int:
    """Read a recording (JSON Lines; - is standard input) back, and show its events, or what they mean."""
    stages, made = make_stages(options)
    if har and not stages.http:
        raise click.UsageError("--har goes with --http")
    recording = Replay(file, strict=strict)
    unless = _identity("/dev/stdin" if file == "-" else file)
    targets: list[Output] = [make_output(**made, unless=unless)]
    if har:
        targets.append(Har(har))
    stages.warn()
    chain = Chain(stages.analyzers)
    batch: list[Event] = []
    try:
        for event in recording:
            batch += chain.feed(event)
            if len(batch) >= BATCH_EVENTS:
                full, batch = batch, []
                _write(targets, full)
    finally:
        # what was read before a bad line is shown too
        batch += chain.flush()
        if batch:
            _write(targets, batch)
        for target in targets:
            target.close()
    for note in stages.notes():
        print(f"libagenttracer: {note}", file=sys.stderr)
    if recording.skipped:
        lines = (
            "1 line was no event" if recording.skipped == 1 else f"{recording.skipped} lines were no events"
        )
        print(f"libagenttracer: {lines}", file=sys.stderr)
        return 1
    return 0


def _write(targets: Iterable[Output], events: list[Event]) -> None:
    for target in targets:
        target.write(events)


def _identity(path: str) -> tuple[int, int] | None:
    """Device and inode, None if there is no such file."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino
