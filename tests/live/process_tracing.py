"""Runs the tracer of processes; what several of its tests use."""

from __future__ import annotations

import contextlib
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from libagenttracer import Event, Loss

from ..support import ROOT
from .tracing import TRACER, read, run_tracer

WORKLOADS = ROOT / "tests" / "workloads"
PYTHON = [sys.executable, "-B", "-I"]
SomeEvent = TypeVar("SomeEvent", bound=Event)


@dataclass
class Recording:
    """What a run of the tracer has left.

    Attributes:
        said: the tracer's stderr (and that of its command).
    """

    events: list[Event]
    said: str
    stdout: str = ""

    def of(self, kind: type[SomeEvent]) -> list[SomeEvent]:
        return [event for event in self.events if isinstance(event, kind)]

    def complete(self) -> Recording:
        """Itself, after a look whether something was lost."""
        assert self.of(Loss) == []
        assert "lost: nothing" in self.said
        return self


def compile_workload(name: str, folder: Path) -> Path:
    """Compiles tests/workloads/NAME.c."""
    program = folder / name
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(program)]
    subprocess.run([*command, str(WORKLOADS / f"{name}.c")], check=True, timeout=60)
    return program


def record(
    command: Sequence[str | Path], output: Path, *arguments: str, status: int = 0, **options: Any
) -> Recording:
    """Traces a command from its exec to its end."""
    output.unlink(missing_ok=True)
    line = ["process", "-o", str(output), *arguments, "--", *map(str, command)]
    done = run_tracer(line, **{"timeout": 120, **options})
    assert done.returncode == status, done.stderr
    return Recording(read(output), done.stderr, done.stdout)


@contextlib.contextmanager
def recording(output: Path, *arguments: str) -> Iterator[tuple[subprocess.Popen[str], Recording]]:
    """Traces what is chosen while its block runs; the recording is there when that has ended."""
    command = [*TRACER, "process", "-o", str(output), *arguments]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    result = Recording([], process.stderr.readline())
    try:
        assert result.said.startswith("tracing"), result.said + process.stderr.read()
        yield process, result
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        result.said += process.communicate(timeout=120)[1]
    assert process.returncode == 0, result.said
    result.events = read(output)


def named(program: str | Path, name: str, folder: Path) -> Path:
    """A copy of a program under a name that no other process has."""
    return Path(shutil.copy(shutil.which(program) or program, folder / name))


def lost_by_kind(events: Sequence[Event]) -> Counter[str]:
    lost: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Loss):
            lost[event.kind or f"unknown: {event.cause}"] += event.count
    return lost
