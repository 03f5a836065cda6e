"""The processes as a tree, when all is over: who started whom, how long it ran and how it ended."""

from __future__ import annotations

import shlex
import signal
import sys
from collections import OrderedDict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import IO

from ..events import Event, ProcessEvent, ProcessExec, ProcessExit, ProcessFork
from .text import printable

__all__ = ["ProcessTree", "TreeProcess", "render_tree"]

_MIN_LABEL = 16  # so much of a command is shown, however deep and narrow


@dataclass(slots=True)
class TreeProcess:
    """A process as `render_tree` shows it.

    Attributes:
        process_id: unique.
        pid: as the kernel numbered it.
        parent_process_id: the parent's `process_id`.
        label: its command line, or what else is known of it; shown as it is, on one line.
        status: how long it ran and how it ended.
    """

    process_id: str
    pid: int
    parent_process_id: str = ""
    label: str = ""
    status: str = "running"


class ProcessTree:
    """Collects the processes and writes them as a tree when it is closed.

    Args:
        target: an open text file; None: standard error. It is not closed.
        width: of a line, in characters; longer commands are cut.
        max_processes: how many are kept. If there are more, the one that ended first is left out, and the
            tree says so.

    Raises:
        ValueError: `width` or `max_processes` is not positive.
    """

    def __init__(
        self, target: IO[str] | None = None, *, width: int = 120, max_processes: int = 100_000
    ) -> None:
        if width < 1 or max_processes < 1:
            raise ValueError(f"not positive: width={width}, max_processes={max_processes}")
        self._target = sys.stderr if target is None else target
        self._width = width
        self._max_processes = max_processes
        self._processes: OrderedDict[str, TreeProcess] = OrderedDict()
        self._ended: deque[str] = deque()  # in this order
        self._left_out = 0

    def write(self, events: Sequence[Event]) -> None:
        """Takes note of a batch."""
        for event in events:
            # isinstance is slow here: the events' metaclass is an abstract base class's
            if type(event) is ProcessFork:
                self._fork(event)
            elif type(event) is ProcessExec:
                process = self._own(event)
                process.label = self._command(event)
            elif type(event) is ProcessExit:
                process = self._own(event)
                if process.status == "running":
                    self._ended.append(process.process_id)
                process.status = _ending(event)
            while len(self._processes) > self._max_processes:
                self._leave_out()

    def close(self) -> None:
        """Writes the tree. Closing again writes nothing.

        Raises:
            OSError: the file cannot be written.
        """
        lines = render_tree(self._processes.values(), self._width)
        if self._left_out:
            lines.append(f"… {self._left_out} more processes, no room to remember them")
        self._processes.clear()
        self._ended.clear()
        self._left_out = 0
        if not lines:
            return
        text = "".join(f"{line}\n" for line in lines)
        encoding = getattr(self._target, "encoding", None) or "utf-8"
        # names may hold bytes that are no text, and not every terminal has lines to draw with
        self._target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._target.flush()

    def _fork(self, event: ProcessFork) -> None:
        self._own(event)
        label = f"{_one_line(event.comm)} (fork)"
        child = self._processes.get(event.child_process_id)
        if child is None:
            child = self._add(TreeProcess(event.child_process_id, event.child_pid, label=label))
        child.parent_process_id = event.process_id  # a later parent is whoever took in an orphan

    def _own(self, event: ProcessEvent) -> TreeProcess:
        process = self._processes.get(event.process_id)
        if process is None:
            label = _one_line(event.comm)
            process = self._add(TreeProcess(event.process_id, event.pid, event.parent_process_id, label))
        return process

    def _add(self, process: TreeProcess) -> TreeProcess:
        self._processes[process.process_id] = process
        return process

    def _leave_out(self) -> None:
        self._left_out += 1
        while self._ended:
            if self._processes.pop(self._ended.popleft(), None) is not None:
                return
        self._processes.popitem(last=False)

    def _command(self, event: ProcessExec) -> str:
        """The command line, as much of it as fits on a line at most."""
        args, length = [], 0
        for arg in event.args or [event.filename]:
            if length > self._width:
                break
            args.append(arg[: self._width + 1])  # an argument can be megabytes long
            length += len(args[-1]) + 1
        return _one_line(shlex.join(args))[: self._width + 1] + (" …" if event.args_truncated else "")


def render_tree(processes: Iterable[TreeProcess], width: int = 120) -> list[str]:
    """Draws processes as a tree: children below their parent, in the order in which they are given.

    Args:
        processes: in the order of their beginnings. Those whose parent is not among them are roots.
        width: of a line, in characters. Commands are cut to fit in; where the tree is too deep to be
            drawn, the line has the number of levels that are not drawn ("[+12]").

    Returns:
        Lines without newlines, one for each process.
    """
    known = {process.process_id: process for process in processes}
    children: dict[str, list[TreeProcess]] = {}
    roots = []
    for process in known.values():
        if process.parent_process_id in known:
            children.setdefault(process.parent_process_id, []).append(process)
        else:
            roots.append(process)
    drawn_levels = max(1, width // 6)  # half of the line
    lines: list[str] = []
    shown: set[str] = set()
    # roots first; what they do not reach goes round in a circle, which only a broken recording has
    for start in (*roots, *known.values()):
        if start.process_id in shown:
            continue
        shown.add(start.process_id)
        stack = [(start, 0, "", "")]  # process, level, what stands before its line, before its children's
        while stack:
            process, level, before, before_children = stack.pop()
            lines.append(_line(process, before, width))
            below = [child for child in children.get(process.process_id, ()) if child.process_id not in shown]
            shown.update(child.process_id for child in below)
            for child in reversed(below):
                branch, trunk = ("└─ ", "   ") if child is below[-1] else ("├─ ", "│  ")
                if level < drawn_levels:
                    entry = before_children + branch, before_children + trunk
                else:  # all deeper levels stand in the same place
                    entry = f"{before_children}[+{level + 1 - drawn_levels}] {branch}", before_children
                stack.append((child, level + 1, *entry))
    return lines


def _line(process: TreeProcess, before: str, width: int) -> str:
    head, tail = f"{before}{process.pid} ", f"  [{process.status}]"
    room = max(_MIN_LABEL, width - len(head) - len(tail))
    label = process.label if len(process.label) <= room else process.label[: room - 1] + "…"
    return head + label + tail


def _one_line(text: str) -> str:
    """Harmless to a terminal, and on one line: a name must not look like another process."""
    return printable(text).replace("\n", "\\n").replace("\t", "\\t")


def _ending(event: ProcessExit) -> str:
    if event.signal is not None:
        try:
            how = f"killed by {signal.Signals(event.signal).name}"
        except ValueError:  # a real-time signal has no name
            how = f"killed by signal {event.signal}"
    else:
        how = "ended" if event.exit_code is None else f"exit {event.exit_code}"
    return f"{_duration(event.duration_ms)}, {how}{', core dumped' if event.core_dumped else ''}"


def _duration(ms: float) -> str:
    if ms < 999.5:
        return f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"
    seconds = ms / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
