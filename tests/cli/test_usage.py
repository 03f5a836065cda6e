"""Help, wrong usage, and what cannot be done: one line on stderr, a status, no traceback."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import libagenttracer
from libagenttracer.runners.filters import Filter

from ..support import Target
from .run import drop_capabilities, one_line, run


@pytest.fixture
def own_pid() -> Iterator[str]:
    """A process of ours, for commands that should fail before they look at it."""
    with subprocess.Popen(["sleep", "60"]) as process:
        yield str(process.pid)
        process.kill()


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_lists_the_commands(option: str) -> None:
    done = run(option)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: libagenttracer ")
    for command in ("ssl", "process", "replay", "doctor", "schema"):
        assert re.search(rf"^  {command} +\S", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (
            "ssl",
            ["--pid", "--comm", "--uid", "--follow-forks", "--handshake", "--lib", "--extra", "--format",
             "--output", "--for", "--ring-size", "--as", "--verbose", "Examples:", "Exit status:",
             "not redacted", "--llm", "--http", "--raw", "--no-redact"],
        ),
        ("replay", ["FILE", "--format", "--output", "--strict", "--llm", "--har", "--filter", "Examples:"]),
        ("schema", ["JSON Schema"]),
    ],
)  # fmt: skip
def test_help_of_each_command(command: str, words: list[str]) -> None:
    done = run(command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert [word for word in words if word not in done.stdout] == []
    assert max(map(len, done.stdout.splitlines())) <= 100


def test_version() -> None:
    done = run("--version")
    assert done.stdout == f"libagenttracer, version {libagenttracer.__version__}\n"
    assert done.returncode == 0


def test_no_command_shows_the_help() -> None:
    done = run()
    assert done.returncode == 2
    assert "Usage: libagenttracer" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["--frobnicate"], "No such option"),
        (["ssl", "--frobnicate"], "No such option"),
        (["ssl", "-p", "abc"], "'abc' is not a valid"),
        (["ssl", "-p", "0"], "0 is not in the range"),
        (["ssl", "-p", "-5"], "-5 is not in the range"),
        (["ssl", "-p"], "requires an argument"),
        (["ssl", "-u", "no-such-user"], "there is no user 'no-such-user'"),
        (["ssl", "-u", "99999999999"], "a uid is a number from 0 to 4294967295"),
        (["ssl", "-c", ""], "an empty name can match no process"),
        (["ssl", "-c", "a,,b"], "an empty name"),
        (["ssl", "--host", ""], "an empty name can match no host"),
        (["ssl", "--port", "0"], "0 is not in the range"),
        (["ssl", "--for", "0"], "0"),
        (["ssl", "--for", "soon"], "'soon' is not a valid"),
        (["ssl", "--ring-size", "5X"], "'5X' is no size"),
        (["ssl", "--ring-size", "0"], "'0' is no size"),
        (["ssl", "--ring-size", ""], "'' is no size"),
        (["ssl", "--format", "xml"], "'xml' is not one of"),
        (["ssl", "--as", "nobody"], "--as goes with -- COMMAND"),
        (["replay"], "Missing argument 'FILE'"),
        (["replay", "/tmp"], "is a directory"),
        (["replay", "a", "b"], "unexpected extra argument"),
        (["schema", "extra"], "unexpected extra argument"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run(*arguments)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(("Usage: libagenttracer ", "Error: "))
    assert message in done.stderr.splitlines()[-1]


def test_a_ring_that_is_too_large(own_pid: str) -> None:
    done = run("ssl", "-p", own_pid, "--ring-size", "2G")
    assert done.returncode == 2
    assert "between 1 byte and 1 GiB" in done.stderr


def test_no_such_process() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    done = run("ssl", "-p", str(process.pid))
    assert done.returncode == 1
    assert one_line(done) == f"libagenttracer: no process with pid {process.pid}"


def test_a_thread_is_no_process() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        done = run("ssl", "-p", str(thread.native_id))
    finally:
        stop.set()
        thread.join()
    assert done.returncode == 1
    expected = f"{thread.native_id} is a thread of process {os.getpid()}: give the process's pid"
    assert one_line(done) == f"libagenttracer: {expected}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [("notes.txt", "not an ELF file"), ("missing.so", "no such file or directory"), (".", "is a directory"),
     ("empty.so", "not an ELF file")],
)  # fmt: skip
def test_a_library_that_is_none(tmp_path: Path, own_pid: str, path: str, reason: str) -> None:
    (tmp_path / "notes.txt").write_text("no library")
    (tmp_path / "empty.so").touch()
    done = run("ssl", "--lib", tmp_path / path, "-p", own_pid)
    assert done.returncode == 1
    assert one_line(done) == f"libagenttracer: {tmp_path / path}: {reason}"


def test_a_library_without_tls(target: Target, own_pid: str) -> None:
    done = run("ssl", "--lib", target.path, "-p", own_pid)
    assert done.returncode == 1
    assert one_line(done) == f"libagenttracer: {target.path}: no TLS functions were found in it"


@pytest.mark.parametrize("name", ["missing/out.jsonl", "."])
def test_an_output_file_that_cannot_be_written(tmp_path: Path, own_pid: str, name: str) -> None:
    done = run("ssl", "-p", own_pid, "-o", tmp_path / name)
    assert done.returncode == 1
    assert one_line(done).startswith(f"libagenttracer: cannot write {tmp_path / name}: ")


def test_an_unknown_user_for_the_command() -> None:
    done = run("ssl", "--as", "no-such-user", "--", "true")
    assert done.returncode not in (0, 2)
    assert "no-such-user" in one_line(done)


def test_without_capabilities_it_says_which_are_missing(own_pid: str) -> None:
    done = run("ssl", "-p", own_pid, before=drop_capabilities)
    assert done.returncode == 1
    line = one_line(done)
    assert line.startswith("libagenttracer: ")
    assert "CAP_BPF" in line
    assert "CAP_PERFMON" in line
    assert "sudo" in line


def test_a_name_that_is_no_utf8_is_a_name(system_libssl: Path) -> None:
    """It gets past the making of the filter: what stops it here are the capabilities."""
    name = os.fsdecode(b"caf\xe9")
    assert Filter.of(comm=name).comms == {name}
    done = run("ssl", "-c", name, "--lib", system_libssl, before=drop_capabilities)
    assert done.returncode == 1
    assert "CAP_BPF" in one_line(done)


def test_the_module_and_the_script_are_the_same() -> None:
    script = Path(sys.executable).with_name("libagenttracer")
    if not script.exists():
        pytest.skip("not installed: run from the source tree")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == run("--version").stdout
