"""The numbers in records: kinds, flags, calls, causes of loss; as in bpf/records.h and bpf/ring.h."""

from __future__ import annotations

from enum import IntEnum, IntFlag

__all__ = [
    "AEAD_FUNCTIONS",
    "FUNCTION_SLOTS",
    "LIBRARY_ENDLESS",
    "LOST_CALLS",
    "Binding",
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
    TLS_SOCKET = 17
    SSL_SOCKET = 18
    SOCKET_OVER = 19
    SOCKET_TALKS = 20


class SslFunction(IntEnum):
    """Which call a TLS record comes from; the member's name is the role that locators give to it."""

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
    gnutls_record_send = 16
    gnutls_record_send2 = 17
    gnutls_record_send_early_data = 18
    gnutls_record_recv = 19
    gnutls_record_recv_seq = 20
    gnutls_record_recv_early_data = 21
    gnutls_record_recv_packet = 22
    gnutls_handshake = 23
    gnutls_init = 24
    gnutls_deinit = 25
    gnutls_record_uncork = 26
    PR_Read = 28
    PR_Write = 29
    PR_Recv = 30
    PR_Send = 31
    PR_Close = 32
    SSL_ImportFD = 33
    go_tls_write = 36
    go_tls_read = 37
    go_tls_read_return = 38
    go_tls_close = 39
    aead_seal = 44
    aead_seal_scatter = 45
    aead_open = 46
    aead_open_gather = 47
    ring_seal = 48
    ring_open = 49


AEAD_FUNCTIONS = frozenset(range(SslFunction.aead_seal, SslFunction.ring_open + 1))

LOST_CALLS = 64  # the loss counters of system calls come behind those of kinds
LIBRARY_ENDLESS = 1 << 31  # in an attach cookie: no probe tells that a connection is over
FUNCTION_SLOTS = 64  # FN_COUNT: counters of one library in the probe_hits map


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


class Binding(IntEnum):
    """How it is known which socket a connection goes through; enum binding of bpf/tls_state.h."""

    received = 1
    sent = 2
    inside_call = 3
    object = 4


class ReaderState(IntEnum):
    """What the kernel is told about the reader; see bpf/ring.h."""

    RUNS = 0
    NAPS = 1
    WAITS = 2
