"""What a peer can do that it should not, limits, WebSockets on streams, and frames that nobody needs."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Iterable
from typing import Any

import h2.settings
from hpack import Encoder
from hyperframe.frame import (
    AltSvcFrame,
    ContinuationFrame,
    DataFrame,
    Frame,
    GoAwayFrame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    PushPromiseFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Frame as WebSocketFrame
from websockets.frames import Opcode

from libagenttracer.analyzers.http.http2 import Http2
from libagenttracer.analyzers.http.http2_frames import PREFACE
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.analyzers.http.messages import Incoming
from libagenttracer.events import HttpExchange, HttpRequest, WebSocketMessage

from .h2_traffic import Link, Way, by_type, cut_in, lossy, meaning, pieces, request, response, run

SMALL = Limits(
    max_body_bytes=1000,
    max_head_bytes=2000,
    max_headers=20,
    max_streams=5,
    max_held_bytes=3000,
    ratio_floor_bytes=2000,
)


def block(*fields: tuple[str, str], encoder: Encoder | None = None) -> bytes:
    return bytes((encoder or Encoder()).encode([*fields]))


def asked(
    stream_id: int, flags: Iterable[str] = ("END_HEADERS", "END_STREAM"), *more: tuple[str, str]
) -> Frame:
    return HeadersFrame(stream_id, block(*request("GET", f"/{stream_id}", *more)), flags=flags)


def told_of(*frames: Frame | bytes, limits: Limits | None = None, answers: Iterable[Frame] = ()) -> list[Any]:
    sent: list[tuple[Way, bytes]] = [("write", PREFACE + SettingsFrame().serialize())]
    sent += [("write", frame if isinstance(frame, bytes) else frame.serialize()) for frame in frames]
    sent += [("read", frame.serialize()) for frame in answers]
    told = run(pieces(sent), limits=limits)
    if not any("malformed" in (event.reason or "") for event in told):  # then it goes on with the next call
        assert meaning(run(pieces(sent, cut_in([3])), limits=limits)) == meaning(told)
    return told


def reasons(told: list[Any]) -> list[tuple[str, str | None]]:
    return [(event.target, event.reason) for event in by_type(told, HttpRequest)]


def test_frames_that_nobody_needs_are_passed_over() -> None:
    told = told_of(
        PriorityFrame(1),
        b"\0\x75\x30\xfa\xff\0\0\0\0" + b"grease" * 5000,
        AltSvcFrame(0, b"o", b"x" * 30_000),
        asked(1, ["END_HEADERS"]),
        WindowUpdateFrame(0, 5),
        DataFrame(1, b"with padding", pad_length=200, flags=["PADDED"]),
        DataFrame(1, b"", pad_length=20, flags=["PADDED"]),
        PingFrame(opaque_data=b"x" * 8),
        DataFrame(1, b"", flags=["END_STREAM"]),
    )
    assert [(event.body, event.incomplete) for event in by_type(told, HttpRequest)] == [
        (b"with padding", False)
    ]


def test_headers_in_many_parts() -> None:
    fields = block(*request("GET", "/parts"))
    told = told_of(
        HeadersFrame(1, fields[:1], flags=["END_STREAM"]),
        *(ContinuationFrame(1, fields[at : at + 1]) for at in range(1, len(fields))),
        ContinuationFrame(1, b"", flags=["END_HEADERS"]),
    )
    assert reasons(told) == [("/parts", None)]


def test_what_breaks_the_rules_is_marked_and_later_streams_are_told() -> None:
    bad: dict[str, list[Frame | bytes]] = {
        "another frame within headers": [asked(1, []), DataFrame(1, b"x")],
        "another stream's headers": [asked(1, []), ContinuationFrame(3, b"", flags=["END_HEADERS"])],
        "no beginning": [asked(1, ["END_HEADERS"]), ContinuationFrame(1, b"", flags=["END_HEADERS"])],
        "no stream": [asked(1, ["END_HEADERS"]), b"\0\0\1\0\0\0\0\0\0x"],
        "padding": [asked(1, ["END_HEADERS"]), b"\0\0\1\0\x08\0\0\0\1\5"],
        "not HPACK": [HeadersFrame(1, b"\x80", flags=["END_HEADERS"])],
        "settings": [asked(1, ["END_HEADERS"]), b"\0\0\1\4\0\0\0\0\0x"],
        "headers twice": [asked(1, ["END_HEADERS"]), asked(1, ["END_HEADERS", "END_STREAM"])],
        "no method": [HeadersFrame(1, block(("x", "y")), flags=["END_HEADERS", "END_STREAM"])],
        "wrong length": [
            asked(1, ["END_HEADERS"], ("content-length", "4")),
            DataFrame(1, b"x", flags=["END_STREAM"]),
        ],
    }
    for name, frames in bad.items():
        told = told_of(*frames, asked(3))
        assert [event.stream_id for event in by_type(told, HttpRequest)] in ([1, 3], [3, 1]), name
        first, second = sorted(by_type(told, HttpRequest), key=lambda event: event.stream_id)
        assert "malformed" in first.reason, name
        assert (second.target, second.reason) == ("/3", None), name


def test_goaway_ends_what_will_not_be_answered() -> None:
    told = told_of(asked(1), asked(3), asked(5), answers=[SettingsFrame(), GoAwayFrame(last_stream_id=1)])
    assert [(event.target, event.reason) for event in by_type(told, HttpExchange)] == [
        ("/3", "aborted,no_response"),
        ("/5", "aborted,no_response"),
        ("/1", "aborted,no_response"),
    ]


def test_an_answer_before_the_end_of_the_request() -> None:
    """The server does not wait for the rest (RFC 9113, 8.1): request, response, exchange all the same."""
    answer = HeadersFrame(1, block(*response(413)), flags=["END_HEADERS", "END_STREAM"])
    told = told_of(asked(1, ["END_HEADERS"]), answers=[SettingsFrame(), answer, RstStreamFrame(1)])
    assert [event.event_type for event in told] == ["http_request", "http_response", "http_exchange"]
    assert [event.reason for event in told] == ["aborted", None, "aborted"]


def test_a_response_that_is_seen_before_its_request() -> None:
    """As can happen when other threads read and write."""
    link = Link()
    stream_id = link.ask(request("GET", "/"))
    link.flow()
    link.answer(stream_id, response(200), b"x")
    link.flow()
    at = next(n for n, (_, data) in enumerate(link.sent) if b"\1\5\0\0\0\1" in data)
    told = run(pieces([*link.sent[:at], *link.sent[at + 1 :], link.sent[at]]))
    assert [(event.event_type, event.incomplete) for event in told] == [
        ("http_request", False),
        ("http_response", False),
        ("http_exchange", False),
    ]


def test_limits() -> None:
    told = told_of(*(asked(n) for n in range(1, 41, 2)), limits=SMALL)
    assert [event.reason for event in by_type(told, HttpExchange)] == ["aborted,no_response"] * 20
    # headers, also in many parts and compressed
    long = (
        [asked(1, [])]
        + [ContinuationFrame(1, b"\x82" * 100)] * 100
        + [ContinuationFrame(1, b"", flags=["END_HEADERS"])]
    )
    assert reasons(told_of(*long, asked(3), limits=SMALL)) == [("/3", None), ("", "aborted,too_long")]
    many = [("a", str(n)) for n in range(30)]
    (message,) = by_type(told_of(asked(1, ["END_HEADERS", "END_STREAM"], *many), limits=SMALL), HttpRequest)
    assert (len(message.headers), message.reason) == (20, "too_long")
    bomb = block(("x" * 100, "y" * 500)) + b"\xbe" * 100
    (message,) = by_type(
        told_of(HeadersFrame(1, bomb, flags=["END_HEADERS", "END_STREAM"]), limits=SMALL), HttpRequest
    )
    assert (message.headers, message.reason) == ([], "too_long")
    # bodies of all streams together
    opened = [asked(n, ["END_HEADERS"]) for n in (1, 3, 5, 7)]
    data = [DataFrame(n, b"x" * 900) for n in (1, 3, 5, 7)]
    ends = [DataFrame(n, b"", flags=["END_STREAM"]) for n in (1, 3, 5, 7)]
    found = dict(reasons(told_of(*opened, *data, *ends, limits=SMALL)))
    assert sorted(str(reason) for reason in found.values()) == ["None", "None", "None", "too_long"]


def test_memory_does_not_grow() -> None:
    """Streams that never end, floods of control frames, headers without end."""
    handler = Http2(SMALL)
    flood = [PREFACE]
    for n in range(1, 4001, 2):
        flood += [
            frame.serialize() for frame in (asked(n, ["END_HEADERS"]), DataFrame(n, b"x" * 500), PingFrame())
        ]
        flood.append(SettingsFrame(settings={n & 0xFFFF: n}).serialize())
        flood.append(RstStreamFrame(n).serialize() if n % 3 else b"")
    flood.append(asked(4001, []).serialize())
    flood += [ContinuationFrame(4001, b"\x82" * 500).serialize()] * 2000
    fed = pieces([("write", b"".join(flood))], cut_in([4000]))
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for piece in fed:
        assert all(event.incomplete for event in handler.data(piece) if isinstance(event, HttpExchange))
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 200_000


def test_a_large_body_is_held_once() -> None:
    size = 20 << 20
    frames = [asked(1, ["END_HEADERS"], ("content-length", str(size))).serialize()]
    frames += [DataFrame(1, b"x" * 16384).serialize()] * (size // 16384)
    frames.append(DataFrame(1, b"", flags=["END_STREAM"]).serialize())
    fed = pieces([("write", PREFACE), *(("write", frame) for frame in frames)])
    handler = Http2(Limits())
    tracemalloc.start()
    told = [event for piece in fed for event in handler.data(piece)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert isinstance(told[0], HttpRequest)
    assert (len(told[0].body), told[0].incomplete) == (size, False)
    assert peak < size + (1 << 20)


def test_a_websocket_on_a_stream() -> None:
    link = Link(server_settings={h2.settings.SettingCodes.ENABLE_CONNECT_PROTOCOL: 1})
    stream_id = link.client.get_next_available_stream_id()
    link.client.send_headers(stream_id, [*request("CONNECT", "/chat"), (":protocol", "websocket")])
    link.flow()
    link.server.send_headers(stream_id, response(200))
    link.flow()
    other = link.ask(request("GET", "/other"))
    link.flow()
    for number in range(20):
        up = WebSocketFrame(Opcode.TEXT, b"up %d" % number).serialize(mask=True)
        down = WebSocketFrame(Opcode.TEXT, b"down %d" % number).serialize(mask=False)
        link.client.send_data(stream_id, up[:3])
        link.client.send_data(stream_id, up[3:], pad_length=9)
        link.server.send_data(stream_id, down)
        if number == 10:
            link.answer(other, response(200), b"other")
        link.flow()
    link.client.send_data(
        stream_id, WebSocketFrame(Opcode.CLOSE, b"\3\xe8").serialize(mask=True), end_stream=True
    )
    link.server.send_data(stream_id, b"", end_stream=True)
    link.flow()
    told = run(pieces(link.sent))
    first = [event.event_type for event in told if event.stream_id == stream_id][:3]
    assert first == ["http_request", "http_response", "http_exchange"]
    assert not any(event.incomplete for event in told)
    messages = by_type(told, WebSocketMessage)
    assert [m.payload for m in messages if m.direction == "write"] == [b"up %d" % n for n in range(20)] + [
        b""
    ]
    assert [m.payload for m in messages if m.direction == "read"] == [b"down %d" % n for n in range(20)]
    assert {(m.target, m.stream_id) for m in messages} == {("/chat", stream_id)}
    assert meaning(run(pieces(link.sent, cut_in([1, 5])))) == meaning(told)
    # each piece lost
    fed = pieces(link.sent)
    true = {m.payload for m in messages}
    for number in range(len(fed)):
        lost = by_type(run(lossy(fed, {number})), WebSocketMessage)
        assert {m.payload for m in lost if not m.incomplete} <= true


def test_other_tunnels_are_told_as_opened_and_not_followed() -> None:
    link = Link()
    stream_id = link.client.get_next_available_stream_id()
    link.client.send_headers(stream_id, [(":method", "CONNECT"), (":authority", "host:443")])
    link.flow()
    link.server.send_headers(stream_id, response(200))
    link.flow()
    link.client.send_data(stream_id, b"hello", end_stream=True)
    link.server.send_data(stream_id, b"world", end_stream=True)
    link.flow()
    told = run(pieces(link.sent))
    assert [event.incomplete for event in told] == [False] * 3
    assert (told[0].method, told[0].target, told[0].authority, told[0].body) == (
        "CONNECT",
        "host:443",
        "host:443",
        b"",
    )


def test_heads_are_told_when_they_are_complete() -> None:
    heads: list[Incoming] = []
    handler = Http2(Limits(), heads.append)
    sent: list[tuple[Way, bytes]] = [("write", PREFACE), ("write", asked(1, ["END_HEADERS"]).serialize())]
    for piece in pieces(sent):
        handler.data(piece)
    assert [(head.kind, head.method, head.target) for head in heads] == [("request", "GET", "/1")]


FRAMES: list[Any] = [
    lambda n: asked(n, ["END_HEADERS"]),
    asked,
    lambda n: asked(n, []),
    lambda n: HeadersFrame(n, block(*response(200)), flags=["END_HEADERS"]),
    lambda n: HeadersFrame(n, block(*response(100)), flags=["END_HEADERS"]),
    lambda n: HeadersFrame(n, b"\xbe\xff\x01", flags=["END_HEADERS"]),
    lambda n: ContinuationFrame(n, b"\x88", flags=["END_HEADERS"]),
    lambda n: DataFrame(n, b"x" * n),
    lambda n: DataFrame(n, b"end", flags=["END_STREAM"]),
    lambda n: DataFrame(n, b"pad", pad_length=n, flags=["PADDED"]),
    lambda n: PushPromiseFrame(n, 2 * n, block(*request("GET", "/p")), flags=["END_HEADERS"]),
    RstStreamFrame,
    lambda n: GoAwayFrame(last_stream_id=n),
    lambda n: SettingsFrame(settings={5: 1 << 20, 1: n}),
    lambda n: PingFrame(),
]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["read", "write"]),
        st.tuples(st.sampled_from(FRAMES), st.integers(1, 9)).map(lambda made: made[0](made[1]).serialize())
        | st.binary(min_size=1, max_size=30),
    ),
    max_size=25,
)


@settings(max_examples=400, deadline=None)
@given(STEPS, st.booleans(), st.booleans(), st.lists(st.integers(1, 40), min_size=1, max_size=3))
def test_any_frames_and_bytes(steps: list[Any], late: bool, preface: bool, sizes: list[int]) -> None:
    """Nothing is raised, and the rules of `check` hold."""
    sent: list[tuple[Way, bytes]] = [("write", PREFACE)] if preface else []
    sent += steps
    run(pieces(sent), late=late, limits=SMALL)
    run(pieces(sent, cut_in(sizes)), late=late, limits=SMALL)
    choose = random.Random(len(sent))
    run(lossy(pieces(sent, cut_in(sizes)), {choose.randrange(50) for _ in range(3)}), limits=SMALL)
