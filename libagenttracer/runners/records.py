"""What the kernel programs write into the ring: the same layouts as bpf/records.h, byte for byte.

`build_bpf.py --check` holds them against the BTF of the compiled objects.
"""

from __future__ import annotations

import functools

from construct import Bytes, Int8ul, Int16ul, Int32sl, Int32ul, Int64ul, Padding, Struct, this

from ..binding.layout import record_class

__all__ = [
    "LAYOUTS",
    "ExecArgsRecord",
    "ExitRecord",
    "FileCloseRecord",
    "FileRecord",
    "ForkRecord",
    "NetRecord",
    "PathsRecord",
    "ProcessRecord",
    "ShellLineRecord",
    "SignalRecord",
    "SocketOverRecord",
    "SslCloseRecord",
    "SslDataRecord",
    "SslHandshakeRecord",
    "SslSendfileRecord",
    "SslSocketRecord",
    "TlsSocketRecord",
    "comm_of",
    "path_of",
]


record_header = Struct(
    "kind" / Int32ul,
    "tgid" / Int32ul,
    "time_ns" / Int64ul,
    "start_ns" / Int64ul,
    "tid" / Int32ul,
    "uid" / Int32ul,
)

process_record = Struct(
    "header" / record_header,
    "parent_start_ns" / Int64ul,
    "exec_count" / Int64ul,
    "cgroup_id" / Int64ul,
    "ppid" / Int32ul,
    "gid" / Int32ul,
    "namespace_pid" / Int32ul,
    "flags" / Int32ul,
    "comm" / Bytes(16),
    "args_bytes" / Int32ul,
    "exe_bytes" / Int32ul,
    "cwd_bytes" / Int32ul,
    "text_bytes" / Int32ul,
    "text" / Bytes(this.text_bytes),
)

exec_args_record = Struct(
    "header" / record_header,
    "exec_count" / Int64ul,
    "offset" / Int32ul,
    "data_bytes" / Int32ul,
    "payload" / Bytes(this.data_bytes),
)

fork_record = Struct(
    "header" / record_header,
    "child_start_ns" / Int64ul,
    "parent_start_ns" / Int64ul,
    "child_tgid" / Int32ul,
    "ppid" / Int32ul,
)

exit_record = Struct(
    "header" / record_header,
    "user_ns" / Int64ul,
    "system_ns" / Int64ul,
    "runtime_ns" / Int64ul,
    "max_rss_pages" / Int64ul,
    "status" / Int32ul,
    Padding(4),
)

signal_record = Struct(
    "header" / record_header,
    "target" / Int32sl,
    "signal" / Int32sl,
    "result" / Int32sl,
    "call" / Int32ul,
)

shell_line_record = Struct(
    "header" / record_header,
    "flags" / Int32ul,
    "data_bytes" / Int32ul,
    "payload" / Bytes(this.data_bytes),
)

file_record = Struct(
    "header" / record_header,
    "resolved_ns" / Int64ul,
    "flags" / Int64ul,
    "mode" / Int32ul,
    "gid" / Int32ul,
    "result" / Int32sl,
    "fd" / Int32sl,
    "call" / Int16ul,
    "file_flags" / Int16ul,
    "name_bytes" / Int32ul,
    "dir_bytes" / Int32ul,
    "new_name_bytes" / Int32ul,
    "new_dir_bytes" / Int32ul,
    "text_bytes" / Int32ul,
    "text" / Bytes(this.text_bytes),
)

paths_record = Struct(
    "header" / record_header,
    "file_flags" / Int32ul,
    "path_bytes" / Int32ul,
    "new_path_bytes" / Int32ul,
    "text_bytes" / Int32ul,
    "text" / Bytes(this.text_bytes),
)

file_close_record = Struct(
    "header" / record_header,
    "bytes_read" / Int64ul,
    "bytes_written" / Int64ul,
    "fd" / Int32sl,
    "file_flags" / Int32ul,
    Padding(4),
    "text_bytes" / Int32ul,
    "text" / Bytes(this.text_bytes),
)

net_record = Struct(
    "header" / record_header,
    "bytes_sent" / Int64ul,
    "bytes_received" / Int64ul,
    "result" / Int32sl,
    "fd" / Int32sl,
    "call" / Int16ul,
    "flags" / Int16ul,
    "family" / Int16ul,
    "type" / Int16ul,
    "protocol" / Int16ul,
    "local_port" / Int16ul,
    "remote_port" / Int16ul,
    "local_bytes" / Int16ul,
    "remote_bytes" / Int16ul,
    Padding(2),
    "data_bytes" / Int32ul,
    "payload_bytes" / Int32ul,
    "local_address" / Bytes(110),
    "remote_address" / Bytes(110),
    "payload" / Bytes(this.payload_bytes),
)

ssl_common = Struct(
    "header" / record_header,
    "ssl" / Int64ul,
    "generation_ns" / Int64ul,
    "latency_ns" / Int64ul,
    "function" / Int16ul,
    "flags" / Int16ul,
    "library" / Int32ul,
)

ssl_data_record = Struct(
    "common" / ssl_common,
    "offset" / Int64ul,
    "call_bytes" / Int64ul,
    "call_offset" / Int64ul,
    "index" / Int32ul,
    "data_bytes" / Int32ul,
    "payload" / Bytes(this.data_bytes),
)

ssl_handshake_record = Struct(
    "common" / ssl_common,
    "return_value" / Int32sl,
    "calls" / Int32ul,
    "handshake_ns" / Int64ul,
)

ssl_sendfile_record = Struct(
    "common" / ssl_common,
    "offset" / Int64ul,
    "sent_bytes" / Int64ul,
    "file_offset" / Int64ul,
    "fd" / Int32sl,
    "index" / Int32ul,
)

ssl_close_record = Struct(
    "common" / ssl_common,
    "read_bytes" / Int64ul,
    "written_bytes" / Int64ul,
    "read_records" / Int32ul,
    "written_records" / Int32ul,
)

tls_socket_record = Struct(
    "header" / record_header,
    "socket" / Int64ul,
    "socket_ns" / Int64ul,
    "fd" / Int32sl,
    "family" / Int16ul,
    "protocol" / Int16ul,
    "local_port" / Int16ul,
    "remote_port" / Int16ul,
    "local_address" / Bytes(16),
    "remote_address" / Bytes(16),
    "data_bytes" / Int32ul,
    "payload" / Bytes(this.data_bytes),
)

ssl_socket_record = Struct(
    "common" / ssl_common,
    "socket" / Int64ul,
    "socket_ns" / Int64ul,
    "binding" / Int32ul,
    Padding(4),
)

socket_over_record = Struct("header" / record_header, "socket" / Int64ul, "socket_ns" / Int64ul)

connection_key = Struct("tgid" / Int32ul, Padding(4), "ssl" / Int64ul)

connection = Struct(
    "generation_ns" / Int64ul,
    "read_bytes" / Int64ul,
    "written_bytes" / Int64ul,
    "read_records" / Int32ul,
    "written_records" / Int32ul,
    "joined_late" / Int32ul,
    "handshake_calls" / Int32ul,
    "handshake_began_ns" / Int64ul,
    "socket" / Int64ul,
    "function" / Int32ul,
    "binding" / Int16ul,
    "over" / Int8ul,
    "born" / Int8ul,
)

LAYOUTS = {
    "record_header": record_header,
    "process_record": process_record,
    "exec_args_record": exec_args_record,
    "fork_record": fork_record,
    "exit_record": exit_record,
    "signal_record": signal_record,
    "shell_line_record": shell_line_record,
    "file_record": file_record,
    "paths_record": paths_record,
    "file_close_record": file_close_record,
    "net_record": net_record,
    "ssl_data_record": ssl_data_record,
    "ssl_handshake_record": ssl_handshake_record,
    "ssl_sendfile_record": ssl_sendfile_record,
    "ssl_close_record": ssl_close_record,
    "tls_socket_record": tls_socket_record,
    "ssl_socket_record": ssl_socket_record,
    "socket_over_record": socket_over_record,
    "connection_key": connection_key,
    "connection": connection,
}

ProcessRecord = record_class(process_record, "ProcessRecord")
ExecArgsRecord = record_class(exec_args_record, "ExecArgsRecord")
ForkRecord = record_class(fork_record, "ForkRecord")
ExitRecord = record_class(exit_record, "ExitRecord")
SignalRecord = record_class(signal_record, "SignalRecord")
ShellLineRecord = record_class(shell_line_record, "ShellLineRecord")
FileRecord = record_class(file_record, "FileRecord", lazy=["kind", "gid", "new_name_bytes", "new_dir_bytes"])
PathsRecord = record_class(paths_record, "PathsRecord")
FileCloseRecord = record_class(file_close_record, "FileCloseRecord")
NetRecord = record_class(net_record, "NetRecord")
SslDataRecord = record_class(
    ssl_data_record,
    "SslDataRecord",
    lazy=["kind", "start_ns", "uid", "call_bytes", "call_offset"],
)
SslHandshakeRecord = record_class(ssl_handshake_record, "SslHandshakeRecord")
SslSendfileRecord = record_class(ssl_sendfile_record, "SslSendfileRecord")
SslCloseRecord = record_class(ssl_close_record, "SslCloseRecord")
TlsSocketRecord = record_class(tls_socket_record, "TlsSocketRecord")
SslSocketRecord = record_class(ssl_socket_record, "SslSocketRecord")
SocketOverRecord = record_class(socket_over_record, "SocketOverRecord")
ConnectionKey = record_class(connection_key, "ConnectionKey")
Connection = record_class(connection, "Connection")


@functools.lru_cache(maxsize=8192)  # the same files are used again and again
def path_of(components: bytes, *, anonymous: bool = False) -> str:
    """The path that a record has as components, the last one first, each ended by NUL.

    Args:
        anonymous: it is the name of something that lies in no directory.
    """
    parts = components.split(b"\0")[:-1]
    if anonymous:
        return parts[0].decode(errors="surrogateescape") if parts else ""
    parts.reverse()
    return (b"/" + b"/".join(parts)).decode(errors="surrogateescape")


def comm_of(field: bytes) -> str:
    """A comm; older kernels leave rests behind its NUL."""
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")
