"""Records as the kernel would write them, built by construct from the declared layouts."""

from __future__ import annotations

import os
from collections.abc import Mapping
from socket import AF_INET, inet_pton
from types import MappingProxyType
from typing import Any

from libagenttracer.events import Event, Loss, SslData
from libagenttracer.runners.identity import TracerIdentity
from libagenttracer.runners.interface import ConnectionTotals, LibraryTable, LossCount
from libagenttracer.runners.record_kinds import (
    Binding,
    Call,
    FileFlag,
    LossCause,
    RecordKind,
    SslFlag,
    SslFunction,
)
from libagenttracer.runners.records import (
    exec_args_record,
    exit_record,
    file_close_record,
    file_record,
    fork_record,
    net_record,
    paths_record,
    process_record,
    shell_line_record,
    signal_record,
    socket_over_record,
    ssl_close_record,
    ssl_data_record,
    ssl_handshake_record,
    ssl_sendfile_record,
    ssl_socket_record,
    tls_socket_record,
)
from libagenttracer.runners.ssl_decoder import SslDecoder

__all__ = [
    "RING_BYTES",
    "Bench",
    "become",
    "close_file",
    "components",
    "data",
    "end",
    "exec_args",
    "file",
    "fork",
    "handshake",
    "losses",
    "net",
    "only_data",
    "only_losses",
    "process",
    "sendfile",
    "shell_line",
    "signal",
    "socket_over",
    "socket_talks",
    "ssl_socket",
    "tls_socket",
    "totals",
]

RING_BYTES = 1 << 20
TGID, START_NS, SSL, GENERATION_NS = 100, 5_000, 0x7F00DEADBEEF, 77
SOCKET, SOCKET_NS = 0xFFFF888800001000, 500


def header(kind: RecordKind, **changes: int) -> dict[str, int]:
    fields = {"time_ns": 1_000_000, "tgid": TGID, "tid": TGID + 1, "start_ns": START_NS, "uid": 1000}
    return {"kind": kind, **fields, **{name: changes[name] for name in changes if name in fields}}


def common(kind: RecordKind, function: SslFunction, /, **changes: int) -> dict[str, Any]:
    fields = {
        "ssl": SSL, "generation_ns": GENERATION_NS, "latency_ns": 2500, "function": function, "flags": 0,
        "library": 0,
    }  # fmt: skip
    return {"header": header(kind, **changes), **fields, **{k: v for k, v in changes.items() if k in fields}}


def process(comm: bytes = b"python", path: str = "/usr/bin/python3", **changes: int) -> bytes:
    """A process record; trailing bytes stand for the room that the kernel reserved and did not use."""
    names = [part.encode() + b"\0" for part in reversed(path.split("/")) if part]
    exe = b"".join(names)
    fields = {
        "parent_start_ns": 1, "exec_count": 3, "cgroup_id": 9, "ppid": 42, "gid": 1000, "flags": 0,
        "namespace_pid": 1, "args_bytes": 0, "cwd_bytes": 0, "text_bytes": len(exe),
    }  # fmt: skip
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = process_record.build(
        {
            "header": header(RecordKind.PROCESS, **changes),
            **fields,
            "comm": comm.ljust(16, b"\0"),
            "exe_bytes": len(exe),
            "text": exe,
        }
    )
    return raw + b"\xaa" * 50


def components(path: str) -> bytes:
    """A path as the kernel walks it: the last component first, each ended by NUL."""
    return b"".join(os.fsencode(part) + b"\0" for part in reversed(path.split("/")) if part)


def fork(child_tgid: int, child_start_ns: int, **changes: int) -> bytes:
    """The process (of the header) has made another one, and is its parent unless `changes` say otherwise."""
    top = header(RecordKind.FORK, **changes)
    fields = {"parent_start_ns": top["start_ns"], "ppid": top["tgid"]}
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = fork_record.build(
        {"header": top, "child_start_ns": child_start_ns, "child_tgid": child_tgid, **fields}
    )
    return raw


def exec_args(payload: bytes, offset: int = 0, **changes: int) -> bytes:
    """A part of the arguments of the exec that follows."""
    raw: bytes = exec_args_record.build(
        {
            "header": header(RecordKind.EXEC_ARGS, **changes),
            "exec_count": changes.get("exec_count", 4),
            "offset": offset,
            "data_bytes": len(payload),
            "payload": payload,
        }
    )
    return raw + b"\xaa" * 21


def become(
    filename: bytes = b"/bin/true",
    exe: str = "/usr/bin/true",
    cwd: str = "/home/user",
    comm: bytes = b"true",
    **changes: int,
) -> bytes:
    """The record of an exec; `args_bytes` of `changes` says how long the arguments are."""
    text = components(exe) + components(cwd) + filename + b"\0"
    fields = {
        "parent_start_ns": 1, "exec_count": 4, "cgroup_id": 9, "ppid": 42, "gid": 1001, "flags": 0,
        "namespace_pid": 1, "args_bytes": 0, "exe_bytes": len(components(exe)),
        "cwd_bytes": len(components(cwd)), "text_bytes": len(text),
    }  # fmt: skip
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = process_record.build(
        {"header": header(RecordKind.EXEC, **changes), **fields, "comm": comm.ljust(16, b"\0"), "text": text}
    )
    return raw + b"\xaa" * 50


def end(status: int = 0, **changes: int) -> bytes:
    """The record of a process's end; `status` as for waitpid()."""
    fields = {"user_ns": 0, "system_ns": 0, "runtime_ns": 0, "max_rss_pages": 0}
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = exit_record.build({"header": header(RecordKind.EXIT, **changes), **fields, "status": status})
    return raw


def signal(target: int, number: int, result: int = 0, call: int = Call.kill, **changes: int) -> bytes:
    """A signal that was sent."""
    raw: bytes = signal_record.build(
        {
            "header": header(RecordKind.SIGNAL, **changes),
            "target": target,
            "signal": number,
            "result": result,
            "call": call,
        }
    )
    return raw


def shell_line(line: bytes, flags: int = 0, **changes: int) -> bytes:
    """A line that was entered in a shell."""
    top = header(RecordKind.SHELL_LINE, **changes)
    raw: bytes = shell_line_record.build(
        {"header": top, "flags": flags, "data_bytes": len(line), "payload": line}
    )
    return raw + b"\0" * 40


def file(
    call: int,
    name: bytes | None = None,
    directory: str | None = None,
    new_name: bytes | None = None,
    new_directory: str | None = None,
    *,
    resolved: str | None = None,
    **changes: int,
) -> bytes:
    """A call on a file.

    Args:
        call: which.
        name, new_name: as given to the call, without NUL.
        directory, new_directory: what they are relative to, if the kernel could tell.
        resolved: the path of the file itself; then there is no name.
        changes: other fields; `file_flags` are added to those that follow from the above.
    """
    parts = [b"", b"", b"", b""]
    flags = 0
    if resolved is not None:
        parts[1] = components(resolved)
        flags |= FileFlag.RESOLVED
    pairs = ((0, name, directory, FileFlag.DIR_KNOWN), (2, new_name, new_directory, FileFlag.NEW_DIR_KNOWN))
    for at, given, where, known in pairs:
        if given is not None:
            parts[at] = given + b"\0"
        if where is not None:
            parts[at + 1] = components(where)
            flags |= known
    text = b"".join(parts)
    fields = {
        "resolved_ns": 0, "flags": 0, "mode": 0, "gid": 0, "result": 0, "fd": -1,
        "name_bytes": len(parts[0]), "dir_bytes": len(parts[1]),
        "new_name_bytes": len(parts[2]), "new_dir_bytes": len(parts[3]),
    }  # fmt: skip
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = file_record.build(
        {
            "header": header(RecordKind.FILE, **changes),
            **fields,
            "call": call,
            "file_flags": flags | changes.get("file_flags", 0),
            "text_bytes": len(text),
            "text": text,
        }
    )
    return raw + b"\xaa" * 60


def paths(path: str | None, new_path: str | None = None, file_flags: int = 0, **changes: int) -> bytes:
    """What the kernel found under the names of a call."""
    parts = [b"" if one is None else components(one) for one in (path, new_path)]
    raw: bytes = paths_record.build(
        {
            "header": header(RecordKind.PATHS, **changes),
            "file_flags": file_flags,
            "path_bytes": len(parts[0]),
            "new_path_bytes": len(parts[1]),
            "text_bytes": len(parts[0] + parts[1]),
            "text": parts[0] + parts[1],
        }
    )
    return raw + b"\xaa" * 60


def close_file(path: str | None, fd: int = 3, file_flags: int = FileFlag.RESOLVED, **changes: int) -> bytes:
    """A file was closed; what went through it."""
    fields = {"bytes_read": 0, "bytes_written": 0}
    fields.update({name: changes[name] for name in changes if name in fields})
    text = components(path) if path else b""
    raw: bytes = file_close_record.build(
        {
            "header": header(RecordKind.FILE_CLOSE, **changes),
            **fields,
            "fd": fd,
            "file_flags": file_flags,
            "text_bytes": len(text),
            "text": text,
        }
    )
    return raw + b"\xaa" * 60


def net(
    call: int, family: int, *, local: bytes = b"", remote: bytes = b"", payload: bytes = b"", **changes: int
) -> bytes:
    """A call on a socket; the addresses are raw."""
    fields = {
        "bytes_sent": 0, "bytes_received": 0, "result": 0, "fd": 7, "flags": 0, "type": 1, "protocol": 0,
        "local_port": 0, "remote_port": 0, "local_bytes": len(local), "remote_bytes": len(remote),
        "data_bytes": 0, "payload_bytes": len(payload),
    }  # fmt: skip
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = net_record.build(
        {
            "header": header(RecordKind.NET, **changes),
            **fields,
            "call": call,
            "family": family,
            "local_address": local.ljust(110, b"\xaa"),
            "remote_address": remote.ljust(110, b"\xaa"),
            "payload": payload,
        }
    )
    return raw + b"\xaa" * 16


def data(
    payload: bytes,
    *,
    index: int,
    offset: int,
    written: bool = False,
    fault: bool = False,
    call: tuple[int, int] | None = None,
    **changes: int,
) -> bytes:
    """A record of TLS plaintext. `call`: bytes of the whole call, and of it before this record."""
    function = SslFunction.SSL_write if written else SslFunction.SSL_read
    flags = SslFlag.WRITTEN * written | SslFlag.READ_FAULT * fault | changes.pop("flags", 0)
    if call:
        flags |= SslFlag.SPLIT
    raw: bytes = ssl_data_record.build(
        {
            "common": common(RecordKind.SSL_DATA, function, **{"flags": flags, **changes}),
            "offset": offset,
            "call_bytes": call[0] if call else len(payload),
            "call_offset": call[1] if call else 0,
            "index": index,
            "data_bytes": len(payload),
            "payload": bytes(len(payload)) if fault else payload,
        }
    )
    return raw + b"\xaa" * 33


def handshake(return_value: int = 1, **changes: int) -> bytes:
    fields = common(RecordKind.SSL_HANDSHAKE, SslFunction.SSL_do_handshake, **changes)
    raw: bytes = ssl_handshake_record.build(
        {"common": fields, "return_value": return_value, "calls": 2, "handshake_ns": 9000}
    )
    return raw


def sendfile(sent_bytes: int, *, index: int, offset: int, **changes: int) -> bytes:
    changes = {"flags": SslFlag.WRITTEN, **changes}
    raw: bytes = ssl_sendfile_record.build(
        {
            "common": common(RecordKind.SSL_SENDFILE, SslFunction.SSL_sendfile, **changes),
            "offset": offset,
            "sent_bytes": sent_bytes,
            "file_offset": 12,
            "fd": 5,
            "index": index,
        }
    )
    return raw


def close(read: tuple[int, int] = (0, 0), written: tuple[int, int] = (0, 0), **changes: int) -> bytes:
    """A connection is over; for each direction records and bytes."""
    raw: bytes = ssl_close_record.build(
        {
            "common": common(RecordKind.SSL_CLOSE, SslFunction.SSL_free, **changes),
            "read_bytes": read[1],
            "written_bytes": written[1],
            "read_records": read[0],
            "written_records": written[0],
        }
    )
    return raw


def tls_socket(
    payload: bytes = b"",
    *,
    local: tuple[str, int] = ("10.0.0.1", 40000),
    remote: tuple[str, int] = ("10.0.0.2", 443),
    family: int = AF_INET,
    **changes: int,
) -> bytes:
    """A socket that may carry TLS; the payload is its ClientHello."""
    fields = {"socket": SOCKET, "socket_ns": SOCKET_NS, "fd": 5, "protocol": 6}
    fields.update({name: changes[name] for name in changes if name in fields})
    raw: bytes = tls_socket_record.build(
        {
            "header": header(RecordKind.TLS_SOCKET, **changes),
            **fields,
            "family": family,
            "local_port": local[1],
            "remote_port": remote[1],
            "local_address": inet_pton(family, local[0]).ljust(16, b"\0"),
            "remote_address": inet_pton(family, remote[0]).ljust(16, b"\0"),
            "data_bytes": len(payload),
            "payload": payload,
        }
    )
    return raw + b"\xaa" * 16


def ssl_socket(binding: int = Binding.inside_call, **changes: int) -> bytes:
    """A connection goes through a socket."""
    function = SslFunction.SSL_write
    raw: bytes = ssl_socket_record.build(
        {
            "common": common(RecordKind.SSL_SOCKET, function, **changes),
            "socket": changes.get("socket", SOCKET),
            "socket_ns": changes.get("socket_ns", SOCKET_NS),
            "binding": binding,
        }
    )
    return raw


def socket_talks(**changes: int) -> bytes:
    """More than a handshake has gone through a socket."""
    return socket_over(RecordKind.SOCKET_TALKS, **changes)


def socket_over(kind: RecordKind = RecordKind.SOCKET_OVER, **changes: int) -> bytes:
    """A socket is closed."""
    raw: bytes = socket_over_record.build(
        {
            "header": header(kind, **changes),
            "socket": changes.get("socket", SOCKET),
            "socket_ns": changes.get("socket_ns", SOCKET_NS),
        }
    )
    return raw


def losses(counts: Mapping[str, tuple[int, int]]) -> dict[LossCause, LossCount]:
    """The kernel's counters: those given, the others zero."""
    return {cause: LossCount(*counts.get(cause.name.lower(), (0, 0))) for cause in LossCause}


def totals(
    read: tuple[int, int] = (0, 0), written: tuple[int, int] = (0, 0), **changes: int
) -> ConnectionTotals:
    """What the kernel counted on a connection; for each direction records and bytes."""
    fields = {"tgid": TGID, "ssl": SSL, "generation_ns": GENERATION_NS, **changes}
    return ConnectionTotals(
        read_records=read[0],
        read_bytes=read[1],
        written_records=written[0],
        written_bytes=written[1],
        **fields,
    )


class Bench:
    """A decoder, and the ring in front of it."""

    def __init__(self, libraries: LibraryTable | None = None) -> None:
        self.identity = TracerIdentity(boot_id="boot", instance="instance")
        self.libraries = libraries or LibraryTable(["/usr/lib/libssl.so.3"])
        self.decoder = SslDecoder(self.identity, self.libraries, RING_BYTES)
        self.position = 0
        self.memory = bytearray(2 * RING_BYTES)  # the kernel maps its pages twice

    def feed(self, *records: bytes) -> list[Event]:
        """Puts records into the ring and decodes them as one batch."""
        begin, spans = self.position, []
        for record in records:
            at = self.position % RING_BYTES + 8
            self.memory[at : at + len(record)] = record
            spans.append((at, len(record)))
            self.position += (len(record) + 8 + 7) // 8 * 8
        return self.decoder.decode(memoryview(self.memory).toreadonly(), spans, begin)

    def settle(
        self,
        *seen: ConnectionTotals,
        final: bool = False,
        ring_full: tuple[int, int] = (0, 0),
        counts: Mapping[str, tuple[int, int]] = MappingProxyType({}),
        now_ns: int = 0,
    ) -> list[Event]:
        """Settles with these totals; the kernel's counters are records and bytes by cause."""
        counters = losses({"ring_full": ring_full, **counts})
        return self.decoder.settle(counters, seen, final=final, now_ns=now_ns)


def only_data(events: list[Event]) -> list[SslData]:
    assert all(isinstance(event, SslData) for event in events), events
    return [event for event in events if isinstance(event, SslData)]


def only_losses(events: list[Event]) -> list[Loss]:
    assert all(isinstance(event, Loss) for event in events), events
    return [event for event in events if isinstance(event, Loss)]
