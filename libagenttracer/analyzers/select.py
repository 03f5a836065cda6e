"""Leaves out types of events that nobody asked for."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from ..events import Event

__all__ = ["Hide"]


class Hide:
    """Lets everything pass but these types of events.

    Args:
        types: classes of events.
    """

    def __init__(self, types: Collection[type[Event]]) -> None:
        self._types = frozenset(types)

    def feed(self, event: Event) -> Iterable[Event]:
        """Gives the event unless its type is hidden."""
        return () if type(event) in self._types else (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Holds nothing back."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Holds nothing back."""
        return ()
