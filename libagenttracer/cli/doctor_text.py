"""What `doctor` found, as text for 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator

from .. import __version__
from ..outputs.process_text import one_line
from ..runners.doctor import DoctorReport, Machine, Subject
from ..runners.interface import LibraryCoverage, StackCoverage
from ..system.doctor import FOR_FILES, Check

__all__ = ["report_text"]

_COLUMNS = 80
_NO_BREAK = "\u00a0"
_MARKS = {"yes": "yes", "no": "NO", "unknown": "?"}
_KINDS = {"process": "Process", "file": "File", "command": "Command"}


def report_text(report: DoctorReport, *, everything: bool = False) -> str:
    """The whole report, without a newline at its end.

    Args:
        everything: what is there on the machine too, though subjects were asked about.
    """
    live = not report.subjects or any(subject.kind != "file" for subject in report.subjects)
    lines = list(_machine(report.machine, everything or not report.subjects, live))
    for subject in report.subjects:
        lines += ["", *_subject(subject)]
    return "\n".join(lines)


def _fill(text: str, first: str = "", further: str = "") -> list[str]:
    """Wrapped lines: the first begins with `first`, the others with blanks as wide, and `further`."""
    lines = textwrap.wrap(
        one_line(text),
        _COLUMNS,
        initial_indent=first,
        subsequent_indent=" " * len(first) + further,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [line.replace(_NO_BREAK, " ") for line in lines]


def _machine(machine: Machine, everything: bool, live: bool) -> Iterator[str]:
    """What is missing, or all.

    Args:
        live: something is traced; else files are looked at, which needs little.
    """
    yield from _fill(
        f"libagenttracer {__version__}, libbpf {machine.libbpf}, Python {machine.python}, "
        f"Linux {machine.kernel} ({machine.architecture})"
    )
    yield "TLS can be traced on this machine." if machine.ready else "TLS cannot be traced from here."
    groups = (
        ("The kernel", machine.features),
        ("Capabilities of this process", machine.capabilities),
        ("Surroundings", machine.surroundings),
    )
    left_out = 0
    for title, every in groups:
        checks = [check for check in every if live or everything or check.name in FOR_FILES]
        shown = [check for check in checks if everything or check.state != "yes"]
        left_out += len(checks) - len(shown)
        if shown:
            yield ""
            yield title
            for check, further in zip(shown, [*shown[1:], None], strict=True):
                yield from _check(check, further)
    if left_out and live:
        yield f"{left_out} things that the tracer can use are there (-v lists them)."


def _check(check: Check, further: Check | None) -> Iterator[str]:
    """One check; the same advice for several that follow each other stands below the last."""
    detail = f": {check.detail}" if check.detail else ""
    yield from _fill(f"{check.name}{detail}", f"  {_MARKS[check.state]:<3}  ", "  ")
    if check.state == "yes":
        return
    if check.without:
        yield from _fill(f"without it: {check.without}", " " * 9, "  ")
    if check.advice and (further is None or further.advice != check.advice or further.state == "yes"):
        yield from _fill(f"what to do: {check.advice}", " " * 9, "  ")


def _subject(subject: Subject) -> Iterator[str]:
    asked = subject.name if subject.kind == "command" else _whole(subject.name)
    name = f" ({_whole(subject.comm)})" if subject.comm else ""
    exe = f": {_whole(subject.exe)}" if subject.exe and subject.exe != subject.name else ""
    yield from _fill(f"{_KINDS[subject.kind]}{_NO_BREAK}{asked}{name}{exe}", "", "    ")
    yield from _fill(subject.verdict, f"  {_MARKS['yes' if subject.traceable else 'no']:<3}  ")
    for text in subject.advice:
        yield from _fill(f"what to do: {text}", " " * 7, "  ")
    for text in _traced(subject):
        yield from _fill(text, " " * 7, "  ")
    for library in subject.libraries:
        yield from _library(library, subject)
    for note in subject.notes:
        yield from _fill(f"note: {note}", " " * 7, "  ")


def _traced(subject: Subject) -> Iterator[str]:
    if subject.exit_status is not None:
        yield f"it ended with status {subject.exit_status}"
    if subject.traced:
        yield f"plaintext seen: {subject.payload_bytes} bytes"
    if subject.endpoints:
        yield f"connections: {', '.join(subject.endpoints)}"
    if subject.unseen:
        yield f"connections without plaintext: {', '.join(subject.unseen)}"


def _library(library: LibraryCoverage, subject: Subject) -> Iterator[str]:
    if len(subject.libraries) == 1 and library.path in (subject.name, subject.exe, f"process {subject.name}"):
        if library.problem and library.problem in subject.verdict:
            return  # everything has been said
    else:
        yield from _fill(_whole(library.path), " " * 7)
    at = " " * 7
    if library.problem and not library.stacks and library.problem not in subject.verdict:
        yield from _fill(library.problem, at + "  ", "  ")
    for stack in library.stacks:
        yield from _stack(stack, subject)
    found = [stack for stack in library.stacks if not stack.reason]
    if found and library.problem:
        yield from _fill(f"not probed: {library.problem}", at + "  ", "  ")
    elif found and subject.traced:
        yield from _fill(f"calls: {_listed(library.hits, str) or 'none'}", at + "  ", "  ")


def _stack(stack: StackCoverage, subject: Subject) -> Iterator[str]:
    at = " " * 9
    kind = stack.title
    if stack.reason:
        # what there is to do about it stands under the verdict
        why = "cannot be probed" if stack.reason in subject.verdict else stack.reason
        yield from _fill(f"{kind}: {why}", at, "  ")
        return
    likely = "" if stack.confidence == "certain" else f" ({stack.confidence}, not certain)"
    yield from _fill(f"{kind}, found by {stack.method}{likely}", at, "  ")
    yield from _fill(_listed(stack.points, hex), at + "  ", "  ")
    for note in stack.notes:
        yield from _fill(f"note: {note}", at + "  ", "  ")


def _whole(name: str) -> str:
    """A name with blanks in it stays on one line: behind a break it could look like something else."""
    return name.replace(" ", _NO_BREAK)


def _listed(numbers: dict[str, int], form: Callable[[int], str]) -> str:
    # a name and its number stay on one line
    return ", ".join(f"{name}{_NO_BREAK}{form(number)}" for name, number in numbers.items())
