"""What a connection speaks is found out, and what none of the decoders knows is told once."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers import ChunkMerger, HttpAnalyzer, Limits
from libagenttracer.analyzers.http.sniff import Protocol, sniff
from libagenttracer.analyzers.http.websocket import is_masked
from libagenttracer.events import (
    Event,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    Loss,
    SslData,
    UnknownProtocol,
    WebSocketMessage,
)

GET = b"GET /a HTTP/1.1\r\nHost: example.org\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
SMTP = (
    (b"220 mail.example.org ESMTP\r\n", "read"),
    (b"EHLO example.org\r\n", "write"),
    (b"250 OK\r\n", "read"),
)
POSTGRES = (
    (b"\0\0\0\x08\x04\xd2\x16\x2f", "write"),
    (b"\0\0\0\x20\0\3\0\0user\0a\0", "write"),
    (b"R\0\0\0\x08", "read"),
)


def records(parts: Iterable[tuple[bytes, Any]], connection: str = "7-a-1") -> list[SslData]:
    offsets = {"read": 0, "write": 0}
    found = []
    for number, (payload, direction) in enumerate(parts):
        found.append(
            SslData(
                f"{connection}-{number}", number, "ssl", 7, 7, 1, 0, "curl", "/usr/bin/curl",
                direction, len(payload), offsets[direction], connection, "SSL_read", 1, "", payload,
            )
        )  # fmt: skip
        offsets[direction] += len(payload)
    return found


def run(events: Iterable[Event], *, raw: bool = False, limits: Limits | None = None) -> list[Event]:
    merger, analyzer = ChunkMerger(raw=raw), HttpAnalyzer(limits)
    found = [e for event in events for piece in merger.feed(event) for e in analyzer.feed(piece)]
    found += [e for piece in merger.flush() for e in analyzer.feed(piece)]
    return [*found, *analyzer.flush()]


def names(events: Iterable[Event]) -> list[str]:
    return [event.event_type for event in events]


@pytest.mark.parametrize("talk", [SMTP, POSTGRES], ids=["smtp", "postgres"])
@pytest.mark.parametrize("step", [1, 3, 1000])
def test_what_is_no_http_is_told_once(talk: tuple[tuple[bytes, str], ...], step: int) -> None:
    parts = [(p[at : at + step], way) for p, way in talk for at in range(0, len(p), step)]
    (event,) = run(records(parts))
    assert isinstance(event, UnknownProtocol)
    sent = sum(len(p) for p, way in talk if way == "write")
    assert (event.read_bytes, event.written_bytes) == (sum(len(p) for p, _ in talk) - sent, sent)


@given(st.lists(st.tuples(st.binary(max_size=60), st.sampled_from(["read", "write"])), max_size=12))
def test_no_bytes_raise(parts: list[tuple[bytes, str]]) -> None:
    run(records(parts))


@pytest.mark.parametrize("step", [1, 2, 7, 1000])
@pytest.mark.parametrize("ways", [("write", "read"), ("read", "write")], ids=["client", "server"])
def test_http_however_it_is_cut(step: int, ways: tuple[str, str]) -> None:
    talk = ((GET, ways[0]), (OK, ways[1]), (GET, ways[0]), (OK, ways[1]))
    parts = [(p[at : at + step], way) for p, way in talk for at in range(0, len(p), step)]
    found = run(records(parts))
    assert names(found) == ["http_request", "http_response", "http_exchange"] * 2
    exchange = found[2]
    assert isinstance(exchange, HttpExchange)
    assert exchange.role == ("client" if ways[0] == "write" else "server")
    assert not exchange.incomplete


def test_a_connection_that_is_joined_in_the_middle() -> None:
    """Its next request is found; what was before it belongs to nothing."""
    found = run(records([(b"rest of a body", "read"), (GET, "write"), (OK, "read")]))
    assert names(found) == ["http_request", "http_response", "http_exchange"]
    assert not any(getattr(event, "incomplete", False) for event in found)


def test_connections_do_not_disturb_each_other() -> None:
    one = records([(GET, "write"), (OK, "read")], "7-a-1")
    two = records([(GET.replace(b"/a", b"/b"), "write"), (OK.replace(b"hi", b"ho"), "read")], "7-b-1")
    mixed: list[Event] = [event for pair in zip(one, two, strict=True) for event in pair]
    found = run(mixed)
    pairs = {
        (e.connection_id, e.target) if isinstance(e, HttpRequest) else (e.connection_id, e.body.decode())
        for e in found
        if isinstance(e, (HttpRequest, HttpResponse))
    }
    assert pairs == {("7-a-1", "/a"), ("7-a-1", "hi"), ("7-b-1", "/b"), ("7-b-1", "ho")}


def test_too_many_connections() -> None:
    events: list[Event] = []
    for number in range(5):
        events += records([(GET, "write")], f"7-{number}-1")
    found = run(events, limits=Limits(max_connections=2))
    assert names(found).count("http_request") == 5
    exchanges = [event for event in found if isinstance(event, HttpExchange)]
    assert [e.reason for e in exchanges] == ["no_response"] * 5


def test_raw_events_say_which_messages_begin_in_them() -> None:
    """They come before what was made of them, and are labelled."""
    found = run(records([(GET[:9], "write"), (GET[9:], "write"), (OK, "read"), (b"", "read")]), raw=True)
    assert names(found) == [
        "ssl_data",
        "ssl_data",
        "http_request",
        "ssl_data",
        "http_response",
        "http_exchange",
        "ssl_data",
    ]
    raw = [event for event in found if isinstance(event, SslData)]
    assert all(event.unredacted for event in raw)
    response = found[4]
    assert raw[2].parsed_http == [
        {
            "type": "response",
            "status": 200,
            "version": "1.1",
            "headers": [("Content-Length", "2")],
            "id": response.id,
        }
    ]
    # the head was complete only with the second record
    assert [event.parsed_http for event in (raw[0], raw[1], raw[3])] == [None, None, None]


def test_other_events_pass_in_order() -> None:
    loss = Loss("loss", 1, "ssl", "ring_full", 1, 0)
    assert [*HttpAnalyzer().feed(loss)] == [loss]


@pytest.mark.parametrize(
    ("begin", "expected"),
    [
        (b"GET / HTTP/1.1\r\n", Protocol.HTTP1),
        (b"M-SEARCH * HTTP/1.1\r\n", Protocol.HTTP1),
        (b"POST http://a/ HTTP/1.1\r\n", Protocol.HTTP1),
        (b"CONNECT a.b:443 HTTP/1.1\r\n", Protocol.HTTP1),
        (b"HTTP/1.0 404 Not Found\r\n", Protocol.HTTP1),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Protocol.HTTP2),
        (b"\0\0\x12\4\0\0\0\0\0", Protocol.HTTP2),
        (b"\0\0\x12\4\1\0\0\0\0", Protocol.OTHER),
        (b"EHLO localhost\r\n", Protocol.OTHER),
        (b"\x16\3\1\2\0", Protocol.OTHER),
        (b"get / HTTP/1.1", Protocol.OTHER),
        (b"GE", Protocol.UNDECIDED),
        (b"PRI * H", Protocol.UNDECIDED),
        (b"HTTP/1", Protocol.UNDECIDED),
        (b"\0\0", Protocol.UNDECIDED),
    ],
)
def test_what_the_first_bytes_say(begin: bytes, expected: Protocol) -> None:
    assert sniff(begin) is expected


@given(st.binary(min_size=1, max_size=40))
def test_sniffing_never_raises(begin: bytes) -> None:
    assert isinstance(sniff(begin), Protocol)


def test_http2_that_is_joined_in_the_middle() -> None:
    """Without preface and settings, by frames that fit one another."""
    client, server = H2Connection(H2Configuration(client_side=True)), H2Connection(H2Configuration(False))
    client.initiate_connection()
    server.initiate_connection()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    client.data_to_send()
    parts: list[tuple[bytes, str]] = []
    for stream in (1, 3):
        headers = [(":method", "GET"), (":path", "/a"), (":scheme", "https"), (":authority", "example.org")]
        client.send_headers(stream, headers, end_stream=True)
        asked = client.data_to_send()
        server.receive_data(asked)
        server.send_headers(stream, [(":status", "200")])
        server.send_data(stream, b"hello", end_stream=True)
        answered = server.data_to_send()
        client.receive_data(answered)
        parts += [(asked, "write"), (answered, "read")]
    events = [msgspec.structs.replace(event, joined_late=True) for event in records(parts)]
    exchanges = [event for event in run(events) if isinstance(event, HttpExchange)]
    assert [(event.method, event.status) for event in exchanges] == [("GET", 200)] * 2


def frame(text: bytes, *, masked: bool, opcode: int = 1) -> bytes:
    mask = b"abcd" if masked else b""
    content = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text)) if masked else text
    return bytes([0x80 | opcode, masked << 7 | len(text)]) + mask + content


@pytest.mark.parametrize("ways", [("write", "read"), ("read", "write")], ids=["client", "server"])
def test_a_websocket_that_is_joined_in_the_middle(ways: tuple[str, str]) -> None:
    """Several calls that are a client's frames say so; from then on messages are told, both ways."""
    parts: list[tuple[bytes, str]] = []
    for number in range(6):
        parts.append((frame(b"question %d" % number, masked=True), ways[0]))
        parts.append((frame(b"answer %d" % number, masked=False), ways[1]))
    events = [msgspec.structs.replace(event, joined_late=True) for event in records(parts)]
    found = run(events)
    assert all(isinstance(event, WebSocketMessage) and not event.incomplete for event in found)
    texts = [event.payload for event in found if isinstance(event, WebSocketMessage)]
    assert texts[:3] == [b"question 3", b"answer 3", b"question 4"]
    assert len(texts) == 6
    # a connection that was seen from its beginning is none without its upgrade
    assert names(run(records(parts))) == ["unknown_protocol"]


def test_a_compressed_websocket_that_is_joined_in_the_middle() -> None:
    """What compressed messages refer to is not known: they are told, as incomplete."""
    parts = [(frame(b"plain", masked=True), "write")] * 4
    compressed = frame(b"x", masked=True, opcode=1 | 0x40)
    events = records([*parts, (compressed, "write"), (frame(b"plain", masked=True), "write")])
    found = run([msgspec.structs.replace(event, joined_late=True) for event in events])
    assert [event.reason for event in found if isinstance(event, WebSocketMessage)][:1] == [None]
    assert "joined_late" in (found[1].reason or "")  # type: ignore[attr-defined]
    assert found[2].payload == b"plain"  # type: ignore[attr-defined]


@given(st.binary(max_size=30))
def test_is_masked_never_raises(payload: bytes) -> None:
    assert is_masked(payload) in (True, False)


GET_SOCKET = b"GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("lost", [2, 3], ids=["request", "response"])
def test_a_websocket_whose_upgrade_was_lost(lost: int) -> None:
    """The exchange is incomplete, and later messages are told."""
    parts: list[tuple[bytes, str]] = [(GET, "write"), (OK, "read")]
    parts += [(GET_SOCKET, "write"), (SWITCHING, "read")]
    for number in range(6):
        parts.append((frame(b"question %d" % number, masked=True), "write"))
        parts.append((frame(b"answer %d" % number, masked=False), "read"))
    raw = records(parts)
    events: list[Event] = [*raw]
    gone = raw[lost]
    where = ("7-a-1", gone.direction, gone.offset)
    events[lost] = Loss("loss", 5, "ssl", "ring_full", 1, gone.data_len, 7, "curl", *where)
    found = run(events)
    exchanges = [event for event in found if isinstance(event, HttpExchange)]
    assert [event.incomplete for event in exchanges] == [False, True]
    texts = [event.payload for event in found if isinstance(event, WebSocketMessage) and not event.incomplete]
    assert texts[-4:] == [b"question 4", b"answer 4", b"question 5", b"answer 5"]


def test_a_body_that_looks_like_frames_is_a_body() -> None:
    content = frame(b"question", masked=True)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (6 * len(content))
    found = run(records([(head, "write"), *[(content, "write")] * 6, (OK, "read")]))
    assert names(found) == ["http_request", "http_response", "http_exchange"]
    assert not found[2].incomplete  # type: ignore[attr-defined]
