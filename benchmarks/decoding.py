"""What decoding costs: HTTP exchanges, server-sent events, calls of models; the memory of a large body."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from libagenttracer.analyzers import Analyzer, Chain, ChunkMerger, HttpAnalyzer, LlmAnalyzer, SseMerger
from libagenttracer.events import Event, HttpBody, LlmCall, SseEvent, SslData

__all__ = ["anthropic_stream", "http_exchanges", "large_body", "report", "run_chain", "sse_parts"]

ROUNDS = 7
EXCHANGES = 5_000
SSE_EVENTS = 30_000
DELTAS = 2_000
CHUNK_BYTES = 4096
LARGE_BYTES = 20 << 20
_HEADERS = (
    "host: api.example.org\r\nuser-agent: client/1.0\r\naccept: application/json\r\n"
    "accept-encoding: gzip, deflate\r\nauthorization: Bearer x\r\ncontent-type: application/json\r\n"
)
_ANSWER = (
    "HTTP/1.1 200 OK\r\ndate: Tue, 24 Nov 2026 11:00:00 GMT\r\nserver: example\r\n"
    "content-type: application/json\r\nrequest-id: req_1\r\ncache-control: no-store\r\n"
)


def _record(number: int, direction: Any, offset: int, payload: bytes, connection: int = 0) -> SslData:
    return SslData(
        f"00000000-0000-8000-8000-{number:012x}", 1_700_000_000_000_000_000 + number * 1000, "ssl",
        7, 7, 1, 0, "agent", "/bin/agent", direction, len(payload), offset, f"7-{connection:x}-1",
        "SSL_write", 1000, "libssl.so.3", payload,
    )  # fmt: skip


def http_exchanges(count: int = EXCHANGES, body_bytes: int = 2048) -> list[Event]:
    """Records of exchanges on one connection, HTTP/1.1; both bodies have this length."""
    body = json.dumps({"x": "y" * (body_bytes - 9)}).encode()
    asked = f"POST /v1/things HTTP/1.1\r\n{_HEADERS}content-length: {len(body)}\r\n\r\n".encode() + body
    answered = f"{_ANSWER}content-length: {len(body)}\r\n\r\n".encode() + body
    return [
        _record(2 * n + at, direction, n * len(payload), payload)
        for n in range(count)
        for at, (direction, payload) in enumerate((("write", asked), ("read", answered)))
    ]


def sse_parts(count: int = SSE_EVENTS, event_bytes: int = 135) -> list[Event]:
    """Parts of a body of server-sent events."""
    frame = (
        'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"text":"%s"}}\n\n'
    )
    stream = (frame % ("x" * (event_bytes - len(frame) + 2))).encode() * count
    return [
        HttpBody(
            f"00000000-0000-8000-8000-{at:012x}", at, "ssl", 7, "agent", "/bin/agent", "7-0-1", "response",
            "request", None, "text/event-stream", at, stream[at : at + CHUNK_BYTES], 0,
            at + CHUNK_BYTES >= len(stream),
        )
        for at in range(0, len(stream), CHUNK_BYTES)
    ]  # fmt: skip


def anthropic_stream(deltas: int = DELTAS) -> list[Event]:
    """Records of one streamed call."""
    asked_body = json.dumps(
        {
            "model": "claude-x",
            "max_tokens": 9,
            "stream": True,
            "messages": [{"role": "user", "content": "hi"}],
        }
    ).encode()
    usage = {"input_tokens": 9, "output_tokens": 1}
    message: dict[str, Any] = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-x", "content": [],
        "stop_reason": None, "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    text = {"type": "text", "text": ""}
    items: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": text},
        *[
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word {n} "}}
            for n in range(deltas)
        ],
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": deltas}},
        {"type": "message_stop"},
    ]
    stream = b"".join(f"event: {i['type']}\ndata: {json.dumps(i)}\n\n".encode() for i in items)
    asked = (
        f"POST /v1/messages HTTP/1.1\r\n{_HEADERS}content-length: {len(asked_body)}\r\n\r\n".encode()
        + asked_body
    )
    head = _ANSWER.replace("application/json", "text/event-stream") + "transfer-encoding: chunked\r\n\r\n"
    parts = [
        b"%x\r\n%s\r\n" % (len(part), part)
        for part in (stream[at : at + CHUNK_BYTES] for at in range(0, len(stream), CHUNK_BYTES))
    ]
    events: list[Event] = [_record(0, "write", 0, asked)]
    offset = 0
    for number, payload in enumerate([head.encode(), *parts, b"0\r\n\r\n"], 1):
        events.append(_record(number, "read", offset, payload))
        offset += len(payload)
    return events


def run_chain(chain: Iterable[Analyzer], events: Iterable[Event]) -> list[Event]:
    """What analyzers make of events."""
    feed = Chain(chain).feed
    return [found for event in events for found in feed(event)]


def consume(chain: Iterable[Analyzer], events: Iterable[Event]) -> None:
    """The same; as in a run, nobody keeps what was made."""
    feed = Chain(chain).feed
    for event in events:
        feed(event)


def _seconds(run: Callable[[], Any]) -> list[float]:
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return times


def large_body(chunked: bool) -> int:
    """Peak of resident memory (KiB) beyond the body, while one of 20 MiB is taken; to be run alone."""
    framing = "transfer-encoding: chunked" if chunked else f"content-length: {LARGE_BYTES}"
    chain: list[Analyzer] = [ChunkMerger(), HttpAnalyzer()]
    run_chain(chain, http_exchanges(10))  # everything is imported and warm
    asked = f"GET / HTTP/1.1\r\n{_HEADERS}\r\n".encode()
    run_chain(chain, [_record(0, "write", 0, asked, 1)])
    offset = 0

    def take(payload: bytes) -> list[Event]:
        nonlocal offset
        found = run_chain(chain, [_record(offset, "read", offset, payload, 1)])
        offset += len(payload)
        return found

    take(f"{_ANSWER}{framing}\r\n\r\n".encode())
    part = bytes(16 << 10)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak counts from here
    before = _peak_kib()
    for _ in range(LARGE_BYTES // len(part)):
        found = take(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
    if chunked:
        found = take(b"0\r\n\r\n")
    peak = _peak_kib()
    (body,) = [event.body for event in found if event.event_type == "http_response"]  # type: ignore[attr-defined]
    assert len(body) == LARGE_BYTES
    return peak - before - LARGE_BYTES // 1024


def _peak_kib() -> int:
    """proc_pid_status(5): VmHWM."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0])


def report() -> None:
    """Prints the figures; one core."""
    exchanges = http_exchanges()
    times = _seconds(lambda: consume([ChunkMerger(), HttpAnalyzer()], exchanges))
    print(f"HTTP/1.1 exchanges of 2 KiB, records to events: {EXCHANGES / statistics.median(times):,.0f}/s")

    parts = sse_parts()
    found = run_chain([SseMerger()], parts)
    assert sum(isinstance(event, SseEvent) for event in found) == SSE_EVENTS
    times = _seconds(lambda: consume([SseMerger()], parts))
    print(f"server-sent events of 135 B in chunks of 4 KiB: {SSE_EVENTS / statistics.median(times):,.0f}/s")

    stream = anthropic_stream()

    def call() -> list[Event]:
        chain: list[Analyzer] = [ChunkMerger(), HttpAnalyzer(), SseMerger(each=False), LlmAnalyzer()]
        return run_chain(chain, stream)

    (told,) = [event for event in call() if isinstance(event, LlmCall)]
    assert told.output_tokens == DELTAS
    assert not told.incomplete
    print(
        f"a stream of {DELTAS} deltas, records to llm_call: {statistics.median(_seconds(call)) * 1000:.1f} ms"
    )

    for chunked in (False, True):
        program = f"from benchmarks.decoding import large_body; print(large_body({chunked}))"
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
        how = "chunked" if chunked else "content-length"
        print(f"a body of 20 MiB ({how}): {int(done.stdout):,} KiB beyond the body at the peak")
