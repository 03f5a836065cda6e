"""Which processes are traced, which are not, and what the command line refuses."""

from __future__ import annotations

import json
import signal
import subprocess
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from libagenttracer.events import Event, FileOpen, ProcessEvent, ProcessExec, ProcessExit, ProcessFork

from .process_tracing import compile_workload, named, record, recording
from .tracing import TRACER, read, run_tracer


@pytest.fixture(scope="module")
def family(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_workload("family", tmp_path_factory.mktemp("family"))


def pids_in(report: Path) -> set[int]:
    return {json.loads(line)["pid"] for line in report.read_text().splitlines()}


def test_by_name_all_descendants_and_nobody_else(family: Path, tmp_path: Path) -> None:
    ours, other = named(family, "lat-family", tmp_path), named(family, "lat-other", tmp_path)
    with recording(tmp_path / "t.jsonl", "-c", "lat-none,lat-family", "--events", "fork,exec,exit") as (
        _,
        found,
    ):
        runs = [
            subprocess.Popen([program, "tree", tmp_path / f"{program.name}.json"])
            for program in (other, ours)
        ]
        assert [run.wait(60) for run in runs] == [0, 0]
    truth = pids_in(tmp_path / "lat-family.json")
    assert not truth & pids_in(tmp_path / "lat-other.json")
    assert {event.pid for event in found.complete().of(ProcessEvent)} == truth
    assert Counter(event.pid for event in found.of(ProcessExit)) == Counter(truth)
    assert found.of(ProcessExec)[0].args[:2] == [str(ours), "tree"]
    assert len(found.of(ProcessFork)) == len(truth) - 1


def test_by_pid_ends_with_the_process(tmp_path: Path) -> None:
    """A child that was there before is seen too; and when the processes have ended, the tracer does."""
    script = "read line; /bin/true in-first; (/bin/true in-child; :); /bin/true last; :"
    inner = f"sh -c '{script}'; :"
    process = subprocess.Popen(["sh", "-c", inner], stdin=subprocess.PIPE, text=True)
    bystander = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE, text=True)
    time.sleep(0.3)
    output = tmp_path / "t.jsonl"
    with recording(output, "-p", str(process.pid), "--events", "fork,exec,exit") as (tracer, found):
        bystander.communicate("\n", timeout=30)
        process.communicate("\n", timeout=30)
        assert tracer.wait(20) == 0
    execs = found.complete().of(ProcessExec)
    assert [event.args for event in execs] == [
        ["/bin/true", name] for name in ("in-first", "in-child", "last")
    ]
    assert process.pid in {event.pid for event in found.of(ProcessExit)}


def test_several_pids(tmp_path: Path) -> None:
    runs = [
        subprocess.Popen(["sh", "-c", f"read x; /bin/true {name}; :"], stdin=subprocess.PIPE, text=True)
        for name in ("one", "two", "three")
    ]
    chosen = [option for run in runs[:2] for option in ("-p", str(run.pid))]
    with recording(tmp_path / "t.jsonl", *chosen, "--events", "exec") as (tracer, found):
        for run in runs:
            run.communicate("\n", timeout=30)
        assert tracer.wait(20) == 0
    assert sorted(event.args[1] for event in found.complete().of(ProcessExec)) == ["one", "two"]


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mounts = [line.split() for line in Path("/proc/self/mounts").read_text().splitlines()]
    root = next(Path(mount[1]) for mount in mounts if mount[2] == "cgroup2")
    made = root / f"lat-{uuid.uuid4().hex[:8]}"
    made.mkdir()
    yield made
    end_s = time.monotonic() + 5
    while time.monotonic() < end_s:
        try:
            made.rmdir()
            return
        except OSError:  # the last process is still leaving
            time.sleep(0.05)
    made.rmdir()


def test_by_cgroup(cgroup: Path, tmp_path: Path) -> None:
    below = cgroup / "below"
    below.mkdir()
    inside = f"echo $$ >{cgroup}/cgroup.procs; /bin/true inside; sh -c '/bin/true child; :'; :"
    deeper = f"echo $$ >{below}/cgroup.procs; /bin/true below; :"
    with recording(tmp_path / "t.jsonl", "--cgroup", str(cgroup), "--events", "exec") as (_, found):
        for script in ("/bin/true outside; :", inside, deeper):
            subprocess.run(["sh", "-c", script], check=True, timeout=30)
    below.rmdir()
    execs = [event for event in found.complete().of(ProcessExec) if event.args[0] == "/bin/true"]
    assert [event.args[1] for event in execs][:2] == ["inside", "child"]
    assert [event.args[1] for event in execs][2:] == ["below"]
    assert execs[0].cgroup_id == execs[1].cgroup_id != execs[2].cgroup_id


def test_cgroup_id_is_the_inode(cgroup: Path, tmp_path: Path) -> None:
    script = f"echo $$ >{cgroup}/cgroup.procs; exec /bin/true"
    found = record(["sh", "-c", script], tmp_path / "t.jsonl", "--events", "exec").complete()
    assert found.of(ProcessExec)[-1].cgroup_id == cgroup.stat().st_ino


def opens_of(last_argument: str, events: list[Event]) -> Counter[tuple[str, int]]:
    """What the program with this argument opened, how often."""
    (exec_id,) = [e.exec_id for e in events if isinstance(e, ProcessExec) and e.args[-1] == last_argument]
    opens: Counter[tuple[str, int]] = Counter()
    for event in events:
        if isinstance(event, FileOpen) and event.exec_id == exec_id:
            opens[event.path, event.result] += event.count
    return opens


def test_only_processes_that_lived_long(tmp_path: Path) -> None:
    script = "sleep 0.01; sleep 0.4; true; sleep 0.25; /bin/true short; :"
    events = ["--events", "fork,exec,exit,file"]
    whole = record(["sh", "-c", script], tmp_path / "all.jsonl", *events).complete()
    found = record(["sh", "-c", script], tmp_path / "t.jsonl", *events, "-d", "100").complete()
    execs = found.of(ProcessExec)
    assert [event.args[-1] for event in execs] == [script, "0.4", "0.25"]
    long_lived = {event.process_id for event in execs}
    assert {event.process_id for event in found.of(ProcessEvent)} == long_lived
    assert {event.process_id for event in found.of(ProcessExit)} == long_lived
    assert all(event.duration_ms >= 100 for event in found.of(ProcessExit))
    for name in ("0.4", "0.25"):  # everything that the process did is there, from its beginning
        opens = [opens_of(name, run.events) for run in (whole, found)]
        assert opens[0] == opens[1]
        assert opens[0]


@pytest.mark.parametrize(
    ("chosen", "types"),
    [
        ("fork", {"process_fork"}),
        ("exec", {"process_exec"}),
        ("exit,signal", {"process_exit", "signal_send"}),
        ("file", {"file_open", "file_delete"}),
        ("file,io", {"file_open", "file_close", "file_delete"}),
    ],
)
def test_only_the_chosen_events(chosen: str, types: set[str], tmp_path: Path) -> None:
    script = "echo x >file; /bin/rm file; kill -0 $$; :"
    found = record(["sh", "-c", script], tmp_path / "t.jsonl", "--events", chosen, cwd=tmp_path).complete()
    assert {event.event_type for event in found.events} == types


@pytest.mark.parametrize(
    "arguments",
    [
        ["-m", "3"],
        ["-m", "x"],
        ["--events", "fork,nothing"],
        ["-d", "-1"],
        ["--window", "-1"],
        ["--for", "0"],
        ["-p", "0"],
        ["--ring-size", "5 apples"],
        ["--format", "xml"],
        ["--no-such-option"],
    ],
    ids=" ".join,
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = run_tracer(["process", *arguments, "--", "true"])
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert "Usage:" in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("path", ["/no/such/cgroup", "/etc", "/etc/passwd"])
def test_what_is_no_cgroup(path: str) -> None:
    done = run_tracer(["process", "--cgroup", path, "--for", "1"])
    assert done.returncode in (1, 2)
    assert path in done.stderr
    assert "Traceback" not in done.stderr


def test_pid_that_is_not_there() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    done = run_tracer(["process", "-p", str(process.pid), "--for", "1"])
    assert done.returncode == 1
    assert str(process.pid) in done.stderr
    assert "Traceback" not in done.stderr


def test_no_match_yet(tmp_path: Path) -> None:
    """It says so and waits; what comes later is traced."""
    program = named("true", "lat-late", tmp_path)
    with recording(tmp_path / "t.jsonl", "-c", "lat-late", "--events", "exec") as (_, found):
        assert "nothing does yet" in found.said
        subprocess.run([program, "now"], check=True, timeout=30)
    assert [event.args for event in found.complete().of(ProcessExec)] == [[str(program), "now"]]


def test_time_limit_and_nothing_to_see(tmp_path: Path) -> None:
    output = tmp_path / "t.jsonl"
    began_s = time.monotonic()
    done = run_tracer(["process", "-c", "lat-not-there", "--for", "1", "-o", str(output)])
    assert 1 <= time.monotonic() - began_s < 8
    assert done.returncode == 0
    assert done.stderr.startswith("tracing")
    assert "lost: nothing" in done.stderr
    assert read(output) == []


def test_json_in_a_pipe_and_a_reader_that_goes() -> None:
    loop = "while :; do /bin/true; done"
    process = subprocess.Popen(
        [*TRACER, "process", "--events", "exec", "--", "sh", "-c", loop],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    first = json.loads(process.stdout.readline())
    assert (first["event_type"], first["data"]["args"]) == ("process_exec", ["sh", "-c", loop])
    process.stdout.close()
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)  # goes to the command, which ends by it
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) in (0, 128 + signal.SIGTERM)
    assert "Traceback" not in said


def test_text_and_tree(tmp_path: Path) -> None:
    command = ["sh", "-c", "/bin/true leaf; :"]
    text = run_tracer(["process", "--format", "text", "--", *command])
    assert text.returncode == 0
    assert "/bin/true leaf" in text.stdout
    with pytest.raises(ValueError, match=r"Extra data|Expecting value"):
        json.loads(text.stdout)
    tree = run_tracer(["process", "--tree", "--format", "text", "--", *command])
    assert tree.returncode == 0
    assert "leaf" in tree.stdout


def test_two_tracers_at_once_see_only_theirs(tmp_path: Path) -> None:
    lines = [
        [*TRACER, "process", "-o", str(tmp_path / name), "--events", "exec", "--", "sh", "-c", f"{work}; :"]
        for name, work in (("one", "sleep 1; /bin/true one"), ("two", "sleep 1; /bin/true two"))
    ]
    runs = [subprocess.Popen(line, stderr=subprocess.DEVNULL) for line in lines]
    assert [run.wait(60) for run in runs] == [0, 0]
    for name in ("one", "two"):
        execs = [event for event in read(tmp_path / name) if isinstance(event, ProcessExec)]
        assert [event.args[-1] for event in execs][1:] == ["1", name]
