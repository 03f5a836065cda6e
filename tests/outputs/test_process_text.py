"""One line for each event of a process, whatever the process calls itself and its files."""

from __future__ import annotations

import errno
import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    ProcessEvent,
    ProcessExec,
    ProcessExit,
    ProcessFork,
    ShellLine,
    SignalSend,
    event_type,
    event_types,
)
from libagenttracer.outputs import Text

from ..events.strategies import KERNEL_TEXTS, PROCESS_EVENTS, process_event
from .test_text import CONTROLS

NOWHERE = open(os.devnull, "w")  # noqa: SIM115  (for as long as the tests run)
PLAIN, EXTRA, COLOR = Text(NOWHERE), Text(NOWHERE, extra=True), Text(NOWHERE, color=True)
UNIX = {"family": "unix", "protocol": "stream", "remote_address": None, "remote_port": None}
TYPES = [cls for cls in event_types().values() if issubclass(cls, ProcessEvent)]


def line(cls: type[ProcessEvent], output: Text = PLAIN, **changes: object) -> str:
    """A line without its time and process."""
    return output.format(process_event(cls, **changes)).split("bash[1234]", 1)[1].strip()


@pytest.mark.parametrize(
    ("cls", "changes", "expected"),
    [
        (ProcessFork, {}, "fork     child 1241"),
        (ProcessExec, {}, "exec     /usr/bin/git git commit -m 'a b'"),
        (ProcessExec, {"args": ["/usr/bin/git", "log"]}, "exec     /usr/bin/git log"),
        (ProcessExec, {"args": []}, "exec     /usr/bin/git"),
        (ProcessExec, {"args": ["git", ""]}, "exec     /usr/bin/git git ''"),
        (ProcessExec, {"args": ["git"], "args_bytes": 1004, "args_truncated": True},
         "exec     /usr/bin/git git… (1000 more bytes)"),
        (ProcessExec, {"args": ["git"], "compat": True, "exe_deleted": True},
         "exec     /usr/bin/git git  (executable has no name any more)  (32-bit: its calls are not seen)"),
        (ProcessExit, {}, "exit     0  12.3 ms"),
        (ProcessExit, {"exit_code": 3, "duration_ms": 75_240}, "exit     3  75.2 s"),
        (ProcessExit, {"exit_code": None, "signal": 11}, "exit     killed by SIGSEGV  12.3 ms"),
        (ProcessExit, {"exit_code": None, "signal": 11, "core_dumped": True},
         "exit     killed by SIGSEGV (core dumped)  12.3 ms"),
        (ProcessExit, {"exit_code": None, "signal": 40}, "exit     killed by signal 40  12.3 ms"),
        (FileOpen, {}, "open     /repo/a  r"),
        (FileOpen, {"access": "write", "flags": 0o3101}, "open     /repo/a  w+creat,trunc,append"),
        (FileOpen, {"access": "read_write", "flags": 0o2000302}, "open     /repo/a  rw+creat,excl"),
        (FileOpen, {"access": "path", "flags": 0o10000000}, "open     /repo/a  path"),
        (FileOpen, {"result": -2, "count": 17, "unresolved": True},
         "open     /repo/a  r  ENOENT (no such file)  x17"),
        (FileOpen, {"result": -13}, "open     /repo/a  r  EACCES (permission denied)"),
        (FileOpen, {"result": -512}, "open     /repo/a  r  result -512"),
        (FileOpen, {"truncated": True}, "open     /repo/a…  r"),
        (FileOpen, {"path": "/my file"}, "open     '/my file'  r"),
        (FileOpen, {"path": ""}, "open     ''  r"),
        (FileClose, {}, "close    /repo/a  read 100, written 20"),
        (FileDelete, {}, "delete   /repo/a"),
        (FileDelete, {"result": -1, "count": 2}, "delete   /repo/a  EPERM (operation not permitted)  x2"),
        (FileRename, {}, "rename   /repo/a -> /repo/b"),
        (FileRename, {"flags": 2, "truncated": True}, "rename   /repo/a -> /repo/b…  +exchange"),
        (FileRename, {"path": "a -> b"}, "rename   'a -> b' -> /repo/b"),
        (FileMkdir, {"result": -17}, "mkdir    /repo/a  EEXIST (file exists)"),
        (FileRmdir, {"result": -39}, "rmdir    /repo/a  ENOTEMPTY (directory not empty)"),
        (FileLink, {}, "link     /repo/b -> /repo/a"),
        (FileLink, {"symbolic": True, "path": "../x"}, "symlink  /repo/b -> ../x"),
        (FileChmod, {"mode": 0o44}, "chmod    0044 /repo/a"),
        (FileChmod, {"mode": 0o4755}, "chmod    4755 /repo/a"),
        (FileChown, {}, "chown    1000:- /repo/a"),
        (FileChown, {"new_uid": None, "new_gid": 0}, "chown    -:0 /repo/a"),
        (FileTruncate, {}, "truncate /repo/a  to 9 bytes"),
        (NetConnect, {}, "connect  tcp 127.0.0.1:443"),
        (NetConnect, {"result": -111, "late": True}, "connect  tcp 127.0.0.1:443  late  ECONNREFUSED"),
        (NetConnect, {"result": -115}, "connect  tcp 127.0.0.1:443  EINPROGRESS"),
        (NetConnect, {"family": "inet6", "remote_address": "::1"}, "connect  tcp [::1]:443"),
        (NetConnect, {**UNIX, "remote_address": "/run/x"}, "connect  unix /run/x"),
        (NetConnect, {**UNIX, "protocol": "dgram", "remote_address": "@x y"}, "connect  unix dgram '@x y'"),
        (NetConnect, {**UNIX, "family": "16", "protocol": "3"}, "connect  16 3 ?"),
        (NetAccept, {}, "accept   tcp 127.0.0.1:5000 from 127.0.0.1:443"),
        (NetBind, {"result": -98}, "bind     tcp 127.0.0.1:5000  EADDRINUSE"),
        (NetListen, {}, "listen   tcp 127.0.0.1:5000"),
        (NetSend, {"protocol": "udp", "count": 3}, "send     udp 127.0.0.1:443  40 bytes  x3"),
        (NetClose, {}, "close    tcp 127.0.0.1:443  sent 10, received ?"),
        (NetClose, {"remote_address": None}, "close    tcp 127.0.0.1:5000  sent 10, received ?"),
        (DnsQuery, {}, "dns      A example.org via 127.0.0.1:53"),
        (DnsQuery, {"result": -101}, "dns      A example.org via 127.0.0.1:53  ENETUNREACH"),
        (SignalSend, {}, "signal   SIGTERM to 4242"),
        (SignalSend, {"target_pid": -7, "signal": 0, "result": -3}, "signal   signal 0 to group 7  ESRCH"),
        (SignalSend, {"target_pid": 0, "signal": 9}, "signal   SIGKILL to its group"),
        (SignalSend, {"target_pid": -1}, "signal   SIGTERM to all processes"),
        (ShellLine, {}, "shell    ls -la"),
        (ShellLine, {"line": "echo 'a  b'", "truncated": True}, "shell    echo 'a  b' …"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)  # fmt: skip
def test_what_a_line_says(cls: type[ProcessEvent], changes: dict[str, Any], expected: str) -> None:
    assert line(cls, **changes) == expected


@pytest.mark.parametrize(
    ("cls", "changes", "expected"),
    [
        (ProcessExec, {"args": ["git"]}, "git  cwd /repo  exe /usr/bin/git  gid 1000"),
        (ProcessExit, {}, "0  12.3 ms  user 1.0 ms  system 2.0 ms  max rss 3.0 MiB"),
        (FileOpen, {"mode": 0o644, "fd": 5}, "/repo/a  r  mode 0644  fd 5"),
        (FileOpen, {"result": -2, "unresolved": True}, "/repo/a  r  ?  ENOENT (no such file)"),
        (FileMkdir, {}, "/repo/a  mode 0755"),
        (FileClose, {}, "/repo/a  read 100, written 20  fd 3"),
        (NetConnect, {}, "tcp 127.0.0.1:443  from 127.0.0.1:5000"),
        (DnsQuery, {}, "A example.org via 127.0.0.1:53  udp from 127.0.0.1:5000"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_extra_says_more(cls: type[ProcessEvent], changes: dict[str, Any], expected: str) -> None:
    shown = line(cls, EXTRA, **changes)
    assert f"{expected}  uid 1000  tid 1235  ppid 1" in shown
    assert ("  call" in shown) is hasattr(process_event(cls), "syscall")


def test_every_type_has_a_line_of_its_own() -> None:
    assert len(TYPES) == 22
    assert [cls for cls in TYPES if '"event_type"' in PLAIN.format(process_event(cls))] == []


def test_columns_stand_below_each_other() -> None:
    starts = set()
    for cls in TYPES:
        for comm in ("x", "bash", "python3"):
            text = PLAIN.format(process_event(cls, comm=comm))
            found = re.match(r"\d\d:\d\d:\d\d\.123 \S+\[1234\] +([a-z]+) +(?=\S)", text)
            assert found, text
            starts.add((found.start(1), found.end()))
    assert starts == {(31, 40)}


def test_a_long_name_still_leaves_a_gap() -> None:
    text = PLAIN.format(process_event(FileOpen, comm="systemd-journal", pid=4194304))
    assert " systemd-journal[4194304] open     /repo/a" in text


# what traced processes may say


@given(PROCESS_EVENTS, st.sampled_from([PLAIN, EXTRA]))
def test_one_harmless_line_for_each_event(event: Event, output: Text) -> None:
    text = output.format(event)
    assert not CONTROLS.search(text), text
    assert text.endswith("\n")
    assert text.count("\n") == 1
    assert "\t" not in text
    text.encode()  # no lone surrogates


@given(PROCESS_EVENTS)
def test_only_our_own_colours(event: Event) -> None:
    text = COLOR.format(event)
    assert re.sub("\x1b\\[[0-9;]*m", "", text) == PLAIN.format(event)
    codes = re.findall("\x1b[^m]*m", text)
    assert codes
    assert codes[1::2] == ["\x1b[0m"] * (len(codes) // 2)


HOSTILE = "x\n12:00:00.000 sh[1] exec \x1b[2J\u202e\udcff\r\x07"


@pytest.mark.parametrize(
    ("cls", "field"),
    [
        (ProcessFork, "comm"), (ProcessExec, "filename"), (ProcessExec, "cwd"), (ProcessExec, "exe"),
        (FileOpen, "path"), (FileOpen, "syscall"), (FileOpen, "access"), (FileRename, "new_path"),
        (FileLink, "path"), (FileLink, "new_path"), (NetConnect, "remote_address"), (NetConnect, "family"),
        (NetConnect, "protocol"), (NetBind, "local_address"), (DnsQuery, "name"), (DnsQuery, "query_type"),
        (SignalSend, "syscall"), (ShellLine, "line"),
    ],
)  # fmt: skip
def test_hostile_strings_are_escaped(cls: type[ProcessEvent], field: str) -> None:
    text = EXTRA.format(process_event(cls, **{field: HOSTILE}))
    assert r"x\n12:00:00.000 sh[1] exec \x1b[2J\u202e\udcff\x0d\x07" in text
    assert text.count("\n") == 1
    assert not CONTROLS.search(text)


def test_hostile_arguments_are_quoted_and_escaped() -> None:
    text = PLAIN.format(process_event(ProcessExec, args=["git", HOSTILE]))
    assert text.endswith(r"git 'x\n12:00:00.000 sh[1] exec \x1b[2J\u202e\udcff\x0d\x07'" + "\n")


@given(KERNEL_TEXTS, KERNEL_TEXTS)
def test_a_blank_in_a_name_does_not_end_it(one: str, other: str) -> None:
    """What follows a path begins behind a blank: so a path with blanks stands in quotes."""
    shown = line(FileRename, path=one, new_path=other)
    bare = re.fullmatch(r"rename   ([^\s']+) -> ([^\s']+)", shown)
    assert (bare is None) == any(re.search(r"[\s'\"]", name) or not name for name in (one, other))


def test_a_process_cannot_pass_for_another_one() -> None:
    text = PLAIN.format(process_event(ShellLine, comm="sh[1] shell x"))
    assert " 'sh[1] shell x'[1234] shell    ls -la" in text
    assert " ?[1234] " in PLAIN.format(process_event(ShellLine, comm=""))
    assert " Web Content[1234] " in PLAIN.format(process_event(ShellLine, comm="Web Content"))


# long commands


def test_long_arguments_are_cut_and_say_so() -> None:
    args = ["/usr/bin/git", "a" * 1000]
    shown = line(ProcessExec, args=args)
    assert shown == "exec     /usr/bin/git " + "a" * 387 + "… (613 more bytes)"
    assert "a" * 1000 + "  cwd" in line(ProcessExec, EXTRA, args=args)
    exact = ["/usr/bin/git", "a" * 387]
    assert line(ProcessExec, args=exact) == "exec     /usr/bin/git " + "a" * 387


def test_the_rest_is_counted_in_bytes() -> None:
    cut: dict[str, Any] = {"args": ["/usr/bin/git", "ü" * 500 + "\udcff" * 10], "args_bytes": 1_024}
    shown = line(ProcessExec, **cut)  # 400 of: the name, a blank, a quote, and 386 letters
    assert shown.endswith(f"ü… ({114 * 2 + 10 + 1} more bytes)")
    missing = line(ProcessExec, **{**cut, "args_bytes": 2024, "args_truncated": True})
    assert missing.endswith(f"ü… ({114 * 2 + 10 + 1 + 2024 - 13 - 1011} more bytes)")
    assert line(ShellLine, line="x" * 402) == "shell    " + "x" * 400 + "… (2 more bytes)"


# colours


def test_colours_of_kinds_and_failures() -> None:
    assert "\x1b[34mopen\x1b[0m     /repo/a  r\n" in COLOR.format(process_event(FileOpen))
    assert "\x1b[35mconnect\x1b[0m  tcp" in COLOR.format(process_event(NetConnect))
    assert "\x1b[33msignal\x1b[0m   SIG" in COLOR.format(process_event(SignalSend))
    assert "\x1b[1mexec\x1b[0m     /usr" in COLOR.format(process_event(ProcessExec))
    failed = COLOR.format(process_event(FileOpen, result=-errno.ENOENT, count=2))
    assert "r  \x1b[31mENOENT (no such file)\x1b[0m  x2\n" in failed
    for quiet in (process_event(ProcessFork), process_event(ProcessExit)):
        assert COLOR.format(quiet).count("\x1b") == 2
        assert "\x1b[2mbash[1234]" in COLOR.format(quiet)
    assert "\x1b[31m3\x1b[0m  12.3 ms" in COLOR.format(process_event(ProcessExit, exit_code=3))
    assert "\x1b[31m" not in COLOR.format(process_event(NetConnect, result=-errno.EINPROGRESS))


# other events


def test_a_loss_says_what_is_missing() -> None:
    loss = Loss("i", 0, "process", "ring_full", 3, 42, kind="file_open\n")
    assert PLAIN.format(loss).endswith(" LOST 3 records of file_open\\n, 42 bytes (ring_full)\n")


@event_type("test_process_of_somebody_else")
class Other(ProcessEvent, frozen=True, gc=False):
    pass


def test_a_type_of_somebody_else_is_shown_as_json() -> None:
    shown = PLAIN.format(Other("i", 0, "s", 1, 2, 3, 4, "x\udcff\n", "p", "e", "pp"))
    assert '"event_type":"test_process_of_somebody_else"' in shown
    assert shown.count("\n") == 1
