"""Runs the tracer and the traced, and compares what each of them says."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from libagenttracer import Event, Loss, SslData, replay

TRACER = [sys.executable, "-m", "libagenttracer"]


@dataclass
class Stream:
    """One direction of one connection, put together from its events.

    A gap is filled by the losses that stand at it; anything else that does not fit is an error.
    """

    content: bytearray = field(default_factory=bytearray)
    lost_bytes: int = 0
    lost_records: int = 0
    records: int = 0

    @property
    def position(self) -> int:
        return len(self.content) + self.lost_bytes


def streams(events: Iterable[Event]) -> dict[tuple[str, str], Stream]:
    """By connection id and direction. Every event has to begin where the one before it ended."""
    found: dict[tuple[str, str], Stream] = defaultdict(Stream)
    for event in events:
        if isinstance(event, Loss) and event.connection_id and event.direction:
            stream = found[event.connection_id, event.direction]
            assert event.offset == stream.position, event
            stream.lost_bytes += event.lost_bytes
            stream.lost_records += event.count
        elif isinstance(event, SslData):
            stream = found[event.connection_id, event.direction]
            assert event.offset == stream.position, (event.offset, stream.position)
            assert event.data_len == len(event.payload)
            stream.content += event.payload
            stream.records += 1
    return found


def by_ssl(found: dict[tuple[str, str], Stream]) -> dict[tuple[str, str], Stream]:
    """By the address of the SSL object (which tls_pair prints) and direction."""
    return {(f"0x{name.split('-')[1]}", direction): stream for (name, direction), stream in found.items()}


def run_tracer(arguments: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "text": True, "timeout": 60, **options}
    return subprocess.run([*TRACER, *arguments], check=False, **options)


@contextlib.contextmanager
def tracer(pid: int, output: Path, *more: str) -> Iterator[dict[str, Any]]:
    """Traces a process into a file; afterwards the dict has what the tracer said at its end."""
    command = [*TRACER, "ssl", "-p", str(pid), "-o", str(output), *more]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    report: dict[str, Any] = {"process": process, "ready": process.stderr.readline()}
    try:
        assert report["ready"].startswith("tracing /"), report["ready"] + process.stderr.read()
        yield report
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGINT)
        report["summary"] = process.communicate(timeout=120)[1]
        report["status"] = process.returncode


class Pair:
    """A run of tls_pair that waits for `go()`, and, when that returns, still holds its connections."""

    def __init__(self, program: Path, *arguments: str, **options: Any) -> None:
        self._process = subprocess.Popen(
            [program, "--wait", "--hold", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            **options,
        )
        assert self._process.stdout is not None
        first = self._process.stdout.readline()
        assert first.startswith("READY "), first
        self.pid = int(first.split()[1])

    def go(self) -> dict[str, Any]:
        """Runs the traffic; what the program reports of it."""
        self.start()
        return self.report()

    def start(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()

    def report(self) -> dict[str, Any]:
        """After `start()`: waits for the end of the traffic."""
        assert self._process.stdout is not None
        text = ""
        for line in self._process.stdout:
            text += line
            if line.endswith("]}\n"):
                break
        report: dict[str, Any] = json.loads(text)
        return report

    def end(self) -> None:
        """Lets it end. Calling it again does nothing."""
        if self._process.returncode is None:
            self._process.communicate("\n", timeout=60)


@contextlib.contextmanager
def pair(program: Path, *arguments: str, **options: Any) -> Iterator[Pair]:
    running = Pair(program, *arguments, **options)
    try:
        yield running
    finally:
        running.end()


def check_pair(report: dict[str, Any], events: list[Event], *, losses: bool = False) -> None:
    """Every stream of the program's report is in the events, byte for byte (with losses: accounted for)."""
    found = by_ssl(streams(events))
    truth = [item for item in report["connections"] if item["bytes"]]
    assert truth
    for item in truth:
        stream = found.pop((item["ssl"], item["direction"]))
        assert stream.position == item["bytes"]
        if not losses:
            assert stream.lost_records == 0
        if not stream.lost_bytes:
            assert hashlib.sha256(stream.content).hexdigest() == item["sha256"]
    assert not found, "events of connections that the program does not know"


def read(path: Path) -> list[Event]:
    """A recording in which every line is an event."""
    return list(replay(path, strict=True))


def pss_kib(pid: int) -> int:
    """Proportional set size of a process without the mapped ring (kernel memory), KiB."""
    total, counted = 0, True
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        head = line.split()
        if "-" in head[0] and not head[0].endswith(":"):
            counted = "bpf-map" not in line
        elif head[0] == "Pss:" and counted:
            total += int(head[1])
    return total


def open_fds() -> int:
    return len(os.listdir("/proc/self/fd"))
