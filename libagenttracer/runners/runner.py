"""What all live runners share: start and end, synchronous and asynchronous iteration, outputs, statistics."""

from __future__ import annotations

import asyncio
import functools
import math
import os
import select
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import ParamSpec, Protocol, TypeVar

from ..analyzers import Analyzer, Chain
from ..events import Event
from ..system.launch import Launched, launch
from .interface import LibraryCoverage, LossCount
from .reader import RingReader

__all__ = ["Output", "Runner", "Stats", "one_call_door"]

TICK_S = 1.0
_TICK_MARGIN_NS = 50_000_000  # a record that was begun this long ago is in the ring by now


class Output(Protocol):
    """Where events go."""

    def write(self, events: Sequence[Event]) -> None:
        """Takes a batch; raises OutputError."""

    def close(self) -> None:
        """Flushes and closes; raises OutputError."""


@dataclass(frozen=True)
class Stats:
    """What a runner has seen so far.

    Attributes:
        records: taken from the ring.
        events: made of them, losses included.
        payload_bytes: plaintext in them.
        lost: for each cause, records and bytes, as the kernel counted them; causes without loss left out.
        libraries: coverage, with hits by function.
        notes: what is off and why, and what was left out on purpose.
        missed_runs: times that the kernel did not run a program, by program, because it was running already.
    """

    records: int = 0
    events: int = 0
    payload_bytes: int = 0
    lost: dict[str, LossCount] = field(default_factory=dict)
    libraries: list[LibraryCoverage] = field(default_factory=list)
    missed_runs: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


RunnerType = TypeVar("RunnerType", bound="Runner")
Parameters = ParamSpec("Parameters")


class Runner(ABC):
    """A source of events that runs on this machine's kernel.

    Use it as a context manager, or call `start()` and `close()`. Iterate over it for events (one iterator
    at a time, from any thread), or give it outputs and call `run()`. It ends by itself when all processes
    that were named by pid, or its command, have ended.

    Args:
        command: starts this command and traces it.
        user: whose rights the command gets; None: ours.
        drain_ms: milliseconds between two looks at the ring while records come.
        analyzers: what the events go through, in this order.

    Attributes:
        command: that is started, if any.
    """

    def __init__(
        self,
        *,
        command: Sequence[str] | None,
        user: str | None,
        drain_ms: float,
        analyzers: Iterable[Analyzer],
    ) -> None:
        self.command = list(command) if command else None
        self._user = user
        self._drain_s = drain_ms / 1000
        self._analyzers = list(analyzers)
        self._chain = Chain(self._analyzers)
        self._outputs: list[Output] = []
        self._reader: RingReader | None = None
        self._stop_fd = -1
        self._epoll: select.epoll | None = None
        self._watched: dict[int, int] = {}
        self._stopping = False
        self._finished = False
        self._next_tick_s = 0.0
        self._settle_due = False
        self._end_s = math.inf
        self._events = 0
        self._last_stats = Stats()
        self._command: Launched | None = None

    # what a particular runner brings

    @abstractmethod
    def _open(self, launched: int | None) -> RingReader:
        """Loads and attaches; raises what the source raises.

        Args:
            launched: pid of the command, which waits to be let go.
        """

    @abstractmethod
    def _decode(self, reader: RingReader) -> tuple[list[Event], bool]:
        """The events of the next batch, and whether there was anything in it."""

    @abstractmethod
    def _settle(self, reader: RingReader, *, final: bool) -> list[Event]:
        """What is found missing now: called with the ring empty, about once a second and at the end."""

    @abstractmethod
    def _rescan(self) -> None:
        """Looks for what is to be probed; called about once a second."""

    @abstractmethod
    def _epoch_offset_ns(self) -> int:
        """To be added to CLOCK_BOOTTIME for nanoseconds since the epoch."""

    @abstractmethod
    def _detach(self) -> None:
        """Removes the probes; the ring stays."""

    @abstractmethod
    def _shut(self) -> None:
        """Frees what `_open` made, also if that did not get far."""

    @abstractmethod
    def _targets(self) -> frozenset[int]:
        """The pids whose end ends the run; none: it goes on until it is stopped."""

    @abstractmethod
    def _remaining(self) -> bool:
        """Asked when the targets have ended: whether descendants of theirs are still traced."""

    @abstractmethod
    def _stats(self, reader: RingReader) -> Stats:
        """Statistics now."""

    # start and end

    def start(self: RunnerType) -> RunnerType:
        """Loads and attaches, if that is not done yet."""
        if self._reader is not None or self._finished:
            return self
        try:
            if self.command:
                self._command = launch(self.command, user=self._user)
            self._reader = self._open(None if self._command is None else self._command.pid)
        except BaseException:
            self._shut()
            if self._command is not None:
                self._command.close()
            raise
        try:
            self._stop_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._epoll = select.epoll()
            self._epoll.register(self._reader.fileno(), select.EPOLLIN)
            self._epoll.register(self._stop_fd, select.EPOLLIN)
            for pid in self._targets():
                self._watch(pid)
            self._next_tick_s = time.monotonic() + TICK_S
            if self._command is not None:
                self._command.go()
        except BaseException:
            self.close()
            raise
        return self

    def _watch(self, pid: int) -> None:
        try:
            fd = os.pidfd_open(pid)
        except ProcessLookupError:
            return  # it has ended since it was checked: what it wrote is in the ring
        self._watched[fd] = pid
        assert self._epoll is not None
        self._epoll.register(fd, select.EPOLLIN)

    def stop(self) -> None:
        """Ends the run from another thread or a signal handler: what the ring holds is still delivered."""
        self._stopping = True
        if self._stop_fd >= 0:
            os.eventfd_write(self._stop_fd, 1)

    def close(self) -> None:
        """Detaches and frees everything; what was not read yet is dropped. Calling it again does nothing."""
        reader, self._reader = self._reader, None
        self._finished = True
        if reader is None:
            return
        self._last_stats = self._stats(reader)
        if self._epoll is not None:
            self._epoll.close()
        for fd in (self._stop_fd, *self._watched):
            if fd >= 0:
                os.close(fd)
        self._stop_fd = -1
        self._watched.clear()
        reader.close()
        self._shut()
        if self._command is not None:
            self._command.close()
            self._command.poll()  # if it has ended, nobody else may ask for its status

    def __enter__(self: RunnerType) -> RunnerType:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    @property
    def stats(self) -> Stats:
        """Statistics now, or those at the end."""
        return self._last_stats if self._reader is None else self._stats(self._reader)

    @property
    def launched(self) -> Launched | None:
        """The command that the run started, if any."""
        return self._command

    @property
    def exit_status(self) -> int | None:
        """The command's, as a shell gives it; None if there is none or it still runs."""
        return None if self._command is None else self._command.poll()

    # reading

    def batches(self) -> Iterator[list[Event]]:
        """Batches of events as they come; an empty one at least once a second. Closes at the end."""
        self.start()
        try:
            while (reader := self._reader) is not None:
                batch, had_some = self._step(reader)
                yield batch
                if self._finished:
                    return
                if not had_some:
                    self._wait(min(reader.before_waiting(), max(0.0, self._end_s - time.monotonic())))
        finally:
            self.close()

    def __iter__(self) -> Iterator[Event]:
        for batch in self.batches():
            yield from batch

    async def __aiter__(self) -> AsyncIterator[Event]:
        self.start()
        try:
            while (reader := self._reader) is not None:
                batch, had_some = self._step(reader)
                for event in batch:
                    yield event
                if self._finished:
                    return
                if not had_some:
                    await self._wait_async(reader.before_waiting())
                else:
                    await asyncio.sleep(0)  # let others run while the ring is full
        finally:
            self.close()

    def _step(self, reader: RingReader) -> tuple[list[Event], bool]:
        """One batch. Sets `_finished` when it was the last one."""
        ending = self._stopping or self._targets_ended()
        if ending:
            self._detach()
        # the time first: what is not in the ring yet happened later
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) + self._epoch_offset_ns()
        found, had_some = self._decode(reader)
        batch = self._through(found)
        now_s = time.monotonic()
        if ending and not had_some:
            batch += self._through(self._settle(reader, final=True))
            batch += self._chain.flush()
            self._finished = True
        elif now_s >= self._next_tick_s:
            self._next_tick_s = now_s + TICK_S
            self._rescan()
            self._settle_due = True
        if self._settle_due and not had_some and not self._finished:
            # before, what seems to be missing may still be in the ring
            self._settle_due = False
            batch += self._through(self._settle(reader, final=False))
            batch += self._chain.tick(now_ns - _TICK_MARGIN_NS)
        self._events += len(batch)
        return batch, had_some

    def _through(self, events: list[Event]) -> list[Event]:
        """What the analyzers make of events."""
        if not self._analyzers:
            return events
        feed = self._chain.feed
        return [given for event in events for given in feed(event)]

    def _targets_ended(self) -> bool:
        if not self._targets():
            return False
        if self._watched:
            return False
        return not self._remaining()

    def _wait(self, timeout_s: float) -> None:
        assert self._epoll is not None
        self._woken(self._epoll.poll(timeout_s))

    async def _wait_async(self, timeout_s: float) -> None:
        assert self._epoll is not None
        loop = asyncio.get_running_loop()
        ready: asyncio.Future[None] = loop.create_future()
        fd = self._epoll.fileno()

        def wake() -> None:
            if not ready.done():
                ready.set_result(None)

        loop.add_reader(fd, wake)
        try:
            await asyncio.wait_for(ready, timeout_s)
        except (asyncio.TimeoutError, TimeoutError):
            pass
        finally:
            loop.remove_reader(fd)
        self._woken(self._epoll.poll(0))

    def _woken(self, ready: list[tuple[int, int]]) -> None:
        for fd, _ in ready:
            if fd in self._watched:  # a target has ended
                assert self._epoll is not None
                self._epoll.unregister(fd)
                del self._watched[fd]
                os.close(fd)
        if self._reader is not None:
            self._reader.after_waiting()

    # analyzers and outputs

    def add_analyzer(self: RunnerType, analyzer: Analyzer) -> RunnerType:
        """Adds an analyzer behind those that are there. Before the start only."""
        if self._reader is not None or self._finished:
            raise RuntimeError("the run has begun: add analyzers before")
        self._analyzers.append(analyzer)
        self._chain = Chain(self._analyzers)
        return self

    def add_output(self: RunnerType, output: Output) -> RunnerType:
        """Adds where `run()` writes to; it is closed at the end."""
        self._outputs.append(output)
        return self

    def run(self, for_s: float | None = None) -> Stats:
        """Writes all events to the outputs until the run ends, `stop()` is called, or the time is over.

        Raises:
            OutputError: an output failed; the others are closed properly.
        """
        end_s = self._end_s = math.inf if for_s is None else time.monotonic() + for_s
        try:
            for batch in self.batches():
                if batch:
                    for output in self._outputs:
                        output.write(batch)
                if time.monotonic() >= end_s:
                    self.stop()
        finally:
            self.close()
            for output in self._outputs:
                output.close()
        return self.stats


def one_call_door(
    runner: Callable[Parameters, RunnerType], name: str, doc: str
) -> Callable[Parameters, RunnerType]:
    """A function that makes a runner and starts it.

    Args:
        runner: the class; the function has its arguments.
        name, doc: of the function.
    """

    @functools.wraps(runner, updated=())
    def door(*args: Parameters.args, **kwargs: Parameters.kwargs) -> RunnerType:
        return runner(*args, **kwargs).start()

    door.__name__ = door.__qualname__ = name
    door.__doc__ = doc
    return door
