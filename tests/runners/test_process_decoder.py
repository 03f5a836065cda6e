"""From records of processes to events, without a kernel."""

from __future__ import annotations

import errno
import itertools
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer import to_json
from libagenttracer.errors import LayoutError
from libagenttracer.events import (
    Event,
    FileClose,
    Loss,
    ProcessExec,
    ProcessExit,
    ProcessFork,
    ShellLine,
    SignalSend,
)
from libagenttracer.runners import process_decoder
from libagenttracer.runners.interface import LossCount
from libagenttracer.runners.process_decoder import CATEGORIES, DEFAULT_CATEGORIES
from libagenttracer.runners.record_kinds import LOST_CALLS, Call, LossCause, ProcessFlag, RecordKind
from libagenttracer.runners.records import LAYOUTS

from . import records
from .process_bench import INET, INET6, UNIX, Bench
from .records import START_NS, TGID, become, exec_args, file, fork, net, process

# --- who ------------------------------------------------------------------------------------------


def test_every_field_of_an_exec(bench: Bench) -> None:
    first = exec_args(b"true\0--now\0\0")
    assert bench.feed(first) == []
    event = bench.one(become(b"bin/../true", args_bytes=12, time_ns=2_000_000))
    assert event == ProcessExec(
        id=bench.identity.record_id((len(first) + 15) // 8 * 8),
        timestamp_ns=2_000_000 + bench.identity.epoch_offset_ns,
        source="process",
        pid=TGID,
        tid=TGID + 1,
        ppid=42,
        uid=1000,
        comm="true",
        process_id=bench.name(TGID, START_NS),
        exec_id=bench.name(TGID, START_NS, 4),
        parent_process_id=bench.name(42, 1),
        filename="bin/../true",
        args=["true", "--now", ""],
        cwd="/home/user",
        exe="/usr/bin/true",
        args_bytes=12,
        gid=1001,
        cgroup_id=9,
        namespace_pid=1,
    )
    assert bench.decoder.records == 2


def test_events_own_their_bytes(bench: Bench) -> None:
    events = bench.feed(exec_args(b"mine\0"), become(args_bytes=5), records.shell_line(b"ls"))
    lines = [to_json(event) for event in events]
    bench.memory[:] = b"\xee" * len(bench.memory)
    assert [to_json(event) for event in events] == lines
    assert len(lines) == 2


def test_events_of_a_process_that_was_told_of(bench: Bench) -> None:
    event = bench.feed(process(), records.shell_line(b"ls -l"))[0]
    assert isinstance(event, ShellLine)
    assert (event.line, event.truncated) == ("ls -l", False)
    assert (event.pid, event.tid, event.ppid, event.uid, event.comm) == (100, 101, 42, 1000, "python")
    assert event.exec_id == bench.name(TGID, START_NS, 3)
    assert event.parent_process_id == bench.name(42, 1)


def test_events_of_a_process_whose_record_was_lost(bench: Bench) -> None:
    event = bench.one(records.shell_line(b"l" * 4095, flags=1))
    assert (event.pid, event.tid, event.uid, event.comm, event.ppid) == (100, 101, 1000, "", 0)
    assert event.process_id == event.exec_id == bench.name(TGID, START_NS)
    assert event.parent_process_id == ""
    assert event.truncated


def test_a_fork_and_what_the_child_does(bench: Bench) -> None:
    said, line = bench.feed(
        process(), fork(200, 0x99), records.shell_line(b"x", tgid=200, start_ns=0x99, tid=200)
    )
    assert isinstance(said, ProcessFork)
    assert (said.pid, said.child_pid, said.child_process_id) == (100, 200, bench.name(200, 0x99))
    assert isinstance(line, ShellLine)
    assert (line.pid, line.ppid, line.comm) == (200, 100, "python")
    assert line.exec_id == bench.name(200, 0x99, 3)
    assert line.parent_process_id == said.process_id


def test_a_child_that_is_given_to_another_parent(bench: Bench) -> None:
    """CLONE_PARENT."""
    said, line = bench.feed(
        process(),
        fork(200, 0x99, ppid=42, parent_start_ns=1),
        records.shell_line(b"x", tgid=200, start_ns=0x99),
    )
    assert isinstance(said, ProcessFork)
    assert isinstance(line, ShellLine)
    assert said.pid == 100
    assert (line.ppid, line.parent_process_id) == (42, bench.name(42, 1))


def test_a_pid_that_is_used_again(bench: Bench) -> None:
    before, ended, after = bench.feed(
        process(start_ns=1),
        records.signal(1, 15, start_ns=1),
        records.end(start_ns=1),
        process(b"other", start_ns=2, exec_count=9),
        records.signal(1, 15, start_ns=2),
    )
    assert isinstance(before, SignalSend)
    assert isinstance(ended, ProcessExit)
    assert isinstance(after, SignalSend)
    assert (before.comm, ended.comm, after.comm) == ("python", "python", "other")
    assert before.process_id == ended.process_id == bench.name(TGID, 1)
    assert after.exec_id == bench.name(TGID, 2, 9)


def test_a_record_that_comes_after_the_end_has_its_names(bench: Bench) -> None:
    late = bench.feed(process(), records.end(), records.close_file("/tmp/x"))[1]
    assert isinstance(late, FileClose)
    assert late.comm == "python"
    assert len(bench.decoder.table) == 0


def test_ids_of_events_are_their_places_in_the_ring(bench: Bench) -> None:
    some = [records.signal(1, 0) for _ in range(5)]
    events = [*bench.feed(*some[:2]), *bench.feed(*some[2:])]
    step = (len(some[0]) + 8 + 7) // 8 * 8
    assert [event.id for event in events] == [bench.identity.record_id(step * at) for at in range(5)]


def test_categories_that_are_not_wanted_keep_the_table() -> None:
    bench = Bench(["signal"])
    found = bench.feed(
        process(),
        fork(200, 9),
        exec_args(b"true\0", tgid=200, start_ns=9),
        become(tgid=200, start_ns=9, args_bytes=5),
        records.signal(1, 2, tgid=200, start_ns=9),
        records.end(tgid=200, start_ns=9),
    )
    assert [event.event_type for event in found] == ["signal_send"]
    assert isinstance(found[0], SignalSend)
    assert (found[0].comm, found[0].exec_id) == ("true", bench.name(200, 9, 4))
    assert {item.pid for item in bench.decoder.table} == {100}


# --- exec -----------------------------------------------------------------------------------------


def test_arguments_in_parts_with_those_of_others_in_between(bench: Bench) -> None:
    other: dict[str, Any] = {"tgid": 200, "start_ns": 9}
    events = bench.feed(
        exec_args(b"one\0tw"),
        exec_args(b"other\0", **other),
        exec_args(b"o\0thr", 6),
        exec_args(b"more\0", 6, **other),
        become(args_bytes=11, **other),
        exec_args(b"ee\0", 11),
        become(args_bytes=14),
    )
    assert all(isinstance(event, ProcessExec) for event in events)
    shown = [(event.args, event.args_truncated) for event in events if isinstance(event, ProcessExec)]
    assert shown == [(["other", "more"], False), (["one", "two", "three"], False)]


@pytest.mark.parametrize(
    ("parts", "args"),
    [
        ([], []),
        ([(b"two\0", 4)], []),  # the first is missing
        ([(b"one\0", 0), (b"three\0", 8)], ["one"]),  # the one in the middle
        ([(b"one\0", 0), (b"two\0thr", 4)], ["one", "two", "thr"]),  # the last
        ([(b"one\0two\0", 0), (b"ee\0", 11)], ["one", "two"]),
    ],
)
def test_arguments_of_which_a_part_is_missing(
    bench: Bench, parts: list[tuple[bytes, int]], args: list[str]
) -> None:
    bench.feed(*(exec_args(payload, at) for payload, at in parts))
    event = bench.one(become(args_bytes=14))
    assert (event.args, event.args_truncated, event.args_bytes) == (args, True, 14)
    again = bench.feed(exec_args(b"next\0", exec_count=5), become(args_bytes=5, exec_count=5))[0]
    assert isinstance(again, ProcessExec)
    assert (again.args, again.args_truncated) == (["next"], False)


def test_arguments_of_an_exec_that_was_lost_are_not_those_of_the_next(bench: Bench) -> None:
    first, second = bench.feed(
        exec_args(b"lost\0one\0"),
        exec_args(b"next\0"),
        become(args_bytes=5),
        become(args_bytes=5, exec_count=5),
    )
    assert isinstance(first, ProcessExec)
    assert isinstance(second, ProcessExec)
    assert (first.args, first.args_truncated) == (["next"], False)
    assert (second.args, second.args_truncated) == ([], True)


def test_no_arguments_at_all(bench: Bench) -> None:
    event = bench.one(become(args_bytes=0))
    assert (event.args, event.args_truncated) == ([], False)


@given(st.lists(st.binary(max_size=20).map(lambda raw: raw.replace(b"\0", b"")), max_size=8), st.data())
def test_arguments_come_out_as_they_went_in(args: list[bytes], choose: st.DataObject) -> None:
    raw = b"".join(arg + b"\0" for arg in args)
    cuts = choose.draw(st.lists(st.integers(1, max(1, len(raw) - 1)), max_size=5, unique=True).map(sorted))
    edges = [0, *(cut for cut in cuts if cut < len(raw)), len(raw)]
    parts = [exec_args(raw[begin:end], begin) for begin, end in itertools.pairwise(edges)]
    bench = Bench()
    assert bench.feed(*parts) == []
    event = bench.one(become(args_bytes=len(raw)))
    assert [arg.encode(errors="surrogateescape") for arg in event.args] == args
    assert not event.args_truncated


def test_arguments_that_wait_are_bounded(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_decoder, "_MAX_PENDING_ARGS", 3)
    for start_ns in range(1, 10):
        bench.feed(exec_args(b"x\0", start_ns=start_ns))
        assert len(bench.decoder._args) <= 3
    event = bench.one(become(start_ns=9, args_bytes=2))
    assert event.args == ["x"]


@pytest.mark.parametrize(
    ("flags", "exe", "expected"),
    [
        (0, "/usr/bin/a", {"exe": "/usr/bin/a", "exe_deleted": False, "compat": False}),
        (ProcessFlag.COMPAT, "/bin/a", {"exe": "/bin/a", "compat": True}),
        (ProcessFlag.EXE_DELETED, "/bin/a", {"exe": "/bin/a", "exe_deleted": True}),
        (ProcessFlag.EXE_ANONYMOUS, "memfd:x", {"exe": "memfd:x", "exe_deleted": True}),
        (ProcessFlag.CWD_TRUNCATED, "/bin/a", {"exe": "/bin/a", "cwd": ""}),
    ],
)
def test_flags_of_an_exec(bench: Bench, flags: int, exe: str, expected: dict[str, Any]) -> None:
    event = bench.one(become(exe=exe, flags=flags))
    assert {name: getattr(event, name) for name in expected} == expected


def test_an_executable_without_a_name(bench: Bench) -> None:
    event = bench.one(become(exe="", cwd="/"))
    assert (event.exe, event.filename) == ("", "/bin/true")


# --- exit -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "signal", "core"),
    [
        (0, 0, None, False),
        (7 << 8, 7, None, False),
        (255 << 8, 255, None, False),
        (9, None, 9, False),
        (11 | 0x80, None, 11, True),
        (64, None, 64, False),
    ],
)
def test_status(bench: Bench, status: int, code: int | None, signal: int | None, core: bool) -> None:
    event = bench.one(records.end(status))
    assert (event.exit_code, event.signal, event.core_dumped) == (code, signal, core)


def test_what_an_end_tells(bench: Bench) -> None:
    event = bench.one(records.end(time_ns=3_500_000, start_ns=1_000_000, max_rss_pages=10))
    assert isinstance(event, ProcessExit)
    assert (event.duration_ms, event.max_rss_bytes) == (2.5, 40960)


@pytest.mark.parametrize(
    ("user_ns", "system_ns", "runtime_ns", "expected"),
    [
        (0, 0, 0, (0.0, 0.0)),
        (0, 0, 1_500_000, (1.5, 0.0)),  # shorter than a tick
        (4_000_000, 0, 1_500_000, (1.5, 0.0)),
        (0, 4_000_000, 1_500_000, (0.0, 1.5)),
        (4_000_000, 4_000_000, 6_000_000, (3.0, 3.0)),
        (12_000_000, 4_000_000, 20_000_000, (15.0, 5.0)),
    ],
)
def test_cpu_times(
    bench: Bench, user_ns: int, system_ns: int, runtime_ns: int, expected: tuple[float, float]
) -> None:
    event = bench.one(records.end(user_ns=user_ns, system_ns=system_ns, runtime_ns=runtime_ns))
    assert (event.user_ms, event.system_ms) == expected


# --- signals --------------------------------------------------------------------------------------

SIGNAL_CALLS = [call for call in Call if Call.kill <= call <= Call.rt_tgsigqueueinfo]


@pytest.mark.parametrize("call", SIGNAL_CALLS, ids=lambda call: str(call.name))
def test_signals(bench: Bench, call: Call) -> None:
    event = bench.one(records.signal(-5, 15, -errno.ESRCH, call))
    assert isinstance(event, SignalSend)
    assert (event.target_pid, event.signal, event.result) == (-5, 15, -errno.ESRCH)
    assert event.syscall == call.name


# --- losses ---------------------------------------------------------------------------------------


def told(events: list[Event]) -> list[tuple[str, str | None, int]]:
    assert all(isinstance(event, Loss) for event in events)
    return [(event.cause, event.kind, event.count) for event in events if isinstance(event, Loss)]


def test_losses_are_told_once_and_by_what_they_would_have_been(bench: Bench) -> None:
    kinds = {RecordKind.FORK: 2, LOST_CALLS + Call.unlinkat: 3, LOST_CALLS + Call.connect: 1}
    losses = {
        **{cause: LossCount(0, 0) for cause in LossCause},
        **{LossCause.RING_FULL: LossCount(8, 0), LossCause.IO_URING: LossCount(4, 0)},
    }
    assert told(bench.decoder.settle(losses, dict(kinds))) == [
        ("ring_full", "process_fork", 2),
        ("ring_full", "file_delete", 3),
        ("ring_full", "net_connect", 1),
        ("ring_full", None, 2),
        ("io_uring", None, 4),
    ]
    assert bench.decoder.settle(losses, dict(kinds)) == []
    losses[LossCause.RING_FULL] = LossCount(9, 0)
    kinds[RecordKind.FORK] = 3
    assert told(bench.decoder.settle(losses, dict(kinds))) == [("ring_full", "process_fork", 1)]


# --- arbitrary records ----------------------------------------------------------------------------

PROCESS_LAYOUTS = {
    RecordKind.PROCESS: "process_record",
    RecordKind.FORK: "fork_record",
    RecordKind.EXEC: "process_record",
    RecordKind.EXEC_ARGS: "exec_args_record",
    RecordKind.EXIT: "exit_record",
    RecordKind.SIGNAL: "signal_record",
    RecordKind.SHELL_LINE: "shell_line_record",
    RecordKind.FILE: "file_record",
    RecordKind.FILE_CLOSE: "file_close_record",
    RecordKind.NET: "net_record",
}
INTEGERS = {"H": 16, "h": 16, "I": 32, "i": 32, "Q": 64, "q": 64}


@st.composite
def likely_records(draw: st.DrawFn) -> bytes:
    """Of a known kind: any numbers, but lengths that often fit, calls that often exist."""
    from libagenttracer.binding.layout import fields_of

    kind = draw(st.sampled_from(sorted(PROCESS_LAYOUTS)))
    tail = draw(st.binary(max_size=120))
    raw = b""
    for field in fields_of(LAYOUTS[PROCESS_LAYOUTS[kind]]):
        if field.size < 0:
            return raw + tail
        letter = field.format[-1:]
        if letter not in INTEGERS:
            raw += draw(st.binary(min_size=field.size, max_size=field.size))
            continue
        bits = INTEGERS[letter]
        number = st.integers(0, (1 << bits) - 1)
        if field.name.endswith("_bytes") and bits == 32:
            number = st.one_of(st.integers(0, len(tail)), number)
        elif field.name == "call":
            number = st.one_of(st.sampled_from([int(call) for call in Call]), number)
        elif field.name == "family":
            number = st.one_of(st.sampled_from([UNIX, INET, INET6]), number)
        raw += (int(kind) if field.name == "kind" else draw(number)).to_bytes(bits // 8, "little")
    return raw


RAW = st.one_of(likely_records(), st.binary(max_size=400))


def feed_all(raws: list[bytes]) -> int:
    """Decodes each; whatever comes of it can be an object's JSON, but for times that do not exist."""
    bench = Bench(max_processes=4)
    decoded = 0
    for raw in raws:
        try:
            events = bench.feed(raw)
        except LayoutError:
            continue
        decoded += len(events)
        for event in events:
            if event.timestamp_ns < 1 << 63:
                assert to_json(event).startswith(b'{"id":')
    return decoded


@given(st.lists(RAW, min_size=1, max_size=6))
def test_arbitrary_records_are_decoded_or_refused(raws: list[bytes]) -> None:
    feed_all(raws)


@pytest.mark.parametrize("kind", [0, 2, 14, 200, 255])
def test_an_unknown_kind_is_refused(bench: Bench, kind: int) -> None:
    raw = struct.pack("<I", kind) + bytes(400)
    with pytest.raises(LayoutError, match=str(kind)):
        bench.feed(raw)


@pytest.mark.parametrize("length", range(0, 32, 3))
@pytest.mark.parametrize("kind", sorted(PROCESS_LAYOUTS))
def test_a_record_that_is_too_short_is_refused(bench: Bench, kind: int, length: int) -> None:
    with pytest.raises(LayoutError):
        bench.feed((struct.pack("<I", kind) + bytes(28))[:length])


@pytest.mark.parametrize("call", [0, 27, 29, 39, 56, 63, 0xFFFF])
def test_an_unknown_call_is_refused(bench: Bench, call: int) -> None:
    for raw in (file(call, b"a", "/"), net(call, INET), records.signal(1, 2, 0, call)):
        with pytest.raises(LayoutError, match=str(call)):
            bench.feed(raw)


def test_default_categories_are_categories() -> None:
    assert set(CATEGORIES) - set(DEFAULT_CATEGORIES) == {"io"}
