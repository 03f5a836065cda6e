"""Signals that are sent, and lines that are typed."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import time
from pathlib import Path

import pytest

from libagenttracer.events import ProcessExec, ShellLine, SignalSend

from .process_tracing import PYTHON, Recording, record
from .tracing import TRACER, read

SENDER = """
import ctypes, json, os, signal, subprocess, sys, threading
libc = ctypes.CDLL(None, use_errno=True)
TKILL, TGKILL = {"x86_64": (200, 234), "aarch64": (130, 131)}[os.uname().machine]
truth = []

def sent(syscall, target, number, call):
    try:
        result = call()
        result = 0 if result is None else result
        result = -ctypes.get_errno() if result == -1 else result
    except OSError as error:
        result = -error.errno
    truth.append([syscall, target, int(number), result])

for number in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGRTMIN + 1):
    signal.signal(number, lambda *_: None)
child = os.fork()
if not child:
    os.setpgid(0, 0)
    while True:
        signal.pause()
os.setpgid(child, child)
me, tid = os.getpid(), threading.get_native_id()
sent("kill", child, 0, lambda: os.kill(child, 0))
sent("kill", child, signal.SIGUSR1, lambda: os.kill(child, signal.SIGUSR1))
sent("kill", -child, signal.SIGUSR2, lambda: os.killpg(child, signal.SIGUSR2))
sent("kill", me, signal.SIGUSR1, lambda: os.kill(me, signal.SIGUSR1))
sent("tkill", tid, signal.SIGUSR1, lambda: libc.syscall(TKILL, tid, int(signal.SIGUSR1)))
sent("tgkill", me, signal.SIGUSR2, lambda: libc.syscall(TGKILL, me, tid, int(signal.SIGUSR2)))
sent("tgkill", me, signal.SIGUSR1, lambda: signal.pthread_kill(threading.get_ident(), signal.SIGUSR1))
number = signal.SIGRTMIN + 1
sent("rt_sigqueueinfo", child, number, lambda: libc.sigqueue(child, int(number), None))
fd = os.pidfd_open(child)
sent("pidfd_send_signal", child, signal.SIGUSR1, lambda: signal.pidfd_send_signal(fd, signal.SIGUSR1))
sent("kill", child, 99, lambda: libc.kill(child, 99))
sent("kill", child, signal.SIGKILL, lambda: os.kill(child, signal.SIGKILL))
os.waitpid(child, 0)
sent("kill", child, signal.SIGTERM, lambda: os.kill(child, signal.SIGTERM))
sent("tgkill", child, signal.SIGTERM, lambda: libc.syscall(TGKILL, child, child, int(signal.SIGTERM)))
sent("tkill", child, signal.SIGTERM, lambda: libc.syscall(TKILL, child, int(signal.SIGTERM)))
print(json.dumps({"child": child, "me": me, "truth": truth}))
"""


def test_each_way_to_send(tmp_path: Path) -> None:
    found = record([*PYTHON, "-c", SENDER], tmp_path / "t.jsonl", "--events", "signal").complete()
    report = json.loads(found.stdout)
    truth = [tuple(item) for item in report["truth"]]
    assert [item[3] for item in truth] == [0] * 9 + [-22, 0, -3, -3, -3]
    events = found.of(SignalSend)
    assert [(event.syscall, event.target_pid, event.signal, event.result) for event in events] == truth
    assert {event.pid for event in events} == {report["me"]}


def test_kill_of_the_shell(tmp_path: Path) -> None:
    script = "sleep 60 & kill -HUP $!; wait; echo $!"
    command = ["bash", "-c", script]
    found = record(command, tmp_path / "t.jsonl", "--events", "signal,exec").complete()
    (event,) = found.of(SignalSend)
    assert (event.target_pid, event.signal, event.result) == (int(found.stdout.split()[-1]), 1, 0)
    assert event.pid == found.of(ProcessExec)[0].pid


def typed(lines: list[str], output: Path, *arguments: str, status: int = 0) -> Recording:
    """An interactive bash on a terminal, into which somebody types."""
    main, terminal = pty.openpty()
    command = [*TRACER, "process", "-o", str(output), *arguments, "--", "bash", "--norc", "--noprofile", "-i"]
    process = subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=subprocess.PIPE, start_new_session=True,
        env={**os.environ, "PS1": "ready> ", "TERM": "dumb", "HISTFILE": "/dev/null", "INPUTRC": "/dev/null"},
    )  # fmt: skip
    os.close(terminal)
    try:
        for line in lines:
            _wait_for_prompt(main, process)
            os.write(main, line.encode() + b"\n")
        said = process.communicate(timeout=60)[1].decode()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(main)
    assert process.returncode == status, said
    return Recording(read(output), said)


def _wait_for_prompt(main: int, process: subprocess.Popen[bytes]) -> None:
    """Gives it time: bash writes its prompt to stderr, which is not this terminal."""
    os.set_blocking(main, False)
    end_s = time.monotonic() + 0.7
    while time.monotonic() < end_s and process.poll() is None:
        with contextlib.suppress(BlockingIOError):
            os.read(main, 65536)
        time.sleep(0.05)


def test_typed_lines(tmp_path: Path) -> None:
    lines = ["echo one", 'echo "two  words"; true', "x=1 # ä€", ": " + "long " * 200, "exit 3"]
    found = typed(lines, tmp_path / "t.jsonl", "--events", "readline,exec", status=3)
    assert [event.line for event in found.of(ShellLine)] == lines
    assert not any(event.truncated for event in found.of(ShellLine))
    assert {event.comm for event in found.of(ShellLine)} == {"bash"}


@pytest.mark.parametrize("command", [["bash", "-c", "echo one; echo two"], ["sh", "-c", "echo one"]])
def test_a_script_types_nothing(command: list[str], tmp_path: Path) -> None:
    found = record(command, tmp_path / "t.jsonl", "--events", "readline,exec").complete()
    assert found.of(ShellLine) == []
    assert [event.args for event in found.of(ProcessExec)] == [command]
