"""Traces processes with the installed wheel: work of which each step is known, in each of the modes."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from in_guest_common import TRACER, Failure, end_tracer, expect, log_of, start_tracer

TRACEFS = ("/sys/kernel/debug/tracing", "/sys/kernel/debug", "/sys/kernel/tracing")
# asked while tracefs is there
HAS_SOCKET_BYTES = Path("/sys/kernel/tracing/events/sock/sock_send_length").is_dir()
HAS_URING = Path("/sys/kernel/tracing/events/io_uring/io_uring_submit_req").is_dir()
RELEASE = tuple(map(int, os.uname().release.split(".")[:2]))
EVENTS = "fork,exec,exit,file,net,signal,readline,dns,io"
QUESTION = b"\0\1\1\0\0\1\0\0\0\0\0\0\5guest\4test\0\0\1\0\1"
# No sockets are closed but the first: the end of the process does it.
TALK = f"""
import os, socket
closed, datagrams, stream = (socket.socket(type=t) for t in (socket.SOCK_DGRAM,) * 2 + (socket.SOCK_STREAM,))
closed.sendto(b"four", ("127.0.0.1", 9))
closed.close()
datagrams.sendto({QUESTION!r}, ("127.0.0.1", 53))
if stream.connect_ex(("127.0.0.1", 9)) == 111:
    os._exit(0)
"""
# All but the first and the last of these are processes of their own.
WORK = """
mkdir "$1"
cd "$1"
tee a <<END
x
END
mv a b
rm b
cat missing
sh -c 'kill -9 $$'
python3 -I -S -c "$2"
bash --norc -i <<END
: typed
END
cd ..
rmdir "$1"
exit 3
"""
EXITS = {  # of the work's programs, in their order: exit code, signal
    ("mkdir", "{}"): (0, None),
    ("tee", "a"): (0, None),
    ("mv", "a", "b"): (0, None),
    ("rm", "b"): (0, None),
    ("cat", "missing"): (1, None),
    ("sh", "-c", "kill -9 $$"): (None, 9),
    ("python3", "-I", "-S", "-c", TALK): (0, None),
    ("bash", "--norc", "-i"): (0, None),
    ("rmdir", "{}"): (0, None),
    ("sh", "-c", WORK, "sh", "{}", TALK): (3, None),
}


@dataclass(frozen=True)
class Seen:
    """An event: its type, and its data."""

    kind: str
    data: dict[str, Any]

    def of(self, *names: str) -> tuple[Any, ...]:
        return (self.kind, *(self.data.get(name) for name in names))


def read(recording: Path) -> list[Seen]:
    """All events, of which none was lost. A program that was not run may have missed something of others."""
    lines = [json.loads(line) for line in recording.read_text().splitlines()]
    events = [Seen(line["event_type"], line["data"]) for line in lines]
    losses = [event for event in events if event.kind == "loss"]
    expect("losses", [event for event in losses if event.data["cause"] != "not_run"], [])
    said = log_of(recording).read_text(errors="replace")
    if f"lost: {'not_run' if losses else 'nothing'}" not in said:
        raise Failure("the summary does not say that nothing was lost")
    return [event for event in events if event.kind != "loss"]


def expect_all(what: str, seen: Iterable[Hashable], wanted: Iterable[Hashable]) -> None:
    """The same, each as often, in any order."""
    have, want = Counter(iter(seen)), Counter(iter(wanted))
    if have != want:
        raise Failure(
            f"{what}: missing {list((want - have).items())}, too many {list((have - want).items())}"
        )


def has_tracefs() -> bool:
    return Path("/sys/kernel/tracing/events").is_dir()


def expect_notes(recording: Path, *, io: bool) -> None:
    """The summary has what the kernel lacks, and nothing else."""
    said = log_of(recording).read_text(errors="replace")
    for note, wanted in (
        ("bytes of sockets are unknown", not HAS_SOCKET_BYTES),
        ("calls through io_uring are neither", not HAS_URING),
        ("io is off", io and not has_tracefs()),
        ("closed before their process ends are not told", io and not has_tracefs()),
        ("are not seen: ", False),  # lines entered in a shell
    ):
        expect(f"{note!r} in the summary", note in said, wanted)


def work(name: str) -> list[str]:
    return ["sh", "-c", WORK, "sh", name, TALK]


def expect_work(events: list[Seen], name: str, *, io: bool) -> set[int]:
    """Each step of the work, once; returns its processes."""
    command = tuple(work(name))
    (shell,) = (
        e.data["pid"] for e in events if e.kind == "process_exec" and tuple(e.data["args"]) == command
    )
    mine = [event for event in events if shell in (event.data["pid"], event.data["ppid"])]
    programs = {e.data["pid"]: tuple(e.data["args"]) for e in mine if e.kind == "process_exec"}

    exits = {tuple(word.replace("{}", name) for word in args): how for args, how in EXITS.items()}
    expect_all("execs", (tuple(e.data["args"]) for e in mine if e.kind == "process_exec"), exits)
    expect_all(
        "forks",
        (e.of("pid", "child_pid") for e in mine if e.kind == "process_fork"),
        (("process_fork", shell, pid) for pid in programs if pid != shell),
    )
    expect_all(
        "exits",
        (
            (programs[e.data["pid"]], e.data["exit_code"], e.data["signal"])
            for e in mine
            if e.kind == "process_exit"
        ),
        ((args, *how) for args, how in exits.items()),
    )
    (killed,) = (pid for pid, args in programs.items() if args[-1] == "kill -9 $$")
    expect_all(
        "signals",
        (e.of("pid", "target_pid", "signal", "result") for e in mine if e.kind == "signal_send"),
        [("signal_send", killed, killed, 9, 0)],
    )
    expect_all(
        "lines",
        (e.of("comm", "line") for e in mine if e.kind == "shell_line"),
        [("shell_line", "bash", ": typed")],
    )
    expect_files(mine, f"{os.getcwd()}/{name}", io=io)
    expect_net(mine)
    return set(programs)


def expect_files(mine: list[Seen], folder: str, *, io: bool) -> None:
    wanted: list[tuple[Any, ...]] = [
        ("file_mkdir", folder, None, 0, None, None),
        ("file_open", f"{folder}/a", None, 0, None, None),
        ("file_rename", f"{folder}/a", f"{folder}/b", 0, None, None),
        ("file_delete", f"{folder}/b", None, 0, None, None),
        ("file_open", f"{folder}/missing", None, -2, None, None),
        ("file_rmdir", folder, None, 0, None, None),
    ]
    if io and has_tracefs():
        wanted.append(("file_close", f"{folder}/a", None, 0, None, len("x\n")))
    seen = (
        event.of("path", "new_path", "result", "count", "bytes_written")
        for event in mine
        if event.kind.startswith("file_") and event.data["path"].startswith(folder)
    )
    expect_all("files", seen, wanted)


def expect_net(mine: list[Seen]) -> None:
    wanted: list[tuple[Any, ...]] = [
        ("net_send", "udp", "127.0.0.1", 9, 0, 4, None, None),
        ("net_send", "udp", "127.0.0.1", 53, 0, len(QUESTION), None, None),
        ("dns_query", "udp", "127.0.0.1", 53, 0, None, "guest.test", None),
        ("net_connect", "tcp", "127.0.0.1", 9, -111, None, None, None),
        ("net_close", "udp", None, None, 0, None, None, len(QUESTION) if HAS_SOCKET_BYTES else None),
        ("net_close", "tcp", None, None, 0, None, None, 0 if HAS_SOCKET_BYTES else None),
    ]
    if has_tracefs():
        wanted.append(("net_close", "udp", None, None, 0, None, None, 4 if HAS_SOCKET_BYTES else None))
    seen = (
        event.of("protocol", "remote_address", "remote_port", "result", "data_len", "name", "bytes_sent")
        for event in mine
        if event.data.get("family") == "inet"
    )
    expect_all("sockets", seen, wanted)


def process_command(recording: Path) -> None:
    """`-- COMMAND`: nothing but its events, and its exit status."""
    name = recording.stem
    options = ["process", "-v", "-o", str(recording), "--events", EVENTS]
    with log_of(recording).open("wb") as log:
        done = subprocess.run(
            [*TRACER, *options, "--", *work(name)],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=120, check=False,
        )  # fmt: skip
    expect("exit status", done.returncode, 3)
    events = read(recording)
    processes = expect_work(events, name, io=True)
    expect("processes", {event.data["pid"] for event in events}, processes)
    expect_notes(recording, io=True)


def run(command: list[str], status: int) -> int:
    """Runs a program in silence; returns its pid."""
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet) as process:
        expect("exit status", process.wait(60), status)
    return process.pid


def process_everything(recording: Path) -> None:
    """Mode 0, no filter: the work, and this process, but not the tracer."""
    name = recording.stem
    tracer = start_tracer(["process", "-v", "-m", "0"], recording)
    shell = run(work(name), 3)
    end_tracer(tracer)
    events = read(recording)
    expect("the shell was seen", shell in expect_work(events, name, io=False), True)
    begun = [
        e.of("pid", "child_pid") for e in events if e.data["pid"] == os.getpid() and e.kind == "process_fork"
    ]
    expect("what this process began", begun, [("process_fork", os.getpid(), shell)])
    expect("events of the tracer", [e for e in events if e.data["pid"] == tracer.pid], [])
    expect_notes(recording, io=False)


def process_lives(recording: Path) -> None:
    """Mode 1: lives of all, files of those that match."""
    wanted = shutil.copy("/bin/sh", "lat-shell")
    tracer = start_tracer(["process", "-v", "-m", "1", "-c", wanted], recording)
    script = 'mkdir "$1"; rmdir "$1"; exit 3'
    matching = run([f"./{wanted}", "-c", script, "sh", "ours"], 3)
    other = run(["sh", "-c", script, "sh", "theirs"], 3)
    end_tracer(tracer)
    events = read(recording)
    mine = [event for event in events if {matching, other} & {event.data["pid"], event.data["ppid"]}]
    expect_all(
        "execs and exits",
        (
            (event.kind, event.data["comm"], event.data.get("exit_code"))
            for event in mine
            if event.kind in ("process_exec", "process_exit")
        ),
        [
            *[("process_exec", comm, None) for comm in (wanted, "sh", *["mkdir", "rmdir"] * 2)],
            *[("process_exit", comm, 0) for comm in ["mkdir", "rmdir"] * 2],
            *[("process_exit", comm, 3) for comm in (wanted, "sh")],
        ],
    )
    forks = Counter(event.data["pid"] for event in mine if event.kind == "process_fork")
    expect("forks", forks, Counter({matching: 2, other: 2}))
    folder = f"{os.getcwd()}/ours"
    files = [event for event in events if event.kind.startswith("file_")]
    strangers = [e for e in files if matching not in (e.data["pid"], e.data["ppid"])]
    expect("files of others", strangers, [])
    made = [event.of("path", "result") for event in files if event.data["path"].startswith(folder)]
    expect_all("files", made, [("file_mkdir", folder, 0), ("file_rmdir", folder, 0)])
    expect("events of the tracer", [e for e in events if e.data["pid"] == tracer.pid], [])


def process_crowd(recording: Path) -> None:
    """Several processes share the CPU: each of their events is there, or the summary says what was not run.

    From Linux 7 on a program in the kernel can be preempted, and meanwhile it is not run for other processes.
    """
    script = 'i=0; while [ $i -lt 300 ]; do i=$((i + 1)); : <"$0"; done'
    names = [f"{os.getcwd()}/crowd-{number}" for number in range(4)]
    for name in names:
        Path(name).touch()
    starts = " ".join(f"sh -c '{script}' {name} &" for name in names)
    options = ["process", "-v", "-o", str(recording), "--window", "0", "--events", "fork,exec,exit,file"]
    with log_of(recording).open("wb") as log:
        command = [*TRACER, *options, "--", "sh", "-c", f"{starts} wait"]
        subprocess.run(command, stdout=log, stderr=log, timeout=120, check=True)
    events = read(recording)
    opens = Counter(event.data["path"] for event in events if event.kind == "file_open")
    lives = Counter(event.kind for event in events if not event.kind.startswith("file_"))
    wanted = {"process_fork": 4, "process_exec": 5, "process_exit": 5, **dict.fromkeys(names, 300)}
    seen = {name: (opens + lives)[name] for name in wanted}
    if seen != wanted:
        print(f"of {wanted} only {seen}", flush=True)
        if "lost: not_run" not in log_of(recording).read_text(errors="replace"):
            raise Failure("events are missing, and the summary does not say so")
    expect("none twice", [name for name in wanted if seen[name] > wanted[name]], [])


LINKED = """
import os, sys
os.mkdir("real")
os.symlink("real", "link")
os.mkdir("link/made")
os.rename("link/made", "link/moved")
os.rmdir("link/moved")
open("link/file", "w").close()
os.link("link/file", "link/other")
os.symlink("nowhere", "link/soft")
os.symlink("file", "real/follow")
os.chmod("link/follow", 0o600)
os.chown("link/follow", 0, 0)
os.truncate("link/follow", 7)
os.unlink("link/soft")
os.unlink("link/" + "../link/" * 30 + "follow")
"""


def process_links(recording: Path) -> None:
    """Names with symbolic links in them: these kernels have fentry, so the paths are the real ones."""
    folder = f"{os.getcwd()}/links-{recording.stem}"
    os.mkdir(folder)
    options = ["process", "-v", "-o", str(recording), "--window", "0", "--events", "file"]
    with log_of(recording).open("wb") as log:
        command = [
            *TRACER,
            *options,
            "--",
            "python3",
            "-I",
            "-S",
            "-c",
            f"import os; os.chdir({folder!r})\n{LINKED}",
        ]
        subprocess.run(command, stdout=log, stderr=log, timeout=120, check=True)
    said = log_of(recording).read_text(errors="replace")
    expect("a note", "open nothing: no fentry" in said, False)
    expect("a note on chown", "chown: its hook takes no fentry" in said, RELEASE < (6, 1))
    seen = [
        event.of("path", "new_path", "unresolved")
        for event in read(recording)
        if event.kind.startswith("file_")
        and (event.data.get("new_path") or event.data["path"]).startswith(folder)
    ]
    real = f"{folder}/real"
    wanted = [
        ("file_mkdir", f"{real}", None, None),
        ("file_link", "real", f"{folder}/link", None),
        ("file_mkdir", f"{real}/made", None, None),
        ("file_rename", f"{real}/made", f"{real}/moved", None),
        ("file_rmdir", f"{real}/moved", None, None),
        ("file_open", f"{real}/file", None, None),
        ("file_link", f"{real}/file", f"{real}/other", None),
        ("file_link", "nowhere", f"{real}/soft", None),
        ("file_link", "file", f"{real}/follow", None),
        ("file_chmod", f"{real}/file", None, None),
        ("file_chown", f"{real}/file", None, None)
        if RELEASE >= (6, 1)
        else ("file_chown", f"{folder}/link/follow", None, True),
        ("file_truncate", f"{real}/file", None, None),
        ("file_delete", f"{real}/soft", None, None),
        ("file_delete", f"{real}/follow", None, None),
    ]
    expect_all("files", seen, wanted)


def process_int80(recording: Path) -> None:
    """32-bit calls of a 64-bit program: counted, or the summary says that they are not."""
    options = ["process", "-v", "-o", str(recording), "--events", "file,signal"]
    with log_of(recording).open("wb") as log:
        command = [
            *TRACER,
            *options,
            "--",
            f"{os.getcwd()}/int80",
            "/etc/passwd",
            f"{os.getcwd()}/int80-folder",
            "9",
        ]
        subprocess.run(command, stdout=log, stderr=log, timeout=120, check=True)
    said = log_of(recording).read_text(errors="replace")
    counted = RELEASE >= (5, 18) or not has_tracefs()
    expect("int 0x80 counted", "lost: compat_call 36" in said, counted)
    expect("the note", "(int 0x80) are neither seen nor counted" in said, not counted)


def without_tracefs(check: Callable[[Path], None], recording: Path) -> None:
    """A check where the tracepoints of single calls cannot be had. tracefs stays away afterwards."""
    for path in TRACEFS:
        subprocess.run(["umount", path], stderr=subprocess.DEVNULL, check=False)
    expect("tracefs", has_tracefs(), False)
    check(recording)


CHECKS: dict[str, Callable[[Path], None]] = {
    "process_command": process_command,
    "process_everything": process_everything,
    "process_lives": process_lives,
    "process_crowd": process_crowd,
    "process_links": process_links,
    "process_int80": process_int80,
    "process_command_without_tracefs": functools.partial(without_tracefs, process_command),
    "process_int80_without_tracefs": functools.partial(without_tracefs, process_int80),
}
