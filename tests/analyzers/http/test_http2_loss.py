"""After lost bytes nothing wrong is told as complete, and what comes later is told again."""

from __future__ import annotations

import random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.http.http2_frames import begins_with_frames
from libagenttracer.events import HttpExchange, HttpRequest, HttpResponse, StreamData

from .h2_traffic import Link, by_type, cut_in, lossy, pieces, request, response, run

NAMES = ["accept", "x-a", "x-b", "x-trace", "content-language", "grpc-status"]


class Talk:
    """Random exchanges on one connection, and what they were."""

    def __init__(self, seed: int, exchanges: int = 25) -> None:
        choose = random.Random(seed)
        self.link = Link()
        self.asked: dict[int, Any] = {}
        self.answered: dict[int, Any] = {}
        waiting: list[int] = []
        for number in range(exchanges):
            headers = [(choose.choice(NAMES), str(choose.randrange(4))) for _ in range(choose.randrange(5))]
            path = f"/{choose.choice('abc')}/{number}"
            body = self._body(choose)
            method = "POST" if body is not None else choose.choice(["GET", "HEAD"])
            stream_id = self.link.ask(request(method, path, *headers), body, step=choose.choice([100, 4000]))
            self.asked[stream_id] = (method, path, headers, body or b"")
            waiting.append(stream_id)
            if choose.random() < 0.5:
                self.link.flow()
                choose.shuffle(waiting)
                while waiting and choose.random() < 0.8:
                    self._answer(choose, waiting.pop())
        self.link.flow()
        for stream_id in waiting:
            self._answer(choose, stream_id)
        self.link.flow()

    @staticmethod
    def _body(choose: random.Random) -> bytes | None:
        size = choose.choice([None, 0, 5, 300, 9000])
        if size is None:
            return None
        return (
            choose.randbytes(size)
            if choose.random() < 0.5
            else b"%d\0\0\0" % choose.randrange(99) * (size // 5)
        )

    def _answer(self, choose: random.Random, stream_id: int) -> None:
        server = self.link.server
        status = choose.choice([200, 200, 404, 500, 418])
        headers = [(choose.choice(NAMES), str(choose.randrange(4))) for _ in range(choose.randrange(5))]
        body = None if self.asked[stream_id][0] == "HEAD" else self._body(choose)
        trailers = [("grpc-status", str(choose.randrange(3)))] if body and choose.random() < 0.3 else None
        if choose.random() < 0.1:
            server.send_headers(stream_id, response(103, ("link", "x")))
        server.send_headers(stream_id, response(status, *headers), end_stream=body is None)
        if body is not None:
            self.link.send(server, stream_id, body, choose.choice([100, 4000]), trailers)
        self.link.flow()
        self.answered[stream_id] = (status, headers, body or b"", trailers or [])

    def check(self, told: list[Any]) -> int:
        """Compares with what was; returns how many exchanges are complete."""
        for event in by_type(told, HttpRequest):
            method, target, headers, body = self.asked[event.stream_id]
            if not event.incomplete:
                assert (event.method, event.target, event.headers, event.body) == (
                    method,
                    target,
                    headers,
                    body,
                )
            assert event.method in ("", method)
            assert event.target in ("", target)
            assert _is_part(event.headers, headers)
        for event in by_type(told, HttpResponse):
            if event.status == 103:
                assert event.headers == [("link", "x")] or event.incomplete
                continue
            status, headers, body, trailers = self.answered[event.stream_id]
            if not event.incomplete:
                assert (event.status, event.headers, event.body, event.trailers) == (
                    status,
                    headers,
                    body,
                    trailers,
                )
            assert event.status in (0, status)
            assert _is_part(event.headers, [*headers, *trailers])
            assert _is_part(event.trailers, trailers)
        exchanges = by_type(told, HttpExchange)
        streams = [event.stream_id for event in exchanges]
        assert len({*streams}) == len(streams)
        for event in exchanges:
            if not event.incomplete:
                assert (event.method, event.target) == self.asked[event.stream_id][:2]
                assert event.status == self.answered[event.stream_id][0]
        return sum(not event.incomplete for event in exchanges)


def _is_part(some: list[Any], of: list[Any]) -> bool:
    """Whether these are among the others, in this order."""
    rest = iter(of)
    return all(one in rest for one in some)


TALKS = [Talk(seed) for seed in range(6)]


@pytest.mark.parametrize("talk", TALKS)
def test_nothing_lost_nothing_incomplete(talk: Talk) -> None:
    assert talk.check(run(pieces(talk.link.sent))) == len(talk.asked)


@settings(max_examples=80, deadline=None)
@given(
    st.sampled_from(TALKS),
    st.lists(st.integers(1, 5000) | st.integers(1, 60), min_size=1, max_size=6),
    st.sampled_from([0.01, 0.05, 0.3]),
    st.integers(0, 10_000),
    st.booleans(),
)
def test_random_loss(talk: Talk, sizes: list[int], share: float, seed: int, whole: bool) -> None:
    fed = pieces(talk.link.sent, (lambda data: [data]) if whole else cut_in(sizes))
    choose = random.Random(seed)
    talk.check(run(lossy(fed, {n for n in range(len(fed)) if choose.random() < share})))


@settings(max_examples=100, deadline=None)
@given(st.sampled_from(TALKS), st.integers(0, 200), st.booleans())
def test_joined_late(talk: Talk, first: int, whole: bool) -> None:
    fed = pieces(talk.link.sent, (lambda data: [data]) if whole else cut_in([700, 20]), late=True)
    told = run(fed[first:], late=True)
    talk.check(told)


def test_of_a_hundred_records_one_is_lost() -> None:
    """Later messages are whole again, though their headers may refer to some that were lost."""
    whole = seen = total = 0
    for talk in TALKS:
        fed = pieces(talk.link.sent)
        for seed in range(10):
            choose = random.Random(seed)
            told = run(lossy(fed, {n for n in range(len(fed)) if choose.random() < 0.01}))
            talk.check(told)
            exchanges = by_type(told, HttpExchange)
            whole += sum(event.reason in (None, "unknown_headers") for event in exchanges)
            seen += len(exchanges)
            total += len(talk.asked)
    assert seen > total * 0.98
    assert whole > total * 0.8


def gap_at(fed: list[StreamData], number: int, start: int, stop: int) -> list[StreamData]:
    """Without some bytes in the middle of a piece."""
    piece = fed[number]
    before = msgspec.structs.replace(piece, payload=piece.payload[:start])
    rest = msgspec.structs.replace(
        piece,
        id=piece.id + "+",
        offset=piece.offset + stop,
        payload=piece.payload[stop:],
        missing_bytes=stop - start,
        starts_call=False,
    )
    return [*fed[:number], before, rest, *fed[number + 1 :]]


def downloads() -> tuple[Link, list[StreamData], list[int]]:
    """Two answers at once, in frames of 1000 bytes; and which pieces have them."""
    link = Link()
    ids = [link.ask(request("GET", f"/{number}", ("x-a", "1"))) for number in range(2)]
    link.flow()
    for stream_id in ids:
        link.server.send_headers(stream_id, response(200, ("x-b", "2")))
    link.flow()
    first = len(link.sent)
    for part in range(4):
        for stream_id in ids:
            link.server.send_data(stream_id, b"%d" % stream_id * 1000, end_stream=part == 3)
        link.flow_down()
    stream_id = link.ask(request("GET", "/later", ("x-a", "1")))
    link.flow()
    link.answer(stream_id, response(200, ("x-b", "2")), b"later")
    link.flow()
    fed = pieces(link.sent)
    return link, fed, [n for n in range(first, len(fed)) if len(fed[n].payload) == 2018]


def reasons(told: list[Any]) -> dict[str, Any]:
    return {event.target: event.reason for event in by_type(told, HttpExchange)}


def test_a_gap_within_a_body_costs_only_that_body() -> None:
    _, fed, data = downloads()
    told = run(gap_at(fed, data[1], 500, 700))
    assert reasons(told) == {"/0": "gap", "/1": None, "/later": None}
    (first, second, _) = by_type(told, HttpResponse)
    assert (first.body, second.body) == (b"1" * 3800, b"3" * 4000)
    # up to the end of the frame, and the one that ends the stream
    assert reasons(run(gap_at(fed, data[3], 100, 1009))) == {"/0": "gap", "/1": None, "/later": None}


def test_a_gap_over_frames_costs_all_open_bodies() -> None:
    _, fed, data = downloads()
    for start, stop in ((500, 1010), (0, 9), (0, 2018), (1009, 1020)):
        told = run(gap_at(fed, data[1], start, stop))
        # headers of the last one refer to those of the others
        assert reasons(told) == {"/0": "gap", "/1": "gap", "/later": "unknown_headers"}
        assert by_type(told, HttpResponse)[2].body == b"later"
        assert by_type(told, HttpResponse)[2].status == 200


def test_a_gap_in_headers_costs_only_these_and_what_refers_to_them() -> None:
    link = Link()
    for number in range(3):
        stream_id = link.ask(request("GET", f"/{number}", ("x-a", "long" * 20)))
        link.flow()
        link.answer(stream_id, response(200, ("x-b", "2")), b"body")
        link.flow()
    fed = pieces(link.sent)
    number = next(n for n, piece in enumerate(fed) if b"body" in piece.payload)
    told = run(gap_at(fed, number, 10, 12))
    assert [event.reason for event in by_type(told, HttpExchange)] == [
        "gap",
        "unknown_headers",
        "unknown_headers",
    ]
    answered = by_type(told, HttpResponse)
    assert [(event.status, event.body, event.headers) for event in answered] == [
        (0, b"body", []),
        (200, b"body", []),
        (200, b"body", []),
    ]
    assert [event.incomplete for event in by_type(told, HttpRequest)] == [False] * 3


def test_the_end_of_a_request_may_be_lost() -> None:
    link = Link()
    ids = [link.ask(request("POST", f"/{number}"), b"question", step=4) for number in range(2)]
    link.flow()
    for stream_id in ids:
        link.answer(stream_id, response(200), b"answer")
        link.flow()
    fed = pieces(link.sent)
    ends = [n for n, piece in enumerate(fed) if piece.payload.endswith(b"tion")]
    told = run(lossy(fed, {ends[0]}))
    assert reasons(told) == {"/0": "gap", "/1": "unknown_headers"}
    # it was told before the connection's end
    names = [event.event_type for event in told if event.stream_id == ids[0]]
    assert names == ["http_request", "http_response", "http_exchange"]


def test_frames_are_found_in_the_middle_of_a_piece() -> None:
    link, _, _ = downloads()
    first = next(n for n, (_, data) in enumerate(link.sent) if len(data) == 2018)
    sent = [*link.sent[:first], ("read", b"".join(data for _, data in link.sent[first : first + 4]))]
    sent += link.sent[first + 4 :]
    assert reasons(run(pieces(sent))) == {"/0": None, "/1": None, "/later": None}
    fed = pieces(sent)
    cut = gap_at(fed, first, 900, 2500)  # from within a frame of the first to within another one of the first
    told = run(cut)
    assert reasons(told) == {"/0": "gap", "/1": "gap", "/later": "unknown_headers"}
    assert by_type(told, HttpResponse)[0].body == b"1" * (891 + 2000)
    assert by_type(told, HttpResponse)[1].body == b"3" * 3000


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0" * 50,
        b"\0\0\0\4" * 9,
        b"GET / HTTP/1.1\r\n",
        b"\0\0\0\0\x12" + b"\n\5hello" * 3,
        b"\0\0\5\1\4\xff\0\0\1",
    ],
)
def test_other_bytes_are_no_frames(payload: bytes) -> None:
    assert not begins_with_frames(payload)


def test_real_calls_are_frames() -> None:
    for talk in TALKS:
        assert all(begins_with_frames(piece.payload) for piece in pieces(talk.link.sent))
