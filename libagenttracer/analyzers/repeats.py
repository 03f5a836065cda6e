"""Many equal calls become one event that says how many they were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

import msgspec

from ..events import (
    Event,
    FileChmod,
    FileChown,
    FileDelete,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
    NetSend,
    ProcessExit,
)

__all__ = ["RepeatMerger"]

# what may differ between equal calls; who did it (pid, comm …) follows from exec_id and uid
_IGNORED = {
    *("id", "timestamp_ns", "tid", "fd", "count", "until_ns", "data_len"),
    *("pid", "ppid", "comm", "parent_process_id"),
}


def _key_getter(cls: type[Event]) -> Callable[[Any], tuple[Any, ...]]:
    getter: Callable[[Any], tuple[Any, ...]] = attrgetter(
        "event_type", *(name for name in cls.__struct_fields__ if name not in _IGNORED)
    )
    return getter


_MERGED: tuple[type[Event], ...] = (
    *(FileOpen, FileDelete, FileRename, FileMkdir, FileRmdir, FileLink, FileChmod, FileChown, FileTruncate),
    NetSend,
)
_KEYS = {cls: _key_getter(cls) for cls in _MERGED}


class _Window(msgspec.Struct, eq=False, gc=False):
    """The time after a call in which equal ones are held back, and what they were."""

    process_id: str
    key: tuple[Any, ...]
    begin_ns: int
    held: Any = None  # the first one; None: none yet
    count: int = 0
    until_ns: int = 0
    data_len: int = 0
    several: bool = False


class RepeatMerger:
    """Merges repeated equal file events, and datagrams to the same address, of one process.

    The first of them passes at once. Equal ones that follow in less than `window_ns` are held back and
    leave as one event when the window is over, when the process ends, or when there is no more room. This
    event is the first that was held back, with `count` calls; if these are several, `until_ns` is when the
    last of them was, there is no `fd`, and `data_len` of a datagram is the sum. So the counts of all events
    together are the number of calls. All other events pass at once.

    Args:
        window_ns: length of the window in event time, nanoseconds; 0: everything passes.
        max_pending: how many windows are kept; if there are more, the oldest one ends.

    Raises:
        ValueError: `window_ns` is negative, or `max_pending` is not positive.
    """

    def __init__(self, window_ns: int = 5_000_000_000, max_pending: int = 65536) -> None:
        if window_ns < 0:
            raise ValueError(f"window_ns is negative: {window_ns}")
        if max_pending < 1:
            raise ValueError(f"max_pending is not positive: {max_pending}")
        self._window_ns = window_ns
        self._max_pending = max_pending
        self._by_process: dict[str, dict[tuple[Any, ...], _Window]] = {}
        # all windows, the oldest first: they are equally long, so they also end in this order, but for the
        # little that time goes back between CPUs
        self._order: OrderedDict[_Window, None] = OrderedDict()
        self._next_end_ns = 0  # the first one does not end before; 0: look

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives what left its window now, and the event itself if it passes."""
        if not self._window_ns:
            return (event,)
        now_ns = event.timestamp_ns
        ended = self._end_until(now_ns) if now_ns >= self._next_end_ns else None
        key_of = _KEYS.get(type(event))
        if key_of is None:
            if type(event) is ProcessExit:
                ended = [*(ended or ()), *self._end_process(event.process_id)]
            return (*ended, event) if ended else (event,)
        call: Any = event
        process_id = call.process_id
        key = key_of(call)
        windows = self._by_process.get(process_id)
        if windows is None:
            windows = self._by_process[process_id] = {}
        else:
            window = windows.get(key)
            if window is not None:
                if -self._window_ns < now_ns - window.begin_ns < self._window_ns:
                    self._hold(window, call)
                    return ended or ()
                ended = [*(ended or ()), *self._end(window)]
                windows = self._by_process.setdefault(process_id, windows)  # it may have been the only one
        windows[key] = window = _Window(process_id, key, now_ns)
        self._order[window] = None
        if len(self._order) > self._max_pending:
            ended = [*(ended or ()), *self._end(next(iter(self._order)))]
        return (*ended, event) if ended else (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Takes note of the time; gives what was held back in windows that are over."""
        return self._end_until(now_ns) if now_ns >= self._next_end_ns else ()

    def flush(self) -> Iterable[Event]:
        """Ends all windows; gives what was held back."""
        given = [event for window in self._order for event in _merged(window)]
        self._order.clear()
        self._by_process.clear()
        self._next_end_ns = 0
        return given

    def _hold(self, window: _Window, call: Any) -> None:
        last_ns = call.timestamp_ns if call.until_ns is None else max(call.until_ns, call.timestamp_ns)
        if window.held is None:
            window.held = call
            window.until_ns = last_ns
        else:
            window.several = True
            window.until_ns = max(window.until_ns, last_ns)
        window.count += call.count
        if type(call) is NetSend:
            window.data_len += call.data_len

    def _end_until(self, now_ns: int) -> list[Event]:
        begun_ns = now_ns - self._window_ns
        given: list[Event] = []
        while self._order:
            window = next(iter(self._order))
            if window.begin_ns > begun_ns:
                self._next_end_ns = window.begin_ns + self._window_ns
                break
            given.extend(self._end(window))
        return given

    def _end_process(self, process_id: str) -> list[Event]:
        windows = self._by_process.get(process_id, {})
        return [event for window in [*windows.values()] for event in self._end(window)]

    def _end(self, window: _Window) -> tuple[Event, ...]:
        del self._order[window]
        self._next_end_ns = 0  # it may have been the first one, and the next one may end earlier
        windows = self._by_process[window.process_id]
        del windows[window.key]
        if not windows:
            del self._by_process[window.process_id]
        return _merged(window)


def _merged(window: _Window) -> tuple[Event, ...]:
    """What the events that were held back become."""
    first = window.held
    if first is None:
        return ()
    if not window.several:
        return (first,)
    changes: dict[str, Any] = {"count": window.count, "until_ns": window.until_ns}
    if "fd" in first.__struct_fields__:
        changes["fd"] = None  # they had several
    if isinstance(first, NetSend):
        changes["data_len"] = window.data_len
    return (msgspec.structs.replace(first, **changes),)
