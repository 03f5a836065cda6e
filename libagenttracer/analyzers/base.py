"""What an analyzer is, and several of them in a row."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ..events import Event

__all__ = ["Analyzer", "Chain"]


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

    Args:
        analyzers: the first one first; with none of them everything passes.
    """

    def __init__(self, analyzers: Iterable[Analyzer]) -> None:
        self._analyzers = list(analyzers)

    def feed(self, event: Event) -> Iterable[Event]:
        """Sends an event through all of them."""
        events = [event]
        for analyzer in self._analyzers:
            events = _feed_all(analyzer, events)
        return events

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Ticks all of them, each after it was fed what the ones before it gave."""
        events: list[Event] = []
        for analyzer in self._analyzers:
            events = _feed_all(analyzer, events)
            events.extend(analyzer.tick(now_ns))
        return events

    def flush(self) -> Iterable[Event]:
        """Flushes all of them, each after it was fed what the ones before it gave."""
        events: list[Event] = []
        for analyzer in self._analyzers:
            events = _feed_all(analyzer, events)
            events.extend(analyzer.flush())
        return events


def _feed_all(analyzer: Analyzer, events: list[Event]) -> list[Event]:
    given: list[Event] = []
    for event in events:
        given += analyzer.feed(event)
    return given
