"""Processes that live only briefly are not shown; all others are, and nothing of them is missing."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers import MinimumLifetime
from libagenttracer.events import Event, Loss, ProcessEvent, ProcessExit, ProcessFork, to_json

from ..events.strategies import ssl_data
from .build import MS, exec_, exit_, fork, open_, process_id, run

MINIMUM_MS = 100


def lifetime(max_held: int = 1000, minimum_ms: int = MINIMUM_MS) -> MinimumLifetime:
    return MinimumLifetime(minimum_ms * MS, max_held)


def feed(analyzer: MinimumLifetime, *events: Event) -> list[Event]:
    return [out for event in events for out in analyzer.feed(event)]


def dropped(analyzer: MinimumLifetime) -> tuple[int, int]:
    return analyzer.dropped_events, analyzer.dropped_processes


def test_a_process_is_shown_when_it_is_old_enough() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), exec_(1, 5, "sh"), open_(2, 5)]
    assert feed(analyzer, *events) == []
    assert [*analyzer.tick(MINIMUM_MS * MS - 1)] == []
    assert [*analyzer.tick(MINIMUM_MS * MS)] == events
    later = [open_(101, 5), exit_(102, 5, 102)]
    assert feed(analyzer, *later) == later
    assert dropped(analyzer) == (0, 0)


def test_another_process_s_event_tells_that_time_has_passed() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), exec_(1, 5, "sh"), open_(MINIMUM_MS, 99)]
    assert feed(analyzer, *events) == events


def test_its_own_event_does_too() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), exec_(1, 5, "sh"), open_(MINIMUM_MS, 5)]
    assert feed(analyzer, *events) == events


def test_a_short_process_is_dropped() -> None:
    analyzer = lifetime()
    assert feed(analyzer, fork(0, 1, 5), exec_(1, 5, "sh"), exit_(99, 5, 99.9)) == []
    assert [*analyzer.tick(10**15)] == []
    assert dropped(analyzer) == (3, 1)


def test_an_exit_after_a_long_life_releases() -> None:
    """The lifetime that the kernel tells counts, not the times of the events."""
    analyzer = lifetime()
    events = [fork(0, 1, 5), exec_(1, 5, "sh"), exit_(99.9, 5, 100)]
    assert feed(analyzer, *events) == events


def test_a_short_life_counts_although_the_times_are_further_apart() -> None:
    analyzer = lifetime()
    assert feed(analyzer, fork(0, 1, 5), exec_(1, 5, "sh"), exit_(100.1, 5, 99.9)) == []
    assert dropped(analyzer) == (3, 1)


def test_released_together_in_order_of_arrival() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), fork(0, 1, 6), open_(2, 6), open_(1, 5), open_(4, 6), open_(3, 5)]
    assert feed(analyzer, *events) == []
    assert [*analyzer.tick(10**12)] == events


def test_who_began_earlier_may_come_later() -> None:
    analyzer = lifetime()
    late, early = fork(50, 1, 5), fork(10, 1, 6)
    assert feed(analyzer, late, early) == []
    assert [*analyzer.tick(110 * MS)] == [early]
    assert [*analyzer.tick(150 * MS)] == [late]


def test_a_second_fork_of_a_process_that_is_shown_passes() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), open_(100, 99), fork(101, 99, 5)]
    assert feed(analyzer, *events) == events


def test_a_fork_waits_for_the_parent_too() -> None:
    """Even if the child seems to have begun first."""
    analyzer = lifetime()
    events = [fork(50, 1, 5), fork(10, 5, 6), open_(11, 6)]
    assert feed(analyzer, *events) == []
    assert [*analyzer.tick(149 * MS)] == []
    assert [*analyzer.tick(150 * MS)] == events


def test_a_child_that_lived_long_enough_shows_its_parents() -> None:
    analyzer = lifetime()
    events = [fork(0, 1, 5), fork(0, 5, 6), fork(0, 6, 7), exit_(99.9, 7, 100), open_(99.9, 5)]
    assert feed(analyzer, *events) == events


def test_a_short_child_of_a_process_that_is_shown() -> None:
    analyzer = lifetime()
    own = [open_(201, 5), open_(300, 5)]
    assert feed(analyzer, own[0], fork(202, 5, 6), open_(203, 6), exit_(204, 6, 2), own[1]) == own
    assert dropped(analyzer) == (3, 1)


def test_a_child_outlives_a_short_parent() -> None:
    analyzer = lifetime()
    born, child = fork(1, 5, 6), open_(3, 6)
    assert feed(analyzer, fork(0, 1, 5), born, exit_(2, 5, 2), child) == []
    assert [*analyzer.tick(101 * MS)] == [born, child]
    assert dropped(analyzer) == (2, 1)


def test_a_process_that_was_there_before_is_old() -> None:
    events = [open_(0, 5), exec_(1, 5, "sh"), exit_(2, 5, 10_000)]
    analyzer = lifetime()
    assert [feed(analyzer, event) for event in events] == [[event] for event in events]


def test_an_unknown_process_that_was_short() -> None:
    analyzer = lifetime()
    first = open_(0, 5)
    assert feed(analyzer, first, exit_(2, 5, 2)) == [first]
    assert dropped(analyzer) == (1, 1)


def test_a_process_that_was_shown_is_seen_to_end() -> None:
    """Time passed on another CPU before its exit was read."""
    analyzer = lifetime()
    events = [fork(0, 1, 5), open_(100.1, 99), exit_(99.9, 5, 99.9)]
    assert feed(analyzer, *events) == events
    assert dropped(analyzer) == (0, 0)
    assert not analyzer._shown  # it has ended: nothing is to be remembered


def test_what_comes_after_the_exit_of_a_dropped_process_is_dropped() -> None:
    analyzer = lifetime()
    assert feed(analyzer, fork(0, 1, 5), exit_(2, 5, 2), open_(3, 5)) == []
    assert feed(analyzer, exit_(2, 6, 2), fork(0, 1, 6), open_(3, 6)) == []
    assert dropped(analyzer) == (6, 2)


def test_what_is_no_process_s_passes_at_once() -> None:
    analyzer = lifetime()
    others: list[Event] = [ssl_data(pid=5, timestamp_ns=1), Loss("1", 1, "process", "ring_full", 3, 0, pid=5)]
    assert [feed(analyzer, event) for event in (fork(0, 1, 5), *others)] == [[], *([one] for one in others)]


def test_the_end_drops_who_is_too_young() -> None:
    analyzer = lifetime()
    old = fork(0, 1, 5)
    assert run(analyzer, [old, open_(50, 5), fork(60, 5, 6), open_(100, 99)])[0] is old
    assert dropped(analyzer) == (1, 1)


def test_too_many_events_are_a_loss_when_the_process_is_old_enough() -> None:
    analyzer = lifetime(max_held=3)
    born = fork(0, 1, 5)
    assert feed(analyzer, born, *(open_(n, 5) for n in range(1, 8))) == []
    first, later = open_(100, 5), open_(101, 5)
    loss, shown = feed(analyzer, first)
    assert isinstance(loss, Loss)
    assert (loss.cause, loss.count, loss.lost_bytes, loss.source) == ("held_back_full", 8, 0, "process")
    assert (loss.pid, loss.comm, loss.timestamp_ns) == (5, "p5", born.timestamp_ns)
    assert shown is first
    assert feed(analyzer, later) == [later]
    assert dropped(analyzer) == (0, 0)


def test_the_id_of_a_loss_is_always_the_same() -> None:
    events = [fork(0, 1, 5), open_(1, 5), open_(100, 5)]
    (one, _), (other, _) = (feed(lifetime(max_held=1), *events) for _ in range(2))
    assert to_json(one) == to_json(other)
    assert str(uuid.UUID(one.id)) == one.id not in {event.id for event in events}


def test_the_process_that_began_first_is_given_up() -> None:
    analyzer = lifetime(max_held=3)
    kept = [fork(10, 1, 6), open_(11, 6), open_(12, 6)]
    assert feed(analyzer, fork(0, 1, 5), *kept) == []
    loss, *shown = analyzer.tick(200 * MS)
    assert isinstance(loss, Loss)
    assert (loss.pid, loss.comm, loss.count) == (5, "p1", 1)
    assert shown == kept


def test_a_short_process_is_no_loss_though_it_was_given_up() -> None:
    analyzer = lifetime(max_held=1)
    assert feed(analyzer, fork(0, 1, 5), open_(1, 5), open_(2, 5), exit_(3, 5, 3)) == []
    assert [*analyzer.tick(10**12)] == []
    assert dropped(analyzer) == (4, 1)


def test_processes_that_were_given_up_are_not_kept_without_end() -> None:
    analyzer = lifetime(max_held=2)
    shown = feed(analyzer, *(fork(n, 1, 10 + n) for n in range(9)))
    assert [loss.pid for loss in shown if isinstance(loss, Loss)] == [10, 11, 12, 13, 14]
    event = open_(10, 10)
    assert feed(analyzer, event) == [event]


def test_who_was_given_up_holds_up_nobody() -> None:
    """Although it gets old later than one that waits."""
    analyzer = lifetime(max_held=2)
    waits = fork(60, 1, 7)
    too_many = [fork(100, 1, 5), open_(51, 5), fork(50, 1, 6), open_(52, 5)]
    assert feed(analyzer, *too_many, waits) == []
    assert [event.timestamp_ns for event in analyzer.tick(150 * MS)] == [50 * MS]
    assert [*analyzer.tick(160 * MS)] == [waits]
    assert [event.timestamp_ns for event in analyzer.tick(200 * MS)] == [100 * MS]


def test_without_a_minimum_everything_passes() -> None:
    analyzer = lifetime(minimum_ms=0)
    events = [fork(0, 1, 5), open_(0, 5), exit_(0, 5, 0), exit_(0, 6, 0)]
    assert feed(analyzer, *events) == events


@pytest.mark.parametrize("wrong", [{"minimum_ns": -1}, {"minimum_ns": 1, "max_held": 0}])
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=[*wrong][-1]):
        MinimumLifetime(**wrong)


# ---- whatever comes

PIDS = st.integers(1, 6)
TIMES = st.integers(0, 400)
STREAMS = st.lists(
    st.one_of(
        st.builds(fork, TIMES, PIDS, PIDS),
        st.builds(open_, TIMES, PIDS),
        st.builds(open_, TIMES, PIDS),
        st.builds(exit_, TIMES, PIDS, st.sampled_from([1.0, 99.0, 100.0, 300.0])),
        st.builds(lambda at: ssl_data(timestamp_ns=at * MS), TIMES),
    ),
    max_size=80,
)
LIMITS = st.sampled_from([1, 2, 5, 1000])


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], dict[int, float]]:
    """What a machine could do, in order of time, and how long each process that was forked lived."""
    births: dict[int, int] = {}
    ends: dict[int, int] = {}
    events: list[Event] = []
    for number in range(draw(st.integers(1, 12))):
        pid = 10 + number
        parents = [other for other in births if ends[other] - births[other] > 1]
        parent = draw(st.sampled_from([1, *parents]))
        births[pid] = draw(st.integers(births[parent] + 1, ends[parent] - 1) if parent != 1 else TIMES)
        ends[pid] = births[pid] + draw(st.integers(1, 250))
        events.append(fork(births[pid], parent, pid))
        events += [
            open_(draw(st.integers(births[pid], ends[pid])), pid) for _ in range(draw(st.integers(0, 4)))
        ]
        events.append(exit_(ends[pid], pid, ends[pid] - births[pid]))
    order = {"process_fork": 0, "file_open": 1, "process_exit": 2}
    events.sort(key=lambda event: (event.timestamp_ns, order[event.event_type]))
    return events, {pid: ends[pid] - births[pid] for pid in births}


@given(histories())
def test_shown_is_exactly_who_lived_long_enough(history: tuple[list[Event], dict[int, float]]) -> None:
    events, lived = history

    def wanted(event: Event) -> bool:
        assert isinstance(event, ProcessEvent)
        about = event.child_pid if isinstance(event, ProcessFork) else event.pid
        return lived.get(about, MINIMUM_MS) >= MINIMUM_MS

    analyzer = lifetime()
    shown = run(analyzer, events)
    expected = [event for event in events if wanted(event)]
    assert sorted(event.id for event in shown) == sorted(event.id for event in expected)
    short = sum(duration < MINIMUM_MS for duration in lived.values())
    assert dropped(analyzer) == (len(events) - len(expected), short)
    for pid in lived:  # what is about one process keeps its order, from its fork to its exit
        about = [event for event in expected if event in _about(events, pid)]
        assert [event for event in shown if event in about] == about


def _about(events: list[Event], pid: int) -> list[Event]:
    return [
        event
        for event in events
        if isinstance(event, ProcessEvent)
        and (event.child_pid == pid if isinstance(event, ProcessFork) else event.pid == pid)
    ]


@given(STREAMS, LIMITS, st.lists(st.integers(0, 500), max_size=3))
def test_nothing_is_lost(events: list[Event], limit: int, ticks: list[int]) -> None:
    """In any order, however wrong: each event is shown, or counted once, and memory is bounded."""
    analyzer = lifetime(max_held=limit)
    shown: list[Event] = []
    for at, event in enumerate(events):
        shown += analyzer.feed(event)
        if at < len(ticks):
            shown += analyzer.tick(ticks[at] * MS)
        held = sum(len(young.held) for young in analyzer._young.values())
        assert held == analyzer._held <= limit
        assert len(analyzer._young) == len(analyzer._waiting) + len(analyzer._given_up) <= 2 * limit
        assert len(analyzer._shown) <= limit
        lost = sum(young.lost for young in analyzer._young.values())
        assert _settled(shown) + analyzer.dropped_events + held + lost == at + 1
    shown += analyzer.flush()
    assert _settled(shown) + analyzer.dropped_events == len(events)
    own = [event.id for event in shown if not isinstance(event, (Loss, type(ssl_data())))]
    assert len(own) == len(set(own))
    assert not analyzer._young
    assert analyzer._held == 0


def _settled(shown: list[Event]) -> int:
    return sum(event.count if isinstance(event, Loss) else 1 for event in shown)


@given(STREAMS)
def test_a_recording_of_what_was_shown_gives_the_same(events: list[Event]) -> None:
    """Ended processes that were shown are shown again: times go back in such a recording."""
    ordered = sorted(events, key=lambda event: event.timestamp_ns)
    ids = {process_id(pid) for pid in range(1, 7)}
    long = [event for event in ordered if not isinstance(event, ProcessExit)]
    long += [exit_(1000, pid, 600) for pid in range(1, 7)]
    first = run(lifetime(), long)
    again = run(lifetime(), first)
    assert {event.process_id for event in first if isinstance(event, ProcessEvent)} == ids
    assert sorted(event.id for event in again) == sorted(event.id for event in first)


def test_entries_of_short_processes_do_not_pile_up() -> None:
    analyzer = lifetime(max_held=10)
    for n in range(1000):
        assert feed(analyzer, fork(n / 1000, 1, 10 + n), exit_(n / 1000, 10 + n, 0.1)) == []
    assert len(analyzer._waiting._heap) < 100
    assert dropped(analyzer) == (2000, 1000)
