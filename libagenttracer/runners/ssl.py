"""TLS plaintext of live processes: `SslRunner`, and `trace_ssl()`, its one-call door."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from ..analyzers import Analyzer
from ..events import Event
from .filters import Filter
from .identity import TracerIdentity
from .reader import RingReader
from .runner import Runner, Stats, one_call_door
from .ssl_decoder import SslDecoder
from .ssl_source import SslSource

__all__ = ["DEFAULT_RING_BYTES", "SslRunner", "trace_ssl"]

DEFAULT_RING_BYTES = 64 << 20  # docs/performance.md says why


class SslRunner(Runner):
    """Traces what processes send and receive inside TLS.

    Args:
        pid: one process, or several.
        comm: names of processes' first threads ("python", "curl,node", or a list). A process is traced if
            any pid or name matches; all are, if neither is given.
        uid: only processes of this user.
        follow_forks: the descendants of matching processes too.
        command: starts this command and traces it and its descendants, from the first byte. The run ends
            when it ends.
        user: whose rights the command gets; None: ours.
        libraries: paths of the libraries and executables to probe, instead of those that are found.
        attach: "matched": probe only what matching processes map. "all": the libraries of the system too, so
            that processes that start later are traced from their first byte; each call in them costs
            every process of the machine a few microseconds, traced or not. None: "all", unless a command
            is started, which is held until its libraries are probed.
        progress: is told, in a line, what takes long; from another thread.
        handshake: give `ssl_handshake` events too.
        closes: give `ssl_close` events too; None: if there are analyzers, which need them to know early that
            something is over.
        ring_bytes: size of the ring buffer, rounded up to a power of two; memory of the kernel.
        drain_ms: milliseconds between two looks at the ring while records come.
        analyzers: what the events go through, in this order; for instance `decoders()`.

    Raises (from `start()`, which entering the `with` block and iterating call):
        TargetError, BindingError: see docs/errors.md.
        ValueError: arguments that make no sense.
    """

    def __init__(
        self,
        *,
        pid: int | Iterable[int] | None = None,
        comm: str | Iterable[str] | None = None,
        uid: int | None = None,
        follow_forks: bool = False,
        command: Sequence[str] | None = None,
        user: str | None = None,
        libraries: Sequence[str] | None = None,
        attach: Literal["matched", "all"] | None = None,
        progress: Callable[[str], object] | None = None,
        handshake: bool = False,
        closes: bool | None = None,
        ring_bytes: int = DEFAULT_RING_BYTES,
        drain_ms: float = 10.0,
        analyzers: Iterable[Analyzer] = (),
    ) -> None:
        super().__init__(command=command, user=user, drain_ms=drain_ms, analyzers=analyzers)
        # the names of first threads are useless for some runtimes ("MainThread")
        self.filter = dataclasses.replace(Filter.of(pid, comm, uid, follow_forks), match_exe=bool(comm))
        self._attach = attach
        self._progress = progress
        self._libraries = libraries
        self._handshake = handshake
        self._closes = closes
        self._ring_bytes = ring_bytes
        self._identity = TracerIdentity()
        self._empty_ns = 0  # what the ring did not have happened later, since the boot
        self._source: SslSource | None = None
        self._decoder: SslDecoder | None = None

    def _open(self, launched: int | None) -> RingReader:
        filter_ = self.filter
        if launched is not None:
            filter_ = dataclasses.replace(filter_, pids=filter_.pids | {launched}, follow_forks=True)
        source = self._source = SslSource(
            filter_,
            libraries=self._libraries,
            ring_bytes=self._ring_bytes,
            handshake=self._handshake,
            closes=bool(self._analyzers) if self._closes is None else self._closes,
            launched=launched,
            attach=self._attach,
            progress=self._progress,
            give_up=lambda: self._stopping,
        )
        self._decoder = SslDecoder(self._identity, source.libraries, source.ring_bytes)
        return RingReader(source.ring_fd, source.ring_bytes, source.control_fd, drain_s=self._drain_s)

    def _decode(self, reader: RingReader) -> tuple[list[Event], bool]:
        assert self._decoder is not None
        position = reader.ring.position
        self._empty_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        with reader.lease() as lease:
            return self._decoder.decode(lease.view, lease.spans(), position), bool(len(lease))

    def _settle(self, reader: RingReader, *, final: bool) -> list[Event]:
        assert self._source is not None
        assert self._decoder is not None
        # the counters first: a loss that is counted now is in the totals that are read after
        losses, totals = reader.losses(), self._source.connection_totals()
        return self._decoder.settle(losses, totals, final=final, now_ns=self._empty_ns)

    def _rescan(self) -> None:
        """Discovery has threads of its own."""

    def _epoch_offset_ns(self) -> int:
        return self._identity.epoch_offset_ns

    def _detach(self) -> None:
        assert self._source is not None
        self._source.detach()

    def _shut(self) -> None:
        if self._source is not None:
            self._source.close()

    def _targets(self) -> frozenset[int]:
        return frozenset({self._command.pid}) if self._command is not None else self.filter.pids

    def _remaining(self) -> bool:
        if self._command is not None or self.filter.comms:
            return bool(self._command is None)
        assert self._source is not None
        return self.filter.follow_forks and bool(self._source.matched_pids())

    def _stats(self, reader: RingReader) -> Stats:
        assert self._source is not None
        assert self._decoder is not None
        return Stats(
            records=self._decoder.records,
            events=self._events,
            payload_bytes=self._decoder.payload_bytes,
            lost={cause.name.lower(): count for cause, count in reader.losses().items() if count.records},
            libraries=self._source.coverage(),
            missed_runs={
                name: stats.recursion_misses
                for name, stats in self._source.program_stats().items()
                if stats.recursion_misses
            },
            notes=[*(f"warning: {text}" for text in self._decoder.unseen), *self._source.discovery_notes()],
        )


trace_ssl = one_call_door(
    SslRunner,
    "trace_ssl",
    """Attaches at once, and gives a runner to iterate over; see `SslRunner` for the arguments.

        for event in trace_ssl(pid=4242):
            print(event.comm, event.direction, event.payload)

    Returns:
        A started `SslRunner`: an iterator of events, an asynchronous one, and a context manager.
    """,
)
