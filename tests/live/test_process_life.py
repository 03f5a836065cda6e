"""Forks, execs and exits: each of them, once, with what it was."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from libagenttracer.events import ProcessEvent, ProcessExec, ProcessExit, ProcessFork

from .process_tracing import PYTHON, compile_workload, record

STORM = int(os.environ.get("STORM_COUNT", "2000"))  # the long form: 20000
PARENTS = 4
EXTRAS = ["", "two\nlines", os.fsdecode(b"\xff\xfe not utf-8 \x80"), 'tab\tand "quotes" and \\', "hä", ""]
NOBODY = 65534


@pytest.fixture(scope="module")
def storm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_workload("storm", tmp_path_factory.mktemp("storm"))


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_workload("family", tmp_path_factory.mktemp("family"))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def arguments_of(child: dict[str, Any], mixed: bool) -> list[str]:
    name, index = f"w{child['worker']}-{child['index']}", child["index"]
    if not mixed:
        return ["true", name, *EXTRAS[: index % 7]]
    mode = ["wait", "fault", "term", "abort"][index // 4 % 4] if index % 4 == 3 else "exit"
    return ["storm-child", name, mode, str(index % 256)]


@pytest.mark.parametrize("mixed", [False, True], ids=["true", "mixed"])
def test_every_child_of_a_storm(mixed: bool, storm: Path, tmp_path: Path) -> None:
    report = tmp_path / "truth.jsonl"
    count = STORM if not mixed else 1024
    command: list[str | Path] = [storm, str(PARENTS), str(count), "--out", report]
    command += ["--mixed"] if mixed else []
    found = record(command, tmp_path / "t.jsonl", "--events", "fork,exec,exit", timeout=600).complete()
    truth = lines(report)
    assert len(truth) == count

    execs, exits, forks = found.of(ProcessExec), found.of(ProcessExit), found.of(ProcessFork)
    assert (len(execs), len(exits), len(forks)) == (count + 1, count + PARENTS + 1, count + PARENTS)
    by_name = {event.args[1]: event for event in execs}
    ends = {event.process_id: event for event in exits}
    makers = {event.child_process_id: event for event in forks}
    assert (len(by_name), len(ends), len(makers)) == (count + 1, count + PARENTS + 1, count + PARENTS)
    for child in truth:
        event = by_name[f"w{child['worker']}-{child['index']}"]
        assert event.args == arguments_of(child, mixed)
        assert not event.args_truncated
        assert event.args_bytes == sum(len(os.fsencode(argument)) + 1 for argument in event.args)
        assert (event.pid, event.ppid) == (child["pid"], child["parent"])
        maker = makers[event.process_id]
        assert (maker.pid, maker.child_pid) == (child["parent"], child["pid"])
        assert event.parent_process_id == maker.process_id
        end, status = ends[event.process_id], child["status"]
        killed = os.WIFSIGNALED(status)
        assert end.exit_code == (None if killed else os.WEXITSTATUS(status))
        assert end.signal == (os.WTERMSIG(status) if killed else None)
        assert end.pid == child["pid"]
        assert maker.timestamp_ns < event.timestamp_ns < end.timestamp_ns
    if mixed:
        assert {end.signal for end in exits} == {None, 6, 9, 11, 15}
        assert len({end.exit_code for end in exits}) > 150


@pytest.mark.parametrize("shape", ["one", "many"])
def test_long_arguments_are_exact(shape: str, tmp_path: Path) -> None:
    many = [f"{index}-{'y' * (index % 90)}" for index in range(2000)]
    arguments = ["x" * 102_400] if shape == "one" else many
    assert sum(map(len, arguments)) > 90_000
    found = record(["/bin/true", *arguments], tmp_path / "t.jsonl", "--events", "exec").complete()
    (event,) = found.of(ProcessExec)
    assert event.args == ["/bin/true", *arguments]
    assert not event.args_truncated
    assert event.args_bytes == sum(len(argument) + 1 for argument in event.args)


def test_very_long_arguments_say_that_they_are_cut(tmp_path: Path) -> None:
    code = (
        "import os, resource; resource.setrlimit(resource.RLIMIT_STACK, (64 << 20, 64 << 20))\n"
        "os.execv('/bin/true', ['true', *[f'{i:06}' * 16000 for i in range(22)]])"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", "--events", "exec")
    event = found.of(ProcessExec)[-1]
    truth = ["true", *[f"{index:06}" * 16000 for index in range(22)]]
    assert event.args_truncated
    assert event.args_bytes == sum(len(argument) + 1 for argument in truth) > 2 << 20
    assert len(event.args) > 1
    assert event.args[:-1] == truth[: len(event.args) - 1]
    assert truth[len(event.args) - 1].startswith(event.args[-1])


def test_exec_of_a_memfd(family: Path, tmp_path: Path) -> None:
    found = record([family, "memfd"], tmp_path / "t.jsonl", "--events", "exec,exit").complete()
    first, second = found.of(ProcessExec)
    assert not first.exe_deleted
    assert first.exe == str(family)
    assert second.args == ["family", "leaf", "from-memfd"]
    assert second.exe_deleted
    assert "leaf" in second.exe
    assert second.filename.startswith("/dev/fd/")
    assert first.process_id == second.process_id
    assert first.exec_id != second.exec_id


@pytest.mark.parametrize("by", ["descriptor", "proc"])
def test_exec_of_a_deleted_file(by: str, family: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.write_bytes(family.read_bytes())
    copy.chmod(0o755)
    code = (
        "import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.unlink(sys.argv[1])\n"
        "target = fd if sys.argv[2] == 'descriptor' else f'/proc/self/fd/{fd}'\n"
        "os.set_inheritable(fd, True); os.execve(target, ['gone', 'leaf'], {})"
    )
    found = record([*PYTHON, "-c", code, copy, by], tmp_path / "t.jsonl", "--events", "exec").complete()
    event = found.of(ProcessExec)[-1]
    assert event.args == ["gone", "leaf"]
    assert event.exe_deleted
    assert event.exe == str(copy)
    assert event.filename.startswith("/dev/fd/" if by == "descriptor" else "/proc/self/fd/")


def test_script_and_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "a script"
    script.write_text("#!/bin/sh -e\ncd /; /bin/true 'a b'\n:\n")
    script.chmod(0o755)
    found = record(["./a script", "x"], tmp_path / "t.jsonl", "--events", "exec", cwd=tmp_path).complete()
    first, second = found.of(ProcessExec)
    assert first.args == ["/bin/sh", "-e", "./a script", "x"]
    assert first.exe == os.path.realpath("/bin/sh")
    assert (first.filename, first.cwd) == ("./a script", str(tmp_path))
    assert (second.args, second.cwd) == (["/bin/true", "a b"], "/")
    assert second.exe == os.path.realpath("/bin/true")


def test_failed_exec_is_none(tmp_path: Path) -> None:
    code = (
        "import os\nfor name in ('/no/such/program', '/etc/passwd'):\n"
        "  try: os.execv(name, ['x'])\n  except OSError: pass\n"
        "os.execv('/bin/true', ['true', 'at last'])"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", "--events", "exec").complete()
    assert [event.args for event in found.of(ProcessExec)][1:] == [["true", "at last"]]


def test_user_and_group(tmp_path: Path) -> None:
    command = ["setpriv", "--reuid", "65534", "--regid", "65533", "--clear-groups", "sh", "-c", "exec true"]
    found = record(command, tmp_path / "t.jsonl", "--events", "exec,exit").complete()
    users = [(event.args[0], event.uid, event.gid) for event in found.of(ProcessExec)]
    assert users == [("setpriv", 0, 0), ("sh", NOBODY, 65533), ("true", NOBODY, 65533)]
    (end,) = found.of(ProcessExit)
    assert end.uid == NOBODY


def test_exec_in_another_thread(family: Path, tmp_path: Path) -> None:
    """It takes the place of the first one, and the process is the same."""
    found = record([family, "thread_exec"], tmp_path / "t.jsonl", "--events", "fork,exec,exit").complete()
    first, second = found.of(ProcessExec)
    assert second.args == ["family", "leaf", "from-thread"]
    assert (second.pid, second.tid, second.process_id) == (first.pid, first.pid, first.process_id)
    (end,) = found.of(ProcessExit)
    assert (end.pid, end.exit_code, end.process_id) == (first.pid, 0, first.process_id)
    assert found.of(ProcessFork) == []  # a thread is no process


def test_first_thread_ends_first(family: Path, tmp_path: Path) -> None:
    found = record([family, "leader_first"], tmp_path / "t.jsonl", "--events", "exec,exit", status=7)
    (begin,), (end,) = found.complete().of(ProcessExec), found.of(ProcessExit)
    assert (end.exit_code, end.signal, end.process_id) == (7, None, begin.process_id)
    assert 200 <= end.duration_ms < 5000
    assert end.timestamp_ns - begin.timestamp_ns > 200_000_000


def test_use_of_cpu_and_memory(tmp_path: Path) -> None:
    code = (
        "import time\nblock = bytearray(b'x') * (100 << 20)\n"
        "while time.process_time() < 0.5: pass\ndel block\ntime.sleep(0.3)"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", "--events", "exit").complete()
    (end,) = found.of(ProcessExit)
    assert 450 < end.user_ms + end.system_ms < 3000
    assert end.duration_ms > end.user_ms + end.system_ms - 20
    assert end.duration_ms > 790
    assert 100 << 20 < end.max_rss_bytes < 160 << 20


def test_core_is_told(tmp_path: Path) -> None:
    """The kernel says whether it wrote one; the wait status knows it too."""
    code = (
        "import json, os, resource, sys\nfor limit in (0, -1):\n"
        "  pid = os.fork()\n"
        "  if not pid:\n"
        "    resource.setrlimit(resource.RLIMIT_CORE, (limit, resource.RLIM_INFINITY)); os.abort()\n"
        "  status = os.waitpid(pid, 0)[1]\n  print(json.dumps([pid, bool(os.WCOREDUMP(status))]))"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", "--events", "exit", cwd=tmp_path).complete()
    truth = dict(json.loads(line) for line in found.stdout.splitlines())
    seen = {event.pid: event.core_dumped for event in found.of(ProcessExit) if event.signal == 6}
    assert len(truth) == 2
    assert seen == truth


def test_tree_has_the_parents_at_the_time_of_the_fork(family: Path, tmp_path: Path) -> None:
    report = tmp_path / "truth.jsonl"
    found = record([family, "tree", report], tmp_path / "t.jsonl", "--events", "fork,exec,exit").complete()
    truth = lines(report)
    parents = {item["pid"]: item["parent"] for item in truth if item["role"] != "root"}
    assert len(parents) == 156
    forks = found.of(ProcessFork)
    assert {event.child_pid: event.pid for event in forks} == parents
    assert len(forks) == len(parents)

    ids = {event.child_pid: event.child_process_id for event in forks}
    for event in forks:
        if event.pid in ids:
            assert event.process_id == ids[event.pid]
    assert Counter(event.pid for event in found.of(ProcessExit)) == Counter(item["pid"] for item in truth)
    roles = {item["pid"]: item["role"] for item in truth}
    execs = found.of(ProcessExec)
    assert Counter(roles[event.pid] for event in execs) == {"root": 1, "exec_leaf": 27, "thread_exec": 27}
    assert all(event.ppid == parents[event.pid] for event in execs if roles[event.pid] != "root")
    assert {event.pid for event in found.of(ProcessEvent)} == set(roles)


def test_ids_in_another_pid_namespace(tmp_path: Path) -> None:
    command = ["unshare", "--pid", "--fork", "sh", "-c", "sh -c 'echo $$'; true"]
    found = record(command, tmp_path / "t.jsonl", "--events", "exec").complete()
    inner = [event for event in found.of(ProcessExec) if event.args == ["sh", "-c", "echo $$"]]
    assert [event.namespace_pid for event in inner] == [int(found.stdout)]
    assert inner[0].pid != inner[0].namespace_pid


def test_status_of_the_command(tmp_path: Path) -> None:
    record(["sh", "-c", "exit 9"], tmp_path / "t.jsonl", status=9)
    record(["sh", "-c", "kill -TERM $$"], tmp_path / "t.jsonl", status=128 + 15)
    done = subprocess.run(
        [sys.executable, "-m", "libagenttracer", "process", "--", "/no/such/program"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 127
    assert "Traceback" not in done.stderr
