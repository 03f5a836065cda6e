"""From records of processes to events, without a kernel."""

from __future__ import annotations

import errno
import itertools
import socket
import struct
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libagenttracer import to_json
from libagenttracer.errors import LayoutError
from libagenttracer.events import (
    DnsQuery,
    Event,
    FileChmod,
    FileChown,
    FileClose,
    FileDelete,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
    Loss,
    NetAccept,
    NetBind,
    NetClose,
    NetConnect,
    NetListen,
    NetSend,
    ProcessExec,
    ProcessExit,
    ProcessFork,
    ShellLine,
    SignalSend,
)
from libagenttracer.runners import process_decoder
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.interface import LossCount
from libagenttracer.runners.net_decoder import dns_questions
from libagenttracer.runners.process_decoder import CATEGORIES, DEFAULT_CATEGORIES, ProcessDecoder
from libagenttracer.runners.records import (
    LAYOUTS,
    LOST_CALLS,
    Call,
    FileFlag,
    LossCause,
    NetFlag,
    ProcessFlag,
    RecordKind,
)

from . import records
from .records import RING_BYTES, START_NS, TGID, become, exec_args, file, fork, net, process

O_CREAT, O_TMPFILE, O_PATH = 0o100, 0o20200000, 0o10000000
AT_REMOVEDIR = 0x200
NOBODY = 0xFFFFFFFF
A_QUERY = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 0) + b"\7example\3org\0" + struct.pack(">2H", 1, 1)


class Bench:
    """A decoder, and the ring in front of it."""

    def __init__(self, categories: Collection[str] = CATEGORIES, **options: Any) -> None:
        self.identity = TracerIdentity(boot_id="boot", instance="instance")
        self.decoder = ProcessDecoder(self.identity, RING_BYTES, categories, **options)
        self.position = 0
        self.memory = bytearray(2 * RING_BYTES)

    def feed(self, *raw: bytes) -> list[Event]:
        """Puts records into the ring and decodes them as one batch."""
        begin, spans = self.position, []
        for record in raw:
            at = self.position % RING_BYTES + 8
            self.memory[at : at + len(record)] = record
            spans.append((at, len(record)))
            self.position += (len(record) + 8 + 7) // 8 * 8
        return self.decoder.decode(memoryview(self.memory).toreadonly(), spans, begin)

    def one(self, raw: bytes) -> Any:
        """The only event of a record."""
        (event,) = self.feed(raw)
        return event

    def name(self, pid: int, start_ns: int, execs: int | None = None) -> str:
        """An id as it should be."""
        end = "" if execs is None else f"-{execs}"
        return f"{self.identity.boot}-{pid}-{start_ns:x}{end}"


@pytest.fixture
def bench() -> Bench:
    return Bench()


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


# --- files ----------------------------------------------------------------------------------------

FOLLOWING = ["open", "openat", "openat2", "creat", "chmod", "fchmodat", "fchmodat2", "chown", "fchownat"]
FOLLOWING += ["truncate"]
NOT_FOLLOWING = ["unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "lchown"]
RENAMES = ["rename", "renameat", "renameat2", "link", "linkat"]
SYMLINKS = ["symlink", "symlinkat"]
BY_FD = ["fchmod", "fchown", "ftruncate"]
FILE_CALLS = [*FOLLOWING, *NOT_FOLLOWING, *RENAMES, *SYMLINKS, *BY_FD]
CLASSES: dict[str, type[Event]] = {
    **dict.fromkeys(["open", "openat", "openat2", "creat"], FileOpen),
    **dict.fromkeys(["unlink", "unlinkat"], FileDelete),
    **dict.fromkeys(["rename", "renameat", "renameat2"], FileRename),
    **dict.fromkeys(["link", "linkat", "symlink", "symlinkat"], FileLink),
    **dict.fromkeys(["mkdir", "mkdirat"], FileMkdir),
    "rmdir": FileRmdir,
    **dict.fromkeys(["chmod", "fchmod", "fchmodat", "fchmodat2"], FileChmod),
    **dict.fromkeys(["chown", "fchown", "lchown", "fchownat"], FileChown),
    **dict.fromkeys(["truncate", "ftruncate"], FileTruncate),
}


def test_no_call_is_forgotten() -> None:
    assert sorted(FILE_CALLS) == sorted(call.name for call in Call if call < Call.connect)
    assert set(CLASSES) == set(FILE_CALLS)


@pytest.mark.parametrize("call", FILE_CALLS)
def test_each_call_has_its_event(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], b"name", "/folder", b"new", "/folder", result=-errno.EPERM))
    assert (event.syscall, event.result) == (call, -errno.EPERM)
    assert not event.truncated
    assert type(event) is CLASSES[call]


@pytest.mark.parametrize(
    ("name", "directory", "path", "certain"),
    [
        (b"name", "/some/folder", "/some/folder/name", True),
        (b"name", "/", "/name", True),
        (b"a/name", "/some", "/some/a/name", False),
        (b"name/", "/some", "/some/name/", False),
        (b".", "/some", "/some/.", False),
        (b"..", "/some", "/some/..", False),
        (b"...", "/some", "/some/...", True),
        (b"", "/some/file", "/some/file", False),  # AT_EMPTY_PATH, or an error
        (b"/etc/name", None, "/etc/name", False),
        (b"/etc/name", "/some", "/etc/name", False),
        (b"name", None, "name", False),
        (b"h\xff", "/s\xfe", "/s\udcfe/h\udcff", True),
    ],
)
@pytest.mark.parametrize("call", [*FOLLOWING, *NOT_FOLLOWING])
def test_names(bench: Bench, call: str, name: bytes, directory: str | None, path: str, certain: bool) -> None:
    """A name is what the kernel understood, if its directory is known and nothing of it can be a link."""
    directory = directory.replace("\xfe", "\udcfe") if directory else directory
    event = bench.one(file(Call[call], name, directory, result=-1))
    assert event.path == path
    assert event.unresolved == (not certain or call in FOLLOWING)


@pytest.mark.parametrize("call", RENAMES)
@pytest.mark.parametrize(
    ("old", "new", "unresolved"),
    [
        ((b"a", "/x"), (b"b", "/y"), False),
        ((b"a", "/x"), (b"/y/b", None), True),
        ((b"/x/a", None), (b"b", "/y"), True),
        ((b"/x/a", None), (b"/y/b", None), True),
    ],
)
def test_two_names(
    bench: Bench,
    call: str,
    old: tuple[bytes, str | None],
    new: tuple[bytes, str | None],
    unresolved: bool,
) -> None:
    event = bench.one(file(Call[call], *old, *new))
    assert (event.path, event.new_path, event.unresolved) == ("/x/a", "/y/b", unresolved)


def test_a_rename_has_flags(bench: Bench) -> None:
    assert bench.one(file(Call.renameat2, b"a", "/x", b"b", "/x", flags=2)).flags == 2


@pytest.mark.parametrize("call", SYMLINKS)
@pytest.mark.parametrize("content", [b"../some/where", b"/abs", b"x"])
def test_a_symbolic_link_has_any_content(bench: Bench, call: str, content: bytes) -> None:
    """It is no path that the kernel follows now: only the new name counts."""
    event = bench.one(file(Call[call], content, "/elsewhere", b"new", "/folder"))
    assert (event.path, event.new_path) == (content.decode(), "/folder/new")
    assert event.symbolic
    assert not event.unresolved
    assert bench.one(file(Call[call], content, None, b"a/new", "/folder")).unresolved


@pytest.mark.parametrize("call", ["link", "linkat"])
def test_a_hard_link_is_not_symbolic(bench: Bench, call: str) -> None:
    assert not bench.one(file(Call[call], b"a", "/x", b"b", "/x")).symbolic


@pytest.mark.parametrize("call", [*FOLLOWING, *BY_FD])
def test_a_file_that_the_kernel_has_resolved(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], resolved="/a/b c", fd=5))
    assert (event.path, event.unresolved, event.truncated) == ("/a/b c", False, False)
    assert getattr(event, "fd", 5) == 5
    anonymous = file(Call[call], resolved="memfd:x", fd=5, file_flags=FileFlag.ANONYMOUS)
    assert bench.one(anonymous).path == "memfd:x"


@pytest.mark.parametrize("call", ["open", "fchmod"])
def test_a_path_whose_beginning_is_missing_is_not_absolute(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], resolved="/b/c", fd=5, file_flags=FileFlag.CUT))
    assert (event.path, event.unresolved, event.truncated) == ("b/c", True, True)


@pytest.mark.parametrize("call", BY_FD)
def test_a_descriptor_that_is_none(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], fd=-1, result=-errno.EBADF))
    assert (event.path, event.unresolved, event.fd, event.result) == ("", True, None, -errno.EBADF)


@pytest.mark.parametrize("flag", [FileFlag.TRUNCATED, FileFlag.UNREADABLE])
@pytest.mark.parametrize("call", FILE_CALLS)
def test_a_name_that_is_not_complete(bench: Bench, call: str, flag: int) -> None:
    assert bench.one(file(Call[call], b"/x", None, b"/y", file_flags=flag)).truncated


@pytest.mark.parametrize(
    ("flags", "access", "mode"),
    [
        (0, "read", None),
        (1, "write", None),
        (2, "read_write", None),
        (3, "read_write", None),
        (1 | O_CREAT, "write", 0o644),
        (2 | O_TMPFILE, "read_write", 0o644),
        (0o200000, "read", None),  # O_DIRECTORY alone, which is a part of O_TMPFILE
        (O_PATH, "path", None),
    ],
)
def test_how_a_file_was_opened(bench: Bench, flags: int, access: str, mode: int | None) -> None:
    event = bench.one(file(Call.openat, resolved="/x", fd=3, flags=flags, mode=0o100644))
    assert (event.access, event.flags, event.mode, event.fd) == (access, flags, mode, 3)
    failed = bench.one(file(Call.openat, b"x", "/", fd=-errno.ENOENT, result=-errno.ENOENT))
    assert failed.fd is None


def test_unlinkat_may_be_rmdir(bench: Bench) -> None:
    assert isinstance(bench.one(file(Call.unlinkat, b"a", "/", flags=AT_REMOVEDIR)), FileRmdir)
    assert isinstance(bench.one(file(Call.unlinkat, b"a", "/")), FileDelete)
    assert isinstance(bench.one(file(Call.unlink, b"a", "/", flags=AT_REMOVEDIR)), FileDelete)


def test_permissions_and_owners(bench: Bench) -> None:
    assert bench.one(file(Call.mkdir, b"a", "/", mode=0o40755)).mode == 0o755
    assert bench.one(file(Call.chmod, b"a", "/", mode=0o107777)).mode == 0o7777
    both = bench.one(file(Call.chown, b"a", "/", mode=5, gid=6))
    assert (both.new_uid, both.new_gid) == (5, 6)
    neither = bench.one(file(Call.fchownat, b"a", "/", mode=NOBODY, gid=NOBODY))
    assert (neither.new_uid, neither.new_gid) == (None, None)


@pytest.mark.parametrize("length", [0, 5, (1 << 63) - 1, -1, -(1 << 63)])
def test_length(bench: Bench, length: int) -> None:
    assert bench.one(file(Call.truncate, b"a", "/", flags=length % (1 << 64))).length == length


def test_what_went_through_a_file(bench: Bench) -> None:
    event = bench.one(records.close_file("/a/b", 4, bytes_read=7, bytes_written=8))
    assert isinstance(event, FileClose)
    assert (event.path, event.fd, event.bytes_read, event.bytes_written) == ("/a/b", 4, 7, 8)
    assert (event.syscall, event.result, event.unresolved, event.truncated) == ("close", 0, False, False)
    deep = bench.one(records.close_file("/b/c", file_flags=FileFlag.CUT))
    assert (deep.path, deep.unresolved, deep.truncated) == ("b/c", True, True)


# --- sockets --------------------------------------------------------------------------------------

INET, INET6, UNIX = int(socket.AF_INET), int(socket.AF_INET6), int(socket.AF_UNIX)
TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
HERE = bytes([127, 0, 0, 1])


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (Call.connect, NetConnect),
        (Call.accept, NetAccept),
        (Call.accept4, NetAccept),
        (Call.bind, NetBind),
        (Call.listen, NetListen),
        (Call.close, NetClose),
        (Call.sendto, NetSend),
        (Call.sendmsg, NetSend),
        (Call.sendmmsg, NetSend),
        (Call.write, NetSend),
    ],
)
def test_each_call_on_a_socket_has_its_event(bench: Bench, call: Call, kind: type[Event]) -> None:
    event = bench.one(
        net(call, INET, local=HERE, remote=bytes(4), local_port=80, remote_port=53, protocol=TCP, result=-9)
    )
    assert (event.family, event.protocol, event.fd, event.result) == ("inet", "tcp", 7, -9)
    assert (event.local_address, event.local_port) == ("127.0.0.1", 80)
    assert (event.remote_address, event.remote_port) == ("0.0.0.0", 53)
    assert type(event) is kind


@pytest.mark.parametrize(
    ("family", "type_", "protocol", "names"),
    [
        (INET, 1, TCP, ("inet", "tcp")),
        (INET6, 2, UDP, ("inet6", "udp")),
        (INET, 3, 1, ("inet", "raw")),
        (INET, 1, 262, ("inet", "stream")),  # MPTCP
        (UNIX, 1, 0, ("unix", "stream")),
        (UNIX, 5, 6, ("unix", "seqpacket")),
        (UNIX, 2, 17, ("unix", "dgram")),
        (38, 4, 6, ("38", "4")),
    ],
)
def test_families_and_protocols(
    bench: Bench, family: int, type_: int, protocol: int, names: tuple[str, str]
) -> None:
    event = bench.one(net(Call.listen, family, type=type_, protocol=protocol))
    assert (event.family, event.protocol) == names
    assert (event.local_address, event.local_port, event.remote_address, event.remote_port) == (None,) * 4


@pytest.mark.parametrize(
    ("family", "raw", "address", "port"),
    [
        (INET, bytes([10, 0, 0, 255]), "10.0.0.255", 9),
        (INET6, bytes(15) + b"\1", "::1", 9),
        (INET6, bytes(10) + b"\xff\xff" + HERE, "::ffff:127.0.0.1", 9),
        (UNIX, b"/run/socket", "/run/socket", None),
        (UNIX, b"/run/socket\0rest", "/run/socket", None),
        (UNIX, b"x" * 108, "x" * 108, None),
        (UNIX, b"\0abstract", "@abstract", None),
        (UNIX, b"\0with\0nul\0", "@with\0nul\0", None),
        (UNIX, b"\0\xff", "@\udcff", None),
        (UNIX, b"\0", None, None),
        (UNIX, b"", None, None),
    ],
)
def test_addresses(bench: Bench, family: int, raw: bytes, address: str | None, port: int | None) -> None:
    event = bench.one(net(Call.connect, family, local=raw, remote=raw, local_port=9, remote_port=9))
    assert (event.local_address, event.remote_address) == (address, address)
    assert (event.local_port, event.remote_port) == (port, port)


def test_the_outcome_of_a_connect(bench: Bench) -> None:
    assert not bench.one(net(Call.connect, INET, result=-errno.EINPROGRESS)).late
    late = bench.one(net(Call.connect, INET, result=-errno.ECONNREFUSED, flags=NetFlag.LATE, fd=-1))
    assert (late.late, late.result, late.fd) == (True, -errno.ECONNREFUSED, None)


def test_bytes_of_a_socket(bench: Bench) -> None:
    known = bench.one(net(Call.close, INET, flags=NetFlag.BYTES_KNOWN, bytes_sent=5, bytes_received=0))
    assert (known.bytes_sent, known.bytes_received) == (5, 0)
    unknown = bench.one(net(Call.close, INET, bytes_sent=5, bytes_received=6))
    assert (unknown.bytes_sent, unknown.bytes_received) == (None, None)


def asked(payload: bytes, categories: Collection[str]) -> list[Event]:
    raw = net(Call.sendto, INET, remote=HERE, remote_port=53, payload=payload, data_bytes=33, protocol=UDP)
    return Bench(categories).feed(raw)


def test_a_question_is_a_datagram_too() -> None:
    sent, query = asked(A_QUERY, ["net", "dns"])
    assert isinstance(sent, NetSend)
    assert isinstance(query, DnsQuery)
    assert sent.data_len == 33
    assert (query.name, query.query_type) == ("example.org", "A")
    assert (query.remote_address, query.remote_port) == ("127.0.0.1", 53)
    assert sent.id != query.id
    (alone,) = asked(A_QUERY, ["dns"])
    assert isinstance(alone, DnsQuery)
    assert alone.id == sent.id
    assert alone.name == "example.org"


def test_several_questions_have_ids_of_their_own() -> None:
    payload = struct.pack(">6H", 7, 0, 2, 0, 0, 0) + A_QUERY[12:] + b"\1b\xc0\x14" + struct.pack(">2H", 28, 1)
    for categories, count in ((["dns"], 2), (["net", "dns"], 3)):
        events = asked(payload, categories)
        assert len({event.id for event in events}) == count
        questions = [(event.name, event.query_type) for event in events if isinstance(event, DnsQuery)]
        assert questions == [("example.org", "A"), ("b.org", "AAAA")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        bytes(12),  # no question
        A_QUERY[:20],
        struct.pack(">6H", 7, 0x8180, 1, 0, 0, 0) + A_QUERY[12:],  # an answer
        struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack(">2H", 1, 1),  # points at itself
        struct.pack(">6H", 7, 0, 65535, 0, 0, 0) + A_QUERY[12:],
        b"\xff" * 512,
    ],
)
def test_what_is_no_question(payload: bytes) -> None:
    assert [event.event_type for event in asked(payload, ["net", "dns"])] == ["net_send"]
    assert asked(payload, ["dns"]) == []


@pytest.mark.parametrize(
    ("labels", "type_", "expected"),
    [
        (b"\0", 2, (".", "NS")),
        (b"\3a.b\1c\0", 65, ("a\\.b.c", "HTTPS")),
        (b"\2\xc3\xa4\0", 65280, ("\\195\\164", "TYPE65280")),
    ],
)
def test_unusual_questions(labels: bytes, type_: int, expected: tuple[str, str]) -> None:
    payload = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 1) + labels + struct.pack(">2H", type_, 1)
    assert dns_questions(payload + b"rest that is not looked at") == [expected]


QUERY_LIKE = st.tuples(
    st.binary(min_size=4, max_size=4),
    st.integers(0, 3),
    st.binary(min_size=6, max_size=6),
    st.binary(max_size=80),
).map(lambda parts: parts[0] + struct.pack(">H", parts[1]) + parts[2] + parts[3])


@given(st.one_of(st.binary(max_size=512), QUERY_LIKE))
@example(A_QUERY)
def test_arbitrary_questions(payload: bytes) -> None:
    for name, type_ in dns_questions(payload):
        assert name.isascii()
        assert type_


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
