"""Lets only connections pass that go to certain ports or hosts."""

from __future__ import annotations

import fnmatch
from collections import OrderedDict, deque
from collections.abc import Collection, Iterable

from ..events import Event, Loss, SslClose, SslConnection, SslData, SslUnseen

__all__ = ["EndpointFilter"]

HOLD_NS = 2_000_000_000
MAX_HELD_EVENTS = 4096
MAX_HELD_BYTES = 16 << 20
MAX_CONNECTIONS = 65536


class EndpointFilter:
    """Lets the events of those TLS connections pass that go to one of these ports, or to one of these hosts.

    Where a connection goes is told by its `ssl_connection` event, which can come somewhat later than its
    first bytes: these are held until then, for two seconds at most. If it stays unknown, they are left out.
    With both ports and hosts, both have to match. What is of no connection passes.

    Args:
        ports: TCP ports; either end may have it.
        hosts: names as clients ask for them (SNI), or addresses; with `*` and `?` as in file names.

    Attributes:
        filtered: events that were left out.
        unknown: those of them for which it did not become known where their connection goes.
    """

    must_run = True  # nothing that was not asked for may pass

    def __init__(self, ports: Collection[int] = (), hosts: Collection[str] = ()) -> None:
        self._ports = frozenset(ports)
        self._hosts = [host.lower().rstrip(".") for host in hosts]
        self._decided: OrderedDict[str, bool] = OrderedDict()
        self._held: dict[str, deque[Event]] = {}
        self._held_events = self._held_bytes = 0
        self.filtered = 0
        self.unknown = 0

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives it, and perhaps others that waited for it, if it is wanted."""
        if isinstance(event, SslUnseen):
            return self._pass(event, self._wants(event))
        connection_id: str | None = getattr(event, "connection_id", None)
        if connection_id is None:
            return (event,)
        if isinstance(event, SslConnection):
            wanted = self._decided[connection_id] = self._wants(event)
            self._decided.move_to_end(connection_id)
            if len(self._decided) > MAX_CONNECTIONS:
                self._decided.popitem(last=False)
            held = self._take(connection_id)
            if wanted:
                return (event, *held)
            self.filtered += 1
            return self._leave_out(held)
        decided = self._decided.get(connection_id)
        if decided is not None:
            if isinstance(event, SslClose):
                del self._decided[connection_id]
            else:  # one that lasts is not pushed out by many that do not
                self._decided.move_to_end(connection_id)
            return self._pass(event, decided)
        return self._hold(connection_id, event)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Gives up what has waited too long."""
        late = [key for key, held in self._held.items() if now_ns - held[0].timestamp_ns > HOLD_NS]
        return [event for key in late for event in self._give_up(key)]

    def flush(self) -> Iterable[Event]:
        """Gives up what still waits."""
        return [event for key in list(self._held) for event in self._give_up(key)]

    def _wants(self, event: SslConnection | SslUnseen) -> bool:
        if self._ports and self._ports.isdisjoint((event.local_port, event.remote_port)):
            return False
        names = [name.lower().rstrip(".") for name in (event.server_name, event.remote_address) if name]
        return not self._hosts or any(
            fnmatch.fnmatchcase(name, host) for name in names for host in self._hosts
        )

    def _pass(self, event: Event, wanted: bool) -> Iterable[Event]:
        # what is missing of a connection that is not wanted is still told: the counts are the kernel's
        if wanted or isinstance(event, Loss):
            return (event,)
        self.filtered += 1
        return ()

    def _hold(self, connection_id: str, event: Event) -> Iterable[Event]:
        self._held.setdefault(connection_id, deque()).append(event)
        self._held_events += 1
        self._held_bytes += _bytes_of(event)
        told: list[Event] = []
        while self._held_events > MAX_HELD_EVENTS or self._held_bytes > MAX_HELD_BYTES:
            told += self._give_up(next(iter(self._held)))
        return told

    def _take(self, connection_id: str) -> deque[Event]:
        held = self._held.pop(connection_id, deque())
        self._held_events -= len(held)
        self._held_bytes -= sum(map(_bytes_of, held))
        return held

    def _give_up(self, connection_id: str) -> list[Event]:
        before = self.filtered
        told = self._leave_out(self._take(connection_id))
        self.unknown += self.filtered - before
        return told

    def _leave_out(self, held: Iterable[Event]) -> list[Event]:
        """All but what is missing: the counts are the kernel's."""
        return [loss for event in held for loss in self._pass(event, False)]


def _bytes_of(event: Event) -> int:
    return len(event.payload) if isinstance(event, SslData) else 0
