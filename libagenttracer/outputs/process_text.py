"""Text for people, of processes: one line for each event, and what makes foreign text harmless."""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

from ..events import (
    DnsQuery,
    Event,
    FileChmod,
    FileChown,
    FileClose,
    FileDelete,
    FileEvent,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
    NetAccept,
    NetBind,
    NetClose,
    NetConnect,
    NetEvent,
    NetListen,
    NetSend,
    ProcessEvent,
    ProcessExec,
    ProcessExit,
    ProcessFork,
    ShellLine,
    SignalSend,
)

__all__ = ["one_line", "printable", "process_line"]

# what could drive a terminal or turn a line round: C0 but tab and newline, DEL, C1, bidirectional controls;
# and surrogates, which no file can have
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_WHO_WIDTH, _VERB_WIDTH = 17, 8
_MAX_COMMAND = 400
_ACCESS = {"read": "r", "write": "w", "read_write": "rw", "path": "path"}
# those that mean the same on every architecture, and that say something about the file
_OPEN_FLAGS = {
    0o100: "creat",
    0o200: "excl",
    0o1000: "trunc",
    0o2000: "append",
    0o4000000: "sync",
    0o20000000: "tmpfile",
}
_RENAME_FLAGS = {1: "noreplace", 2: "exchange", 4: "whiteout"}
_TARGETS = {0: "its group", -1: "all processes"}


def printable(text: str) -> str:
    """Text that cannot do anything to a terminal: controls are shown as escapes, CR LF as a newline."""
    return _UNSAFE.sub(lambda match: _escape(match[0]), text.replace("\r\n", "\n"))


def one_line(text: str | None) -> str:
    """As `printable`, and on one line: a name must not look like another event."""
    return printable(text or "").replace("\n", "\\n").replace("\t", "\\t")


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


class _Line(NamedTuple):
    """What a line says, not yet escaped.

    Attributes:
        verb: the first column.
        notes: what follows.
        failure: why it failed, "" if it did not.
        color: of the verb.
        last: what comes after the failure.
        quiet: of little interest, unless it failed.
    """

    verb: str
    notes: list[str]
    failure: str = ""
    color: str = "file"
    last: str = ""
    quiet: bool = False


def process_line(event: Event, extra: bool, paint: Callable[[str, str], str]) -> str | None:
    """What happened, without the time: who, verb, what; nothing for an event of another kind.

    Args:
        event: the event.
        extra: user, thread, parent, system call and the like too.
        paint: puts text into a colour: `process`, `file`, `net`, `signal`, `failure` or `dim`.
    """
    describe = _LINES.get(type(event))
    if describe is None or not isinstance(event, ProcessEvent):
        return None
    line = describe(event, extra)
    # whoever has brackets in its name could pass for another process
    comm = shlex.quote(event.comm) if "[" in event.comm else event.comm or "?"
    who = f"{one_line(comm)}[{event.pid}]".ljust(_WHO_WIDTH)
    tail = [line.last] if line.last else []
    if extra:
        tail += [f"uid {event.uid}", f"tid {event.tid}", f"ppid {event.ppid}"]
        tail += [event.syscall] if isinstance(event, (FileEvent, SignalSend)) else []
    # everything is escaped here, so that no describing function can forget it
    notes, after = ([one_line(note) for note in part if note] for part in (line.notes, tail))
    failure = [paint("failure", one_line(line.failure))] if line.failure else []
    if line.quiet and not failure:
        return paint("dim", f"{who} {line.verb:<{_VERB_WIDTH}} {'  '.join([*notes, *after])}")
    gap = " " * (_VERB_WIDTH - len(line.verb))
    return f"{who} {paint(line.color, line.verb)}{gap} {'  '.join([*notes, *failure, *after])}"


def _fork(event: ProcessFork, extra: bool) -> _Line:
    return _Line("fork", [f"child {event.child_pid}"], color="process", quiet=True)


def _exec(event: ProcessExec, extra: bool) -> _Line:
    command = shlex.join(event.args)
    if event.args[:1] != [event.filename]:
        command = f"{_path(event.filename)} {command}"
    missing = 0
    if event.args_truncated:
        missing = max(1, event.args_bytes - sum(_size(argument) + 1 for argument in event.args))
    notes = [_cut(command.rstrip(" "), missing, extra)]
    if event.exe_deleted:
        notes.append("(executable has no name any more)")
    if event.compat:
        notes.append("(32-bit: its calls are not seen)")
    if extra:
        notes += [f"cwd {_path(event.cwd)}", f"exe {_path(event.exe)}", f"gid {event.gid}"]
    return _Line("exec", notes, color="process")


def _exit(event: ProcessExit, extra: bool) -> _Line:
    failure = ""
    if event.signal is not None:
        failure = f"killed by {_signal(event.signal)}" + (" (core dumped)" if event.core_dumped else "")
    elif event.exit_code:
        failure = str(event.exit_code)
    last = _duration(event.duration_ms)
    if extra:
        last += f"  user {_duration(event.user_ms)}  system {_duration(event.system_ms)}"
        last += f"  max rss {event.max_rss_bytes / 2**20:.1f} MiB"
    return _Line("exit", [] if failure else ["0"], failure, "process", last, quiet=True)


def _open(event: FileOpen, extra: bool) -> _Line:
    access = _ACCESS.get(event.access, event.access) + _flags(event.flags, _OPEN_FLAGS)
    more = [f"mode {event.mode:04o}" if event.mode is not None else "", _descriptor(event.fd)]
    return _file("open", event, extra, [_whole_path(event), access, *(more if extra else [])])


def _close(event: FileClose, extra: bool) -> _Line:
    moved = f"read {event.bytes_read}, written {event.bytes_written}"
    return _file("close", event, extra, [_whole_path(event), moved, _descriptor(event.fd) if extra else ""])


def _delete(event: FileDelete, extra: bool) -> _Line:
    return _file("delete", event, extra, [_whole_path(event)])


def _rename(event: FileRename, extra: bool) -> _Line:
    both = f"{_path(event.path)} -> {_path(event.new_path)}" + ("…" if event.truncated else "")
    return _file("rename", event, extra, [both, _flags(event.flags, _RENAME_FLAGS)])


def _mkdir(event: FileMkdir, extra: bool) -> _Line:
    return _file("mkdir", event, extra, [_whole_path(event), f"mode {event.mode:04o}" if extra else ""])


def _rmdir(event: FileRmdir, extra: bool) -> _Line:
    return _file("rmdir", event, extra, [_whole_path(event)])


def _link(event: FileLink, extra: bool) -> _Line:
    both = f"{_path(event.new_path)} -> {_path(event.path)}" + ("…" if event.truncated else "")
    return _file("symlink" if event.symbolic else "link", event, extra, [both])


def _chmod(event: FileChmod, extra: bool) -> _Line:
    return _file("chmod", event, extra, [f"{event.mode:04o} {_whole_path(event)}"])


def _chown(event: FileChown, extra: bool) -> _Line:
    owner, group = ("-" if number is None else number for number in (event.new_uid, event.new_gid))
    return _file("chown", event, extra, [f"{owner}:{group} {_whole_path(event)}"])


def _truncate(event: FileTruncate, extra: bool) -> _Line:
    return _file("truncate", event, extra, [_whole_path(event), f"to {event.length} bytes"])


def _file(verb: str, event: Any, extra: bool, notes: list[str]) -> _Line:
    failure = _error(event.result)
    if failure in errno.errorcode.values():
        reason = os.strerror(-event.result).removesuffix(" or directory")
        failure += f" ({reason[:1].lower()}{reason[1:]})"
    marks = ["?"] if extra and event.unresolved else []
    return _Line(verb, notes + marks, failure, last=_times(event))


def _connect(event: NetConnect, extra: bool) -> _Line:
    return _net("connect", event, extra, [_remote(event), "late" if event.late else ""])


def _accept(event: NetAccept, extra: bool) -> _Line:
    return _net("accept", event, False, [f"{_local(event)} from {_remote(event)}"])


def _bind(event: NetBind, extra: bool) -> _Line:
    return _net("bind", event, False, [_local(event)])


def _listen(event: NetListen, extra: bool) -> _Line:
    return _net("listen", event, False, [_local(event)])


def _send(event: NetSend, extra: bool) -> _Line:
    return _net("send", event, extra, [_remote(event), f"{event.data_len} bytes"], _times(event))


def _net_close(event: NetClose, extra: bool) -> _Line:
    sent, received = (
        "?" if number is None else number for number in (event.bytes_sent, event.bytes_received)
    )
    peer = _local(event) if event.remote_address is None else _remote(event)
    return _net("close", event, extra, [peer, f"sent {sent}, received {received}"])


def _net(verb: str, event: NetEvent, extra: bool, notes: list[str], last: str = "") -> _Line:
    if event.family in ("inet", "inet6"):
        kind = event.protocol
    else:
        stream = event.family == "unix" and event.protocol == "stream"
        kind = event.family if stream else f"{event.family} {event.protocol}"
    failure = _error(event.result)
    pending = failure == "EINPROGRESS"
    notes = [f"{kind} {notes[0]}", *notes[1:]]
    if pending:  # it goes on: no failure
        notes.append(failure)
    if extra and event.local_address is not None:
        notes.append(f"from {_local(event)}")
    return _Line(verb, notes, "" if pending else failure, "net", last)


def _dns(event: DnsQuery, extra: bool) -> _Line:
    asked = f"{_path(event.query_type)} {_path(event.name)} via {_remote(event)}"
    from_ = f"{event.protocol} from {_local(event)}" if extra else ""
    return _Line("dns", [asked, from_], _error(event.result), "net")


def _kill(event: SignalSend, extra: bool) -> _Line:
    target = _TARGETS.get(event.target_pid)
    if target is None:
        target = str(event.target_pid) if event.target_pid > 0 else f"group {-event.target_pid}"
    return _Line("signal", [f"{_signal(event.signal)} to {target}"], _error(event.result), "signal")


def _shell(event: ShellLine, extra: bool) -> _Line:
    line = _cut(event.line, 0, extra) + (" …" if event.truncated else "")
    return _Line("shell", [line], color="process")


_LINES: dict[type[Event], Callable[[Any, bool], _Line]] = {
    ProcessFork: _fork,
    ProcessExec: _exec,
    ProcessExit: _exit,
    FileOpen: _open,
    FileClose: _close,
    FileDelete: _delete,
    FileRename: _rename,
    FileMkdir: _mkdir,
    FileRmdir: _rmdir,
    FileLink: _link,
    FileChmod: _chmod,
    FileChown: _chown,
    FileTruncate: _truncate,
    NetConnect: _connect,
    NetAccept: _accept,
    NetBind: _bind,
    NetListen: _listen,
    NetSend: _send,
    NetClose: _net_close,
    DnsQuery: _dns,
    SignalSend: _kill,
    ShellLine: _shell,
}


def _path(text: str) -> str:
    """A name; in quotes where it has blanks or quotes, so that it does not look like more of the line."""
    return shlex.quote(text) if not text or re.search(r"[\s'\"]", text) else text


def _whole_path(event: Any) -> str:
    return _path(event.path) + ("…" if event.truncated else "")


def _cut(text: str, missing: int, extra: bool) -> str:
    """The beginning of a command, and how many bytes there are more; `missing` ones are not in it at all."""
    shown = text if extra else text[:_MAX_COMMAND]
    rest = _size(text[len(shown) :]) + missing
    return f"{shown}… ({rest} more bytes)" if rest else shown


def _size(text: str) -> int:
    """Bytes of a string, where an escaped byte is one."""
    return len(text.encode(errors="surrogatepass")) - 2 * len(re.findall("[\udc80-\udcff]", text))


def _local(event: NetEvent) -> str:
    return _address(event, event.local_address, event.local_port)


def _remote(event: NetEvent) -> str:
    return _address(event, event.remote_address, event.remote_port)


def _address(event: NetEvent, address: str | None, port: int | None) -> str:
    if address is None:
        return "?"
    if port is None:
        return _path(address)
    return f"[{_path(address)}]:{port}" if event.family == "inet6" else f"{_path(address)}:{port}"


def _descriptor(number: int | None) -> str:
    return "" if number is None else f"fd {number}"


def _times(event: Any) -> str:
    count = getattr(event, "count", 1)
    return f"x{count}" if count != 1 else ""


def _flags(flags: int, names: dict[int, str]) -> str:
    found = [name for bit, name in names.items() if flags & bit]
    return f"+{','.join(found)}" if found else ""


def _error(result: int) -> str:
    return "" if result == 0 else errno.errorcode.get(-result, f"result {result}")


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # 0, and most of the real-time ones
        return f"signal {number}"


def _duration(ms: float) -> str:
    return f"{ms:.1f} ms" if ms < 1000 else f"{ms / 1000:.1f} s"
