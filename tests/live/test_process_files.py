"""File events against what strace says of the same work."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.events import FileClose, FileEvent, FileOpen

from ..workloads import job
from ..workloads.strace_truth import Names, by_strace, by_tracer, difference
from .process_tracing import PYTHON, WORKLOADS, record

GIT = """set -e
git init -q -b main repo; cd repo
git config user.email nobody@example.org; git config user.name Nobody; git config core.trustCtime false
old="touch -d @1600000000"  # git reads those again that are as young as its index: by chance
echo one >a; mkdir d; echo two >"d/b c"; $old a "d/b c"; git add .; git commit -q -m one
echo more >>a; $old a; git commit -q -a -m two; git mv a z; git commit -q -m three
cd ..; git clone -q -c core.trustCtime=false repo copy; cd copy; $old z "d/b c"
git status >/dev/null; git log >/dev/null; git checkout -q -b side; git repack -q -a -d
"""
EACH = ["--events", "file", "--window", "0"]  # so they come in their order
ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    **{"GIT_AUTHOR_DATE": "1700000000 +0000", "GIT_COMMITTER_DATE": "1700000000 +0000"},
    **{"GIT_CONFIG_NOSYSTEM": "1", "HOME": "/nonexistent"},
}


def files(folder: Path) -> list[str]:
    return [*PYTHON, str(WORKLOADS / "files.py"), str(folder)]


def git(folder: Path) -> list[str]:
    return ["sh", "-c", GIT]


def make(folder: Path) -> list[str]:
    job.generate(folder, 3)
    return job.COMMAND


def compare(work: Callable[[Path], list[str]], folder: Path, output: Path, *arguments: str) -> int:
    """Runs it twice; returns how many calls there were."""
    names = Names([(re.escape(str(folder)), "FOLDER")])
    folder.mkdir()
    truth = by_strace(work(folder), output.with_suffix(".strace"), names, cwd=folder, env=ENVIRONMENT)
    shutil.rmtree(folder)
    folder.mkdir()
    events = ["--events", "fork,exec,file"]
    found = record(work(folder), output, *events, *arguments, cwd=folder, env=ENVIRONMENT).complete()
    differences = difference(truth, by_tracer(found.events, names))
    assert differences == [], "\n".join([f"{len(differences)} differences", *differences[:40]])
    return truth.total()


@pytest.mark.parametrize("window", ["0", "5"])
@pytest.mark.parametrize(("work", "at_least"), [(files, 600), (git, 1500), (make, 800)])
def test_as_strace_sees_it(
    work: Callable[[Path], list[str]], at_least: int, window: str, tmp_path: Path
) -> None:
    assert compare(work, tmp_path / "folder", tmp_path / "t.jsonl", "--window", window) >= at_least


def opened(count: int, *paths: Path) -> list[str]:
    code = (
        "import sys\nfor i in range(int(sys.argv[1])):\n  for path in sys.argv[2:]:\n"
        "    try: open(path).close()\n    except OSError: pass"
    )
    return [*PYTHON, "-c", code, str(count), *map(str, paths)]


def test_equal_opens_are_put_together(tmp_path: Path) -> None:
    there, missing = tmp_path / "there", tmp_path / "missing"
    there.touch()
    found = record(opened(1000, there, missing), tmp_path / "t.jsonl", "--events", "file").complete()
    for path, result in ((there, 0), (missing, -2)):
        opens = [event for event in found.of(FileOpen) if event.path == str(path)]
        assert {event.result for event in opens} == {result}
        assert sum(event.count for event in opens) == 1000
        assert len(opens) < 50
        for event in opens:
            assert (event.until_ns is None) == (event.count == 1)
            assert event.until_ns is None or event.until_ns >= event.timestamp_ns


def test_without_a_window_each_is_an_event(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.touch()
    found = record(opened(1000, there), tmp_path / "t.jsonl", "--events", "file", "--window", "0").complete()
    opens = [event for event in found.of(FileOpen) if event.path == str(there)]
    assert [event.count for event in opens] == [1] * 1000
    times = [event.timestamp_ns for event in opens]
    assert times == sorted(times)


def test_what_an_open_says(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "print(fd := os.open('new', os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND, 0o640))\n"
        "print(os.open('new', os.O_WRONLY | os.O_TRUNC))\nprint(os.open('.', os.O_PATH))"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", *EACH, cwd=tmp_path).complete()
    fds = [int(line) for line in found.stdout.splitlines()]
    new, again, place = found.of(FileOpen)[-3:]
    assert [event.fd for event in (new, again, place)] == fds
    assert [event.access for event in (new, again, place)] == ["read_write", "write", "path"]
    assert [event.path for event in (new, again, place)] == [
        f"{tmp_path}/new",
        f"{tmp_path}/new",
        str(tmp_path),
    ]
    assert (new.mode, again.mode, place.mode) == (0o640, None, None)
    wanted = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_APPEND
    assert new.flags & wanted == wanted
    assert again.flags & (os.O_TRUNC | os.O_ACCMODE) == os.O_TRUNC | os.O_WRONLY


def test_what_went_through_a_descriptor(tmp_path: Path) -> None:
    """By each way to read and write; also when the process ends with it open, and through a copy."""
    (tmp_path / "in").write_bytes(b"r" * 5000)
    code = (
        "import os\n"
        "a = os.open('in', os.O_RDONLY); os.read(a, 100); os.pread(a, 23, 7)\n"
        "os.readv(a, [bytearray(10), bytearray(10), bytearray(10)])\n"
        "b = os.open('out', os.O_CREAT | os.O_RDWR); os.write(b, b'w' * 1000); os.pwrite(b, b'w' * 11, 9)\n"
        "os.writev(b, [b'w' * 100] * 2); os.sendfile(b, a, 0, 500)\n"
        "os.close(a)\nos.close(b)\n"
        "c = os.open('left', os.O_CREAT | os.O_WRONLY); os.write(c, b'w' * 321); os._exit(0)"
    )
    events = ["--events", "file,io"]
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", *events, cwd=tmp_path).complete()
    closes = {event.path: event for event in found.of(FileClose)}
    counts = {
        name: (closes[f"{tmp_path}/{name}"].bytes_read, closes[f"{tmp_path}/{name}"].bytes_written)
        for name in ("in", "out", "left")
    }
    assert counts["left"] == (0, 321)
    assert counts["out"][0] == 0
    assert counts["out"][1] in (1211, 1711)  # sendfile may count
    assert counts["in"][0] in (153, 653)
    assert counts["in"][1] == 0


def test_name_that_is_no_utf_8(tmp_path: Path) -> None:
    name = os.path.join(os.fsencode(tmp_path), b"\xff\xfe two\nlines \x80")
    code = "import os, sys; os.close(os.open(os.fsencode(sys.argv[1]), os.O_CREAT))"
    command = [*PYTHON, "-c", code, os.fsdecode(name)]
    found = record(command, tmp_path / "t.jsonl", *EACH).complete()
    assert [os.fsencode(event.path) for event in found.of(FileOpen)][-1] == name


def test_very_deep_path_says_that_it_is_cut(tmp_path: Path) -> None:
    code = (
        "import os\nfor i in range(150):\n  os.mkdir(f'd{i}' + 'x' * 60); os.chdir(f'd{i}' + 'x' * 60)\n"
        "os.close(os.open('bottom', os.O_CREAT))"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", *EACH, cwd=tmp_path).complete()
    event = found.of(FileOpen)[-1]
    assert event.truncated
    assert event.path.endswith("bottom")


def test_what_other_processes_do_is_not_seen(tmp_path: Path) -> None:
    found = record(["sh", "-c", "echo x >mine"], tmp_path / "t.jsonl", "--events", "file", cwd=tmp_path)
    assert len({event.process_id for event in found.complete().of(FileEvent)}) == 1
    assert str(tmp_path / "mine") in {event.path for event in found.of(FileOpen)}
