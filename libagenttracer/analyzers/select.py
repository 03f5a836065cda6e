"""Leaves out events: types that nobody asked for, and what is about to be made again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable

from ..events import ConnectionEvent, Event, HttpExchange, LlmCall, McpCall, SslData

__all__ = ["Hide", "HideRecorded"]


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


class HideRecorded:
    """For recordings that have decoded events already: leaves out those that are about to be made again.

    What was decoded of a connection is left out if its plaintext came by; calls, if their exchanges did.

    Args:
        max_connections: that are remembered.
    """

    def __init__(self, max_connections: int = 65536) -> None:
        self._max_connections = max_connections
        self._seen: OrderedDict[str, bool] = OrderedDict()  # whether there is plaintext of it

    def feed(self, event: Event) -> Iterable[Event]:
        """Gives the event unless it will be made again."""
        if type(event) is SslData:
            if not self._seen.get(event.connection_id):
                self._remember(event.connection_id, True)
        elif isinstance(event, ConnectionEvent):
            plaintext = self._seen.get(event.connection_id)
            if plaintext or (plaintext is not None and isinstance(event, (LlmCall, McpCall))):
                return ()
            if plaintext is None and isinstance(event, HttpExchange):
                self._remember(event.connection_id, False)
        return (event,)

    def _remember(self, connection_id: str, plaintext: bool) -> None:
        self._seen[connection_id] = plaintext
        if len(self._seen) > self._max_connections:
            self._seen.popitem(last=False)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Holds nothing back."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Holds nothing back."""
        return ()
