"""What an analyzer is, and several of them in a row."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable
from typing import Protocol

from ..errors import AgentTracerError
from ..events import AnalyzerFailure, Event, derived_id

__all__ = ["Analyzer", "Chain"]

logger = logging.getLogger("libagenttracer.analyzers")


class Analyzer(Protocol):
    """Takes events one by one and gives others.

    It is pure: it does no I/O, reads no clock and starts no threads; all times are those of the events. So
    a recording gives the same as the live stream. What it returns has to be used up before the next call.
    """

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event.

        Args:
            event: in the order of the stream, which may go a little back in time between CPUs.

        Returns:
            What can be told now, in order: the event itself, others instead of it, or nothing.
        """

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Takes note that time has passed.

        Args:
            now_ns: nanoseconds since the epoch, in event time: nothing earlier will come from the source.
                In a chain something earlier can still come, if an analyzer further up held it back.

        Returns:
            What was held back until now.
        """

    def flush(self) -> Iterable[Event]:
        """Takes note that the stream is over.

        Returns:
            What was held back and is to be shown.
        """


class Chain:
    """Several analyzers in a row, which are an analyzer again: what one gives is fed to the next.

    One that raises is skipped from then on, and an `AnalyzerFailure` says so; the others go on. Errors of
    this package (an output that cannot be written, for instance) are let through; so are all errors of an
    analyzer that has a true attribute `must_run`: without it nothing may pass.

    Args:
        analyzers: the first one first; with none of them everything passes.
    """

    def __init__(self, analyzers: Iterable[Analyzer]) -> None:
        self._analyzers = tuple(analyzers)
        self._last: Event | None = None
        self._failures = 0

    def feed(self, event: Event) -> Iterable[Event]:
        """Sends an event through all of them."""
        self._last = event
        events = [event]
        for analyzer in self._analyzers:
            events = self._feed_all(analyzer, events)
        return events

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Ticks all of them, each after it was fed what the ones before it gave."""
        return self._end_turn(lambda analyzer: analyzer.tick(now_ns))

    def flush(self) -> Iterable[Event]:
        """Flushes all of them, each after it was fed what the ones before it gave."""
        return self._end_turn(lambda analyzer: analyzer.flush())

    def _end_turn(self, call: Callable[[Analyzer], Iterable[Event]]) -> list[Event]:
        events: list[Event] = []
        for analyzer in self._analyzers:
            events = self._feed_all(analyzer, events)
            if analyzer in self._analyzers:
                try:
                    events += call(analyzer)
                except Exception as error:
                    events.append(self._skip(analyzer, error))
        return events

    def _feed_all(self, analyzer: Analyzer, events: list[Event]) -> list[Event]:
        given: list[Event] = []
        left = iter(events)
        event: Event | None = None
        try:
            for event in left:
                given += analyzer.feed(event)
        except Exception as error:
            given.append(self._skip(analyzer, error))
            if event is not None:
                given.append(event)
            given += left
        return given

    def _skip(self, analyzer: Analyzer, error: Exception) -> AnalyzerFailure:
        """Leaves an analyzer out from now on."""
        if isinstance(error, AgentTracerError) or getattr(analyzer, "must_run", False):
            raise error
        name = type(analyzer).__name__
        self._failures += 1
        logger.warning("%s failed, and is skipped from now on", name, exc_info=error)
        self._analyzers = tuple(other for other in self._analyzers if other is not analyzer)
        last = self._last
        frames = traceback.extract_tb(error.__traceback__)
        where = f"{frames[-1].filename}:{frames[-1].lineno}" if frames else ""
        return AnalyzerFailure(
            derived_id(last.id if last else "", f"analyzer_failure/{name}", self._failures),
            last.timestamp_ns if last else 0,
            last.source if last else "",
            name,
            f"{type(error).__name__}: {error}",
            where,
        )
