"""Starts a command to be traced: held before its first instruction until the probes are in."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import signal
from collections.abc import Sequence

from ..errors import CommandError, TargetError

__all__ = ["Launched", "caller", "launch"]


class Launched:
    """A command that waits for `go()` before it runs.

    Attributes:
        pid: its process, which is the same after it has become the command.
    """

    def __init__(self, command: str, pid: int, gate: int, failure: int) -> None:
        self._command = command
        self.pid = pid
        self._gate = gate
        self._failure = failure
        self._status: int | None = None

    def go(self) -> None:
        """Lets it run. Raises CommandError if the kernel cannot execute the command."""
        os.write(self._gate, b"g")
        os.close(self._gate)
        self._gate = -1
        with os.fdopen(self._failure, "rb") as pipe:
            report = pipe.read()  # ends, empty, when exec closes the other end
        self._failure = -1
        if report:
            self.wait()
            raise CommandError(self._command, int(report))

    def poll(self) -> int | None:
        """Its exit status as a shell gives it (128 + signal if killed), None while it runs."""
        if self._status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self._status = _shell_status(status)
        return self._status

    def wait(self) -> int:
        """Waits for its end; returns what `poll` would."""
        if self._status is None:
            self._status = _shell_status(os.waitpid(self.pid, 0)[1])
        return self._status

    def send_signal(self, number: int) -> None:
        """Sends it a signal, unless it has ended."""
        if self._status is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """If it was never let go, ends it. A command that runs is left alone."""
        if self._gate >= 0:
            os.close(self._gate)
            os.close(self._failure)
            self._gate = self._failure = -1
            self.wait()


def caller() -> str | None:
    """Under sudo, the user who called it; else None."""
    return os.environ.get("SUDO_USER") if os.geteuid() == 0 and os.environ.get("SUDO_UID") else None


def launch(command: Sequence[str], *, user: str | None = None) -> Launched:
    """Forks a process that waits, and then becomes the command.

    Args:
        command: program and arguments; the program is looked up in PATH.
        user: whose rights it gets (its groups and home directory too); None keeps ours.

    Raises:
        TargetError: no such user. That the program cannot run shows in `Launched.go()`.
    """
    account = None
    if user is not None:
        try:
            account = pwd.getpwnam(user)
        except KeyError:
            raise TargetError(f"there is no user {user!r}") from None
    gate_read, gate_write = os.pipe()
    failure_read, failure_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(command, account, gate_read, (gate_write, failure_read))
        except (OSError, ValueError) as error:
            os.write(failure_write, str(getattr(error, "errno", None) or errno.ENOENT).encode())
        finally:
            os._exit(127)
    os.close(gate_read)
    os.close(failure_write)
    return Launched(command[0], pid, gate_write, failure_read)


def _become(
    command: Sequence[str], account: pwd.struct_passwd | None, gate: int, not_ours: tuple[int, ...]
) -> None:
    for fd in not_ours:
        os.close(fd)
    environment = dict(os.environ)
    if account is not None:
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        environment.update(HOME=account.pw_dir, USER=account.pw_name, LOGNAME=account.pw_name)
    # what Python changed for itself, and the handlers of the tracer
    for number in (signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    if os.read(gate, 1) != b"g":
        os._exit(127)  # the tracer gave up
    os.execvpe(command[0], list(command), environment)  # noqa: S606


def _shell_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code
