"""Rotation: whole lines in whole files, the right ones kept, nothing lost at an interruption."""

from __future__ import annotations

import gzip
import os
import signal
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import zstandard

from libagenttracer.errors import OutputError
from libagenttracer.events import SslData, from_json, to_json
from libagenttracer.outputs import RotatingJsonLines

from ..events.strategies import ssl_data
from ..support import ROOT

EVENTS = [ssl_data(id=f"event-{number}", payload=os.urandom(number)) for number in range(200)]
LINE = len(to_json(EVENTS[0]))


def opened(path: Path) -> bytes:
    """A file's content."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        return gzip.decompress(data)
    if path.suffix == ".zst":
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    return data


def everything(path: Path) -> list[Any]:
    """The events of all files of a row, the oldest first."""
    events: list[Any] = []
    for file in [*sorted(path.parent.glob(f"{path.name}.*")), path]:
        data = opened(file)
        assert data.endswith(b"\n") or (file == path and not data)
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        events += [from_json(line) for line in data.splitlines()]
    return events


@pytest.mark.parametrize(("compress", "suffix"), [(None, ""), ("gzip", ".gz"), ("zstd", ".zst")])
def test_full_files_get_a_number_and_nothing_is_lost(
    tmp_path: Path, compress: Literal["gzip", "zstd"] | None, suffix: str
) -> None:
    path = tmp_path / "trace.jsonl"
    output = RotatingJsonLines(path, max_bytes=10_000, max_files=None, compress=compress)
    for start in range(0, 200, 7):
        output.write(EVENTS[start : start + 7])
        time.sleep(0.002)  # so that the compressor keeps up
    output.close()
    output.close()  # does nothing
    files = sorted(os.listdir(tmp_path))
    assert files[:2] == ["trace.jsonl", f"trace.jsonl.000001{suffix}"]
    assert len(files) > 8
    assert everything(path) == EVENTS
    for name in files:
        assert len(opened(tmp_path / name)) <= 10_000


def test_one_big_batch_is_cut_between_lines(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    output = RotatingJsonLines(path, max_bytes=10_000, max_files=None, compress="gzip")
    output.write(EVENTS)
    output.close()
    assert everything(path) == EVENTS
    assert len(os.listdir(tmp_path)) > 8


@pytest.mark.parametrize(("less", "files"), [(0, 1), (1, 2)])
def test_a_file_may_be_just_as_long_as_allowed(tmp_path: Path, less: int, files: int) -> None:
    size = sum(len(to_json(event)) + 1 for event in EVENTS[:2])
    output = RotatingJsonLines(tmp_path / "trace.jsonl", max_bytes=size - less, compress=None)
    output.write(EVENTS[:2])
    output.close()
    assert len(os.listdir(tmp_path)) == files


def test_a_line_that_is_too_long_has_a_file_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    big = ssl_data(payload=b"x" * 5000)
    output = RotatingJsonLines(path, max_bytes=1000, max_files=None, compress=None)
    output.write([EVENTS[0], big, EVENTS[1]])
    output.close()
    counts = [len(opened(file).splitlines()) for file in sorted(tmp_path.iterdir())]
    assert counts == [1, 1, 1]
    assert everything(path) == [EVENTS[0], big, EVENTS[1]]


def test_only_the_newest_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    (tmp_path / "trace.jsonl.bak").write_text("somebody else's")
    output = RotatingJsonLines(path, max_bytes=10_000, max_files=3, compress="gzip")
    output.write(EVENTS)
    output.close()
    (tmp_path / "trace.jsonl.bak").unlink()
    assert len(os.listdir(tmp_path)) == 4
    kept = everything(path)
    assert kept == EVENTS[-len(kept) :]


def test_age(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    output = RotatingJsonLines(path, max_age_s=0.05, max_files=None, compress=None)
    output.write(EVENTS[:1])
    output.write(EVENTS[1:2])
    time.sleep(0.06)
    output.write(EVENTS[2:3])
    output.close()
    assert [len(opened(tmp_path / name).splitlines()) for name in sorted(os.listdir(tmp_path))] == [1, 2]
    assert everything(path) == EVENTS[:3]


def test_an_earlier_run_is_kept_and_its_numbers_go_on(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    for start in (0, 100):
        output = RotatingJsonLines(path, max_bytes=10_000, max_files=None)
        output.write(EVENTS[start : start + 100])
        output.close()
    assert everything(path) == EVENTS


def test_a_run_that_writes_nothing_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text("earlier\n")
    RotatingJsonLines(path).close()
    assert [file.read_text() for file in tmp_path.iterdir()] == ["earlier\n"]


def test_a_public_file_of_an_earlier_run_becomes_private(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(to_json(EVENTS[0]) + b"\n")
    path.chmod(0o644)
    output = RotatingJsonLines(path, compress=None)
    output.write(EVENTS[1:2])
    output.close()
    assert everything(path) == EVENTS[:2]


def test_a_file_that_was_compressed_already_does_not_come_twice(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    line = to_json(EVENTS[0]) + b"\n"
    (tmp_path / ".trace.jsonl.000001.pending").write_bytes(line)
    (tmp_path / "trace.jsonl.000001.gz").write_bytes(gzip.compress(line))
    RotatingJsonLines(path, compress=None).close()
    assert sorted(os.listdir(tmp_path)) == ["trace.jsonl", "trace.jsonl.000001.gz"]


@pytest.mark.parametrize("done", ["", ".gz"])
def test_what_an_interruption_left_is_finished(tmp_path: Path, done: str) -> None:
    """It may have come before the compressed file had its name, or before the other one was removed."""
    path = tmp_path / "trace.jsonl"
    line = to_json(EVENTS[0]) + b"\n"
    (tmp_path / ".trace.jsonl.000007.pending").write_bytes(line)
    (tmp_path / ".trace.jsonl.000007.gz.partial").write_bytes(b"half a fi")
    if done:
        (tmp_path / "trace.jsonl.000007.gz").write_bytes(gzip.compress(line))
        (tmp_path / "trace.jsonl.000007.gz").chmod(0o600)
    output = RotatingJsonLines(path, max_bytes=LINE + 50)
    output.write(EVENTS[1:3])
    output.close()
    assert everything(path) == EVENTS[:3]
    names = {file.name for file in tmp_path.iterdir() if "partial" not in file.name}
    assert names == {"trace.jsonl", "trace.jsonl.000007.gz", "trace.jsonl.000008.gz"}


def test_a_killed_run_leaves_whole_lines_and_the_next_one_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    program = textwrap.dedent("""
        import sys
        from libagenttracer.outputs import RotatingJsonLines
        from tests.events.strategies import ssl_data
        output = RotatingJsonLines(sys.argv[1], max_bytes=50_000, max_files=None)
        number = 0
        while True:
            output.write([ssl_data(id=str(number + more)) for more in range(10)])
            number += 10
            if number == 3000:
                print("ready", flush=True)
    """)
    arguments = [sys.executable, "-c", program, str(path)]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGKILL)
        process.wait()
    output = RotatingJsonLines(path, max_files=None)
    output.write(EVENTS[:1])
    output.close()
    events = everything(path)
    assert [event.id for event in events] == [*map(str, range(len(events) - 1)), "event-0"]
    assert len(events) >= 3000


@pytest.mark.parametrize(
    "options", [{"max_bytes": 0}, {"max_files": 0}, {"max_age_s": -1}, {"compress": "rar"}], ids=str
)
def test_options_that_make_no_sense(tmp_path: Path, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        RotatingJsonLines(tmp_path / "trace.jsonl", **options)
    assert os.listdir(tmp_path) == []


def test_files_that_cannot_be_rotated(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*missing/x: No such file"):
        RotatingJsonLines(tmp_path / "missing" / "x")
    with pytest.raises(OutputError, match="/dev/null: it is no regular file"):
        RotatingJsonLines("/dev/null")
    path = tmp_path / "trace.jsonl"
    path.write_text("recording\n")
    status = path.stat()
    with pytest.raises(OutputError, match="is the file that is being read"):
        RotatingJsonLines(path, unless=(status.st_dev, status.st_ino))


def test_what_goes_wrong_in_the_thread_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    output = RotatingJsonLines(folder / "trace.jsonl", max_bytes=LINE, max_files=1, compress=None)
    (folder / "trace.jsonl.000000").mkdir()  # the oldest one: it cannot be removed like a file
    (folder / "trace.jsonl.000000" / "x").touch()
    output.write(EVENTS[:3])
    with pytest.raises(OutputError, match=r"cannot rotate .*trace\.jsonl: Is a directory"):
        output.close()


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", folder], check=True)
    yield folder
    subprocess.run(["umount", folder], check=True)


def fill(output: RotatingJsonLines, events: list[SslData]) -> None:
    for start in range(0, len(events), 10):
        output.write(events[start : start + 10])


@pytest.mark.kernel  # mounting needs root as well
def test_a_full_disk_leaves_whole_lines(tiny_disk: Path) -> None:
    path = tiny_disk / "trace.jsonl"
    output = RotatingJsonLines(path, max_bytes=40_000, max_files=None, compress=None)
    with pytest.raises(OutputError, match="No space left on device"):
        fill(output, EVENTS * 20)
    output.close()
    events = everything(path)
    assert events == (EVENTS * 20)[: len(events)]
    assert len(events) > 100


@pytest.mark.kernel
def test_without_room_to_compress_files_stay_as_they_are(tiny_disk: Path) -> None:
    path = tiny_disk / "trace.jsonl"
    (tiny_disk / "filler").write_bytes(bytes(56 << 10))
    output = RotatingJsonLines(path, max_bytes=30_000, max_files=None, compress="gzip")
    fill(output, EVENTS[:60])
    output.close()
    (tiny_disk / "filler").unlink()
    assert everything(path) == EVENTS[:60]
