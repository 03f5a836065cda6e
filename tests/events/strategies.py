"""Events of every registered type, with nasty strings and any bytes."""

from __future__ import annotations

import uuid

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
    SslData,
    SslHandshake,
    SslSendfile,
)

__all__ = [
    "EVENTS",
    "KERNEL_TEXTS",
    "LOSSES",
    "NUMBERS",
    "PROCESS_EVENTS",
    "SSL_DATA",
    "SSL_HANDSHAKES",
    "SSL_SENDFILES",
    "TEXTS",
    "process_event",
    "ssl_data",
]

NASTY = [
    "",
    "\0",
    "a\0b",
    '"',
    "\\",
    "\x1b[2J",
    "\r\n",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\U0001f600",
    "\x7f\x9b",
]
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
# strings of the kernel: any bytes, as os.fsdecode gives them
KERNEL_TEXTS = st.one_of(
    TEXTS,
    st.binary(max_size=30).map(lambda raw: raw.decode(errors="surrogateescape")),
    st.sampled_from(["/tmp/\udcff\n", "\udcc3", "a\udc80\ufffd"]),
)
NUMBERS = st.integers(0, 2**63 - 1)
PIDS = st.integers(1, 2**31 - 1)
BYTES = st.one_of(
    st.binary(max_size=300),
    TEXTS.map(str.encode),
    st.sampled_from([b"\xff", b"\xc3", b"abc\xed\xa0\x80", "ü€".encode()[:-1]]),
)
DIRECTIONS = st.sampled_from(["read", "write"])
HEAD = {
    "id": st.uuids(version=4).map(str),
    "timestamp_ns": NUMBERS,
    "source": st.just("ssl"),
}
WHO = {
    "pid": PIDS,
    "tid": PIDS,
    "ppid": st.integers(0, 2**31 - 1),
    "uid": st.integers(0, 2**32 - 1),
    "comm": KERNEL_TEXTS,
    "exe": KERNEL_TEXTS,
    "connection_id": TEXTS,
    "function": TEXTS,
    "latency_ns": NUMBERS,
    "library": KERNEL_TEXTS,
}
SSL_DATA = st.builds(
    SslData,
    **HEAD,
    **WHO,
    direction=DIRECTIONS,
    data_len=NUMBERS,
    offset=NUMBERS,
    payload=BYTES,
    call_len=st.none() | NUMBERS,
    call_offset=st.none() | NUMBERS,
    joined_late=st.booleans(),
    incomplete=st.booleans(),
    reason=st.none() | TEXTS,
)
SSL_HANDSHAKES = st.builds(
    SslHandshake,
    **HEAD,
    **WHO,
    result=st.sampled_from(["ok", "incomplete"]),
    return_value=st.integers(-(2**31), 2**31 - 1),
    calls=NUMBERS,
    handshake_ns=NUMBERS,
    joined_late=st.booleans(),
)
SSL_SENDFILES = st.builds(
    SslSendfile,
    **HEAD,
    **WHO,
    direction=DIRECTIONS,
    data_len=NUMBERS,
    offset=NUMBERS,
    fd=st.integers(0, 2**31 - 1),
    file_offset=NUMBERS,
    joined_late=st.booleans(),
)
LOSSES = st.builds(
    Loss,
    **HEAD,
    cause=TEXTS,
    count=NUMBERS,
    lost_bytes=NUMBERS,
    pid=st.none() | PIDS,
    comm=st.none() | KERNEL_TEXTS,
    connection_id=st.none() | TEXTS,
    direction=st.none() | DIRECTIONS,
    offset=st.none() | NUMBERS,
    kind=st.none() | TEXTS,
)
INT32 = st.integers(-(2**31), 2**31 - 1)
FDS = st.integers(0, 2**31 - 1)
UINT32 = st.integers(0, 2**32 - 1)
MILLISECONDS = st.floats(0, 1e15)
RESULTS = st.just(0) | st.integers(-4095, 0)
PROCESS = {
    **HEAD,
    "source": st.just("process"),
    "pid": PIDS,
    "tid": PIDS,
    "ppid": st.integers(0, 2**31 - 1),
    "uid": UINT32,
    "comm": KERNEL_TEXTS,
    "process_id": TEXTS,
    "exec_id": TEXTS,
    "parent_process_id": TEXTS,
}
CUT_PATH = {"unresolved": st.booleans(), "truncated": st.booleans()}
REPEATED = {"count": st.integers(1, 2**63 - 1), "until_ns": st.none() | NUMBERS}
FILE = {**PROCESS, "path": KERNEL_TEXTS, "result": RESULTS, "syscall": TEXTS, **CUT_PATH}
REPEATED_FILE = {**FILE, **REPEATED}
MAYBE_FD = st.none() | FDS
PORTS = st.none() | st.integers(0, 65535)
NET = {
    **PROCESS,
    "family": st.sampled_from(["inet", "inet6", "unix", "16"]),
    "protocol": st.sampled_from(["tcp", "udp", "stream", "dgram", "seqpacket", "3"]),
    "local_address": st.none() | KERNEL_TEXTS,
    "local_port": PORTS,
    "remote_address": st.none() | KERNEL_TEXTS,
    "remote_port": PORTS,
    "result": RESULTS,
    "fd": MAYBE_FD,
}
PROCESS_EVENTS: st.SearchStrategy[ProcessEvent] = st.one_of(
    st.builds(ProcessFork, **PROCESS, child_pid=PIDS, child_process_id=TEXTS),
    st.builds(
        ProcessExec,
        **PROCESS,
        filename=KERNEL_TEXTS,
        args=st.lists(KERNEL_TEXTS, max_size=5),
        cwd=KERNEL_TEXTS,
        exe=KERNEL_TEXTS,
        args_bytes=NUMBERS,
        gid=UINT32,
        cgroup_id=NUMBERS,
        namespace_pid=PIDS,
        args_truncated=st.booleans(),
        exe_deleted=st.booleans(),
        compat=st.booleans(),
    ),
    st.builds(
        ProcessExit,
        **PROCESS,
        exit_code=st.none() | st.integers(0, 255),
        signal=st.none() | st.integers(1, 64),
        core_dumped=st.booleans(),
        duration_ms=MILLISECONDS,
        user_ms=MILLISECONDS,
        system_ms=MILLISECONDS,
        max_rss_bytes=NUMBERS,
    ),
    st.builds(
        FileOpen,
        **REPEATED_FILE,
        access=st.sampled_from(["read", "write", "read_write", "path"]),
        flags=UINT32,
        mode=st.none() | UINT32,
        fd=MAYBE_FD,
    ),
    st.builds(FileClose, **FILE, fd=FDS, bytes_read=NUMBERS, bytes_written=NUMBERS),
    st.builds(FileDelete, **REPEATED_FILE),
    st.builds(FileRename, **REPEATED_FILE, new_path=KERNEL_TEXTS, flags=UINT32),
    st.builds(FileMkdir, **REPEATED_FILE, mode=UINT32),
    st.builds(FileRmdir, **REPEATED_FILE),
    st.builds(FileLink, **REPEATED_FILE, new_path=KERNEL_TEXTS, symbolic=st.booleans()),
    st.builds(FileChmod, **REPEATED_FILE, mode=UINT32, fd=MAYBE_FD),
    st.builds(
        FileChown, **REPEATED_FILE, new_uid=st.none() | UINT32, new_gid=st.none() | UINT32, fd=MAYBE_FD
    ),
    st.builds(FileTruncate, **REPEATED_FILE, length=NUMBERS, fd=MAYBE_FD),
    st.builds(NetConnect, **NET, late=st.booleans()),
    st.builds(NetAccept, **NET),
    st.builds(NetBind, **NET),
    st.builds(NetListen, **NET),
    st.builds(NetSend, **NET, data_len=NUMBERS, **REPEATED),
    st.builds(NetClose, **NET, bytes_sent=st.none() | NUMBERS, bytes_received=st.none() | NUMBERS),
    st.builds(DnsQuery, **NET, name=KERNEL_TEXTS, query_type=TEXTS),
    st.builds(
        SignalSend, **PROCESS, target_pid=INT32, signal=st.integers(0, 64), result=RESULTS, syscall=TEXTS
    ),
    st.builds(ShellLine, **PROCESS, line=KERNEL_TEXTS, truncated=st.booleans()),
)
EVENTS: st.SearchStrategy[Event] = st.one_of(SSL_DATA, SSL_HANDSHAKES, SSL_SENDFILES, LOSSES, PROCESS_EVENTS)

_FILE: dict[str, object] = {"path": "/repo/a", "result": 0, "syscall": "call"}
_NET: dict[str, object] = {
    "family": "inet", "protocol": "tcp", "local_address": "127.0.0.1", "local_port": 5000,
    "remote_address": "127.0.0.1", "remote_port": 443, "result": 0, "fd": 3,
}  # fmt: skip
_ORDINARY: dict[type[ProcessEvent], dict[str, object]] = {
    ProcessFork: {"child_pid": 1241, "child_process_id": "c"},
    ProcessExec: {
        "filename": "/usr/bin/git", "args": ["git", "commit", "-m", "a b"], "cwd": "/repo",
        "exe": "/usr/bin/git", "args_bytes": 18, "gid": 1000, "cgroup_id": 1, "namespace_pid": 1234,
    },
    ProcessExit: {
        "exit_code": 0, "signal": None, "core_dumped": False, "duration_ms": 12.34, "user_ms": 1.0,
        "system_ms": 2.0, "max_rss_bytes": 3 << 20,
    },
    FileOpen: {**_FILE, "access": "read", "flags": 0},
    FileClose: {**_FILE, "fd": 3, "bytes_read": 100, "bytes_written": 20},
    FileDelete: _FILE,
    FileRename: {**_FILE, "new_path": "/repo/b", "flags": 0},
    FileMkdir: {**_FILE, "mode": 0o755},
    FileRmdir: _FILE,
    FileLink: {**_FILE, "new_path": "/repo/b", "symbolic": False},
    FileChmod: {**_FILE, "mode": 0o755},
    FileChown: {**_FILE, "new_uid": 1000, "new_gid": None},
    FileTruncate: {**_FILE, "length": 9},
    NetConnect: _NET,
    NetAccept: _NET,
    NetBind: _NET,
    NetListen: _NET,
    NetSend: {**_NET, "data_len": 40},
    NetClose: {**_NET, "bytes_sent": 10, "bytes_received": None},
    DnsQuery: {**_NET, "protocol": "udp", "remote_port": 53, "name": "example.org", "query_type": "A"},
    SignalSend: {"target_pid": 4242, "signal": 15, "result": 0, "syscall": "kill"},
    ShellLine: {"line": "ls -la"},
}  # fmt: skip


def process_event(cls: type[ProcessEvent], **changes: object) -> ProcessEvent:
    """An ordinary event of a class, with some fields changed."""
    fields: dict[str, object] = {
        "id": str(uuid.UUID(int=1)), "timestamp_ns": 1_640_995_200_123_456_789, "source": "process",
        "pid": 1234, "tid": 1235, "ppid": 1, "uid": 1000, "comm": "bash", "process_id": "p", "exec_id": "e",
        "parent_process_id": "pp",
    }  # fmt: skip
    return cls(**{**fields, **_ORDINARY[cls], **changes})  # type: ignore[arg-type]


def ssl_data(**changes: object) -> SslData:
    """An ordinary event, with some fields changed."""
    fields: dict[str, object] = {
        "id": str(uuid.UUID(int=1)), "timestamp_ns": 1_640_995_200_123_456_789, "source": "ssl", "pid": 1234,
        "tid": 1235, "ppid": 1, "uid": 1000, "comm": "python", "exe": "/usr/bin/python3",
        "direction": "write",
        "data_len": 5, "offset": 10, "connection_id": "1234-7f00-1", "function": "SSL_write",
        "latency_ns": 2500, "library": "/usr/lib/libssl.so.3", "payload": b"hello",
    }  # fmt: skip
    return SslData(**{**fields, **changes})  # type: ignore[arg-type]
