"""HTTP/1 where bytes are missing: nothing wrong is told as complete; later exchanges are decoded again."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.http.http1 import Http1
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.events import Event, HttpExchange, HttpMessage, HttpRequest, HttpResponse

from .http1_traffic import Direction, Wire, cut, exchanges, outline, request, response, run
from .test_http1 import CHUNKED, chunks


class Truth:
    """What a connection carried: exchanges whose messages name them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.requests: dict[str, bytes] = {}
        self.responses: dict[str, bytes] = {}
        self.statuses: dict[str, int] = {}

    def exchange(self, number: int, *, plain: bool = False) -> tuple[list[bytes], list[bytes]]:
        """A request and its response, each in the pieces in which they were sent."""
        chance, target = self.random, f"/{number}"
        sizes = (0, 5, 5, 300)
        sent = target.encode() * chance.choice(sizes)
        method = "POST" if plain else chance.choice(["GET", "POST", "PUT", "HEAD"])
        if method in ("GET", "HEAD"):
            sent, asked = b"", request(method, target)
        elif chance.random() < 0.4:
            asked = request(method, target, None, CHUNKED) + chunks(sent[:7] or b"-", sent or b"-")
            sent = (sent[:7] or b"-") + (sent or b"-")
        else:
            asked = request(method, target, sent)
        got = (b"R%d," % number) * chance.choice(sizes)
        status, named = (
            (200, f"X-Target: {target}") if plain else (chance.choice([200, 404]), f"X-Target: {target}")
        )
        if method == "HEAD":
            got, answer = b"", response(status, None, named, f"Content-Length: {chance.choice([3, 5000])}")
        elif chance.random() < 0.4:
            got = got or b"-"
            answer = response(status, None, named, CHUNKED) + chunks(got[:9], got)
            got = got[:9] + got
        elif not plain and chance.random() < 0.2:
            got, status, answer = b"", 204, response(204, None, named)
        else:
            answer = response(status, got, named)
        if not plain and chance.random() < 0.2:
            answer = response(103, None, named) + answer
        self.requests[target], self.responses[target], self.statuses[target] = sent, got, status
        return self._pieces(asked), self._pieces(answer)

    def _pieces(self, data: bytes) -> list[bytes]:
        if self.random.random() < 0.5:
            return [data]
        return cut(data, [self.random.randrange(len(data)) for _ in range(self.random.randrange(4))])

    def check(self, events: list[Event]) -> None:
        """Whatever is told as complete has to be right."""
        messages = {event.id: event for event in events if isinstance(event, HttpMessage)}
        for message in messages.values():
            if message.incomplete:
                continue
            if isinstance(message, HttpRequest):
                assert self.requests[message.target] == message.body
            elif isinstance(message, HttpResponse) and message.status >= 200:
                target = message.header("x-target") or ""
                assert self.responses[target] == message.body
                assert self.statuses[target] == message.status
        for exchange in exchanges(events):
            request = messages.get(exchange.request_id or "")
            response = messages.get(exchange.response_id or "")
            if request is None or response is None:
                assert exchange.incomplete
            elif not exchange.incomplete:
                assert not request.incomplete
                assert not response.incomplete
                assert response.header("x-target") == exchange.target
        told = [e.request_id for e in exchanges(events) if e.request_id]
        assert sorted(told) == sorted(e.id for e in events if isinstance(e, HttpRequest))


def complete(events: list[Event]) -> list[str]:
    return [e.target for e in events if isinstance(e, HttpExchange) and not e.incomplete]


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    rate=st.sampled_from([0.01, 0.05, 0.2, 0.5]),
    late=st.integers(0, 12),
    server=st.booleans(),
    starts_call=st.booleans(),
)
def test_lost_pieces(seed: int, rate: float, late: int, server: bool, starts_call: bool) -> None:
    """A client that waits for each response: the last of the exchanges behind all loss is complete."""
    truth = Truth(seed)
    lossy, count = 12, 15
    wire, handler = Wire(joined_late=late > 0), Http1(Limits())
    events: list[Event] = []
    ways: list[Direction] = ["read", "write"] if server else ["write", "read"]
    seen = 0
    for number in range(count):
        for way, pieces in zip(ways, truth.exchange(number), strict=True):
            for index, data in enumerate(pieces):
                seen += 1
                if seen <= late:
                    continue
                if number < lossy and truth.random.random() < rate:
                    wire.lose(way, len(data))
                else:
                    events += handler.data(wire.piece(way, data, starts_call=starts_call or index == 0))
    events += handler.end(wire.end())
    truth.check(events)
    assert complete(events)[-2:] == [f"/{count - 2}", f"/{count - 1}"]


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), rate=st.sampled_from([0.02, 0.1, 0.4]))
def test_lost_pieces_of_a_client_that_pipelines(seed: int, rate: float) -> None:
    truth = Truth(seed)
    wire, handler = Wire(), Http1(Limits())
    events: list[Event] = []
    for batch in range(5):
        pairs = [truth.exchange(batch * 4 + i) for i in range(4)]
        asked = b"".join(b"".join(pair[0]) for pair in pairs)
        answered = b"".join(b"".join(pair[1]) for pair in pairs)
        batches: list[tuple[Direction, bytes]] = [("write", asked), ("read", answered)]
        for way, data in batches:
            parts = [data] if not batch else cut(data, [truth.random.randrange(len(data)) for _ in range(6)])
            for part in parts:
                if batch and truth.random.random() < rate:
                    wire.lose(way, len(part))
                else:
                    events += handler.data(wire.piece(way, part))
    events += handler.end(wire.end())
    truth.check(events)
    assert complete(events)[:4] == ["/0", "/1", "/2", "/3"]


@settings(max_examples=200, deadline=None)
@given(
    pieces=st.lists(
        st.tuples(
            st.sampled_from(["read", "write"]),
            st.one_of(
                st.binary(max_size=30),
                st.sampled_from(
                    [
                        *(request("GET", "/"), request("POST", "/", b"abc"), response(200, b"abc")),
                        *(response(200), response(100), response(101), response(200, None, CHUNKED)),
                        *(
                            b"HTTP/1.1 200 OK\r\n",
                            b"GET / HTTP/1.1\r\n",
                            b"\r\n",
                            b"\r\n\r\n",
                            b"3\r\nabc\r\n",
                        ),
                        *(
                            b"0\r\n\r\n",
                            b"Content-Length: -1\r\n",
                            b"Content-Length: 99999999999999999999\r\n",
                        ),
                        *(
                            b"Transfer-Encoding: gzip\r\n",
                            b"Content-Encoding: br\r\n",
                            b"Upgrade: websocket\r\n",
                        ),
                        *(request("CONNECT", "h:1"), request("GET", "/", None, "Upgrade: h2c")),
                    ]
                ),
            ),
            st.sampled_from([0, 0, 0, 1, 3, 10**12]),
            st.booleans(),
        ),
        max_size=25,
    ),
    late=st.booleans(),
)
def test_any_bytes(pieces: list[tuple[Direction, bytes, int, bool]], late: bool) -> None:
    wire, handler = Wire(joined_late=late), Http1(Limits(max_outstanding=3))
    events: list[Event] = []
    for way, data, missing, starts in pieces:
        if missing:
            wire.lose(way, missing)
        events += handler.data(wire.piece(way, data, starts_call=starts))
    events += handler.end(wire.end())
    assert len({event.id for event in events}) == len(events)
    for exchange in exchanges(events):
        assert exchange.incomplete or (exchange.request_id and exchange.response_id)


def test_a_gap_inside_a_body_of_known_length() -> None:
    """Its length tells where the next message begins, even if no call begins there."""
    wire, handler = Wire(), Http1(Limits())
    events = [*handler.data(wire.piece("write", request("GET", "/a")))]
    data = response(200, b"0123456789") + response(408, b"")
    head = len(response(200, b"0123456789")) - 10
    events += handler.data(wire.piece("read", data[: head + 3]))
    wire.lose("read", 4)
    events += handler.data(wire.piece("read", data[head + 7 : head + 10], starts_call=False))
    events += handler.data(wire.piece("write", request("GET", "/b")))
    events += handler.data(wire.piece("read", response(200, b"x"), starts_call=False))
    assert outline(events) == [
        *("GET /a ''", "200 '012789' [gap]", "GET /a -> 200 [gap]"),
        *("GET /b ''", "200 'x'", "GET /b -> 200"),
    ]


@pytest.mark.parametrize("lost", ["whole", "end"])
def test_a_body_whose_end_is_lost(lost: str) -> None:
    """The gap reaches just to the end of it: the next response is still the next request's."""
    wire, handler = Wire(), Http1(Limits())
    answer = response(200, b"0123456789")
    missing = 10 if lost == "whole" else 4
    events = [*handler.data(wire.piece("write", request("GET", "/a")))]
    events += handler.data(wire.piece("read", answer[:-missing]))
    wire.lose("read", missing)
    events += handler.data(wire.piece("write", request("GET", "/b")))
    events += handler.data(wire.piece("read", response(200, b"x")))
    assert outline(events)[-3:] == ["GET /a -> 200 [gap]", "200 'x'", "GET /b -> 200"]


def test_a_response_that_is_lost() -> None:
    """What comes next may be that of either request; the request after that is certain again."""
    wire, handler = Wire(), Http1(Limits())
    events = [*handler.data(wire.piece("write", request("GET", "/a")))]
    wire.lose("read", 50)
    events += handler.data(wire.piece("write", request("GET", "/b")))
    events += handler.data(wire.piece("read", response(200, b"b")))
    events += handler.data(wire.piece("write", request("GET", "/c")))
    events += handler.data(wire.piece("read", response(200, b"c")))
    assert outline(events) == [
        *("GET /a ''", "GET /b ''", "200 'b' [unpaired]", "- - -> 200 [no_request,unpaired]"),
        *("GET /a -> - [no_response,unpaired]", "GET /b -> - [no_response,unpaired]"),
        *("GET /c ''", "200 'c'", "GET /c -> 200"),
    ]


def test_a_message_inside_a_body_is_not_told_as_complete() -> None:
    """Behind a gap in a chunked body something that looks like a message may be a part of it."""
    wire, handler = Wire(), Http1(Limits())
    events = [*handler.data(wire.piece("write", request("GET", "/a")))]
    events += handler.data(wire.piece("read", response(200, None, CHUNKED) + b"fff\r\nabc"))
    wire.lose("read", 100)
    events += handler.data(wire.piece("read", response(200, b"fake")))
    events += handler.data(wire.piece("read", b"\r\n0\r\n\r\n"))
    events += handler.data(wire.piece("write", request("GET", "/b")))
    events += handler.data(wire.piece("read", response(200, b"b")))
    assert complete(events) == ["/b"]
    assert "200 'fake' [unpaired]" in outline(events)


def test_a_response_that_swallows_what_follows() -> None:
    """One that may be to a HEAD request is over when something else begins."""
    wire, handler = Wire(), Http1(Limits())
    events: list[Any] = [*handler.data(wire.piece("write", request("GET", "/a")))]
    events += handler.data(wire.piece("read", response(200, b"a")))
    wire.lose("write", len(request("HEAD", "/lost")))
    events += handler.data(wire.piece("read", response(200, None, "Content-Length: 100000")))
    events += handler.data(wire.piece("write", request("GET", "/b")))
    events += handler.data(wire.piece("read", response(200, b"b")))
    assert complete(events) == ["/a", "/b"]


def test_a_response_that_is_told_before_its_request() -> None:
    """Two threads can do that. It is not known then whose the next one is."""
    script: list[tuple[Direction, bytes]] = [
        *(("write", request("GET", "/a")), ("read", response(200, b"a"))),
        *(("read", response(200, b"b")), ("write", request("GET", "/b"))),
        *(("write", request("GET", "/c")), ("read", response(200, b"c"))),
    ]
    assert complete(run(script)) == ["/a", "/c"]


def test_joined_late() -> None:
    script: list[tuple[Direction, bytes]] = [
        *(("read", b"the end of a body"), ("write", request("GET", "/a")), ("read", response(200, b"a"))),
        *(("write", request("GET", "/b")), ("read", response(200, b"b"))),
    ]
    expected = ["GET /a ''", "200 'a'", "GET /a -> 200", "GET /b ''", "200 'b'", "GET /b -> 200"]
    assert outline(run(script, joined_late=True)) == expected
    # in the middle of a response, whose request was not seen
    assert outline(run([("read", response(200, b"?")), *script[1:]], joined_late=True)) == [
        *("200 '?' [unpaired]", "- - -> 200 [no_request,unpaired]"),
        *expected,
    ]


def test_the_next_message_after_garbage() -> None:
    script: list[tuple[Direction, bytes]] = [
        *(("write", request("GET", "/a")), ("read", response(200, b"a"))),
        *(("write", b"\0\1 garbage"), ("write", request("GET", "/b")), ("read", response(200, b"b"))),
    ]
    assert complete(run(script)) == ["/a", "/b"]
