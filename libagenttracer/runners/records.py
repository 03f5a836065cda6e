"""What the kernel programs write into the ring: the same layouts as bpf/records.h, byte for byte.

`build_bpf.py --check` holds them against the BTF of the compiled objects.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag

from construct import Bytes, Int16ul, Int32sl, Int32ul, Int64ul, Padding, Struct, this

from ..binding.layout import record_class

__all__ = [
    "LAYOUTS",
    "LossCause",
    "ProcessFlag",
    "ProcessRecord",
    "ReaderState",
    "RecordKind",
    "SslDataRecord",
    "SslFlag",
    "SslFunction",
    "SslHandshakeRecord",
    "SslSendfileRecord",
]


class RecordKind(IntEnum):
    """The first field of every record."""

    PROCESS = 1
    SSL_DATA = 2
    SSL_HANDSHAKE = 3
    SSL_SENDFILE = 4


class SslFunction(IntEnum):
    """Which call a TLS record comes from; the member's name is the function's."""

    SSL_read = 0
    SSL_write = 1
    SSL_read_ex = 2
    SSL_write_ex = 3
    SSL_write_ex2 = 4
    SSL_do_handshake = 5
    SSL_connect = 6
    SSL_accept = 7
    SSL_new = 8
    SSL_clear = 9
    SSL_sendfile = 10


FUNCTION_SLOTS = 16  # FN_COUNT: counters of one library in the probe_hits map


class SslFlag(IntFlag):
    """Flags of a TLS record."""

    WRITTEN = 1
    JOINED_LATE = 2
    READ_FAULT = 4
    SPLIT = 8


class ProcessFlag(IntFlag):
    """Flags of a process record."""

    EXE_TRUNCATED = 1


class LossCause(IntEnum):
    """Indexes of the loss counters in `ring_control`."""

    RING_FULL = 0
    READ_FAULT = 1
    TRUNCATED = 2
    MAP_FULL = 3
    MISSED_RETURN = 4


class ReaderState(IntEnum):
    """What the kernel is told about the reader; see bpf/ring.h."""

    RUNS = 0
    NAPS = 1
    WAITS = 2


record_header = Struct(
    "kind" / Int32ul,
    "tgid" / Int32ul,
    "time_ns" / Int64ul,
    "start_ns" / Int64ul,
    "tid" / Int32ul,
    Padding(4),
)

process_record = Struct(
    "header" / record_header,
    "parent_start_ns" / Int64ul,
    "exec_count" / Int64ul,
    "cgroup_id" / Int64ul,
    "ppid" / Int32ul,
    "uid" / Int32ul,
    "comm" / Bytes(16),
    "flags" / Int32ul,
    "exe_bytes" / Int32ul,
    "exe" / Bytes(this.exe_bytes),
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
)

LAYOUTS = {
    "record_header": record_header,
    "process_record": process_record,
    "ssl_data_record": ssl_data_record,
    "ssl_handshake_record": ssl_handshake_record,
    "ssl_sendfile_record": ssl_sendfile_record,
    "connection_key": connection_key,
    "connection": connection,
}

ProcessRecord = record_class(process_record, "ProcessRecord")
SslDataRecord = record_class(
    ssl_data_record,
    "SslDataRecord",
    lazy=["kind", "start_ns", "call_bytes", "call_offset"],
)
SslHandshakeRecord = record_class(ssl_handshake_record, "SslHandshakeRecord")
SslSendfileRecord = record_class(ssl_sendfile_record, "SslSendfileRecord")
ConnectionKey = record_class(connection_key, "ConnectionKey")
Connection = record_class(connection, "Connection")
