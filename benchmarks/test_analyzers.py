"""What an event costs in an analyzer."""

from __future__ import annotations

from typing import Any

import pytest

from libagenttracer.analyzers import Analyzer, Chain, MinimumLifetime, RepeatMerger
from libagenttracer.events import FileOpen

from .test_pipeline import per_item

EVENTS = 1000
SECOND = 1_000_000_000
WINDOWS = {"kept": 5 * SECOND, "ending": SECOND // 10_000}  # none of them ends, or almost all do


def opened(number: int, path: str) -> FileOpen:
    fields: dict[str, Any] = {
        **{"id": str(number), "timestamp_ns": 10**18 + number * 1000, "source": "process"},
        **{"pid": 4242, "tid": 4242, "ppid": 1, "uid": 1000, "comm": "cc1"},
        **{"process_id": "boot-4242-77", "exec_id": "boot-4242-77-2", "parent_process_id": "boot-1-1"},
        **{"path": path, "result": 0, "syscall": "openat", "access": "read", "flags": 0o100000, "fd": 3},
    }
    return FileOpen(**fields)


PATHS = {
    "distinct": [f"/usr/include/x86_64-linux-gnu/{number}.h" for number in range(EVENTS)],
    "repeated": ["/usr/include/x86_64-linux-gnu/stdio.h"] * EVENTS,
}


def feed(benchmark: Any, make: Any, kind: str) -> None:
    events = [opened(number, path) for number, path in enumerate(PATHS[kind])]

    def run() -> None:
        analyzer: Analyzer = make()
        take = analyzer.feed
        for event in events:
            take(event)

    per_item(benchmark, run, EVENTS)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("kind", PATHS)
def test_repeats(benchmark: Any, kind: str, window: str) -> None:
    feed(benchmark, lambda: RepeatMerger(WINDOWS[window]), kind)


def test_lifetime_of_an_old_process(benchmark: Any) -> None:
    feed(benchmark, lambda: MinimumLifetime(SECOND), "distinct")


def test_chain(benchmark: Any) -> None:
    feed(benchmark, lambda: Chain([MinimumLifetime(SECOND), RepeatMerger()]), "distinct")
