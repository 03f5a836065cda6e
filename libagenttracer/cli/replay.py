"""`replay`: shows a recording again."""

from __future__ import annotations

import sys

import click

from ..runners.replay import Replay
from ..system.libraries import file_identity
from .options import make_output

__all__ = ["replay_command"]

BATCH_EVENTS = 256


@click.command("replay", epilog="Example:  libagenttracer replay trace.jsonl --format text | less")
@click.argument("file", type=click.Path(dir_okay=False, allow_dash=True))
@click.option(
    "--format", "form", type=click.Choice(["auto", "json", "text"]), default="auto", help="Output format."
)
@click.option("--extra", is_flag=True, help="In text: user, thread, latency, offset and library too.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write there, not to standard output.")
@click.option("--strict", is_flag=True, help="Fail at a line that is no event, instead of skipping it.")
def replay_command(file: str, form: str, extra: bool, output: str | None, strict: bool) -> int:
    """Read a recording (JSON Lines; - is standard input) back into events and show them."""
    recording = Replay(file, strict=strict)
    target = make_output(
        output, form, extra=extra, unless=file_identity("/dev/stdin" if file == "-" else file)
    )
    batch = []
    try:
        for event in recording:
            batch.append(event)
            if len(batch) >= BATCH_EVENTS:
                full, batch = batch, []
                target.write(full)
    finally:
        # what was read before a bad line is shown too
        if batch:
            target.write(batch)
        target.close()
    if recording.skipped:
        lines = (
            "1 line was no event" if recording.skipped == 1 else f"{recording.skipped} lines were no events"
        )
        print(f"libagenttracer: {lines}", file=sys.stderr)
        return 1
    return 0
