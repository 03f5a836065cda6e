"""What a peer can send to cost time or memory: neither may grow faster than what it sends."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from libagenttracer.analyzers.http.http1 import Http1
from libagenttracer.analyzers.http.http2_frames import FrameReader
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.analyzers.jsonrpc import RpcPairing
from libagenttracer.analyzers.llm.conversations import _hashes
from libagenttracer.analyzers.mcp import McpAnalyzer
from libagenttracer.analyzers.redact.names import classify, looks_random, secret_header
from libagenttracer.analyzers.redact.pairs import OPEN_PAIR
from libagenttracer.analyzers.redact.scrub import Scrubber
from libagenttracer.analyzers.redact.streams import HELD_CHARS_MAX, StreamWindow
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.events import HttpBody, SseEvent, StreamData

WHOSE = ("ssl", 7, "agent", "/bin/agent", "7-a-1")


def piece(n: int, payload: bytes, offset: int = 0) -> StreamData:
    return StreamData(f"id{n}", n, *WHOSE, "write", offset, payload)


def http1(*payloads: bytes) -> list[Any]:
    handler, offset = Http1(Limits()), 0
    told: list[Any] = []
    for n, payload in enumerate(payloads):
        told += handler.data(piece(n, payload, offset))
        offset += len(payload)
    return told


def open_requests() -> None:
    pairing = RpcPairing()
    for n in range(5000):
        pairing.take("s", "client", {"method": "m", "id": n}, 1)
    for _ in range(5000):
        assert not pairing.take("s", "server", {"error": {}, "id": None}, 1)


def settings() -> None:
    head = (16374).to_bytes(3, "big") + b"\4\0\0\0\0\0"
    list(FrameReader(late=True, max_block_bytes=1 << 18).read(piece(1, b"\xff" + head * 3600)))


def spaces() -> None:
    parts = [{"type": "text", "content": text} for text in ("a", *" " * 300_000)]
    assert len(list(_hashes(b"", [{"role": "user", "parts": parts}]))) == 1


def pieces_of_one_event() -> None:
    window = StreamWindow(Scrubber(b"key"))
    text = ",".join(['{"index":0,"text":"k"}'] * 20_000)
    window.add(1, f"[{text}]")


@pytest.mark.parametrize(
    "run",
    [
        lambda: http1(b"GET /", *[b"a"] * 16_000),
        lambda: http1(b"GET / HTTP/1.1\r\n\r\n", b"GET /", *[b"a"] * 60_000),
        lambda: http1(b"GET / HTTP/1.1\r\n" + b"a:\r\n" * 60_000 + b"\r\n"),
        open_requests,
        settings,
        spaces,
        pieces_of_one_event,
        lambda: [OPEN_PAIR.search("key, " * 140 + '""x') for _ in range(100)],
        lambda: Scrubber(b"key").data(b"Atoken=" * 4000),
    ],
)
def test_time(run: Callable[[], object]) -> None:
    begun = time.process_time()
    run()
    assert time.process_time() - begun < 3


def test_requests_without_responses_do_not_keep_their_bodies() -> None:
    tracemalloc.start()
    try:
        handler, offset = Http1(Limits()), 0
        for n in range(100):
            for payload in (b"POST / HTTP/1.1\r\ncontent-length: 200000\r\n\r\n" + bytes(9), bytes(199_991)):
                list(handler.data(piece(n, payload, offset)))
                offset += len(payload)
        assert tracemalloc.get_traced_memory()[0] < 4 << 20
    finally:
        tracemalloc.stop()


def test_long_names_are_not_remembered() -> None:
    tracemalloc.start()
    try:
        for n in range(20):
            assert classify(f"{n}{'x' * 200_000}_api_key") is not None
            assert secret_header(f"{n}{'x' * 200_000}-api-key") is not None
        assert tracemalloc.get_traced_memory()[0] < 1 << 20
    finally:
        tracemalloc.stop()
    assert looks_random("a1" * 4000)
    assert not looks_random("a1" * 4000 + " ")


def test_events_behind_an_open_text_are_not_held_for_ever() -> None:
    window = StreamWindow(Scrubber(b"key"))
    assert not window.add(0, '{"text":"sk-ab"}')
    given = [some for n in range(20) for some in window.add(n, '{"x":"%s"}' % ("x " * (HELD_CHARS_MAX // 8)))]
    assert len(given) > 10


def test_small_events_count_for_what_they_take() -> None:
    merger = SseMerger(max_held_bytes=1 << 20)
    told: list[Any] = []
    for n in range(4):
        body = b"data: a\n\n" * 5000
        told += merger.feed(
            HttpBody(f"id{n}", 5, *WHOSE, f"r{n}", None, None, "text/event-stream", 0, body, 0, False)
        )
    assert [event.reason for event in told if not isinstance(event, SseEvent)] == ["aborted"] * 3
    merger.flush()
    assert merger._held_bytes == 0


def test_a_long_endpoint_is_passed_over() -> None:
    analyzer = McpAnalyzer()
    list(analyzer.feed(SseEvent("e", 1, *WHOSE, "r", None, 0, "endpoint", "/" + "x" * 100_000)))
    assert not analyzer._endpoints
