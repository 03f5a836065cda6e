"""The numbers in records: kinds, flags, calls, causes of loss; as in bpf/records.h and bpf/ring.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "FUNCTION_SLOTS",
    "LOST_CALLS",
    "Call",
    "FileFlag",
    "LossCause",
    "NetFlag",
    "ProcessFlag",
    "ReaderState",
    "RecordKind",
    "SslFlag",
    "SslFunction",
]


class RecordKind(IntEnum):
    """The first field of every record."""

    PROCESS = 1
    SSL_DATA = 2
    SSL_HANDSHAKE = 3
    SSL_SENDFILE = 4
    FORK = 5
    EXEC = 6
    EXEC_ARGS = 7
    EXIT = 8
    SIGNAL = 9
    SHELL_LINE = 10
    FILE = 11
    FILE_CLOSE = 12
    NET = 13
    DNS = 14  # only to count what is lost
    PATHS = 15
    SSL_CLOSE = 16


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
    SSL_free = 11


LOST_CALLS = 64  # the loss counters of system calls come behind those of kinds
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
    CWD_TRUNCATED = 2
    EXE_DELETED = 4
    EXE_ANONYMOUS = 8
    COMPAT = 16


class Call(IntEnum):
    """Which system call a record comes from; the member's name is the call's."""

    open = 1
    openat = 2
    openat2 = 3
    creat = 4
    unlink = 5
    unlinkat = 6
    rename = 7
    renameat = 8
    renameat2 = 9
    mkdir = 10
    mkdirat = 11
    rmdir = 12
    link = 13
    linkat = 14
    symlink = 15
    symlinkat = 16
    chmod = 17
    fchmod = 18
    fchmodat = 19
    fchmodat2 = 20
    chown = 21
    fchown = 22
    lchown = 23
    fchownat = 24
    truncate = 25
    ftruncate = 26
    connect = 30
    accept = 31
    accept4 = 32
    bind = 33
    listen = 34
    sendto = 35
    sendmsg = 36
    sendmmsg = 37
    close = 38
    kill = 50
    tkill = 51
    tgkill = 52
    pidfd_send_signal = 53
    rt_sigqueueinfo = 54
    rt_tgsigqueueinfo = 55
    read = 60
    write = 61


class FileFlag(IntFlag):
    """Flags of a file record."""

    RESOLVED = 1
    ANONYMOUS = 2
    TRUNCATED = 4
    UNREADABLE = 8
    DIR_KNOWN = 16
    NEW_DIR_KNOWN = 32
    CUT = 64
    NEW_CUT = 128


class NetFlag(IntFlag):
    """Flags of a socket record."""

    LATE = 1
    BYTES_KNOWN = 2


class LossCause(IntEnum):
    """Indexes of the loss counters in `ring_control`."""

    RING_FULL = 0
    READ_FAULT = 1
    TRUNCATED = 2
    MAP_FULL = 3
    MISSED_RETURN = 4
    IO_URING = 5
    COMPAT = 6
    COMPAT_CALL = 7


class ReaderState(IntEnum):
    """What the kernel is told about the reader; see bpf/ring.h."""

    RUNS = 0
    NAPS = 1
    WAITS = 2
