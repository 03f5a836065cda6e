"""HTTP/1: messages out of bytes however they are cut, and which response belongs to which request."""

from __future__ import annotations

import gzip
import http.client
import http.server
import threading
import zlib
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.http.http1 import Http1
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.events import HttpBody, HttpRequest, HttpResponse

from .http1_traffic import (
    Script,
    Wire,
    bytewise,
    cut,
    exchanges,
    outline,
    recorded,
    request,
    response,
    run,
    told,
)

CHUNKED = "Transfer-Encoding: chunked"
SSE = b"data: a\n\ndata: b\r\n\r\n\n\r\n"


def chunks(*parts: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


CASES: dict[str, tuple[Script, list[str]]] = {
    "plain": (
        [("write", request("GET", "/a")), ("read", response(200, b"hi"))],
        ["GET /a ''", "200 'hi'", "GET /a -> 200"],
    ),
    "a server's side": (
        [("read", request("GET", "/a")), ("write", response(200, b"hi"))],
        ["GET /a ''", "200 'hi'", "GET /a -> 200"],
    ),
    "pipelined": (
        [
            ("write", request("GET", "/a") + request("HEAD", "/b") + request("POST", "/c", b"body")),
            ("read", response(200, b"1") + response(200, None, "Content-Length: 99") + response(404, b"")),
        ],
        [
            *("GET /a ''", "HEAD /b ''", "POST /c 'body'"),
            *("200 '1'", "GET /a -> 200", "200 ''", "HEAD /b -> 200", "404 ''", "POST /c -> 404"),
        ],
    ),
    "chunked both ways, with trailers": (
        [
            ("write", request("POST", "/a", None, CHUNKED) + chunks(b"abc", b"\r\n\r\n0\r\n\r\n", b"d")),
            ("read", response(200, None, CHUNKED) + chunks(b"x" * 300, trailers=b"Sum: 1\r\nSum: 2\r\n")),
            ("write", request("GET", "/b")),
            ("read", response(200, b"end")),
        ],
        [
            *(r"POST /a 'abc\r\n\r\n0\r\n\r\nd'", f"200 '{'x' * 300}'", "POST /a -> 200"),
            *("GET /b ''", "200 'end'", "GET /b -> 200"),
        ],
    ),
    "no bodies": (
        [
            ("write", request("HEAD", "/a")),
            ("read", response(200, None, CHUNKED)),
            ("write", request("GET", "/b")),
            ("read", response(204, None, "Content-Length: 5")),
            ("write", request("GET", "/c")),
            ("read", response(304, None, "Content-Length: 5")),
            ("write", request("GET", "/d")),
            ("read", response(200, b"")),
        ],
        [
            *("HEAD /a ''", "200 ''", "HEAD /a -> 200", "GET /b ''", "204 ''", "GET /b -> 204"),
            *("GET /c ''", "304 ''", "GET /c -> 304", "GET /d ''", "200 ''", "GET /d -> 200"),
        ],
    ),
    "interim responses": (
        [
            ("write", request("POST", "/a", None, "Expect: 100-continue", "Content-Length: 3")),
            ("read", response(100) + response(103, None, "Link: </x>")),
            ("write", b"abc"),
            ("read", response(201, b"made")),
        ],
        ["100 ''", "103 ''", "POST /a 'abc'", "201 'made'", "POST /a -> 201"],
    ),
    "a response before its request is complete": (
        [
            ("write", request("POST", "/a", None, "Content-Length: 6") + b"abc"),
            ("read", response(413, b"no")),
            ("write", b"def" + request("GET", "/b")),
            ("read", response(200, b"")),
        ],
        ["POST /a 'abcdef'", "413 'no'", "POST /a -> 413", "GET /b ''", "200 ''", "GET /b -> 200"],
    ),
    "until the end": (
        [
            ("write", request("GET", "/a")),
            ("read", b"HTTP/1.0 200\r\n\r\nall\r\n\r\n"),
            ("read", b"there is"),
        ],
        ["GET /a ''", r"200 'all\r\n\r\nthere is'", "GET /a -> 200"],
    ),
    "empty lines between messages": (
        [("write", b"\r\n" + request("GET", "/a") + b"\r\n\r\n" + request("GET", "/b"))],
        ["GET /a ''", "GET /b ''", "GET /a -> - [no_response]", "GET /b -> - [no_response]"],
    ),
    "a response without a request": (
        [("write", request("GET", "/")), ("read", response(200, b"") + response(408, b"bye"))],
        ["GET / ''", "200 ''", "GET / -> 200", "408 'bye' [unpaired]", "- - -> 408 [no_request,unpaired]"],
    ),
    "a stream of events": (
        [
            ("write", request("GET", "/a")),
            ("read", response(200, None, CHUNKED, "Content-Type: text/event-stream") + chunks(SSE, SSE)),
        ],
        ["GET /a ''", f"200 {(SSE * 2).decode()!r}", "GET /a -> 200"],
    ),
    "a tunnel": (
        [
            ("write", request("CONNECT", "h.example:443")),
            ("read", response(200) + b"\x16\x03"),
            ("write", request("GET", "/not-ours")),
        ],
        ["CONNECT h.example:443 ''", "200 ''", "CONNECT h.example:443 -> 200"],
    ),
    "an upgrade that is refused": (
        [
            ("write", request("GET", "/a", None, "Connection: upgrade", "Upgrade: websocket")),
            ("write", request("GET", "/b")),
            ("read", response(200, b"1") + response(200, b"2")),
        ],
        ["GET /a ''", "200 '1'", "GET /a -> 200", "GET /b ''", "200 '2'", "GET /b -> 200"],
    ),
    "an upgrade to something unknown": (
        [
            ("write", request("GET", "/a", None, "Connection: upgrade", "Upgrade: x")),
            ("read", response(101, None, "Connection: upgrade", "Upgrade: x") + response(200, b"")),
            ("write", request("GET", "/b")),
        ],
        ["GET /a ''", "101 ''", "GET /a -> 101"],
    ),
    "two lengths": (
        [
            ("write", request("POST", "/a", b"abc", CHUNKED).replace(b"abc", chunks(b"wxyz"))),
            ("read", response(200, b"")),
        ],
        ["POST /a 'wxyz' [malformed]", "200 ''", "POST /a -> 200 [malformed]"],
    ),
    "differing lengths": (
        [("write", request("POST", "/a", b"abc", "Content-Length: 4")), ("read", response(400, b""))],
        ["POST /a '' [malformed]", "400 ''", "POST /a -> 400 [malformed]"],
    ),
    "a request whose last encoding is not chunked": (
        [("write", request("POST", "/a", None, "Transfer-Encoding: gzip") + b"abc")],
        ["POST /a '' [malformed]", "POST /a -> - [malformed,no_response]"],
    ),
    "a folded header": (
        [("write", request("GET", "/a", None, "A: b\r\n c")), ("read", response(200, b"x"))],
        ["GET /a '' [malformed]", "200 'x'", "GET /a -> 200 [malformed]"],
    ),
    "a broken chunk": (
        [("write", request("GET", "/a")), ("read", response(200, None, CHUNKED) + b"3\r\nabc\r\nzz\r\n")],
        ["GET /a ''", "200 'abc' [malformed]", "GET /a -> 200 [malformed]"],
    ),
    "cut short": (
        [("write", request("GET", "/a")), ("read", response(200, b"abcdef")[:-2])],
        ["GET /a ''", "200 'abcd' [aborted]", "GET /a -> 200 [aborted]"],
    ),
    "cut short in a head": (
        [("write", request("GET", "/a")), ("read", response(200, b"", "A: b")[:-2])],
        ["GET /a ''", "200 '' [aborted]", "GET /a -> 200 [aborted]"],
    ),
    "a request that never ends": (
        [("write", request("POST", "/a", b"abc")[:-1]), ("read", response(413, b"no"))],
        ["POST /a 'ab' [aborted]", "413 'no'", "POST /a -> 413 [aborted]"],
    ),
    "chunk sizes with spaces": (
        [
            ("write", request("GET", "/a")),
            ("read", response(200, None, CHUNKED) + b"3  \r\nabc\r\n0\r\n\r\n"),
        ],
        ["GET /a ''", "200 'abc'", "GET /a -> 200"],
    ),
}


@pytest.mark.parametrize(("script", "expected"), CASES.values(), ids=CASES)
def test_what_is_told(script: Script, expected: list[str]) -> None:
    assert outline(run(script)) == expected
    assert outline(run(script, bytewise)) == expected


@pytest.mark.parametrize("script", [case[0] for case in CASES.values()], ids=CASES)
@settings(max_examples=25, deadline=None)
@given(places=st.lists(st.integers(0, 2000), max_size=30))
def test_however_the_bytes_are_cut(script: Script, places: list[int]) -> None:
    whole = told(run(script))
    assert told(run(script, bytewise)) == whole
    assert told(run(script, lambda data: cut(data, places))) == whole


def test_what_a_message_says() -> None:
    head = "A: 1\r\nset-COOKIE: b=\xe9\r\na: 2\r\nHost: other.example:1"
    script: Script = [
        ("write", f"GET http://u@h.example:8/p?q=/x HTTP/1.1\r\n{head}\r\n\r\n".encode("iso-8859-1")),
        ("read", b"HTTP/1.0 299 So \xc3\xa9 it is\r\nContent-Length: 2\r\nX:\r\n\r\nok"),
    ]
    asked, answered, exchange = run(script)
    assert isinstance(asked, HttpRequest)
    assert isinstance(answered, HttpResponse)
    assert asked.headers == [("A", "1"), ("set-COOKIE", "b=\xe9"), ("a", "2"), ("Host", "other.example:1")]
    assert (asked.target, asked.authority) == ("http://u@h.example:8/p?q=/x", "h.example:8")
    assert (asked.version, asked.direction, answered.version) == ("1.1", "write", "1.0")
    assert (answered.reason_phrase, answered.headers[1]) == ("So é it is", ("X", ""))
    assert (answered.body, answered.body_bytes) == (b"ok", 2)
    (exchange,) = exchanges([exchange])
    assert (exchange.request_id, exchange.response_id, exchange.role) == (asked.id, answered.id, "client")
    assert exchange.duration_ms == 0.001
    (served,) = exchanges(run([("write" if d == "read" else "read", data) for d, data in script]))
    assert served.role == "server"


def test_times() -> None:
    wire, handler = Wire(), Http1(Limits())
    events: list[Any] = []
    for direction, data in (
        *(("write", b"\r\nGE"), ("write", b"T / HTTP/1.1\r\n"), ("write", b"\r\n")),
        *(("read", b"H"), ("read", response(200, b"abc")[1:-1]), ("read", b"c")),
    ):
        events += handler.data(wire.piece(direction, data))  # type: ignore[arg-type]
    asked, answered, exchange = events
    assert (asked.timestamp_ns, asked.last_byte_ns) == (1000, 3000)
    assert (answered.timestamp_ns, answered.last_byte_ns) == (4000, 6000)
    assert (exchange.timestamp_ns, exchange.duration_ms) == (1000, 0.005)
    assert (exchange.response_first_byte_ns, exchange.response_last_byte_ns) == (4000, 6000)


def test_encodings_are_removed() -> None:
    body = b"word " * 1000
    packed = gzip.compress(body)
    coded = response(200, None, "Content-Encoding: gzip", "Transfer-Encoding: deflate, chunked")
    script: Script = [
        ("write", request("GET", "/a")),
        ("read", response(200, packed, "Content-Encoding: gzip")),
        ("write", request("GET", "/b")),
        ("read", coded + chunks(*bytewise(zlib.compress(packed)))),
    ]
    answers = [event for event in run(script) if isinstance(event, HttpResponse)]
    assert [answer.body == body for answer in answers] == [True, True]
    assert [answer.content_encoding for answer in answers] == ["gzip", "gzip"]
    assert answers[0].body_bytes == len(packed)
    assert not any(answer.incomplete for answer in answers)


def test_a_stream_is_told_while_it_comes() -> None:
    wire, handler = Wire(), Http1(Limits())
    (asked,) = handler.data(wire.piece("write", request("GET", "/a")))
    head = response(200, None, "Content-Type: text/event-stream; charset=utf-8")
    assert [*handler.data(wire.piece("read", head))] == []
    (part,) = handler.data(wire.piece("read", b"data: 1\n\n"))
    wire.lose("read", 5)
    (other,) = handler.data(wire.piece("read", b"data: 2\n\n"))
    last, answered, exchange = handler.end(wire.end())
    assert isinstance(answered, HttpResponse)
    for body in (part, other, last):
        assert isinstance(body, HttpBody)
        assert (body.request_id, body.response_id) == (asked.id, answered.id)
        assert body.content_type == "text/event-stream"
    assert [getattr(b, "missing_bytes", None) for b in (part, other, last)] == [0, -1, 0]
    assert answered.body_times == [(0, 3000), (9, 4000)]
    assert (answered.incomplete, answered.reason) == (True, "gap")
    assert exchanges([exchange])[0].incomplete


@pytest.mark.parametrize(("cause", "complete"), [("reused", True), ("end", True), ("evicted", False)])
def test_a_body_that_the_connection_ends(cause: str, complete: bool) -> None:
    script: Script = [("write", request("GET", "/a")), ("read", response(200) + b"body")]
    assert [not event.incomplete for event in exchanges(run(script, cause=cause))] == [complete]


def test_heads_are_told_when_they_are_complete() -> None:
    heads: list[Any] = []
    handler, wire = Http1(Limits(), heads.append), Wire()
    for part in bytewise(request("POST", "/a", b"xy")[:-2]):
        assert not heads
        handler.data(wire.piece("write", part))
    assert [(head.kind, head.method, head.target) for head in heads] == [("request", "POST", "/a")]
    handler.data(wire.piece("read", response(100) + response(200)))
    assert [head.status for head in heads] == [0, 100, 200]
    assert heads[2].request is heads[0]


def test_a_websocket_follows() -> None:
    upgrade = ("Connection: Upgrade", "Upgrade: websocket")
    frame = b"\x81\x02hi"
    script: Script = [
        ("write", request("GET", "/ws", None, *upgrade)),
        ("read", response(101, None, *upgrade) + frame),
        ("write", b"\x81\x82\0\0\0\0yo"),
    ]
    for split in ((lambda data: [data]), bytewise):
        events: list[Any] = run(script, split)
        assert outline(events[:3]) == ["GET /ws ''", "101 ''", "GET /ws -> 101"]
        assert [(e.direction, e.payload, e.target) for e in events[3:]] == [
            ("read", b"hi", "/ws"),
            ("write", b"yo", "/ws"),
        ]


# limits


def test_limits_of_heads() -> None:
    limits = Limits(max_head_bytes=400, max_headers=5)
    many = request("GET", "/many", None, *(f"A{i}: {i}" for i in range(9)))
    long = request("GET", "/long", None, "A: " + "x" * 500)
    for split in ((lambda data: [data]), bytewise):
        events: list[Any] = run([("write", many)], split, limits=limits)
        assert outline(events)[:1] == ["GET /many '' [too_long]"]
        assert len(events[0].headers) == 5
        script: Script = [("write", long), ("read", response(431, b"")), ("write", request("GET", "/b"))]
        events = run([*script, ("read", response(200, b"b"))], split, limits=limits)
        assert outline(events)[:3] == ["GET /long '' [too_long]", "431 ''", "GET /long -> 431 [too_long]"]
        assert outline(events)[3:] == ["GET /b ''", "200 'b'", "GET /b -> 200"]


def test_limits_of_what_is_around_chunks() -> None:
    limits = Limits(max_head_bytes=400)
    start = response(200, None, CHUNKED) + b"1\r\nx\r\n"
    script: Script = [("write", request("GET", "/a")), ("read", start), ("read", b"1;" + b"e" * 500)]
    for split in ((lambda data: [data]), bytewise):
        events = run(script, split, limits=limits)
        assert outline(events)[1:] == ["200 'x' [too_long]", "GET /a -> 200 [too_long]"]


def test_limit_of_a_body() -> None:
    script: Script = [("write", request("POST", "/a", b"x" * 50)), ("read", response(200, b"yz"))]
    events: list[Any] = run(script, bytewise, limits=Limits(max_body_bytes=10))
    assert outline(events)[0] == f"POST /a '{'x' * 10}' [too_long]"
    assert events[0].body_bytes == 50
    assert outline(events)[1:] == ["200 'yz'", "POST /a -> 200 [too_long]"]


def test_limit_of_requests_without_response() -> None:
    """The oldest one is given up, and what comes later is not taken for another one's response."""
    script: Script = [("write", b"".join(request("GET", f"/{i}") for i in range(5)))]
    script.append(("read", b"".join(response(200, b"%d" % i) for i in range(5))))
    events = run(script, limits=Limits(max_outstanding=3))
    assert all(event.incomplete and not (event.target and event.status) for event in exchanges(events))
    assert sorted(e.target for e in exchanges(events)) == [""] * 5 + [f"/{i}" for i in range(5)]


# real clients and servers


class _Server(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.path.startswith("/chunked"):
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(chunks(*bytewise(body), self.path.encode()))
            return
        if self.path.startswith("/close"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(self.path.encode() + body)
            self.close_connection = True
            return
        packed = gzip.compress(self.path.encode() + body)
        self.send_response(200)
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(packed)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(packed)

    do_POST = do_HEAD = do_GET

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[int]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Server) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


REAL = [
    *(("GET", "/a", b""), ("HEAD", "/b", b""), ("POST", "/c", b"x" * 5000), ("GET", "/chunked", b"")),
    *(("POST", "/chunked/d", b"word"), ("HEAD", "/e", b""), ("GET", "/close", b"")),
]


@pytest.mark.parametrize("client", ["http.client", "httpx"])
def test_real_exchanges(server: int, client: str) -> None:
    with recorded(server) as (port, scripts):
        if client == "httpx":
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as session:
                for method, path, body in REAL:
                    session.request(method, path, content=body).read()
        else:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
            for method, path, body in REAL:
                connection.request(method, path, body)
                connection.getresponse().read()
            connection.close()
    (script,) = scripts
    events: list[Any] = run(script)
    asked = [event for event in events if isinstance(event, HttpRequest)]
    answered = [event for event in events if isinstance(event, HttpResponse)]
    assert [(e.method, e.target, e.body) for e in asked] == REAL
    for (method, path, body), answer in zip(REAL, answered, strict=True):
        expected = b"" if method == "HEAD" else path.encode() + body
        assert answer.body == (body + path.encode() if "chunked" in path else expected)
    assert not any(event.incomplete for event in events)
    pairs = [(exchange.request_id, exchange.response_id) for exchange in exchanges(events)]
    assert pairs == [(a.id, b.id) for a, b in zip(asked, answered, strict=True)]
    assert told(run(script, bytewise)) == told(events)
