"""Hundreds of calls at the same time: each answer is given to its own request, all of them complete."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from libagenttracer.events import HttpExchange, HttpRequest, HttpResponse

from . import llm_support

CALLS = 200
# How many connections there are, and how many calls are open at the same time: httpx keeps to 100 streams.
MODES = {
    "http1-threads": (20, 4),
    "http1-pipelined": (20, 200),
    "http2-asynchronous": (1, 90),
    "http2-threads": (1, 50),
    "http2-node": (1, 190),
}


def open_at_once(exchanges: list[HttpExchange]) -> int:
    """How many of them were open at the same time, at the most."""
    changes: list[tuple[int, int]] = []
    for exchange in exchanges:
        assert exchange.request_first_byte_ns
        assert exchange.response_last_byte_ns
        changes += [(exchange.request_first_byte_ns, 1), (exchange.response_last_byte_ns, -1)]
    most = now = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


THERE = [mode for mode in MODES if llm_support.has_node() or not mode.endswith("node")]


@pytest.mark.parametrize("mode", THERE)
def test_every_answer_has_its_request(mode: str, tmp_path: Path) -> None:
    for attempt in range(4):  # httpcore's own threads get in each other's way now and then
        folder = tmp_path / str(attempt)
        folder.mkdir()
        try:
            with llm_support.llm_server(folder) as server:
                client = llm_support.many_calls(server, mode)
                answered, recorded = llm_support.traced(client, folder / "trace.jsonl")
            break
        except AssertionError as error:
            if "httpcore" not in str(error) or attempt == 3:
                raise
    events = llm_support.decoded(recorded)
    assert answered == [CALLS]
    requests = {event.id: event for event in events if isinstance(event, HttpRequest)}
    responses = {event.id: event for event in events if isinstance(event, HttpResponse)}
    exchanges = [event for event in events if isinstance(event, HttpExchange)]
    assert len(exchanges) == len(requests) == len(responses) == CALLS
    for exchange in exchanges:
        assert not exchange.incomplete, exchange
        assert exchange.request_id
        assert exchange.response_id
        request, response = requests[exchange.request_id], responses[exchange.response_id]
        marker = request.target.rpartition("/")[2]
        assert json.loads(request.body)["marker"] == marker
        lines = [json.loads(line) for line in response.body.splitlines()]
        assert {line["marker"] for line in lines} == {marker}
        assert lines[0]["body"].encode() == request.body
        assert response.header("x-marker") == marker
        assert (request.connection_id, request.stream_id) == (response.connection_id, response.stream_id)
        assert (exchange.method, exchange.target, exchange.status) == ("POST", request.target, 200)
    connections, open_calls = MODES[mode]
    assert len({exchange.connection_id for exchange in exchanges}) == connections
    assert len({(item.connection_id, item.stream_id) for item in exchanges}) in {CALLS, connections}
    assert open_at_once(exchanges) >= open_calls
