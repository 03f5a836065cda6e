"""What the checks in a guest share: the tracer's start and end, and how they fail."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

TRACER = [sys.executable, "-m", "libagenttracer"]


class Failure(Exception):
    """A trace is not what it should be."""


def expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise Failure(f"{what}: {seen!r}, not {wanted!r}")


def log_of(recording: Path) -> Path:
    """What the tracer that made a recording has said."""
    return recording.with_suffix(".log")


def start_tracer(arguments: Sequence[str], recording: Path) -> subprocess.Popen[bytes]:
    """A tracer that has attached its probes."""
    log = log_of(recording)
    with log.open("wb") as file:
        tracer = subprocess.Popen([*TRACER, *arguments, "-o", str(recording)], stderr=file)
    end = time.monotonic() + 60
    while b"Ctrl-C" not in log.read_bytes():
        if tracer.poll() is not None or time.monotonic() > end:
            raise Failure(f"the tracer did not start; it exited with {tracer.poll()}")
        time.sleep(0.1)
    return tracer


def end_tracer(tracer: subprocess.Popen[bytes]) -> None:
    tracer.send_signal(signal.SIGINT)
    expect("the tracer's exit status", tracer.wait(60), 0)
