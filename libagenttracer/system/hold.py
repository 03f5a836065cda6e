"""Processes that the tracer has launched are held at exec and dlopen until it has looked at what is new.

The kernel program stops them (bpf/discover.bpf.c) and notes them in the map `held`; here they are let go.
A process of its own (hold_watchdog.py) lets them go if the tracer dies.
"""

from __future__ import annotations

import contextlib
import os
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path

from ..binding import Map
from . import hold_watchdog
from .hold_watchdog import LET_GO, is_stopped, parent_of, started_ticks, ticks_of

__all__ = ["HOLD_LIMIT_S", "Holder"]

HOLD_LIMIT_S = 30.0
_CHECKS_S = (0.01, 0.05, 0.2, 0.5)  # after it was let go, whether it really goes
_STATE = struct.Struct("<QQ")  # struct held_state of bpf/discover.bpf.c: start_ns, since_ns


class Holder:
    """Keeps the maps of held and launched processes, and lets processes go.

    Args:
        held, launched: the maps.
        limit_s: how long a process may be held.

    Raises:
        OSError: the watchdog could not be started; then nothing must be held.
    """

    def __init__(self, held: Map, launched: Map, *, limit_s: float = HOLD_LIMIT_S) -> None:
        self._held, self._launched = held, launched
        self.limit_s = limit_s
        self._checks: list[tuple[float, int, bytes]] = []
        read_end, self._pipe = os.pipe()
        try:
            # a file of its own, isolated: nothing is imported from the working directory
            self._watchdog = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-S",
                    str(Path(hold_watchdog.__file__)),
                    str(read_end),
                    str(held.fileno()),
                    str(limit_s),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                pass_fds=(read_end, held.fileno()),
                start_new_session=True,
            )
            assert self._watchdog.stdout is not None
            if self._watchdog.stdout.read(1) != b"r":
                raise OSError("the process that lets others go if the tracer dies did not start")
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            os.close(read_end)

    def add_launched(self, pid: int) -> None:
        """Holds this process and its descendants from now on, whenever they run something unknown."""
        self._launched[struct.pack("<I", pid)] = bytes(8)

    def held(self) -> dict[int, tuple[int, float]]:
        """Pid: start time in nanoseconds since the boot, and for how many seconds it has been held."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        found = {}
        for key, value in self._held.items():
            start_ns, since_ns = _STATE.unpack(value)
            if not since_ns & LET_GO:
                found[struct.unpack("<I", key)[0]] = start_ns, (now_ns - since_ns) / 1e9
        return found

    def let_go(self, pid: int) -> None:
        """Lets a process go if it is held; one that has got its pid meanwhile is left alone."""
        key = struct.pack("<I", pid)
        value = self._held.get(key)
        if value is None:
            return
        start_ns, since_ns = _STATE.unpack(value)
        if since_ns & LET_GO:
            return
        # noted before, while it stands still: once it runs it can be held again at any moment
        state = _STATE.pack(start_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME) | LET_GO)
        self._held[key] = state
        if self._continue(pid, start_ns):
            self._checks += [(time.monotonic() + after_s, pid, state) for after_s in _CHECKS_S]
        elif not os.path.exists(f"/proc/{pid}"):  # killed meanwhile: nobody else removes the entry
            with contextlib.suppress(KeyError):
                del self._held[key]

    def let_all_go(self) -> None:
        """Lets every held process go."""
        for pid in self.held():
            self.let_go(pid)

    def check(self) -> float | None:
        """Wakes those again whose stop took effect only after they were let go, or whose parent stopped too.

        Returns:
            Seconds until there is something to check again; None: nothing.
        """
        now_s = time.monotonic()
        due = [item for item in self._checks if item[0] <= now_s]
        if due:
            self._checks = [item for item in self._checks if item[0] > now_s]
            for _, pid, state in due:
                if self._held.get(struct.pack("<I", pid)) == state:  # not held again since
                    self._wake(pid, _STATE.unpack(state)[0])
        return min((item[0] for item in self._checks), default=now_s) - now_s if self._checks else None

    def close(self) -> None:
        """Lets all go, and ends the watchdog. The programs must have been detached before."""
        if self._pipe < 0:
            return
        self.let_all_go()
        if self._checks:
            time.sleep(_CHECKS_S[1])
            self._checks = [(0.0, pid, state) for _, pid, state in self._checks]
            self.check()
        with contextlib.suppress(OSError):  # its own end is not enough: what we have forked may have it too
            os.write(self._pipe, b"e")
        os.close(self._pipe)
        self._pipe = -1
        assert self._watchdog.stdout is not None
        self._watchdog.stdout.close()
        self._watchdog.wait()

    def _wake(self, pid: int, start_ns: int) -> None:
        if is_stopped(pid):
            self._continue(pid, start_ns)
        # some programs stop themselves when they see a child of theirs stopped
        parent = parent_of(pid)
        try:
            process = os.pidfd_open(parent)
        except OSError:
            return
        try:
            # looked at while the descriptor holds it: a launched one loses its entry when it ends
            key = struct.pack("<I", parent)
            if self._launched.get(key) is not None and is_stopped(parent):
                value = self._held.get(key)
                if value is None or _STATE.unpack(value)[1] & LET_GO:
                    signal.pidfd_send_signal(process, signal.SIGCONT)
        except OSError:
            pass
        finally:
            os.close(process)

    @staticmethod
    def _continue(pid: int, start_ns: int) -> bool:
        try:
            process = os.pidfd_open(pid)
        except OSError:
            return False  # it has ended
        try:
            if started_ticks(pid) != ticks_of(start_ns):
                return False
            signal.pidfd_send_signal(process, signal.SIGCONT)
        except OSError:
            return False
        finally:
            os.close(process)
        return True
