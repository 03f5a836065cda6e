"""Events that are left out: by type, and those of a recording that will be made again."""

from __future__ import annotations

import pytest

from libagenttracer.analyzers import Hide, HideRecorded
from libagenttracer.events import Event, HttpExchange, LlmCall, Loss, McpCall, SslClose, SslData

from .test_chunks import data

WHOSE = (7, "curl", "/usr/bin/curl")


def exchange(connection: str) -> HttpExchange:
    return HttpExchange(
        "e", 1, "ssl", *WHOSE, connection, None, None, None, "client", "GET", "/", "a", 200, 1, 2, 3, 4, 0.1
    )


def call(connection: str) -> LlmCall:
    return LlmCall(
        "c", 1, "ssl", *WHOSE, connection, provider_name="openai", operation_name="chat", api="openai.chat"
    )


def mcp(connection: str) -> McpCall:
    return McpCall("m", 1, "ssl", *WHOSE, connection, "http", "request", "client", "ping")


LOSS = Loss("loss", 1, "ssl", "ring_full", 1, 0)
CLOSE = SslClose("x", 1, "ssl", 7, 7, 1, 0, "curl", "", "7-a-1", 1, 1, "")
RAW = data(0, b"x")


@pytest.mark.parametrize(
    ("events", "kept"),
    [
        ([RAW, exchange("7-a-1"), call("7-a-1"), mcp("7-a-1")], [0]),
        ([exchange("7-a-1"), call("7-a-1"), mcp("7-a-1")], [0]),
        ([call("7-a-1"), mcp("7-a-1")], [0, 1]),
        ([RAW, exchange("7-b-1"), call("7-b-1")], [0, 1]),
        ([exchange("7-a-1"), RAW, exchange("7-a-1")], [0, 1]),
        ([RAW, LOSS, CLOSE], [0, 1, 2]),
    ],
)
def test_what_will_be_made_again(events: list[Event], kept: list[int]) -> None:
    hide = HideRecorded()
    assert [given for event in events for given in hide.feed(event)] == [events[at] for at in kept]


def test_only_so_many_connections_are_remembered() -> None:
    hide = HideRecorded(2)
    for number in range(3):
        list(hide.feed(data(0, b"x", connection=f"7-{number}-1")))
    assert [bool([*hide.feed(call(f"7-{number}-1"))]) for number in range(3)] == [True, False, False]


def test_types_are_hidden() -> None:
    hide = Hide({SslData})
    assert [given for event in (RAW, LOSS) for given in hide.feed(event)] == [LOSS]
    assert [*hide.tick(1), *hide.flush()] == []
