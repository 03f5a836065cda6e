"""Every error that the library raises on purpose.

    AgentTracerError
    ├── BindingError                 libbpf or the kernel refused something
    │   ├── ObjectError              bytes that are no BPF object, or lack what was asked for
    │   ├── LoadError                the kernel did not take the object
    │   │   └── VerifierError        … because its verifier rejected a program
    │   ├── AttachError              a program could not be attached
    │   ├── MapError                 a map operation failed
    │   ├── RingError                a ring buffer could not be mapped, or makes no sense
    │   ├── NotSupported             this kernel is too old for it
    │   └── MissingCapability        (also a PermissionError)
    ├── LayoutError                  a record layout that cannot be decoded, or does not fit
    ├── TargetError                  what should be traced is not there
    │   ├── NoSuchProcess            (also a ProcessLookupError)
    │   ├── LibraryError             a file without TLS functions that can be probed
    │   │   └── DisassemblerMissing  … for want of capstone
    │   └── CommandError             the command to trace could not be started
    ├── OutputError                  an output could not be written
    │   └── OutputClosed             … because nobody reads it any more
    ├── RecordingError               a recording could not be read
    └── FilterError                  a filter expression is wrong (also a ValueError)

Errors that carry facts keep them as attributes; `str()` is one line that says what to do.
"""

from __future__ import annotations

import errno as errno_codes
import os

__all__ = [
    "AgentTracerError",
    "AttachError",
    "BindingError",
    "CommandError",
    "DisassemblerMissing",
    "FilterError",
    "LayoutError",
    "LibraryError",
    "LoadError",
    "MapError",
    "MissingCapability",
    "NoSuchProcess",
    "NotSupported",
    "ObjectError",
    "OutputClosed",
    "OutputError",
    "RecordingError",
    "RingError",
    "TargetError",
    "VerifierError",
]


class AgentTracerError(Exception):
    """The root: catch this to catch all of them."""


class BindingError(AgentTracerError):
    """An operation of libbpf or the kernel failed.

    Attributes:
        operation: what was tried, as a verb ("load", "attach uprobe").
        subject: on what (an object's, program's or map's name).
        errno: the error number, 0 if there is none.
        log: libbpf's messages while it was tried, the verifier's log included.
    """

    def __init__(
        self, operation: str, subject: str = "", errno: int = 0, log: str = "", hint: str = ""
    ) -> None:
        self.operation = operation
        self.subject = subject
        self.errno = abs(errno)
        self.log = log
        self.hint = hint
        super().__init__(operation, subject, errno)

    def __str__(self) -> str:
        text = f"{self.operation} {self.subject}".strip() + " failed"
        if 0 < self.errno < 4000:  # libbpf's own codes lie above; its log says what they mean
            name = errno_codes.errorcode.get(self.errno, str(self.errno))
            text += f": {os.strerror(self.errno)} ({name})"
        reason = self.hint or _last_line(self.log)
        return f"{text}: {reason}" if reason else text


class ObjectError(BindingError):
    """The bytes are no BPF object, or it lacks the program, map or global that was asked for."""


class LoadError(BindingError):
    """The kernel did not take the object."""


class VerifierError(LoadError):
    """The kernel's verifier rejected a program; `str()` shows its last useful line, `log` all of it."""


class AttachError(BindingError):
    """A program could not be attached."""


class MapError(BindingError):
    """A map operation failed."""


class RingError(BindingError):
    """A ring buffer could not be mapped, or its content makes no sense."""


class NotSupported(BindingError):
    """The running kernel lacks a feature.

    Attributes:
        feature: its name.
        since: the kernel version that brought it.
    """

    def __init__(self, feature: str, since: str, errno: int = 0, log: str = "") -> None:
        self.feature = feature
        self.since = since
        super().__init__("use", feature, errno, log)

    def __str__(self) -> str:
        return f"this kernel does not support {self.feature} (Linux {self.since} and later do)"


class MissingCapability(BindingError, PermissionError):  # type: ignore[misc]  # OSError.errno may be None
    """The kernel refused for want of a privilege.

    Attributes:
        capabilities: names of the capabilities that are needed and not held ("CAP_BPF", …).
    """

    def __init__(self, operation: str, capabilities: tuple[str, ...], log: str = "") -> None:
        self.capabilities = capabilities
        BindingError.__init__(self, operation, "", errno_codes.EPERM, log)

    def __str__(self) -> str:
        if not self.capabilities:
            return (
                f"{self.operation}: not permitted, although all capabilities are held: a container runtime, "
                "a security module or kernel lockdown forbids it"
            )
        names = ", ".join(self.capabilities)
        granted = ",".join(name.lower() for name in self.capabilities)
        return (
            f"{self.operation}: needs {names}; run it as root (sudo), "
            f"or grant them: capsh or 'setcap {granted}+ep' on the Python binary of your virtual environment"
        )


class LayoutError(AgentTracerError):
    """A record layout that cannot be decoded in place, or a record that does not fit its layout."""


class TargetError(AgentTracerError):
    """What should be traced is not there."""


class NoSuchProcess(TargetError, ProcessLookupError):
    """No process has this pid."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        super().__init__(pid)

    def __str__(self) -> str:
        return f"no process with pid {self.pid}"


class LibraryError(TargetError):
    """A file has no TLS functions that can be probed.

    Attributes:
        path: the file.
        reason: why not.
    """

    def __init__(self, path: str, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(path, reason)

    def __str__(self) -> str:
        return f"{self.path}: {self.reason}"


class DisassemblerMissing(LibraryError):
    """A file can only be searched with the disassembler, which is not installed."""

    def __init__(self, path: str) -> None:
        super().__init__(path, "its functions have no symbols, and finding them needs capstone")

    def __str__(self) -> str:
        return f"{self.path}: {self.reason} (pip install capstone)"


class CommandError(TargetError):
    """The command to trace could not be started.

    Attributes:
        status: the exit status a shell would give: 127 not found, 126 not executable.
    """

    def __init__(self, command: str, errno: int) -> None:
        self.command = command
        self.errno = errno
        self.status = 127 if errno == errno_codes.ENOENT else 126
        super().__init__(command, errno)

    def __str__(self) -> str:
        return f"cannot run {self.command}: {os.strerror(self.errno)}"


class OutputError(AgentTracerError):
    """An output could not be written; what was written before is whole."""


class OutputClosed(OutputError):
    """Whoever read the output has gone (`| head`): a reason to end, not a failure."""


class RecordingError(AgentTracerError):
    """A recording, or a line of it, could not be read."""


class FilterError(AgentTracerError, ValueError):
    """A filter expression is wrong; `str()` shows it with a mark at the place, in three lines.

    Attributes:
        expression: all of it.
        position: characters before the place.
        message: what is wrong.
    """

    def __init__(self, expression: str, position: int, message: str) -> None:
        self.expression = expression
        self.position = position
        self.message = message
        super().__init__(expression, position, message)

    def __str__(self) -> str:
        before, after = self.expression[: self.position], self.expression[self.position :]
        begun = before.rpartition("\n")[2].replace("\t", " ")
        line = begun + after.partition("\n")[0].replace("\t", " ")
        return f"bad filter: {self.message}\n  {line}\n  {' ' * len(begun)}^"


def _last_line(log: str) -> str:
    """The last line of a log that says something: not the verifier's statistics or separators."""
    for line in reversed(log.splitlines()):
        text = line.strip().removeprefix("libbpf: ")
        noise = (
            "processed ",
            "-- END",
            "-- BEGIN",
            "failed to load",
            "prog '",
            "verification time",
            "stack depth",
        )
        if text and not text.startswith(noise):
            return text
    return ""
