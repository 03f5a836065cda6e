"""What file calls a command makes, by strace, and by the tracer: as multisets that can be compared.

Two runs have other pids, temporary names and orders. So a call's process is known by the arguments of its
last exec, `Names` makes names the same that differ from run to run, and only the numbers of equal calls
count.

Paths: those of calls that failed are compared as they were given, behind the directory that they are
relative to; those of others with symbolic links resolved, but for a link at the end of what is not opened.
"""

from __future__ import annotations

import errno
import os
import posixpath
import re
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from libagenttracer.events import (
    Event,
    FileChmod,
    FileChown,
    FileDelete,
    FileEvent,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
    ProcessEvent,
    ProcessExec,
    ProcessFork,
)

__all__ = ["Call", "Names", "by_strace", "by_tracer", "difference"]

FILE_CALLS = [
    *("open", "openat", "openat2", "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2"),
    *("mkdir", "mkdirat", "rmdir", "link", "linkat", "symlink", "symlinkat"),
    *("chmod", "fchmod", "fchmodat", "chown", "lchown", "fchown", "fchownat", "truncate", "ftruncate"),
]
PROCESS_CALLS = ["execve", "execveat", "clone", "clone3", "fork", "vfork", "chdir", "fchdir"]
LONG_PATH = 4000  # longer ones are all the same: a tracer may have to cut them, at 4,096
LONG = "(long path)"
ACCESS = {0: "read", 1: "write", 2: "read_write"}
LINE = re.compile(r"(\d+) +(.*)")
STRING = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
DESCRIPTOR = re.compile(r"(-?\d+|AT_FDCWD)<((?:\\x[0-9a-f]{2}|[^<>])*)>(\(deleted\))?")


class Call(NamedTuple):
    """`operation` is the event type's: open, delete, rename …; `detail` what else it was asked for."""

    argv: tuple[str, ...]
    operation: str
    path: str
    new_path: str
    result: int
    detail: str

    def __str__(self) -> str:
        new = f" -> {self.new_path!r}" if self.new_path else ""
        program = " ".join(self.argv)
        program = program if len(program) <= 70 else f"{program[:67]}..."
        return f"{self.operation} {self.path!r}{new} = {self.result} ({self.detail}) by {program!r}"


@dataclass
class Names:
    """Makes names comparable that differ from run to run.

    Attributes:
        replace: (regular expression, replacement) for paths and arguments, in this order, before those that
            are always done (of Python's tempfile, git, gcc and /proc).
    """

    replace: Sequence[tuple[str, str]] = ()
    _compiled: list[tuple[re.Pattern[str], str]] = field(init=False)

    ALWAYS = (
        (r"/proc/\d+(?=/|$)", "/proc/PID"),
        (r"\btmp_(obj|pack|idx|rev|midx)_[A-Za-z0-9]{6}", r"tmp_\1_TEMPORARY"),
        (r"\btmp[a-z0-9_]{8}(?![a-z0-9_])", "tmpTEMPORARY"),
        (r"\.tmp-\d+-pack", ".tmp-PID-pack"),
        (r"/tmp/cc[A-Za-z0-9]{6}(?=\.|$)", "/tmp/ccTEMPORARY"),
        (r"/info/(refs|packs)_[A-Za-z0-9]{6}$", r"/info/\1_TEMPORARY"),
        (r"/#\d+$", "/#INODE"),
        (r"/\.git/t[A-Za-z0-9]{6}$", "/.git/tTEMPORARY"),
    )

    def __post_init__(self) -> None:
        self._compiled = [(re.compile(pattern), new) for pattern, new in (*self.replace, *self.ALWAYS)]

    def __call__(self, text: str) -> str:
        for pattern, new in self._compiled:
            text = pattern.sub(new, text)
        return text if len(text) <= LONG_PATH else LONG


@dataclass
class _Links:
    """Symbolic links: those that were made in the run, wherever they are now, and the machine's others."""

    made: dict[str, str] = field(default_factory=dict)

    def resolve(self, path: str, *, last: bool, depth: int = 0) -> str:
        """The path without links (`last`: its last part, too)."""
        parts = [part for part in path.split("/") if part and part != "."]
        done = ""
        for index, part in enumerate(parts):
            if part == "..":
                done = done.rpartition("/")[0]
                continue
            done = f"{done}/{part}"
            if index == len(parts) - 1 and not last:
                break
            target = self.made.get(done)
            if target is None and not done.startswith("/proc/"):
                target = _read_link(done)
            if target is not None and depth < 40:
                rest = "/".join(parts[index + 1 :])
                joined = posixpath.join(posixpath.dirname(done), target, rest)
                return self.resolve(joined, last=last, depth=depth + 1)
        return done or "/"


def _read_link(path: str) -> str | None:
    try:
        return os.readlink(path)
    except (OSError, ValueError):
        return None


# --- strace ---------------------------------------------------------------------------------------


@dataclass
class _Process:
    argv: tuple[str, ...]
    cwd: list[bytes]  # one that threads and the like share

    def forked(self, shares_cwd: bool) -> _Process:
        return _Process(self.argv, self.cwd if shares_cwd else list(self.cwd))


def by_strace(command: Sequence[str], log: Path, names: Names, **options: Any) -> Counter[Call]:
    """Runs a command under strace, which has to succeed; its calls and its descendants'.

    Args:
        log: what strace says goes there.
        options: of subprocess.run (`cwd`, `env` …).
    """
    traced = ",".join(f"?{name}" for name in (*FILE_CALLS, *PROCESS_CALLS))
    strace = ["strace", "-f", "-o", str(log), "-y", "-xx", "-s", "8192", "-a", "1"]
    strace += ["--quiet=attach,personality,exit", "-e", "signal=none", "-e", f"trace={traced}", "--"]
    options = {"timeout": 120, "stdout": subprocess.DEVNULL, **options}
    subprocess.run([*strace, *command], check=True, **options)
    return parse(log.read_text("ascii"), names, os.fsencode(os.path.realpath(options.get("cwd") or ".")))


def parse(text: str, names: Names, cwd: bytes) -> Counter[Call]:
    """The calls in what `by_strace` has strace write."""
    lines = _joined(text)
    parents = {}
    for index, (pid, name, _, result) in enumerate(lines):
        if name in ("clone", "clone3", "fork", "vfork") and result[:1].isdigit():
            parents[index] = (pid, int(result.split()[0]))
    processes = {lines[0][0]: _Process((), [cwd])}
    calls: list[Call] = []
    links = _Links()
    for index, (pid, name, arguments, result) in enumerate(lines):
        process = processes[pid]
        if index in parents:
            shares = "CLONE_FS" in arguments
            processes[parents[index][1]] = process.forked(shares)
        elif name in FILE_CALLS:
            if not result.startswith("?"):
                calls.append(_call(process, name, _split(arguments), result))
        elif not result.startswith("0"):
            continue
        elif name == "chdir":
            process.cwd[0] = _real(_join(process.cwd[0], _bytes(arguments)), links)
        elif name == "fchdir":
            process.cwd[0] = _annotated(arguments)
        else:  # execve, execveat
            inner = arguments[arguments.index("[") : arguments.index("]") + 1]
            processes[pid] = _Process(tuple(map(_text, _strings(inner))), list(process.cwd))
        if calls and calls[-1].operation == "symlink" and calls[-1].result == 0:
            links.made[calls[-1].new_path] = calls[-1].path
    return Counter(_normal(call, links, names) for call in calls)


def _joined(text: str) -> list[tuple[int, str, str, str]]:
    """(pid, call, its arguments, its result), in the order of their beginnings."""
    found: list[list[Any]] = []
    unfinished: dict[int, list[Any]] = {}
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        assert match, line
        pid, rest = int(match[1]), match[2]
        superseded = re.search(r"superseded by execve in pid (\d+)", rest)
        if superseded:
            unfinished[pid] = unfinished.pop(int(superseded[1]))
            continue
        if rest.startswith(("+++", "---")):
            continue
        if rest.startswith("<... "):
            entry = unfinished.pop(pid)
            entry[1] += rest.partition(" resumed>")[2]
        else:
            entry = [pid, rest]
            found.append(entry)
        if entry[1].endswith("<unfinished ...>"):
            entry[1] = entry[1][: -len("<unfinished ...>")].rstrip()
            unfinished[pid] = entry
    lines = []
    for pid, call in found:
        name, _, rest = call.partition("(")
        arguments, equals, result = rest.rpartition(" = ")
        if equals:  # else it never returned
            assert arguments.rstrip().endswith(")"), call
            lines.append((pid, name, arguments.rstrip()[:-1], result))
    return lines


def _split(arguments: str) -> list[str]:
    """At the commas that are in no brackets. Strings and paths are all in hexadecimal."""
    parts, depth, start = [], 0, 0
    for index, character in enumerate(arguments):
        if character in "{[(":
            depth += 1
        elif character in "}])":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append(arguments[start:index].strip())
            start = index + 1
    parts.append(arguments[start:].strip())
    return parts


def _strings(text: str) -> list[bytes]:
    return [bytes.fromhex(match.replace("\\x", "")) for match in STRING.findall(text)]


def _bytes(text: str) -> bytes:
    found = _strings(text)
    return found[0] if found else b""


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")


def _annotated(text: str, otherwise: bytes | None = None) -> bytes:
    """The path behind a descriptor. (strace says nothing about paths that are longer than 4,096 bytes.)"""
    match = DESCRIPTOR.match(text)
    if not match and otherwise is not None:
        return otherwise
    assert match, text
    raw = re.sub(rb"\\x([0-9a-f]{2})", lambda found: bytes([int(found[1], 16)]), match[2].encode())
    return raw.removesuffix(b" (deleted)")


def _join(directory: bytes, path: bytes) -> bytes:
    return posixpath.join(directory, path) if path else directory


def _real(path: bytes, links: _Links) -> bytes:
    return os.fsencode(links.resolve(os.fsdecode(path), last=True))


def _call(process: _Process, name: str, arguments: list[str], result: str) -> Call:  # noqa: PLR0911
    number = _number(result)
    cwd = process.cwd[0]

    def at(index: int) -> bytes:
        """The path of a directory and a name in it."""
        directory = b""
        if _bytes(arguments[index + 1])[:1] != b"/":
            directory = _annotated(arguments[index], cwd if arguments[index] == "AT_FDCWD" else None)
        return _join(directory, _bytes(arguments[index + 1]))

    def here(index: int) -> bytes:
        return _join(cwd, _bytes(arguments[index]))

    def made(operation: str, path: bytes, detail: str = "", new: bytes = b"") -> Call:
        return Call(process.argv, operation, _text(path), _text(new), number, detail)

    if name in ("open", "openat", "openat2", "creat"):
        path = at(0) if name in ("openat", "openat2") else here(0)
        if number == 0:
            path = _annotated(result, path)
        flags = {"open": 1, "openat": 2, "openat2": 2, "creat": 0}[name]
        return made("open", path, _access("O_WRONLY" if name == "creat" else arguments[flags]))
    if name in ("unlink", "rmdir", "unlinkat"):
        path = at(0) if name == "unlinkat" else here(0)
        directory = name == "rmdir" or "AT_REMOVEDIR" in arguments[-1]
        return made("rmdir" if directory else "delete", path)
    if name == "rename":
        return made("rename", here(0), "0", here(1))
    if name in ("renameat", "renameat2"):
        flags_given = arguments[4] if name == "renameat2" else "0"
        return made("rename", at(0), str(_rename_flags(flags_given)), at(2))
    if name in ("mkdir", "mkdirat"):
        return made("mkdir", here(0) if name == "mkdir" else at(0), f"{int(arguments[-1], 8) & 0o7777:o}")
    if name in ("link", "linkat"):
        paths = (here(0), here(1)) if name == "link" else (at(0), at(2))
        return made("link", paths[0], "", paths[1])
    if name in ("symlink", "symlinkat"):
        return made("symlink", _bytes(arguments[0]), "", here(1) if name == "symlink" else at(1))
    if name in ("truncate", "ftruncate"):
        path = here(0) if name == "truncate" else _annotated(arguments[0])
        return made("truncate", path, str(int(arguments[1])))
    if name in ("chmod", "fchmod", "fchmodat"):
        path = {"chmod": here, "fchmod": lambda index: _annotated(arguments[index]), "fchmodat": at}[name](0)
        mode = arguments[2 if name == "fchmodat" else 1]
        return made("chmod", path, f"{int(mode, 8) & 0o7777:o}")
    assert name in ("chown", "lchown", "fchown", "fchownat"), name
    owner = 2 if name == "fchownat" else 1
    path = at(0) if name == "fchownat" else _annotated(arguments[0]) if name == "fchown" else here(0)
    detail = f"{int(arguments[owner])}:{int(arguments[owner + 1])}"
    return made("chown", path, detail)


def _number(result: str) -> int:
    if result.startswith("-1 "):
        return -int(getattr(errno, result.split()[1]))
    return 0


def _access(flags: str) -> str:
    if "O_PATH" in flags:
        return "path"
    return "read_write" if "O_RDWR" in flags else "write" if "O_WRONLY" in flags else "read"


def _rename_flags(text: str) -> int:
    flags = {"RENAME_NOREPLACE": 1, "RENAME_EXCHANGE": 2, "RENAME_WHITEOUT": 4, "0": 0}
    return sum(flags[flag] for flag in text.split("|"))


def _normal(call: Call, links: _Links | None, names: Names) -> Call:
    path, new_path = call.path, call.new_path
    if call.result:
        path = path if call.operation == "symlink" else _tidy(path)
        new_path = _tidy(new_path)
    elif links:
        if call.operation not in ("open", "symlink"):
            path = links.resolve(path, last=False)
        if new_path:
            new_path = links.resolve(new_path, last=False)
    argv = tuple(names(argument) for argument in call.argv)
    return call._replace(argv=argv, path=names(path), new_path=names(new_path))


def _tidy(path: str) -> str:
    """Without doubled and final slashes and "."."""
    return re.sub(r"(/\.?)+(?=/|$)", "", path) if path not in ("", "/") else path


# --- the tracer -----------------------------------------------------------------------------------

OPERATIONS = {
    FileOpen: "open",
    FileDelete: "delete",
    FileRename: "rename",
    FileMkdir: "mkdir",
    FileRmdir: "rmdir",
    FileLink: "link",
    FileChmod: "chmod",
    FileChown: "chown",
    FileTruncate: "truncate",
}


def by_tracer(events: Iterable[Event], names: Names) -> Counter[Call]:
    """The same calls from a recording. An event that stands for several counts as many."""
    events = list(events)
    programs = {event.exec_id: tuple(event.args) for event in events if isinstance(event, ProcessExec)}
    owners = {event.exec_id: event.process_id for event in events if isinstance(event, ProcessEvent)}
    forks = {event.child_process_id: event.exec_id for event in events if isinstance(event, ProcessFork)}
    links = _Links(
        {
            event.new_path: event.path
            for event in events
            if isinstance(event, FileLink) and event.symbolic and event.result == 0
        }
    )
    found: Counter[Call] = Counter()
    for event in events:
        if not isinstance(event, FileEvent) or type(event) not in OPERATIONS:
            continue
        argv = _program(event.exec_id, programs, owners, forks)
        operation = OPERATIONS[type(event)]
        if isinstance(event, FileLink) and event.symbolic:
            operation = "symlink"
        new_path = event.new_path if isinstance(event, (FileRename, FileLink)) else ""
        call = Call(argv, operation, event.path, new_path, event.result, _detail(event))
        unresolved = getattr(event, "unresolved", False)
        if getattr(event, "truncated", False):
            call = call._replace(path=LONG, new_path=LONG if new_path else "")
        found[_normal(call, links if unresolved else None, names)] += int(getattr(event, "count", 1))
    return found


def _program(
    exec_id: str, programs: dict[str, tuple[str, ...]], owners: dict[str, str], forks: dict[str, str]
) -> tuple[str, ...]:
    """The arguments of the last exec of the process, or else of its ancestor when it was forked."""
    while exec_id not in programs:
        process_id = owners.get(exec_id, "")
        if process_id not in forks:
            return ("unknown program",)
        exec_id = forks[process_id]
    return programs[exec_id]


def _detail(event: FileEvent) -> str:
    if isinstance(event, FileOpen):
        return event.access
    if isinstance(event, (FileMkdir, FileChmod)):
        return f"{event.mode:o}"
    if isinstance(event, FileRename):
        return str(event.flags)
    if isinstance(event, FileChown):
        owner = [-1 if number is None else number for number in (event.new_uid, event.new_gid)]
        return f"{owner[0]}:{owner[1]}"
    if isinstance(event, FileTruncate):
        return str(event.length)
    return ""


def difference(truth: Counter[Call], found: Counter[Call]) -> list[str]:
    """A line for each call that is missing in `found`, or too much there."""
    return sorted(_differences(truth, found))


def _differences(truth: Counter[Call], found: Counter[Call]) -> Iterator[str]:
    for call in truth.keys() | found.keys():
        if truth[call] != found[call]:
            yield f"{truth[call]} expected, {found[call]} found: {call}"
