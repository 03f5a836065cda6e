"""Lets held processes go when the tracer has died, or does not let them go in time.

Run as a program of its own, with the standard library alone: READ_END MAP_FD LIMIT_S. It waits for the end
of the pipe whose other end only the tracer has, whatever ends that.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import struct
import sys
import time

__all__ = ["LET_GO", "is_stopped", "parent_of", "started_ticks", "ticks_of"]

LET_GO = 1 << 63  # in since_ns: when it was let go

_SYS_BPF = {"x86_64": 321, "aarch64": 280}
_LOOKUP, _NEXT_KEY = 1, 4  # enum bpf_cmd
# the part of union bpf_attr for map elements: map_fd, key, value or next_key, flags
_ATTRIBUTES = struct.Struct("<I4xQQQ")
_STATE = struct.Struct("<QQ")  # struct held_state of bpf/discover.bpf.c: start_ns, since_ns
_MAX_LOOKS = 8192
_GRACE_S = 5.0
_JUST_NOW_S = 1.0  # a tracer that dies while it lets somebody go may not have got to that
_LAST_LOOKS_S = (0.0, 0.05, 0.2, 0.5)  # a process may be just about to be stopped when the tracer dies


def started_ticks(pid: int) -> int:
    """When a process started, in clock ticks since the boot.

    Raises:
        OSError: there is no such process.
    """
    with open(f"/proc/{pid}/stat", "rb") as stat:
        return int(stat.read().rpartition(b")")[2].split()[19])


def parent_of(pid: int) -> int:
    """The parent's pid, 0 if there is none."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return int(stat.read().rpartition(b")")[2].split()[1])
    except OSError:
        return 0


def ticks_of(start_ns: int) -> int:
    """The same, of the kernel's nanoseconds since the boot."""
    return start_ns * os.sysconf("SC_CLK_TCK") // 1_000_000_000


def is_stopped(pid: int) -> bool:
    """Whether a process is stopped by a signal."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            return stat.read().rpartition(b")")[2].split()[0] == b"T"
    except OSError:
        return False


def _held(map_fd: int) -> dict[int, tuple[int, int]]:
    """The entries of the map: start_ns and since_ns by pid.

    Raises:
        OSError: it cannot be read.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    number = _SYS_BPF[os.uname().machine]
    key, following = ctypes.create_string_buffer(4), ctypes.create_string_buffer(4)
    value = ctypes.create_string_buffer(_STATE.size)

    def call(command: int, key_at: int, other_at: int) -> bool:
        attributes = ctypes.create_string_buffer(_ATTRIBUTES.pack(map_fd, key_at, other_at, 0))
        if libc.syscall(number, command, attributes, _ATTRIBUTES.size) == 0:
            return True
        if ctypes.get_errno() != errno.ENOENT:  # the last one, or gone meanwhile
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
        return False

    found: dict[int, tuple[int, int]] = {}
    key_at = 0
    for _ in range(_MAX_LOOKS):  # begins anew when the last key has gone meanwhile
        if not call(_NEXT_KEY, key_at, ctypes.addressof(following)):
            break
        key.raw, key_at = following.raw, ctypes.addressof(key)
        if call(_LOOKUP, key_at, ctypes.addressof(value)):
            found[int.from_bytes(key.raw, "little")] = _STATE.unpack(value.raw)
    return found


def _is_pending(since_ns: int) -> bool:
    age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - (since_ns & ~LET_GO)
    return not since_ns & LET_GO or age_ns < _JUST_NOW_S * 1e9


def _let_go(map_fd: int, older_than_s: float) -> None:
    now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    for pid, (start_ns, since_ns) in _held(map_fd).items():
        if since_ns & LET_GO:
            if now_ns - (since_ns & ~LET_GO) > _JUST_NOW_S * 1e9:
                continue
        elif now_ns - since_ns < older_than_s * 1e9:
            continue
        with contextlib.suppress(OSError):
            process = os.pidfd_open(pid)
            try:
                if started_ticks(pid) == ticks_of(start_ns) and is_stopped(pid):
                    signal.pidfd_send_signal(process, signal.SIGCONT)
            finally:
                os.close(process)


def _main() -> None:
    pipe, map_fd, limit_s = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    _held(map_fd)  # the map can be read: only then is the tracer told that somebody watches
    os.write(1, b"r")
    waiting = select.poll()
    waiting.register(pipe, select.POLLIN)
    while not waiting.poll(1000 * _GRACE_S):  # its end has come, or the tracer says that it ends
        _let_go(map_fd, limit_s + _GRACE_S)
    for pause_s in _LAST_LOOKS_S:
        time.sleep(pause_s)
        _let_go(map_fd, 0)
        if not any(_is_pending(since_ns) for _, since_ns in _held(map_fd).values()):
            return


if __name__ == "__main__":
    _main()
