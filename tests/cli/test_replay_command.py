"""`replay` and `schema`: what they print, and where printing ends early."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from libagenttracer.events import to_json

from ..events.strategies import ssl_data
from .run import COMMAND, one_line, run

EVENTS = [ssl_data(id=f"event-{number}", payload=b"payload %d" % number) for number in range(20)]
LINES = b"".join(to_json(event) + b"\n" for event in EVENTS)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(LINES)
    return path


@pytest.fixture
def long_recording(tmp_path: Path) -> Path:
    path = tmp_path / "long.jsonl"
    path.write_bytes(LINES * 1000)
    return path


def test_into_a_pipe_it_gives_the_same_lines(recording: Path) -> None:
    done = run("replay", recording)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == LINES


@pytest.mark.parametrize("arguments", [["-"], ["-", "-o", "-"]])
def test_standard_input_and_output(arguments: list[str]) -> None:
    done = run("replay", *arguments, stdin=LINES)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.encode() == LINES


def test_as_text(recording: Path) -> None:
    done = run("replay", recording, "--format", "text")
    assert done.returncode == 0
    assert done.stdout.count("python[1234] -> 5 bytes") == 20
    assert "payload 19\n" in done.stdout
    assert "\x1b" not in done.stdout, "colours are for terminals"
    assert "uid 1000" not in done.stdout
    assert "uid 1000" in run("replay", recording, "--format", "text", "--extra").stdout


def test_on_a_terminal_it_is_text_in_colours(recording: Path) -> None:
    master, slave = os.openpty()
    try:
        done = run("replay", recording, stdout=slave)
        os.close(slave)
        assert done.returncode == 0
        with os.fdopen(os.dup(master), "rb", buffering=0) as terminal:
            shown = terminal.read(200)
    finally:
        os.close(master)
    assert shown.startswith(b"\x1b[36m")
    assert b"python[1234] -> 5 bytes" in shown


def test_into_a_file(recording: Path, tmp_path: Path) -> None:
    output = tmp_path / "copy.jsonl"
    done = run("replay", recording, "-o", output)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert output.read_bytes() == LINES
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


@pytest.mark.parametrize("same", ["{}", "{}.link"])
def test_a_recording_is_not_written_over_itself(recording: Path, same: str) -> None:
    os.link(recording, f"{recording}.link")
    done = run("replay", recording, "-o", same.format(recording))
    assert recording.read_bytes() == LINES, "the recording has been destroyed"
    assert done.returncode != 0


def test_head_ends_it_cleanly(long_recording: Path) -> None:
    with (
        subprocess.Popen(
            [*COMMAND, "replay", long_recording], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as first,
        subprocess.Popen(["head", "-1"], stdin=first.stdout, stdout=subprocess.PIPE) as second,
    ):
        assert first.stdout is not None
        assert first.stderr is not None
        first.stdout.close()
        shown = second.communicate()[0]
        said = first.stderr.read()
        assert first.wait(30) == 0
    assert shown == LINES.split(b"\n", 1)[0] + b"\n"
    assert said == b""


def test_a_reader_that_takes_nothing_at_all(long_recording: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = run("replay", long_recording, stdout=write_end)
    os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("arguments", [["replay"], ["schema"], ["--help"]], ids=str)
def test_a_full_device_is_an_error_of_one_line(recording: Path, arguments: list[str]) -> None:
    if arguments == ["replay"]:
        arguments = ["replay", str(recording)]
    with open("/dev/full", "wb") as full:
        done = run(*arguments, stdout=full)
    assert done.returncode == 1
    assert "No space left on device" in one_line(done)


def test_a_full_output_file_is_an_error_of_one_line(recording: Path) -> None:
    done = run("replay", recording, "-o", "/dev/full")
    assert done.returncode == 1
    assert one_line(done).startswith("libagenttracer: cannot write /dev/full: No space left on device")


def test_without_standard_output(recording: Path) -> None:
    done = run("replay", recording, before=lambda: os.close(1), stdout=None)
    assert done.returncode == 1
    assert one_line(done).startswith("libagenttracer: ")


def test_without_standard_error_nothing_gets_into_the_output(tmp_path: Path) -> None:
    done = run("replay", tmp_path / "missing", before=lambda: os.close(2), stderr=None)
    assert (done.returncode, done.stdout) == (1, "")


def test_a_recording_that_is_not_there(tmp_path: Path) -> None:
    done = run("replay", tmp_path / "missing.jsonl")
    assert done.returncode == 1
    path = tmp_path / "missing.jsonl"
    assert one_line(done) == f"libagenttracer: cannot read {path}: No such file or directory"


def test_lines_that_are_no_events_are_skipped_and_told(recording: Path) -> None:
    recording.write_bytes(b"garbage\n" + LINES + LINES[:50])
    done = run("replay", recording)
    assert done.returncode == 1
    assert done.stdout.encode() == LINES
    first, second, last = done.stderr.splitlines()
    assert "line 1: not an event" in first
    assert "line 22: not an event" in second
    assert "cut off here" in second
    assert last == "libagenttracer: 2 lines were no events"


def test_strict_ends_at_the_first_of_them(recording: Path) -> None:
    recording.write_bytes(LINES + b"garbage\n" + LINES)
    done = run("replay", recording, "--strict")
    assert done.returncode == 1
    assert "line 21: not an event" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert LINES.startswith(done.stdout.encode()), "what was read before may be shown"


def test_what_was_read_before_a_bad_line_is_shown(recording: Path) -> None:
    recording.write_bytes(LINES + b"garbage\n")
    assert run("replay", recording, "--strict").stdout.encode() == LINES


def test_hostile_lines_end_as_errors_of_one_line(recording: Path) -> None:
    """Numbers that fit nowhere, nesting without end: no traceback, whatever is in the file."""
    line = to_json(EVENTS[0])
    ns = str(EVENTS[0].timestamp_ns).encode()
    recording.write_bytes(
        line.replace(ns, b"9" * 40)
        + b"\n"
        + line.replace(b'"data":', b'"data":' + b"[" * 100_000)
        + b"\n"
        + LINES
    )
    done = run("replay", recording, "--format", "text")
    assert "Traceback" not in done.stderr
    assert done.stdout.count("payload 19\n") == 1, "the lines behind them are shown"


def test_schema_prints_the_schema() -> None:
    done = run("schema")
    assert (done.returncode, done.stderr) == (0, "")
    schema = json.loads(done.stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert done.stdout.endswith("}\n")


def test_jq_reads_it(recording: Path) -> None:
    """As the help says; any JSON tool will do."""
    program = "import json, sys; print(sum(json.loads(line)['data']['data_len'] for line in sys.stdin))"
    reader = [shutil.which("python3") or "python3", "-c", program]
    done = run("replay", recording)
    summed = subprocess.run(reader, input=done.stdout, capture_output=True, text=True, check=True)
    assert summed.stdout == "100\n"
