"""HTTP/2 as two h2 connections speak it is told whole, however the bytes are cut."""

from __future__ import annotations

import gzip
import random

import h2.settings
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.events import (
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    from_json,
    to_json,
)

from .h2_traffic import Link, Way, by_type, cut_in, joined, meaning, pieces, request, response, run

SETTINGS = h2.settings.SettingCodes


def exchange(link: Link, path: str, body: bytes, answer: bytes) -> int:
    stream_id = link.ask(request("POST", path, ("content-length", str(len(body)))), body)
    link.flow()
    link.answer(stream_id, response(200, ("content-length", str(len(answer)))), answer)
    link.flow()
    return stream_id


def everything(client_way: Way = "write") -> Link:
    """Most of what HTTP/2 has, on one connection."""
    link = Link(client_way, server_settings={SETTINGS.ENABLE_CONNECT_PROTOCOL: 1})
    exchange(link, "/first", b"question", b"answer" * 4000)
    # several at once, with long headers (CONTINUATION), priorities, cookies in crumbs
    long = ("x-long", "".join(random.Random(1).choices("abcdefgh0123", k=40_000)))
    cookies = [("cookie", "a=1"), ("cookie", "b=2"), ("x-token", "ü")]
    ids = [
        link.ask(
            request("GET", "/get", *cookies, ("x-bin", "a b")), priority_weight=200, priority_depends_on=0
        ),
        link.ask(request("POST", "/long", long), b"q" * 20_000, step=3000),
        link.ask(request("HEAD", "/head")),
    ]
    link.flow()
    link.server.send_headers(ids[1], response(100))
    link.server.send_headers(ids[0], response(103, ("link", "</a.css>")))
    link.flow()
    link.answer(ids[2], response(200, ("content-length", "1234")))
    link.answer(ids[0], response(204, ("x-a", "1")))
    packed = gzip.compress(b"packed " * 3000, mtime=0)
    link.server.send_headers(ids[1], response(200, ("content-encoding", "gzip")))
    link.server.send_data(ids[1], packed[:50], pad_length=17)
    link.send(link.server, ids[1], packed[50:], trailers=[("grpc-status", "0"), ("x-sum", "5")])
    link.flow()
    # other sizes of the table
    link.client.update_settings({SETTINGS.HEADER_TABLE_SIZE: 100})
    link.server.update_settings({SETTINGS.HEADER_TABLE_SIZE: 70_000})
    link.flow()
    for number in range(3):
        exchange(link, f"/again/{number}", b"", b"x" * number)
    # a push
    stream_id = link.ask(request("GET", "/page"))
    link.flow()
    link.server.push_stream(stream_id, 2, request("GET", "/style.css"))
    link.answer(stream_id, response(200), b"page")
    link.answer(2, response(200, ("content-type", "text/css")), b"style")
    link.flow()
    # one that streams, and one that is cancelled in the middle
    streamed = link.ask(request("GET", "/events"))
    cancelled = link.ask(request("GET", "/cancelled"))
    link.flow()
    link.server.send_headers(streamed, response(200, ("content-type", "text/event-stream")))
    link.server.send_headers(cancelled, response(200))
    link.server.send_data(cancelled, b"half")
    link.flow()
    link.client.ping(b"12345678")
    link.client.reset_stream(cancelled)
    link.flow()
    for number in range(5):
        link.server.send_data(streamed, b"data: %d\n\n" % number, end_stream=number == 4)
        link.flow()
    link.server.close_connection(last_stream_id=(1 << 31) - 1)
    link.flow()
    return link


EVERYTHING = everything()


def test_everything_is_told() -> None:
    told = run(pieces(EVERYTHING.sent))
    assert all(from_json(to_json(event)) == event for event in told)
    summary = [
        (event.status, event.method, event.target, event.authority, event.reason, event.role)
        for event in by_type(told, HttpExchange)
    ]
    a = "api.example"
    assert summary == [
        (200, "POST", "/first", a, None, "client"),
        (200, "HEAD", "/head", a, None, "client"),
        (204, "GET", "/get", a, None, "client"),
        (200, "POST", "/long", a, None, "client"),
        (200, "POST", "/again/0", a, None, "client"),
        (200, "POST", "/again/1", a, None, "client"),
        (200, "POST", "/again/2", a, None, "client"),
        (200, "GET", "/page", a, None, "client"),
        (200, "GET", "/style.css", a, None, "client"),
        (200, "GET", "/cancelled", a, "aborted", "client"),
        (200, "GET", "/events", a, None, "client"),
    ]
    requests = {event.target: event for event in by_type(told, HttpRequest)}
    assert requests["/get"].headers == [
        ("cookie", "a=1"),
        ("cookie", "b=2"),
        ("x-token", "ü"),
        ("x-bin", "a b"),
    ]
    assert len(requests["/long"].headers[0][1]) == 40_000
    assert requests["/long"].body == b"q" * 20_000
    assert requests["/style.css"].direction == "write"
    responses = [event for event in by_type(told, HttpResponse) if event.status >= 200]
    assert [event.stream_id for event in responses] == [
        event.stream_id for event in by_type(told, HttpExchange)
    ]
    assert responses[0].body == b"answer" * 4000
    assert responses[3].body == b"packed " * 3000
    assert responses[3].content_encoding == "gzip"
    assert responses[3].trailers == [("grpc-status", "0"), ("x-sum", "5")]
    assert responses[1].headers == [("content-length", "1234")]
    assert responses[8].body == b"style"
    assert responses[9].body == b"half"
    interim = [event for event in by_type(told, HttpResponse) if event.status < 200]
    assert [(event.status, event.headers) for event in interim] == [(100, []), (103, [("link", "</a.css>")])]


def test_a_stream_of_events_is_told_while_it_comes() -> None:
    parts = by_type(run(pieces(EVERYTHING.sent)), HttpBody)
    assert [part.payload for part in parts] == [b"data: %d\n\n" % number for number in range(5)] + [b""]
    assert [part.last for part in parts] == [False] * 5 + [True]
    assert {part.content_type for part in parts} == {"text/event-stream"}


@pytest.mark.parametrize("way", ["read", "write"])
def test_byte_by_byte_and_in_one_chunk(way: Way) -> None:
    link = everything(way)
    whole = meaning(run(pieces(link.sent)))
    assert {fields["role"] for name, fields in whole if name == "http_exchange"} == {
        "client" if way == "write" else "server"
    }
    assert meaning(run(pieces(link.sent, lambda data: [bytes([byte]) for byte in data]))) == whole
    assert meaning(run(pieces(joined(link.sent)))) == whole


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 6000) | st.integers(1, 30), min_size=1, max_size=8))
def test_cut_anywhere(sizes: list[int]) -> None:
    assert meaning(run(pieces(EVERYTHING.sent, cut_in(sizes)))) == WHOLE


WHOLE = meaning(run(pieces(EVERYTHING.sent)))


def test_200_streams_at_once_are_all_paired() -> None:
    link = Link(server_settings={SETTINGS.MAX_CONCURRENT_STREAMS: 1000})
    choose = random.Random(2)
    ids = [link.ask(request("POST", f"/{n}", ("x-n", str(n))), f"question {n}".encode()) for n in range(200)]
    link.flow()
    bodies = {stream_id: [f"{stream_id}-{part};".encode() for part in range(5)] for stream_id in ids}
    left = [stream_id for stream_id in ids for _ in range(6)]
    choose.shuffle(left)
    begun = set()
    for stream_id in left:
        if stream_id not in begun:
            begun.add(stream_id)
            link.server.send_headers(stream_id, response(200, ("x-stream", str(stream_id))))
        else:
            parts = bodies[stream_id]
            done = 5 - len(parts)
            link.server.send_data(stream_id, parts.pop(0), end_stream=done == 4)
        if choose.random() < 0.3:
            link.flow()
    link.flow()
    told = run(pieces(link.sent))
    assert len(by_type(told, HttpExchange)) == 200
    requests = {event.id: event for event in by_type(told, HttpRequest)}
    responses = {event.id: event for event in by_type(told, HttpResponse)}
    for event in by_type(told, HttpExchange):
        assert not event.incomplete
        number = event.target[1:]
        asked, answered = requests[event.request_id], responses[event.response_id]
        assert asked.body == f"question {number}".encode()
        assert asked.header("x-n") == number
        assert answered.header("x-stream") == str(event.stream_id)
        assert answered.body == b"".join(b"%d-%d;" % (event.stream_id, part) for part in range(5))
