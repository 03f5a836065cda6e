"""A small ring and a tracer that stands still: for each type of event, seen and lost is what happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from libagenttracer import Event, Loss
from libagenttracer.events import ProcessExec

from .process_tracing import PYTHON, Recording, compile_workload, lost_by_kind, recording

CALLS = """
import os, socket, struct, sys
folder = sys.argv[1]
os.chdir(folder)
os.mkdir("kept"); open("file", "w").close()
target = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); target.bind(("127.0.0.1", 0))
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); place = target.getsockname()
query = struct.pack(">6H", 1, 256, 1, 0, 0, 0) + b"\\4name\\0" + struct.pack(">HH", 1, 1)
waiting = socket.create_server(("127.0.0.1", 0)); me = os.getpid()
def round_of(count):
    for i in range(count):
        os.close(os.open("file", os.O_RDWR))
        os.truncate("file", 1); os.chmod("file", 0o600); os.chown("file", 0, 0)
        os.mkdir("made"); os.rename("made", "moved"); os.rmdir("moved")
        os.link("file", "link"); os.unlink("link")
        os.kill(me, 0)
        client.sendto(b"x", place)
        client.sendto(query, ("127.0.0.9", 53))
        one = socket.create_connection(waiting.getsockname()); two = waiting.accept()[0]
        one.close(); two.close()
round_of(1)  # what is imported late
print("ready", flush=True)
for line in sys.stdin:
    round_of(int(line)); print("done", flush=True)
"""
TYPES = [
    *("file_open", "file_truncate", "file_chmod", "file_chown", "file_mkdir", "file_rename", "file_rmdir"),
    *("file_link", "file_delete", "signal_send", "dns_query", "net_connect", "net_accept"),
]
FILE_CALLS = 9  # in each round
ROUNDS = (5, 400, 5)  # before, while the tracer stands still, and after


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_workload("storm", tmp_path_factory.mktemp("storm"))


def seen_and_lost(events: Sequence[Event]) -> tuple[Counter[str], Counter[str]]:
    seen: Counter[str] = Counter()
    for event in events:
        if not isinstance(event, Loss):
            seen[event.event_type] += getattr(event, "count", 1)
    return seen, lost_by_kind(events)


def check_cause(events: Sequence[Event], said: str) -> None:
    losses = [event for event in events if isinstance(event, Loss)]
    assert losses, "the ring did not fill: the test shows nothing"
    causes: Counter[str] = Counter()
    for event in losses:
        causes[event.cause] += event.count
    assert "ring_full" in causes
    assert f"ring_full {causes['ring_full']}" in said
    assert "lost: nothing" not in said


@pytest.fixture(scope="module")
def stalled(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """Calls of each kind, `ROUNDS` times, while the tracer stands still for the second of them."""
    folder = tmp_path_factory.mktemp("stalled")
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*PYTHON, "-c", CALLS, str(folder)], **options)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    arguments = ["-p", str(process.pid), "--ring-size", "64K", "--window", "0"]
    with recording(folder / "t.jsonl", *arguments, "--events", "file,net,dns,signal") as (tracer, found):
        for index, count in enumerate(ROUNDS):
            if index == 1:
                os.kill(tracer.pid, signal.SIGSTOP)
            process.stdin.write(f"{count}\n")
            process.stdin.flush()
            assert process.stdout.readline() == "done\n"
            if index == 1:
                time.sleep(1)
                os.kill(tracer.pid, signal.SIGCONT)
            time.sleep(0.5)
        process.communicate(timeout=30)
        tracer.wait(30)
    check_cause(found.events, found.said)
    return found


@pytest.mark.parametrize("kind", TYPES)
def test_seen_and_lost_is_what_happened(kind: str, stalled: Recording) -> None:
    seen, lost = seen_and_lost(stalled.events)
    assert seen[kind] >= ROUNDS[0] + ROUNDS[2]
    assert seen[kind] + lost[kind] == sum(ROUNDS), (seen, lost)


def test_in_sum_nothing_is_missing(stalled: Recording) -> None:
    """Also if it is only known that records of files, or of sockets, are missing."""
    seen, lost = seen_and_lost(stalled.events)
    assert total("file", seen) + total("file", lost) == FILE_CALLS * sum(ROUNDS)
    assert total("signal", seen) + total("signal", lost) == sum(ROUNDS)


def total(group: str, counts: Counter[str]) -> int:
    return sum(count for kind, count in counts.items() if kind.partition("_")[0] == group)


def test_processes(storm: Path, tmp_path: Path) -> None:
    count, parents = 1000, 2
    report = tmp_path / "truth.jsonl"
    script = f"read line; exec {storm} {parents} {count} --out {report}"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, text=True)
    assert process.stdin is not None
    arguments = ["-p", str(process.pid), "--ring-size", "64K", "--events", "fork,exec,exit"]
    with recording(tmp_path / "t.jsonl", *arguments) as (tracer, found):
        process.stdin.write("\n")
        process.stdin.flush()
        time.sleep(0.1)
        os.kill(tracer.pid, signal.SIGSTOP)
        time.sleep(1)
        os.kill(tracer.pid, signal.SIGCONT)
        process.communicate(timeout=60)
        tracer.wait(60)
    assert process.returncode == 0
    assert len([json.loads(line) for line in report.read_text().splitlines()]) == count
    seen, lost = seen_and_lost(found.events)
    happened = {
        "process_fork": count + parents,
        "process_exec": count + 1,
        "process_exit": count + parents + 1,
    }
    assert {kind: seen[kind] + lost[kind] for kind in happened} == happened, (seen, lost)
    assert lost["process_exec"]
    check_cause(found.events, found.said)
    for event in found.of(ProcessExec):  # complete, or marked
        if not event.args_truncated:
            assert event.args_bytes == sum(len(os.fsencode(argument)) + 1 for argument in event.args)


def test_lines_of_losses_come_back_from_the_recording(tmp_path: Path) -> None:
    """`count` equal opens while the tracer stands still: put together in the kernel or counted as lost."""
    code = (
        "import sys\nfor line in sys.stdin:\n"
        "  for i in range(int(line)): open(sys.argv[1]).close()\n  print('done', flush=True)"
    )
    target = tmp_path / "target"
    target.touch()
    options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([*PYTHON, "-c", code, str(target)], **options)
    assert process.stdin is not None
    assert process.stdout is not None
    time.sleep(0.3)
    arguments = ["-p", str(process.pid), "--ring-size", "64K", "--events", "file"]
    with recording(tmp_path / "t.jsonl", *arguments) as (tracer, found):
        os.kill(tracer.pid, signal.SIGSTOP)
        process.stdin.write("5000\n")
        process.stdin.flush()
        assert process.stdout.readline() == "done\n"
        os.kill(tracer.pid, signal.SIGCONT)
        process.communicate(timeout=30)
        tracer.wait(30)
    seen, lost = seen_and_lost(found.events)
    assert total("file", seen) + total("file", lost) == 5000
    assert seen["file_open"]
