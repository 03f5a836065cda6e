"""Leaves out processes that live only briefly."""

from __future__ import annotations

import heapq
import uuid
from collections import OrderedDict
from collections.abc import Iterable

from ..events import Event, Loss, ProcessEvent, ProcessExit, ProcessFork

__all__ = ["MinimumLifetime"]

_CAUSE = "held_back_full"


class _Young:
    """A process that is not old enough yet, and its events with their numbers in order of arrival."""

    __slots__ = ("comm", "first_lost", "held", "lost", "old_ns", "parent_id", "pid", "process_id", "queue")

    def __init__(self, process_id: str, pid: int, parent_id: str, old_ns: int) -> None:
        self.process_id = process_id
        self.pid = pid
        self.parent_id = parent_id
        self.old_ns = old_ns  # when it will be old enough
        self.held: list[tuple[int, ProcessEvent]] = []
        self.lost = 0  # events that were given up
        self.first_lost: tuple[int, ProcessEvent] | None = None
        self.comm = ""  # when they were given up
        self.queue: _Queue | None = None


class _Queue:
    """Young processes, the one that began first at the front."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, _Young]] = []
        self._pushed = 0
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def push(self, young: _Young) -> None:
        young.queue = self
        self._pushed += 1
        self._length += 1
        heapq.heappush(self._heap, (young.old_ns, self._pushed, young))

    def remove(self, young: _Young) -> None:
        young.queue = None
        self._length -= 1
        if len(self._heap) > 2 * self._length + 64:  # entries stay behind: not more than there are others
            self._heap = [entry for entry in self._heap if entry[2].queue is self]
            heapq.heapify(self._heap)

    def first(self) -> _Young | None:
        heap = self._heap
        while heap and heap[0][2].queue is not self:
            heapq.heappop(heap)
        return heap[0][2] if heap else None


class MinimumLifetime:
    """Shows processes only if they live at least so long.

    A process's life begins at the fork event that tells of it. Until it is old enough its events are held
    back, this fork event among them; then they leave in order of arrival, with their own times. If it ends
    earlier, or the stream does, they are dropped. A child counts as no older than its parent. A process
    whose fork was not seen is taken for old, but if its exit event says that it was short, this event is
    dropped. What comes of a dropped process after its exit is dropped too. Events that are not a
    process's (of `ProcessEvent`) pass at once.

    If too many events are held back, those of the process that began first are given up. Once it is old
    enough a `Loss` event (cause "held_back_full") tells how many events of it are missing, and the later
    ones pass. If it never gets old enough, nothing is missing.

    Each event that was fed is given, or counted in a `Loss` or in `dropped_events`, once.

    Args:
        minimum_ns: nanoseconds; 0: everything passes.
        max_held: how many events are held back; also how many processes are remembered.

    Attributes:
        dropped_events: events of processes that did not live long enough.
        dropped_processes: these processes.

    Raises:
        ValueError: `minimum_ns` is negative, or `max_held` is not positive.
    """

    def __init__(self, minimum_ns: int, max_held: int = 100_000) -> None:
        if minimum_ns < 0:
            raise ValueError(f"minimum_ns is negative: {minimum_ns}")
        if max_held < 1:
            raise ValueError(f"max_held is not positive: {max_held}")
        self.dropped_events = 0
        self.dropped_processes = 0
        self._minimum_ns = minimum_ns
        self._max_held = max_held
        self._young: dict[str, _Young] = {}
        self._waiting = _Queue()  # those with events that are held back
        self._given_up = _Queue()
        self._held = 0
        self._arrived = 0
        # what became of processes: True: old enough, and has not ended; False: dropped
        self._shown: OrderedDict[str, bool] = OrderedDict()
        self._next_old_ns: int | None = None  # nobody gets old before; None: nobody is young

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives those of processes that are old enough now, and it if it passes."""
        if not self._minimum_ns:
            return (event,)
        ready: list[tuple[int, Event]] = []
        # isinstance is slow here: the events' metaclass is an abstract base class's
        if type(event) is ProcessExit:
            # first of all: it tells the lifetime, which the times of events only tell nearly
            passes = self._exit(event, ready)
            self._release_until(event.timestamp_ns, ready)
        else:
            self._release_until(event.timestamp_ns, ready)
            passes = not isinstance(event, ProcessEvent) or self._passes(event, ready)
        if not ready:
            return (event,) if passes else ()
        given = _in_order(ready)
        if passes:
            given.append(event)
        return given

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Takes note of the time; gives the events of processes that are old enough now."""
        ready: list[tuple[int, Event]] = []
        self._release_until(now_ns, ready)
        return _in_order(ready)

    def flush(self) -> Iterable[Event]:
        """Drops what is still held back: those processes were not seen to live long enough."""
        for young in [*self._young.values()]:
            self._drop(young)
        return ()

    def _passes(self, event: ProcessEvent, ready: list[tuple[int, Event]]) -> bool:
        """Holds an event back, or drops it, unless it passes."""
        about, parent = event.process_id, None
        if type(event) is ProcessFork:
            parent = self._young.get(about)
            about = event.child_process_id
        young = self._young.get(about)
        if young is None:
            shown = self._shown.get(about)
            if shown is False:  # its exit came first
                self.dropped_events += 1
                return False
            if shown or type(event) is not ProcessFork:
                return True
            young = self._begin(event, parent)
        self._hold(young, event, ready)
        return False

    def _begin(self, event: ProcessFork, parent: _Young | None) -> _Young:
        old_ns = event.timestamp_ns + self._minimum_ns
        if parent is not None:  # so that the parent is shown first, whatever the times are
            old_ns = max(old_ns, parent.old_ns)
        young = _Young(event.child_process_id, event.child_pid, event.process_id, old_ns)
        self._young[young.process_id] = young
        self._waiting.push(young)
        if self._next_old_ns is None or old_ns < self._next_old_ns:
            self._next_old_ns = old_ns
        return young

    def _hold(self, young: _Young, event: ProcessEvent, ready: list[tuple[int, Event]]) -> None:
        if young.queue is self._given_up:
            young.lost += 1
            return
        self._arrived += 1
        self._held += 1
        young.held.append((self._arrived, event))
        while self._held > self._max_held and (first := self._waiting.first()):
            self._give_up(first)
        while len(self._given_up) > self._max_held and (first := self._given_up.first()):
            self._release(first, ready)  # no room to wait for it: what is still to come of it passes

    def _give_up(self, young: _Young) -> None:
        self._waiting.remove(young)
        self._given_up.push(young)
        self._held -= len(young.held)
        young.lost = len(young.held)
        young.first_lost = young.held[0]
        # if there is only the fork event: until its first exec the child has its parent's name
        young.comm = young.held[-1][1].comm
        young.held = []

    def _exit(self, event: ProcessExit, ready: list[tuple[int, Event]]) -> bool:
        process_id = event.process_id
        young = self._young.get(process_id)
        short = event.duration_ms * 1_000_000 < self._minimum_ns
        shown = self._shown.get(process_id)
        if young is not None and short:
            self._drop(young)
        elif young is not None:
            self._release(young, ready)
            while parent := self._young.get(young.parent_id):  # it has not ended: it is older than that
                self._release(parent, ready)
                young = parent
        elif shown is None and short:
            self.dropped_processes += 1
            self._remember(process_id, False)
        if self._shown.get(process_id) is False:
            self.dropped_events += 1
            return False
        self._shown.pop(process_id, None)
        return True

    def _release_until(self, now_ns: int, ready: list[tuple[int, Event]]) -> None:
        if self._next_old_ns is None or now_ns < self._next_old_ns:
            return
        self._next_old_ns = None
        for queue in (self._waiting, self._given_up):
            while (young := queue.first()) and young.old_ns <= now_ns:
                self._release(young, ready)
            if young and (self._next_old_ns is None or young.old_ns < self._next_old_ns):
                self._next_old_ns = young.old_ns

    def _release(self, young: _Young, ready: list[tuple[int, Event]]) -> None:
        if young.first_lost is not None:
            arrival, event = young.first_lost
            identity = str(uuid.uuid5(uuid.NAMESPACE_OID, f"{_CAUSE} {event.id}"))
            at_ns, pid, comm = event.timestamp_ns, young.pid, young.comm
            ready.append((arrival, Loss(identity, at_ns, "process", _CAUSE, young.lost, 0, pid, comm)))
        ready.extend(young.held)
        self._forget(young)
        self._remember(young.process_id, True)

    def _drop(self, young: _Young) -> None:
        self.dropped_processes += 1
        self.dropped_events += len(young.held) + young.lost
        self._forget(young)
        self._remember(young.process_id, False)

    def _forget(self, young: _Young) -> None:
        del self._young[young.process_id]
        self._held -= len(young.held)
        if young.queue is not None:
            young.queue.remove(young)

    def _remember(self, process_id: str, shown: bool) -> None:
        self._shown[process_id] = shown
        if len(self._shown) > self._max_held:
            self._shown.popitem(last=False)


def _in_order(ready: list[tuple[int, Event]]) -> list[Event]:
    ready.sort(key=lambda entry: entry[0])
    return [event for _, event in ready]
