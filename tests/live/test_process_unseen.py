"""What cannot be seen is said: calls through io_uring, and those of 32-bit programs."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from libagenttracer import Event, Loss, ProcessRunner
from libagenttracer.events import FileEvent, FileOpen, ProcessExec, ProcessExit
from libagenttracer.runners import process_source

from .process_tracing import WORKLOADS, compile_workload, record

ROUNDS = 50
COUNTED = 3 * ROUNDS + 1  # of each round, the close is none that is counted; one more fails
STATUS = 7
TARGET = "/etc/passwd"
on_x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the program is in 32-bit x86")


@pytest.fixture(scope="module")
def uring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_workload("uring", tmp_path_factory.mktemp("uring"))


@pytest.fixture(scope="module")
def compat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("compat") / "compat"
    command = ["gcc", "-m32", "-nostdlib", "-static", "-fno-pie", "-no-pie", "-fno-stack-protector", "-O1"]
    command += ["-Wall", "-Wextra", "-Werror", "-o", str(program), str(WORKLOADS / "compat.c")]
    subprocess.run(command, check=True, timeout=60)
    return program


def lost(events: Sequence[Event]) -> dict[str, int]:
    """How much was lost by cause; nothing of it has a kind."""
    found: dict[str, int] = {}
    for event in events:
        if isinstance(event, Loss):
            assert event.kind is None
            found[event.cause] = found.get(event.cause, 0) + event.count
    return found


@pytest.mark.parametrize("how", ["", "async", "sqpoll"])
def test_calls_by_io_uring_are_counted(how: str, uring: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    command = [str(uring), str(folder), str(ROUNDS), *filter(None, [how])]
    found = record(command, tmp_path / "t.jsonl", "--events", "file,exit", "--window", "0")
    assert lost(found.events) == {"io_uring": COUNTED}
    assert f"lost: io_uring {COUNTED}\n" in found.said
    assert "calls that were made through io_uring cannot be seen, only counted" in found.said
    opened = found.of(FileOpen)  # by the dynamic linker: so calls were seen
    assert opened
    assert not [event for event in found.of(FileEvent) if event.path.startswith(str(folder))]
    (ended,) = found.of(ProcessExit)
    assert (ended.exit_code, ended.signal) == (0, None)


def test_io_uring_is_not_counted_if_files_are_not_wanted(uring: Path, tmp_path: Path) -> None:
    command = [str(uring), str(tmp_path), "3"]
    found = record(command, tmp_path / "t.jsonl", "--events", "exec,exit,net").complete()
    assert len(found.of(ProcessExec)) == 1


def test_io_uring_of_others_is_not_counted(uring: Path, tmp_path: Path) -> None:
    """While the traced process waits at a pipe, another one does the calls."""
    fifo, done = tmp_path / "fifo", tmp_path / "seen"
    subprocess.run(["mkfifo", fifo], check=True)
    script = f"cd {tmp_path} && read line <fifo; : >seen"
    runner = ProcessRunner(command=["sh", "-c", script], events=["file", "exit"])
    with runner:
        subprocess.run([uring, str(tmp_path), str(ROUNDS)], check=True, timeout=60)
        fifo.write_text("go\n")
        events = list(runner)
    assert lost(events) == {}
    assert str(done) in [event.path for event in events if isinstance(event, FileOpen)]


@on_x86
def test_a_32_bit_program_is_told(compat: Path, tmp_path: Path) -> None:
    """Its exec and its end are seen, and that nothing else of it is; those around it are seen fully."""
    script = f"cat {TARGET} >/dev/null; {compat} {TARGET} link; exit $?"
    command = ["sh", "-c", f"cd {tmp_path} && {script}"]
    found = record(command, tmp_path / "t.jsonl", "--window", "0", status=STATUS)
    check_compat(found.events, compat)
    assert "lost: compat 1\n" in found.said
    assert "calls of 32-bit programs cannot be seen" in found.said


@on_x86
def test_a_32_bit_program_without_tracefs(
    compat: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There every call passes the programs, and its numbers must not be taken for 64-bit ones."""
    monkeypatch.setattr(process_source, "has_tracefs", lambda: False)
    script = f"cat {TARGET} >/dev/null; {compat} {TARGET} link; exit $?"
    with ProcessRunner(command=["sh", "-c", f"cd {tmp_path} && {script}"], window_s=0) as runner:
        events = list(runner)
        assert runner.exit_status == STATUS
    check_compat(events, compat)


@on_x86
@pytest.mark.parametrize(("events", "each"), [("file,signal,exit", 4), ("signal", 1), ("net", 0)])
def test_32_bit_calls_of_a_64_bit_program_are_counted(
    events: str, each: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by the programs that every call passes; tests/kernels has the other way."""
    monkeypatch.setattr(process_source, "has_tracefs", lambda: False)
    program = compile_workload("int80", tmp_path)
    command = [str(program), TARGET, str(tmp_path / "folder"), str(ROUNDS)]
    with ProcessRunner(command=command, events=events.split(","), window_s=0) as runner:
        found = list(runner)
        assert runner.exit_status == 0
    assert lost(found) == ({"compat_call": each * ROUNDS} if each else {})
    assert not [e for e in found if isinstance(e, FileEvent) and e.path == str(tmp_path / "folder")]


@on_x86
def test_that_32_bit_calls_are_not_counted_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is tracefs and the kernel has no kprobe.multi."""
    program = compile_workload("int80", tmp_path)
    command = [str(program), TARGET, str(tmp_path / "folder"), str(ROUNDS)]
    found = record(command, tmp_path / "t.jsonl")
    counted = lost(found.events) == {"compat_call": 4 * ROUNDS}
    assert counted != ("(int 0x80) are neither seen nor counted: no kprobe.multi" in found.said)


def check_compat(events: Sequence[Event], compat: Path) -> None:
    assert lost(events) == {"compat": 1}
    execs = {event.exe: event for event in events if isinstance(event, ProcessExec)}
    told = execs[str(compat)]
    assert told.compat
    assert [event.exe for event in execs.values() if event.compat] == [str(compat)]
    assert told.args == [str(compat), TARGET, "link"]
    (ended,) = [e for e in events if isinstance(e, ProcessExit) and e.process_id == told.process_id]
    assert ended.exit_code == STATUS
    files = [event for event in events if isinstance(event, FileEvent)]
    assert not [event for event in files if event.exec_id == told.exec_id]
    seen = [event.pid for event in files if event.path == TARGET]
    assert len(seen) == 1  # by cat
    assert seen != [told.pid]
