"""JSON Lines: whole lines, private files, clean ends."""

from __future__ import annotations

import gc
import os
import stat
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from libagenttracer.errors import OutputClosed, OutputError
from libagenttracer.events import SslData, from_json, to_json
from libagenttracer.outputs import JsonLines
from libagenttracer.runners.replay import replay

from ..events.strategies import ssl_data

EVENTS = [ssl_data(id=f"event-{number}", payload=os.urandom(number * 7)) for number in range(50)]


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with room for 64 KiB."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    output = JsonLines(path)
    output.write(EVENTS[:20])
    assert path.read_bytes().count(b"\n") == 20, "when write() returns, the system has it"
    output.write(EVENTS[20:])
    output.close()
    output.close()  # does nothing
    assert path.read_bytes() == b"".join(to_json(event) + b"\n" for event in EVENTS)
    assert list(replay(path)) == EVENTS


def test_an_empty_batch_writes_nothing(tmp_path: Path) -> None:
    output = JsonLines(tmp_path / "trace.jsonl")
    output.write([])
    output.close()
    assert (tmp_path / "trace.jsonl").read_bytes() == b""


def test_a_file_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    before = os.umask(0)
    try:
        JsonLines(path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("events", [EVENTS[:1], []], ids=["one event", "none"])
def test_a_file_that_exists_is_emptied_and_made_private(tmp_path: Path, events: list[SslData]) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("old and public\n" * 100)
    path.chmod(0o666)
    output = JsonLines(str(path))
    assert path.stat().st_size == 1500, "a run that fails to start destroys nothing"
    if events:
        output.write(events)
    output.close()
    assert path.read_bytes() == b"".join(to_json(event) + b"\n" for event in events)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_file_that_is_being_read_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("the recording\n")
    status = path.stat()
    with pytest.raises(OutputError, match="is the file that is being read"):
        JsonLines(path, unless=(status.st_dev, status.st_ino))
    assert path.read_text() == "the recording\n"


def test_without_standard_output() -> None:
    with pytest.raises(OutputError, match="standard output is closed"):
        JsonLines(None)


def test_a_file_of_somebody_else_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    with path.open("w") as file:
        file.write("what was written before\n")
        output = JsonLines(file)
        output.write(EVENTS[:1])
        output.close()
        assert not file.closed
        file.write("and behind\n")
    assert path.read_bytes() == b"what was written before\n" + to_json(EVENTS[0]) + b"\nand behind\n"


def test_a_file_that_nobody_else_holds_stays_open(tmp_path: Path) -> None:
    """Closed by the garbage collector, its number would soon be another file's, and that would be written."""
    path = tmp_path / "trace.jsonl"
    output = JsonLines(path.open("wb"))
    gc.collect()
    with (tmp_path / "other").open("wb"):
        output.write(EVENTS[:1])
    assert path.read_bytes() == to_json(EVENTS[0]) + b"\n"
    assert (tmp_path / "other").read_bytes() == b""


@pytest.mark.parametrize("name", ["missing/trace.jsonl", ".", "a\0b"])
def test_a_file_that_cannot_be_made(tmp_path: Path, name: str) -> None:
    with pytest.raises((OutputError, ValueError)) as raised:
        JsonLines(f"{tmp_path}/{name}")
    if "\0" not in name:
        assert isinstance(raised.value, OutputError)
        assert str(raised.value).startswith(f"cannot write {tmp_path}/{name}: ")


def test_a_full_device(tmp_path: Path) -> None:
    output = JsonLines("/dev/full")
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left on device") as raised:
        output.write(EVENTS[:1])
    assert not isinstance(raised.value, OutputClosed)
    output.close()
    assert stat.S_IMODE(os.stat("/dev/full").st_mode) == 0o666, "a device's mode is not changed"


def fill(output: JsonLines) -> None:
    for _ in range(1000):
        output.write(EVENTS)


@pytest.mark.kernel  # mounting needs root as well
def test_a_full_disk_leaves_whole_lines(tiny_disk: Path) -> None:
    path = tiny_disk / "trace.jsonl"
    output = JsonLines(path)
    with pytest.raises(OutputError, match="No space left on device; what was written before is whole"):
        fill(output)
    output.close()
    data = path.read_bytes()
    assert len(data) > 40_000
    assert data.endswith(b"\n")
    lines = data.splitlines()
    assert [from_json(line) for line in lines] == [EVENTS[at % 50] for at in range(len(lines))]


@pytest.mark.kernel
def test_a_disk_that_is_full_from_the_start(tiny_disk: Path) -> None:
    with pytest.raises(OSError, match="No space"):
        (tiny_disk / "filler").write_bytes(bytes(1 << 20))
    output = JsonLines(tiny_disk / "trace.jsonl")
    with pytest.raises(OutputError, match="No space"):
        output.write(EVENTS)
    output.close()
    assert (tiny_disk / "trace.jsonl").read_bytes() == b""


@pytest.mark.kernel
def test_after_a_full_disk_writing_goes_on_behind_the_last_whole_line(tiny_disk: Path) -> None:
    (tiny_disk / "filler").write_bytes(bytes(32768))
    path = tiny_disk / "trace.jsonl"
    output = JsonLines(path)
    with pytest.raises(OutputError):
        fill(output)
    kept = path.read_bytes()
    (tiny_disk / "filler").unlink()
    output.write(EVENTS[:1])
    output.close()
    assert path.read_bytes() == kept + to_json(EVENTS[0]) + b"\n"


def test_a_reader_that_has_gone() -> None:
    read_end, write_end = os.pipe()
    with os.fdopen(write_end, "wb") as pipe:
        output = JsonLines(pipe)
        output.write(EVENTS[:1])
        os.close(read_end)
        with pytest.raises(OutputClosed):
            output.write(EVENTS[:1])
        output.close()


def test_a_slow_reader_of_a_pipe_that_does_not_block_gets_everything() -> None:
    """Other programs that share a terminal or pipe may have made it so."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    got = []

    def read_slowly() -> None:
        while part := os.read(read_end, 4096):
            got.append(part)
            time.sleep(0.001)

    reader = threading.Thread(target=read_slowly)
    reader.start()
    try:
        with os.fdopen(write_end, "wb") as pipe:
            JsonLines(pipe).write(EVENTS * 10)
    finally:
        reader.join()
        os.close(read_end)
    assert b"".join(got) == b"".join(to_json(event) + b"\n" for event in EVENTS * 10)


def test_a_slow_reader_gets_everything() -> None:
    """More than a pipe holds: write() goes on where it was interrupted."""
    script = "import sys, time; time.sleep(0.2); sys.stdout.buffer.write(sys.stdin.buffer.read())"
    with subprocess.Popen(["python3", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as reader:
        assert reader.stdin is not None
        output = JsonLines(reader.stdin)
        output.write(EVENTS * 100)
        output.close()
        got = reader.communicate()[0]
    assert got == b"".join(to_json(event) + b"\n" for event in EVENTS * 100)
