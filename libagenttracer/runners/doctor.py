"""Can this be traced, and if not, why: `doctor()`, for this machine, processes, files and a command."""

from __future__ import annotations

import os
import platform
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from ..binding import libbpf_version
from ..errors import AgentTracerError, CommandError, TargetError
from ..events import Event, SslConnection, SslData, SslUnseen
from ..system.doctor import Check, check_capabilities, check_surroundings
from ..system.examine import NOT_ELF, Examined, examine_file, examine_process
from ..system.processes import leader_comm
from .coverage import coverage_of
from .interface import LibraryCoverage
from .kernel_features import STACK_OBJECTS, check_kernel, check_process_tracing, check_stacks
from .ssl import SslRunner
from .ssl_programs import PROGRAMS

__all__ = ["DoctorReport", "Machine", "Subject", "doctor"]

_RING_BYTES = 8 << 20
_MAX_ENDPOINTS = 20
_OWN_KIND = "trace it on a machine of its kind, or use a 64-bit build for this one"
_DAMAGED = "the file is damaged or was copied in part: install it again"
_ADVICE = {  # what can be done about the reasons that discovery gives, by their beginning
    "what it maps cannot be seen": "run it as root (sudo), or grant CAP_SYS_PTRACE",
    "permission denied": "run it as root (sudo)",
    "operation not permitted": "run it as root (sudo)",
    "deleted,": "run it as root (sudo): the file is reached through /proc/PID/map_files",
    "another file has taken its place": "run it as root (sudo), or start the program again",
    "made for": _OWN_KIND,
    "only 64-bit": _OWN_KIND,
    "cut short": _DAMAGED,
    "cannot be read as an ELF file": _DAMAGED,
    NOT_ELF: "give an executable, a library or a script",
    "is a directory": "give a file",
    "no such file": "check the path",
    "the search took longer": "try again when the machine is less busy",
}
Progress = Callable[[str], object]


@dataclass
class Machine:
    """This machine, and the rights of this process.

    Attributes:
        kernel: its release.
        architecture: "x86_64", "aarch64".
        libbpf: version of the one in use.
        python: version.
        capabilities, features, surroundings: what was checked.
    """

    kernel: str
    architecture: str
    libbpf: str
    python: str
    capabilities: list[Check] = field(default_factory=list)
    features: list[Check] = field(default_factory=list)
    surroundings: list[Check] = field(default_factory=list)

    @property
    def checks(self) -> list[Check]:
        """All of them."""
        return [*self.capabilities, *self.features, *self.surroundings]

    @property
    def ready(self) -> bool:
        """Whether TLS can be traced here, by this process."""
        return _works(self.checks)


@dataclass
class Subject:
    """Something that was asked about.

    Attributes:
        kind: what it is.
        name: as it was asked for: a pid, a path, a command line.
        traceable: all TLS that was found in it can be traced, and there is some.
        verdict: in one line.
        advice: what to do, if it is not.
        comm: the process's name.
        exe: its program.
        libraries: the executables and libraries with TLS, or that could not be looked into.
        looked_at: how many files were looked at.
        notes: what else is worth knowing.
        traced: it was run, or watched for a time: hits, `endpoints` and `unseen` say something.
        payload_bytes: plaintext seen.
        endpoints: where its connections went ("api.example:443").
        unseen: the same for those of which no plaintext was seen.
        exit_status: the command's.
    """

    kind: Literal["process", "file", "command"]
    name: str
    traceable: bool = False
    verdict: str = ""
    advice: list[str] = field(default_factory=list)
    comm: str = ""
    exe: str = ""
    libraries: list[LibraryCoverage] = field(default_factory=list)
    looked_at: int = 0
    notes: list[str] = field(default_factory=list)
    traced: bool = False
    payload_bytes: int = 0
    endpoints: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    exit_status: int | None = None


@dataclass
class DoctorReport:
    """What `doctor()` found.

    Attributes:
        machine: see `Machine`. Of its features, those that the subjects need; all, if there are none.
        subjects: in the order they were asked for.
    """

    machine: Machine
    subjects: list[Subject] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether everything that was asked for can be traced."""
        live = not self.subjects or any(subject.kind != "file" for subject in self.subjects)
        return all(subject.traceable for subject in self.subjects) and (self.machine.ready or not live)


def doctor(
    *,
    pid: int | Iterable[int] = (),
    paths: Iterable[str | os.PathLike[str]] = (),
    command: Sequence[str] | None = None,
    user: str | None = None,
    for_s: float | None = None,
    progress: Progress = lambda text: None,
    started: Callable[[SslRunner], object] = lambda runner: None,
) -> DoctorReport:
    """Says what of TLS can be traced here, and why not what cannot.

    Args:
        pid: one process, or several. Without `for_s` they are looked at, not traced.
        paths: executables, libraries, scripts; names without a slash are looked up in PATH.
        command: is run to its end, and traced.
        user: whose rights the command gets; None: ours.
        for_s: traces the processes for so many seconds, to count calls.
        progress: is told, in a line, what takes long.
        started: is given each run before it starts, so that it can be stopped.

    With nothing to look at it tries everything that the tracer can use, which takes some seconds.

    Raises:
        CommandError: the command cannot be run.
        TargetError: there is no such user.
    """
    pids = [pid] if isinstance(pid, int) else list(pid)
    subjects = [_process(number, progress) for number in pids]
    subjects += [_file(os.fspath(path), progress) for path in paths]
    there = [subject for subject in subjects if subject.kind == "process" and not subject.verdict]
    if there and for_s is not None:
        _watch(there, for_s, started)
    if command:
        subjects.append(_command(command, user, progress, started))
    for subject in subjects:
        _judge(subject)
    return DoctorReport(_machine(subjects, progress), subjects)


def _machine(subjects: list[Subject], progress: Progress) -> Machine:
    system = os.uname()
    machine = Machine(
        system.release,
        system.machine,
        ".".join(map(str, libbpf_version())),
        platform.python_version(),
        check_capabilities(),
        surroundings=check_surroundings(),
    )
    if not subjects:
        progress("trying what this kernel takes: some seconds…")
        machine.features = check_kernel()
        if machine.ready and _works(machine.features):
            machine.features += check_stacks(STACK_OBJECTS)
        machine.features += check_process_tracing()
    elif any(subject.kind != "file" for subject in subjects):
        machine.features = check_kernel()
        needed = {
            part.object
            for subject in subjects
            for library in subject.libraries
            for stack in library.stacks
            for role in stack.points
            for part in PROGRAMS.get(role, ())
        }
        traced = all(subject.traced for subject in subjects)  # then it has been tried
        if not traced and _works(machine.features):
            machine.features += check_stacks(needed)
    return machine


def _works(checks: list[Check]) -> bool:
    return all(check.state == "yes" for check in checks if check.vital)


# what is asked about


def _process(pid: int, progress: Progress) -> Subject:
    try:
        subject = _subject("process", str(pid), examine_process(pid, progress))
    except TargetError as error:
        return Subject("process", str(pid), verdict=str(error))
    subject.comm = leader_comm(pid) or ""
    return subject


def _file(path: str, progress: Progress) -> Subject:
    return _subject("file", path, examine_file(path, progress))


def _subject(kind: Literal["process", "file", "command"], name: str, examined: Examined) -> Subject:
    return Subject(
        kind,
        name,
        exe=examined.exe,
        libraries=[coverage_of(seen, {}) for seen in examined.images],
        looked_at=examined.looked_at,
        notes=examined.notes,
    )


def _command(
    command: Sequence[str], user: str | None, progress: Progress, started: Callable[[SslRunner], object]
) -> Subject:
    subject = Subject("command", shlex.join(command))
    runner = SslRunner(command=command, user=user, ring_bytes=_RING_BYTES, progress=progress)
    tally = _Tally()
    try:
        started(runner)
        runner.add_output(tally).run()
    except CommandError:
        raise
    except AgentTracerError as error:
        subject = _subject("command", subject.name, examine_file(command[0], progress))
        subject.notes.insert(0, f"it was not run: {error}")
        return subject
    subject.exit_status = runner.exit_status
    subject.libraries = [item for item in runner.stats.libraries if item.stacks or item.problem != NOT_ELF]
    subject.notes += [note for note in runner.stats.notes if not note.startswith("warning: ")]
    subject.traced = True
    tally.tell(subject, None)
    if not subject.libraries:
        examined = examine_file(command[0])
        subject.exe, subject.looked_at = examined.exe, examined.looked_at
        subject.libraries = [coverage_of(seen, {}) for seen in examined.images]
        subject.notes += examined.notes
    return subject


def _watch(subjects: list[Subject], for_s: float, started: Callable[[SslRunner], object]) -> None:
    """Traces processes for a time, and adds what was seen."""
    pids = [int(subject.name) for subject in subjects]
    runner = SslRunner(pid=pids, attach="matched", ring_bytes=_RING_BYTES)
    tally = _Tally()
    try:
        started(runner)
        runner.add_output(tally).run(for_s)
    except AgentTracerError as error:
        for subject in subjects:
            subject.notes.append(f"it was not traced: {error}")
        return
    stats = runner.stats
    for subject, pid in zip(subjects, pids, strict=True):
        live = [item for item in stats.libraries if pid in item.pids and item.stacks]
        # what was found in the meantime comes first: it has hits
        paths = {item.path for item in live}
        subject.libraries = live + [item for item in subject.libraries if item.path not in paths]
        # what was not seen stands below the process that it is about
        subject.notes += [note for note in stats.notes if not note.startswith("warning: ")]
        subject.traced = True
        tally.tell(subject, pid)


class _Tally:
    """An output that only counts."""

    def __init__(self) -> None:
        self._bytes: dict[int, int] = {}
        self._endpoints: dict[tuple[int, str], None] = {}
        self._unseen: dict[tuple[int, str], None] = {}

    def write(self, events: Sequence[Event]) -> None:
        """Takes a batch."""
        for event in events:
            if isinstance(event, SslConnection):
                self._endpoints[event.pid, _endpoint(event)] = None
            elif isinstance(event, SslUnseen):
                self._unseen[event.pid, f"{_endpoint(event)} ({event.protocol})"] = None
            elif isinstance(event, SslData):
                self._bytes[event.pid] = self._bytes.get(event.pid, 0) + event.data_len

    def close(self) -> None:
        """There is nothing to close."""

    def tell(self, subject: Subject, pid: int | None) -> None:
        """Adds what was counted, of one process or of all."""
        subject.payload_bytes = sum(size for its, size in self._bytes.items() if pid in (None, its))
        for table, texts in ((self._endpoints, subject.endpoints), (self._unseen, subject.unseen)):
            places = dict.fromkeys(text for its, text in table if pid in (None, its))
            texts.extend(list(places)[:_MAX_ENDPOINTS])


def _endpoint(event: SslConnection | SslUnseen) -> str:
    name = event.server_name or event.remote_address or "an unknown place"
    name = f"[{name}]" if ":" in name else name
    return f"{name}:{event.remote_port}" if event.remote_port else name


# the verdict


def _judge(subject: Subject) -> None:
    if subject.verdict:
        return
    stacks = [stack for library in subject.libraries for stack in library.stacks]
    found = _names(f"{stack.stack} {stack.version}".strip() for stack in stacks if not stack.reason)
    beyond = [stack for stack in stacks if stack.reason]
    failed = [library for library in subject.libraries if library.problem and not library.stacks]
    refused = [library for library in subject.libraries if library.problem and found and library.stacks]
    if found and subject.unseen:
        subject.verdict = f"{found} can be traced, but connections went through something else"
        subject.advice.append("see whether a process of its own, or another library, made them")
    elif found and beyond:
        subject.verdict = f"{found} can be traced, {_names(stack.stack for stack in beyond)} cannot"
    elif found:
        subject.traceable = not refused
        subject.verdict = f"can be traced: {found}" if subject.traceable else "could not be probed"
        if subject.traced and not subject.payload_bytes and subject.traceable:
            subject.verdict += "; it sent and received nothing meanwhile"
    elif beyond:
        subject.verdict = f"cannot be traced: {beyond[0].reason}"
    elif failed:
        subject.verdict = f"cannot be told: {failed[0].problem}"
        subject.advice += [advice for library in failed if (advice := _advice(library.problem))]
    else:
        ran = subject.exit_status is not None
        what = "what it maps now" if subject.kind == "process" else "what it ran" if ran else "it"
        number = f"{subject.looked_at} files were" if subject.looked_at != 1 else "one file was"
        subject.verdict = f"no TLS in {what}: {number} looked at"
        if subject.unseen:
            subject.verdict = "its TLS was not seen: none of what it maps is a TLS library that is known"
    subject.advice = list(dict.fromkeys(subject.advice + [stack.advice for stack in beyond if stack.advice]))


def _names(texts: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(texts))


def _advice(reason: str) -> str:
    return next((advice for begin, advice in _ADVICE.items() if reason.startswith(begin)), "")
