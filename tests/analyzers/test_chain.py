"""Analyzers in a row."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from libagenttracer.analyzers import Analyzer, Chain, MinimumLifetime, RepeatMerger
from libagenttracer.errors import OutputError
from libagenttracer.events import AnalyzerFailure, Event, FileOpen, Loss

from .build import MS, counts, exec_, exit_, fork, open_, run


class Delay:
    """Holds everything back until the tick or the end, and keeps a diary."""

    def __init__(self, name: str, diary: list[str]) -> None:
        self.name = name
        self.diary = diary
        self.held: list[Event] = []

    def feed(self, event: Event) -> Iterable[Event]:
        self.diary.append(f"{self.name} feed")
        self.held.append(event)
        return ()

    def tick(self, now_ns: int) -> Iterable[Event]:
        self.diary.append(f"{self.name} tick {now_ns}")
        return self.flush()

    def flush(self) -> Iterable[Event]:
        held, self.held = self.held, []
        yield from held


class Twice:
    """Gives each event two times."""

    def feed(self, event: Event) -> Iterable[Event]:
        yield event
        yield event

    def tick(self, now_ns: int) -> Iterable[Event]:
        return ()

    def flush(self) -> Iterable[Event]:
        return ()


def test_an_empty_chain_passes_everything() -> None:
    chain = Chain([])
    event = open_(1)
    assert [*chain.feed(event)] == [event]
    assert [*chain.tick(10)] == []
    assert [*chain.flush()] == []


def test_what_one_gives_is_fed_to_the_next() -> None:
    event = open_(1)
    assert [*Chain([Twice(), Twice(), Twice()]).feed(event)] == [event] * 8


def test_a_tick_feeds_before_it_ticks() -> None:
    diary: list[str] = []
    chain = Chain([Delay("first", diary), Delay("second", diary)])
    event = open_(1)
    assert [*chain.feed(event)] == []
    assert [*chain.tick(7)] == [event]
    assert diary == ["first feed", "first tick 7", "second feed", "second tick 7"]


def test_the_end_goes_through_all_of_them() -> None:
    diary: list[str] = []
    event = open_(1)
    chain = Chain([Delay("first", diary), Twice(), Delay("second", diary)])
    assert [*chain.feed(event)] == []
    assert [*chain.flush()] == [event, event]


@pytest.mark.parametrize("split", [0, 1, 2, 3])
def test_a_chain_of_chains(split: int) -> None:
    """Where the brackets stand makes no difference."""
    stages: list[Analyzer] = [Twice(), Delay("only", []), Twice()]
    events = [open_(1), open_(2)]
    chain = Chain([Chain(stages[:split]), Chain(stages[split:])])
    assert run(chain, events) == [event for event in events for _ in range(4)]


def test_lifetime_then_repeats() -> None:
    """What is released at once, with old times, is merged as if it had come at its time."""
    lifetime = MinimumLifetime(100 * MS)
    chain = Chain([lifetime, RepeatMerger(1000 * MS)])
    calls = [open_(20 + n, 6) for n in range(10)]
    events = [fork(10, 5, 6), exec_(11, 6, "cc"), *calls, open_(200, 5), exit_(300, 6, 290)]
    short = [fork(310, 5, 7), open_(311, 7), exit_(320, 7, 10)]
    given = run(chain, [*events, *short])
    assert [event.event_type for event in given] == [
        *("process_fork", "process_exec", "file_open", "file_open", "file_open", "process_exit")
    ]
    assert given[2] is calls[0]
    merged = given[4]
    assert isinstance(merged, FileOpen)
    assert (merged.pid, merged.count, merged.until_ns) == (6, 9, calls[-1].timestamp_ns)
    assert counts(given) == len(events)
    assert lifetime.dropped_events == len(short)


class Failing:
    """Raises at the second event, or when it is told to."""

    def __init__(self, error: Exception, when: str = "feed") -> None:
        self.error, self.when, self.fed = error, when, 0

    def feed(self, event: Event) -> Iterable[Event]:
        self.fed += 1
        if self.when == "feed" and self.fed == 2:
            raise self.error
        yield event

    def tick(self, now_ns: int) -> Iterable[Event]:
        if self.when == "tick":
            raise self.error
        return ()

    def flush(self) -> Iterable[Event]:
        if self.when == "flush":
            raise self.error
        return ()


def losses(count: int) -> list[Event]:
    return [Loss(f"loss-{n}", n, "ssl", "ring_full", 1, 0) for n in range(count)]


@pytest.mark.parametrize("when", ["feed", "tick", "flush"])
def test_an_analyzer_that_fails_is_reported_and_skipped(when: str) -> None:
    """The others go on, and no event is lost."""
    failing, behind = Failing(RuntimeError("broken"), when), Failing(RuntimeError(), "never")
    chain = Chain([failing, behind])
    found = [given for event in losses(4) for given in chain.feed(event)]
    found += [*chain.tick(9), *chain.feed(losses(5)[4]), *chain.flush()]
    assert [event.id for event in found if isinstance(event, Loss)] == [f"loss-{n}" for n in range(5)]
    (failure,) = [event for event in found if isinstance(event, AnalyzerFailure)]
    assert (failure.analyzer, failure.error) == ("Failing", "RuntimeError: broken")
    assert "test_chain.py:" in failure.place
    assert failing.fed == {"feed": 2, "tick": 4, "flush": 5}[when]
    assert behind.fed >= 5


def test_what_was_given_before_the_failure_counts() -> None:
    class Half(Failing):
        def feed(self, event: Event) -> Iterable[Event]:
            yield event
            raise self.error

    found = [*Chain([Half(ValueError("x"))]).feed(losses(1)[0])]
    assert [event.event_type for event in found] == ["loss", "analyzer_failure", "loss"]


def test_errors_of_outputs_end_the_run() -> None:
    with pytest.raises(OutputError):
        [*Chain([Failing(OutputError("disk full"), "flush")]).flush()]


def test_without_some_analyzers_nothing_may_pass() -> None:
    failing = Failing(RuntimeError("broken"))
    failing.must_run = True  # type: ignore[attr-defined]
    chain = Chain([failing])
    [*chain.feed(losses(1)[0])]
    with pytest.raises(RuntimeError, match="broken"):
        [*chain.feed(losses(2)[1])]
