"""Events of processes: their lives, files, connections, signals and shell lines."""

from __future__ import annotations

from typing import Literal

from .base import Event, event_type

__all__ = [
    "DnsQuery",
    "FileChmod",
    "FileChown",
    "FileClose",
    "FileDelete",
    "FileEvent",
    "FileLink",
    "FileMkdir",
    "FileOpen",
    "FileRename",
    "FileRmdir",
    "FileTruncate",
    "NetAccept",
    "NetBind",
    "NetClose",
    "NetConnect",
    "NetEvent",
    "NetListen",
    "NetSend",
    "ProcessEvent",
    "ProcessExec",
    "ProcessExit",
    "ProcessFork",
    "ShellLine",
    "SignalSend",
]


class ProcessEvent(Event, frozen=True, gc=False):
    """What all events of a process have.

    Attributes:
        pid: process (thread group) that did it, in the initial pid namespace.
        tid: its thread.
        ppid: its parent when the process was first seen, or at its last exec.
        uid: real user id.
        comm: name of the process's first thread, when the process was first seen, or at its last exec.
        process_id: boot, pid and start time: never another process's, the same over an exec.
        exec_id: that, and the kernel's count of execs: changes with each exec.
        parent_process_id: the parent's `process_id`.
    """

    pid: int
    tid: int
    ppid: int
    uid: int
    comm: str
    process_id: str
    exec_id: str
    parent_process_id: str


@event_type("process_fork")
class ProcessFork(ProcessEvent, frozen=True, gc=False):
    """The process made another one (not a thread).

    Attributes:
        child_pid, child_process_id: the new process.
    """

    child_pid: int
    child_process_id: str


@event_type("process_exec")
class ProcessExec(ProcessEvent, frozen=True, gc=False):
    """The process became another program.

    Attributes:
        filename: as given to execve; "/dev/fd/N" for execveat of a descriptor.
        args: the arguments, the program's name first.
        cwd: working directory, "" where unknown.
        exe: path of the executable file that runs (for a script, the interpreter's), "" where unknown.
        args_bytes: size of all arguments, their NULs included.
        gid: real group id.
        cgroup_id: inode number of the cgroup's directory (cgroup v2).
        namespace_pid: pid in the process's own pid namespace.
        args_truncated: `args` is not complete; its last one may be cut.
        exe_deleted: the executable has no name in a directory any more (deleted, or a memfd).
        compat: a program of another word size (32-bit): its system calls are not seen.
    """

    filename: str
    args: list[str]
    cwd: str
    exe: str
    args_bytes: int
    gid: int
    cgroup_id: int
    namespace_pid: int
    args_truncated: bool = False
    exe_deleted: bool = False
    compat: bool = False


@event_type("process_exit")
class ProcessExit(ProcessEvent, frozen=True, gc=False):
    """The process's last thread ended.

    Attributes:
        exit_code: as given to exit; null if killed.
        signal: that killed it; null if none.
        core_dumped: the kernel wrote a core.
        duration_ms: since it was forked.
        user_ms, system_ms: CPU time of all its threads.
        max_rss_bytes: the most memory that it had resident.
    """

    exit_code: int | None
    signal: int | None
    core_dumped: bool
    duration_ms: float
    user_ms: float
    system_ms: float
    max_rss_bytes: int


class FileEvent(ProcessEvent, frozen=True, gc=False):
    """What all events of files have.

    Attributes:
        path: absolute, as the kernel resolved it. If `unresolved`: what the call was given, behind the
            directory that it is relative to; symbolic links and ".." may be in it.
        result: 0, or the negative errno.
        syscall: name of the system call.
    """

    path: str
    result: int
    syscall: str


@event_type("file_open")
class FileOpen(FileEvent, frozen=True, gc=False):
    """A file was opened, created, or could not be.

    Attributes:
        access: what it was opened for.
        flags: O_* as the kernel numbers them, the access mode included.
        mode: permission bits asked for, if the call may create the file.
        fd: the new descriptor.
        unresolved: see `FileEvent.path`; so wherever the call failed.
        truncated: the path is longer than 4,096 bytes, or could not be read.
        count: how many equal calls this event stands for.
        until_ns: if several, when the last of them was, nanoseconds since the epoch.
    """

    access: Literal["read", "write", "read_write", "path"]
    flags: int
    mode: int | None = None
    fd: int | None = None
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_close")
class FileClose(FileEvent, frozen=True, gc=False):
    """A descriptor was closed, or its process ended: what went through it.

    Attributes:
        fd: the descriptor.
        bytes_read, bytes_written: through this descriptor by read, write and the like (not mmap).
    """

    fd: int
    bytes_read: int
    bytes_written: int
    unresolved: bool = False
    truncated: bool = False


@event_type("file_delete")
class FileDelete(FileEvent, frozen=True, gc=False):
    """A name was removed (unlink). Other attributes: as in `FileOpen`."""

    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_rename")
class FileRename(FileEvent, frozen=True, gc=False):
    """A file or directory was given another name.

    Attributes:
        new_path: the new one, absolute.
        flags: RENAME_*.
    """

    new_path: str
    flags: int
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_mkdir")
class FileMkdir(FileEvent, frozen=True, gc=False):
    """A directory was made.

    Attributes:
        mode: permission bits asked for.
    """

    mode: int
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_rmdir")
class FileRmdir(FileEvent, frozen=True, gc=False):
    """A directory was removed."""

    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_link")
class FileLink(FileEvent, frozen=True, gc=False):
    """A file was given a further name, or a symbolic link was made.

    Attributes:
        path: the file that exists; for a symbolic link its content, as it was given.
        new_path: the new name, absolute.
        symbolic: a symbolic link.
    """

    new_path: str
    symbolic: bool
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_chmod")
class FileChmod(FileEvent, frozen=True, gc=False):
    """Permissions were changed.

    Attributes:
        mode: the new permission bits.
        fd: the descriptor, if the file was named by one.
    """

    mode: int
    fd: int | None = None
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_chown")
class FileChown(FileEvent, frozen=True, gc=False):
    """The owner was changed.

    Attributes:
        new_uid, new_gid: null where the call leaves it as it is.
        fd: the descriptor, if the file was named by one.
    """

    new_uid: int | None
    new_gid: int | None
    fd: int | None = None
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


@event_type("file_truncate")
class FileTruncate(FileEvent, frozen=True, gc=False):
    """A file's length was set.

    Attributes:
        length: the new one, bytes.
        fd: the descriptor, if the file was named by one.
    """

    length: int
    fd: int | None = None
    unresolved: bool = False
    truncated: bool = False
    count: int = 1
    until_ns: int | None = None


class NetEvent(ProcessEvent, frozen=True, gc=False):
    """What all events of sockets have.

    Attributes:
        family: "inet", "inet6" or "unix"; else the family's number.
        protocol: "tcp", "udp", "stream", "dgram", "seqpacket", or the type's number.
        local_address, local_port, remote_address, remote_port: null where there is none. For "unix" an
            address is a path, or "@" and an abstract name; there are no ports.
        result: 0, or the negative errno.
        fd: the socket's descriptor.
    """

    family: str
    protocol: str
    local_address: str | None
    local_port: int | None
    remote_address: str | None
    remote_port: int | None
    result: int
    fd: int | None


@event_type("net_connect")
class NetConnect(NetEvent, frozen=True, gc=False):
    """A connection was asked for. `result` -115 (EINPROGRESS): another event tells how it went on.

    Attributes:
        late: this is that event.
    """

    late: bool = False


@event_type("net_accept")
class NetAccept(NetEvent, frozen=True, gc=False):
    """A connection was accepted: `fd` is its own descriptor."""


@event_type("net_bind")
class NetBind(NetEvent, frozen=True, gc=False):
    """A socket was given a local address."""


@event_type("net_listen")
class NetListen(NetEvent, frozen=True, gc=False):
    """A socket waits for connections."""


@event_type("net_send")
class NetSend(NetEvent, frozen=True, gc=False):
    """A datagram was sent.

    Attributes:
        data_len: its bytes.
        count: how many datagrams to this address the event stands for; `data_len` is the sum.
        until_ns: if several, when the last of them was, nanoseconds since the epoch.
    """

    data_len: int
    count: int = 1
    until_ns: int | None = None


@event_type("net_close")
class NetClose(NetEvent, frozen=True, gc=False):
    """A socket was closed, or its process ended: what went through it.

    Attributes:
        bytes_sent, bytes_received: null where the kernel cannot tell.
    """

    bytes_sent: int | None
    bytes_received: int | None


@event_type("dns_query")
class DnsQuery(NetEvent, frozen=True, gc=False):
    """A name was asked for.

    Attributes:
        name: without the final dot.
        query_type: "A", "AAAA" …
    """

    name: str
    query_type: str


@event_type("signal_send")
class SignalSend(ProcessEvent, frozen=True, gc=False):
    """A signal was sent by a system call.

    Attributes:
        target_pid: as given to the call: 0, -1 and negative numbers mean groups (kill(2)).
        signal: its number; 0 only asks whether the target exists.
        result: 0, or the negative errno.
        syscall: name of the system call.
    """

    target_pid: int
    signal: int
    result: int
    syscall: str


@event_type("shell_line")
class ShellLine(ProcessEvent, frozen=True, gc=False):
    """A line was entered in an interactive bash.

    Attributes:
        line: without its newline.
        truncated: it is longer than what is here.
    """

    line: str
    truncated: bool = False
