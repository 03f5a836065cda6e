"""Equal calls become one event, and none is lost or counted twice."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers import RepeatMerger
from libagenttracer.events import Event, FileOpen, NetSend, from_json, to_json

from .build import MS, REPEATABLE, close, counts, exit_, fork, make, open_, run, send

WINDOW_MS = 100


def merger(**changes: Any) -> RepeatMerger:
    return RepeatMerger(**{"window_ns": WINDOW_MS * MS, **changes})


@pytest.mark.parametrize("cls", REPEATABLE, ids=lambda cls: cls.event_type)
def test_the_first_passes_and_the_others_become_one(cls: type[Event]) -> None:
    events: list[Any] = [make(cls, at, 5, tid=at) for at in (1, 2, 3, 4)]
    analyzer = merger()
    assert [[*analyzer.feed(event)] for event in events] == [[events[0]], [], [], []]
    (merged,) = analyzer.flush()
    changes: dict[str, Any] = {"count": 3, "until_ns": events[3].timestamp_ns}
    if cls is NetSend:
        changes["data_len"] = 30
    if "fd" in cls.__struct_fields__:
        changes["fd"] = None
    assert merged == msgspec.structs.replace(events[1], **changes)


@pytest.mark.parametrize("cls", REPEATABLE, ids=lambda cls: cls.event_type)
def test_each_field_that_describes_the_deed_counts(cls: type[Event]) -> None:
    """Changing one makes another deed; the others are about the single call, or follow from these."""
    single = {"id", "timestamp_ns", "tid", "fd", "count", "until_ns", "data_len"}
    follow = {"pid", "ppid", "comm", "parent_process_id"}
    event: Any = make(cls, 1, 5)
    describing = [name for name in cls.__struct_fields__ if name not in single | follow]
    assert {"process_id", "exec_id", "uid", "result"} <= set(describing)
    for name in describing:
        value = getattr(event, name)
        other = not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else "other"
        assert [*_fed_second(event, **{name: other})] != [], name
    for name in {"tid", "fd"} & set(cls.__struct_fields__):
        assert [*_fed_second(event, **{name: 77})] == [], name


def _fed_second(event: Event, **changes: Any) -> Any:
    analyzer = merger()
    assert [*analyzer.feed(event)] == [event]
    return analyzer.feed(msgspec.structs.replace(event, **changes))


def test_deeds_of_different_kinds_are_not_equal() -> None:
    events = [make(cls, 1, 5) for cls in REPEATABLE]
    assert run(merger(), events) == events


def test_a_single_held_call_leaves_as_it_came() -> None:
    events = [open_(1), open_(2, fd=9)]
    assert run(merger(), events) == events


def test_when_a_window_is_over() -> None:
    """It is as long as it says, and the next equal call begins another one."""
    first, inside, next_ = open_(0), open_(WINDOW_MS - 0.000001), open_(WINDOW_MS)
    analyzer = merger()
    assert [*analyzer.feed(first)] == [first]
    assert [*analyzer.feed(inside)] == []
    assert [*analyzer.tick(WINDOW_MS * MS - 1)] == []
    assert [*analyzer.feed(next_)] == [inside, next_]
    assert [*analyzer.flush()] == []


def test_any_later_event_ends_a_window() -> None:
    events = [open_(0), open_(1), close(WINDOW_MS, pid=99)]
    analyzer = merger()
    assert [out for event in events for out in analyzer.feed(event)] == events


def test_a_tick_ends_a_window() -> None:
    analyzer = merger()
    events = [open_(0), open_(1)]
    assert [out for event in events for out in analyzer.feed(event)] == events[:1]
    assert [*analyzer.tick(WINDOW_MS * MS)] == events[1:]
    assert [*analyzer.tick(2 * WINDOW_MS * MS)] == []


def test_a_process_that_ends_gives_what_is_held_back_before_its_exit() -> None:
    other = [open_(0, 6), open_(1, 6)]
    own = [open_(2), open_(3), open_(4, path="/tmp/b"), open_(5, path="/tmp/b"), exit_(6, 5, 6)]
    analyzer = merger()
    fed = [out for event in [*other, *own] for out in analyzer.feed(event)]
    assert fed == [other[0], own[0], own[2], own[1], own[3], own[4]]
    assert [*analyzer.flush()] == other[1:]


def test_what_does_not_repeat_passes_at_once() -> None:
    events = [close(0), close(0), fork(1, 5, 6), fork(1, 5, 6)]
    analyzer = merger()
    assert [[*analyzer.feed(event)] for event in events] == [[event] for event in events]


def test_datagrams_keep_the_sum_of_their_bytes() -> None:
    shown = run(merger(), [send(at, data_len=at) for at in range(10)])
    assert [(event.count, event.data_len) for event in shown if isinstance(event, NetSend)] == [
        (1, 0),
        (9, 45),
    ]


def test_the_oldest_window_leaves_when_there_is_no_room() -> None:
    events = [open_(n, path=str(n // 2)) for n in range(8)]
    analyzer = merger(max_pending=2)
    shown = [[*analyzer.feed(event)] for event in events]
    assert shown[3] == []
    assert shown[4] == [events[1], events[4]]
    assert shown[6] == [events[3], events[6]]
    assert [*analyzer.flush()] == [events[5], events[7]]


def test_time_may_go_back_a_little() -> None:
    events = [open_(10), open_(12), open_(9), open_(11)]
    first, merged = run(merger(), events)
    assert first is events[0]
    assert isinstance(merged, FileOpen)
    assert (merged.timestamp_ns, merged.count, merged.until_ns) == (12 * MS, 3, 12 * MS)


def test_another_time_is_another_window() -> None:
    """As where a second recording follows that is older."""
    events = [open_(1000), open_(1000 - WINDOW_MS), open_(1001 - WINDOW_MS)]
    analyzer = merger()
    assert [[*analyzer.feed(event)] for event in events] == [[events[0]], [events[1]], []]


def test_calls_that_were_merged_before() -> None:
    events = [
        open_(0, count=2, until_ns=50 * MS),
        open_(1, count=4, until_ns=90 * MS, fd=None),
        open_(2),
        open_(3, count=2, until_ns=4 * MS),
    ]
    first, merged = run(merger(), events)
    assert first is events[0]
    assert merged == msgspec.structs.replace(events[1], count=7, until_ns=90 * MS)


def test_an_end_is_seen_although_a_later_window_was_in_front() -> None:
    """The one that began later came first and is gone: the other one's end still counts."""
    analyzer = merger()
    late, early = [open_(90, 6), open_(91, 6)], [open_(50, 5), open_(51, 5)]
    fed = [out for event in [*late, *early, exit_(92, 6, 2)] for out in analyzer.feed(event)]
    assert fed[-2] is late[1]
    assert [*analyzer.tick(150 * MS)] == [early[1]]


def test_without_a_window_everything_passes() -> None:
    events = [open_(1), open_(1), open_(1)]
    analyzer = merger(window_ns=0)
    assert [[*analyzer.feed(event)] for event in events] == [[event] for event in events]


@pytest.mark.parametrize("wrong", [{"window_ns": -1}, {"max_pending": 0}])
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RepeatMerger(**wrong)


# ---- whatever comes

CALLS = st.builds(
    lambda cls, at, pid, path, count: make(
        cls,
        at,
        pid,
        **({} if cls is NetSend else {"path": path}),
        count=count,
        until_ns=None if count == 1 else (at + 5) * MS,
    ),
    st.sampled_from([FileOpen, NetSend]),
    st.integers(0, 400),
    st.integers(1, 2),
    st.sampled_from(["/a", "/b"]),
    st.sampled_from([1, 1, 4]),
)
OTHERS = st.one_of(
    st.builds(close, st.integers(0, 400), st.integers(1, 2)),
    st.builds(exit_, st.integers(0, 400), st.integers(1, 2), st.just(5.0)),
)
EVENTS = st.one_of(*[CALLS] * 5, OTHERS)
STREAMS = st.lists(EVENTS, max_size=10) | st.lists(EVENTS, min_size=20, max_size=80)
SORTED = STREAMS.map(lambda events: sorted(events, key=lambda event: event.timestamp_ns))
LIMITS = st.fixed_dictionaries(
    {"window_ns": st.sampled_from([0, 1, 50 * MS, 1000 * MS]), "max_pending": st.sampled_from([1, 2, 1000])}
)


def deed(event: Event) -> tuple[object, ...]:
    return event.event_type, getattr(event, "process_id", None), getattr(event, "path", None)


def totals(events: list[Event]) -> tuple[Counter[object], Counter[object]]:
    """Calls and bytes by deed."""
    calls: Counter[object] = Counter()
    data: Counter[object] = Counter()
    for event in events:
        calls[deed(event)] += counts([event])
        data[deed(event)] += getattr(event, "data_len", 0)
    return calls, data


@given(STREAMS, LIMITS)
def test_sums_are_kept(events: list[Event], limits: dict[str, int]) -> None:
    """In any order of times; and once more through what is read back from a recording."""
    shown = run(RepeatMerger(**limits), events)
    assert totals(shown) == totals(events)
    assert len({event.id for event in shown}) == len(shown) <= len(events)
    again = run(RepeatMerger(**limits), [from_json(to_json(event)) for event in shown])
    assert totals(again) == totals(events)


@given(SORTED)
def test_what_is_given_is_true(events: list[Event]) -> None:
    """Each event spans no more than a window, has its own first call's time, and precedes the exit."""
    by_id = {event.id: event for event in events}
    shown = run(merger(), events)
    for event in shown:
        own: Any = by_id[event.id]
        assert event.timestamp_ns == own.timestamp_ns
        count, until_ns = getattr(event, "count", 1), getattr(event, "until_ns", None)
        assert (count > 1) == (until_ns is not None)
        if until_ns is not None:
            assert own.timestamp_ns <= until_ns < own.timestamp_ns + (WINDOW_MS + 5) * MS
        if count != getattr(own, "count", 1):
            assert event.fd is None  # type: ignore[attr-defined]
    order = {event.id: at for at, event in enumerate(events)}
    seen: set[tuple[str, int]] = set()
    for event in shown:
        who: Any = event
        if event.event_type == "process_exit":
            seen.add((who.process_id, order[event.id]))
        else:
            assert not any(pid == who.process_id and order[event.id] < at for pid, at in seen)


@given(SORTED)
def test_at_most_two_events_for_each_deed_and_window(events: list[Event]) -> None:
    calls = [event for event in events if event.event_type not in ("file_close", "process_exit")]
    span = 401 // WINDOW_MS + 1
    shown = Counter(deed(event) for event in run(merger(), calls))
    assert all(number <= 2 * span for number in shown.values())


@given(STREAMS, st.integers(1, 4))
def test_memory_is_bounded(events: list[Event], limit: int) -> None:
    analyzer = merger(max_pending=limit)
    for event in events:
        [*analyzer.feed(event)]
        kept = sum(len(windows) for windows in analyzer._by_process.values())
        assert kept == len(analyzer._order) <= limit
        assert all(analyzer._by_process.values())
    [*analyzer.tick(2**62)]
    assert not analyzer._order
    assert not analyzer._by_process
