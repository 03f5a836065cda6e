"""The command line, as a user or a script runs it."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ..workloads.server import LocalServer
from .tracing import TRACER, pair, read, run_tracer


def ask(server: LocalServer, *more: str) -> list[str]:
    return ["curl", "-s", "--cacert", str(server.ca_path), f"{server.url}/bytes/20", "-o", "/dev/null", *more]


@pytest.mark.parametrize(("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -TERM $$", 128 + 15)])
def test_exit_status_is_the_commands(script: str, status: int) -> None:
    assert run_tracer(["ssl", "--", "sh", "-c", script]).returncode == status


def test_command_that_cannot_run() -> None:
    for command, status in (("/no/such/program", 127), ("/etc/passwd", 126)):
        done = run_tracer(["ssl", "--", command])
        assert done.returncode == status
        assert done.stderr.startswith(f"libagenttracer: cannot run {command}: ")
        assert done.stderr.count("\n") == 1


def test_output_of_the_command_is_its_own(server: LocalServer, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    done = run_tracer(["ssl", "-o", str(output), "--", "sh", "-c", "cat; echo err >&2"], input="in\n")
    assert done.stdout == "in\n"
    assert done.stderr.startswith("err\n0 events")


def test_json_in_a_pipe_text_on_a_terminal(server: LocalServer) -> None:
    done = run_tracer(["ssl", "--", *ask(server)])
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert {line["event_type"] for line in lines} == {"ssl_connection", "ssl_data", "ssl_close"}
    assert lines[0]["event_type"] == "ssl_connection"
    first = lines[1]
    assert set(first) == {"id", "timestamp", "timestamp_ns", "source", "event_type", "data"}
    assert first["data"]["comm"] == "curl"
    assert first["data"]["payload"].startswith("GET /bytes/20 HTTP/1.1\r\n")
    assert abs(first["timestamp"] / 1000 - time.time()) < 60

    main, terminal = pty.openpty()
    process = subprocess.Popen(
        [*TRACER, "ssl", "--", *ask(server)], stdout=terminal, stderr=subprocess.PIPE, text=True
    )
    process.communicate(timeout=30)
    os.close(terminal)
    text = os.read(main, 1 << 20).decode()
    os.close(main)
    assert "curl[" in text
    assert "GET /bytes/20 HTTP/1.1" in text
    assert "\x1b[36m" in text


def test_ctrl_c_prints_a_summary(tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with pair(tls_pair, "--count", "10") as running:
        process = subprocess.Popen(
            [*TRACER, "ssl", "-p", str(running.pid), "-o", str(output)], stderr=subprocess.PIPE, text=True
        )
        assert process.stderr is not None
        assert process.stderr.readline().startswith("tracing /")
        running.go()
        process.send_signal(signal.SIGINT)
        error = process.communicate(timeout=30)[1]
    assert process.returncode == 0
    assert error.startswith("20 events, ")
    assert "lost: nothing" in error
    hits = re.search(r"SSL_read (\d+), SSL_write (\d+)", error)  # of all processes that map the library
    assert hits
    assert min(map(int, hits.groups())) >= 10
    assert len(read(output)) == 20
    assert output.stat().st_mode & 0o777 == 0o600


def test_signals_reach_the_command() -> None:
    script = "trap 'echo got term; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [*TRACER, "ssl", "-o", "/dev/null", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=30)[0] == "got term\n"
    assert process.returncode == 3


def test_time_limit(tls_pair: Path) -> None:
    with pair(tls_pair, "--count", "1") as running:
        began_s = time.monotonic()
        done = run_tracer(["ssl", "-p", str(running.pid), "--for", "1"])
        assert 1 <= time.monotonic() - began_s < 6
        assert done.returncode == 0


def test_reader_that_goes_ends_it(tls_pair: Path) -> None:
    """`| head -1`: no error, no traceback, and the traced program is not harmed."""
    with pair(tls_pair, "--count", "3000", "--rate", "1000", "--text") as running:
        process = subprocess.Popen(
            [*TRACER, "ssl", "-p", str(running.pid)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        running.start()
        assert json.loads(process.stdout.readline())["event_type"] == "ssl_data"
        process.stdout.close()
        error = process.stderr.read()
        process.stderr.close()
        assert process.wait(30) == 0
        assert "Traceback" not in error
        assert running.report()["pairs"] == 3000


def test_full_disk_keeps_what_was_captured(tls_pair: Path, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", small], check=True)
    try:
        with pair(tls_pair, "--count", "2000", "--rate", "1000", "--text") as running:
            process = subprocess.Popen(
                [*TRACER, "ssl", "-p", str(running.pid), "-o", str(small / "t.jsonl")],
                stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            assert process.stderr is not None
            process.stderr.readline()
            running.go()
            error = process.communicate(timeout=30)[1]
        assert process.returncode == 1
        assert "No space left on device" in error
        assert "Traceback" not in error
        assert len(read(small / "t.jsonl")) > 50
    finally:
        subprocess.run(["umount", small], check=True)


def test_without_privileges_it_says_what_is_missing() -> None:
    code = (
        "import os, sys\n"
        "from libagenttracer.cli import main\n"
        "from libagenttracer.runners import ssl_source, tracking\n"
        "import elftools.elf.elffile, encodings.ascii\n"
        # nobody may be unable to read the package: so it is read before
        "specs = {name: tracking.open_object(name) for name in ('track', 'ssl')}\n"
        "tracking.open_object = ssl_source.open_object = specs.pop\n"
        "os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "sys.exit(main(['ssl', '--', 'true']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert done.stderr.startswith("libagenttracer: ")
    assert "needs CAP_BPF, CAP_PERFMON" in done.stderr
    assert done.stderr.count("\n") == 1


def test_as_another_user(server: LocalServer, tmp_path: Path) -> None:
    done = run_tracer(["ssl", "-o", "/dev/null", "--as", "nobody", "--", "id", "-un"], cwd="/")
    assert done.stdout == "nobody\n"


def test_idle_tracer_costs_nothing(tls_pair: Path, tmp_path: Path) -> None:
    """CPU time over some seconds without traffic, once it has settled."""
    with pair(tls_pair, "--count", "10") as running:
        process = subprocess.Popen(
            [*TRACER, "ssl", "-p", str(running.pid), "-o", str(tmp_path / "t")],
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stderr is not None
        process.stderr.readline()
        time.sleep(1)
        before, began_s = _cpu_s(process.pid), time.monotonic()
        time.sleep(8)
        share = (_cpu_s(process.pid) - before) / (time.monotonic() - began_s)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
    assert share <= 0.003


def _cpu_s(pid: int) -> float:
    # schedstat counts in nanoseconds; /proc/PID/stat only in hundredths of a second
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) / 1e9
