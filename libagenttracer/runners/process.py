"""What processes do: `ProcessRunner`, and `trace_process()`, its one-call door."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Sequence

from ..analyzers import Analyzer, MinimumLifetime, RepeatMerger
from ..events import Event
from .filters import Filter
from .identity import TracerIdentity
from .process_decoder import CATEGORIES, DEFAULT_CATEGORIES, ProcessDecoder
from .process_source import ProcessSource
from .process_table import DEFAULT_MAX_PROCESSES
from .reader import RingReader
from .runner import Runner, Stats, one_call_door

__all__ = ["DEFAULT_WINDOW_S", "ProcessRunner", "trace_process"]

DEFAULT_RING_BYTES = 64 << 20
DEFAULT_WINDOW_S = 5.0
DEFAULT_DRAIN_MS = 100.0  # each look at the ring disturbs what is traced: docs/performance.md
_MODES = (0, 1, 2)


class ProcessRunner(Runner):
    """Traces the lives of processes, their files, sockets and signals, and lines entered in bash.

    Args:
        pid: one process, or several.
        comm: names of processes' first threads or executables ("python", "git,make", or a list).
        cgroup: path of a cgroup v2 directory: the processes in it and below it.
            A process is traced if any pid, name or cgroup matches, and then its descendants too; all are,
            if none of these is given.
        mode: 0: all events of all processes; 1: fork, exec and exit of all, the rest of those that match;
            2: only those that match.
        minimum_ms: processes that live less than this are not shown; events are held back so long.
        window_s: equal file events of a process within this time become one with a count; 0: none do.
        events: categories that are wanted: see `CATEGORIES`; None: `DEFAULT_CATEGORIES`.
        command: starts this command and traces it and its descendants, from its exec on. The run ends
            when it ends.
        user: whose rights the command gets; None: ours.
        ring_bytes: size of the ring buffer, rounded up to a power of two; memory of the kernel.
        max_processes: size of the process table.
        drain_ms: milliseconds between two looks at the ring while records come.
        analyzers: what the events go through, in this order.

    Raises (from `start()`, which entering the `with` block and iterating call):
        TargetError, BindingError: see docs/errors.md.
        ValueError: arguments that make no sense.
    """

    def __init__(
        self,
        *,
        pid: int | Iterable[int] | None = None,
        comm: str | Iterable[str] | None = None,
        cgroup: str | None = None,
        mode: int = 2,
        minimum_ms: float = 0.0,
        window_s: float = DEFAULT_WINDOW_S,
        events: Collection[str] | None = None,
        command: Sequence[str] | None = None,
        user: str | None = None,
        ring_bytes: int = DEFAULT_RING_BYTES,
        max_processes: int = DEFAULT_MAX_PROCESSES,
        drain_ms: float = DEFAULT_DRAIN_MS,
        analyzers: Iterable[Analyzer] = (),
    ) -> None:
        if mode not in _MODES:
            raise ValueError("the mode is 0, 1 or 2")
        if not 0 <= minimum_ms < 1e9 or not 0 <= window_s < 1e6:
            raise ValueError("a time cannot be negative, or that long")
        if max_processes < 1:
            raise ValueError("the process table needs room for one process at least")
        self._categories = check_categories(events)
        self.mode = mode
        self.filter = dataclasses.replace(Filter.of(pid, comm, None, True), cgroup=cgroup, match_exe=True)
        self._ring_bytes = ring_bytes
        self._max_processes = max_processes
        self._lifetime = MinimumLifetime(int(minimum_ms * 1e6))
        own: list[Analyzer] = [self._lifetime] if minimum_ms else []
        own += [RepeatMerger(int(window_s * 1e9))] if window_s else []
        super().__init__(command=command, user=user, drain_ms=drain_ms, analyzers=[*own, *analyzers])
        self._identity = TracerIdentity()
        self._source: ProcessSource | None = None
        self._decoder: ProcessDecoder | None = None
        self._lost_before = 0
        self._alive: frozenset[tuple[int, int]] | None = None  # after a loss, until the next look

    def _open(self, launched: int | None) -> RingReader:
        filter_ = self.filter
        if launched is not None:
            filter_ = dataclasses.replace(filter_, pids=filter_.pids | {launched})
        if self.mode == 0:
            filter_ = Filter(follow_forks=True)
        source = self._source = ProcessSource(
            filter_,
            categories=self._categories,
            life_of_all=self.mode == 1,
            ring_bytes=self._ring_bytes,
            launched=launched,
        )
        self._decoder = ProcessDecoder(
            self._identity, source.ring_bytes, self._categories, self._max_processes
        )
        return RingReader(source.ring_fd, source.ring_bytes, source.control_fd, drain_s=self._drain_s)

    def _decode(self, reader: RingReader) -> tuple[list[Event], bool]:
        assert self._decoder is not None
        position = reader.ring.position
        with reader.lease() as lease:
            return self._decoder.decode(lease.view, lease.spans(), position), bool(len(lease))

    def _settle(self, reader: RingReader, *, final: bool) -> list[Event]:
        assert self._source is not None
        assert self._decoder is not None
        losses = reader.losses()
        found = self._decoder.settle(losses, reader.lost_kinds()) + self._decoder.not_run(self._missed_runs())
        lost = sum(count.records for count in losses.values())
        if lost > self._lost_before:  # the end of a process may be among them
            self._lost_before = lost
            self._alive = self._source.known_processes()
        elif self._alive is not None:
            # a process that ended between these two looks was told of meanwhile
            self._decoder.table.keep_only(self._alive | self._source.known_processes())
            self._alive = None
        return found

    def _rescan(self) -> None:
        assert self._source is not None
        self._source.rescan()

    def _epoch_offset_ns(self) -> int:
        return self._identity.epoch_offset_ns

    def matched_pids(self) -> frozenset[int]:
        """The processes that match now, by pid, name, cgroup or lineage."""
        return (
            self._source.matched_pids()
            if self._source is not None and self._reader is not None
            else frozenset()
        )

    def _detach(self) -> None:
        assert self._source is not None
        self._source.detach()

    def _shut(self) -> None:
        if self._source is not None:
            self._source.close()

    def _targets(self) -> frozenset[int]:
        if self._command is not None:
            return frozenset({self._command.pid})
        return self.filter.pids if self.mode == 2 else frozenset()

    def _remaining(self) -> bool:
        if self._command is not None or self.filter.comms or self.filter.cgroup:
            return self._command is None
        assert self._source is not None
        return bool(self._source.matched_pids())

    def _missed_runs(self) -> dict[str, int]:
        assert self._source is not None
        programs = self._source.program_stats().items()
        return {name: stats.recursion_misses for name, stats in programs if stats.recursion_misses}

    def _stats(self, reader: RingReader) -> Stats:
        assert self._source is not None
        assert self._decoder is not None
        notes = list(self._source.notes)
        if self._lifetime.dropped_processes:
            notes.append(
                f"{self._lifetime.dropped_processes} processes that lived too shortly were left out, "
                f"with {self._lifetime.dropped_events} events"
            )
        return Stats(
            records=self._decoder.records,
            events=self._events,
            lost={cause.name.lower(): count for cause, count in reader.losses().items() if count.records},
            missed_runs=self._missed_runs(),
            notes=notes,
        )


def check_categories(events: Collection[str] | None) -> frozenset[str]:
    """The categories as a set. Raises ValueError for an unknown one, or none."""
    if events is None:
        return frozenset(DEFAULT_CATEGORIES)
    given = events.split(",") if isinstance(events, str) else events
    wanted = frozenset(name.strip() for name in given)
    if not wanted or (unknown := wanted - set(CATEGORIES)):
        names = ", ".join(sorted(unknown)) if wanted else ""
        raise ValueError(f"unknown events {names}: there are {', '.join(CATEGORIES)}")
    return wanted


trace_process = one_call_door(
    ProcessRunner,
    "trace_process",
    """Attaches at once, and gives a runner to iterate over; see `ProcessRunner` for the arguments.

        for event in trace_process(command=["make"]):
            print(event.pid, event.event_type)

    Returns:
        A started `ProcessRunner`: an iterator of events, an asynchronous one, and a context manager.
    """,
)
