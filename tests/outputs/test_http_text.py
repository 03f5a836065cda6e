"""HTTP as text: one line an event, an exchange's line says it all, and nothing reaches the terminal."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.events import (
    AnalyzerFailure,
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    McpCall,
    SseEvent,
    SseItem,
    SseStream,
    UnknownProtocol,
    WebSocketMessage,
)
from libagenttracer.outputs import Text
from libagenttracer.outputs.http_text import byte_size, milliseconds

from ..events.strategies import BYTES, KERNEL_TEXTS, NUMBERS, TEXTS
from .build import (
    MS,
    START_NS,
    exchange,
    mcp_call,
    request,
    response,
    sse_event,
    sse_stream,
    unknown_protocol,
    websocket_message,
)
from .test_text import CONTROLS

NOWHERE = open(os.devnull, "w")  # noqa: SIM115
COLOR, EXTRA = Text(NOWHERE, color=True), Text(NOWHERE, extra=True)


def shown(*events: Event, extra: bool = False) -> list[str]:
    """Lines without time and process."""
    output = Text(NOWHERE, extra=extra)
    lines = "".join(output.format(event) for event in events).splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} python\[1234\] +", line) for line in lines)
    return [line[13:].partition("] ")[2].lstrip() for line in lines]


URL = "https://api.example.com/v1/chat?a=1&b=%C3%A9+x&c"


def test_an_exchange_is_one_line() -> None:
    big = response(body=b"x" * 3500)
    assert shown(*exchange(request(), big)) == [f"→ POST {URL} 8 B ← 200 application/json 3.4 KiB in 122 ms"]


def test_extra_shows_its_messages_too() -> None:
    assert shown(*exchange(request(), response()), extra=True) == [
        f"→ POST {URL} 8 B  [1234-7f00-1]",
        "← 200 application/json 10 B  [1234-7f00-1]",
        f"→ POST {URL} 8 B ← 200 application/json 10 B in 122 ms  [1234-7f00-1]",
    ]


def test_a_server() -> None:
    asked, answered = request(direction="read"), response(direction="write", headers=[])
    assert shown(*exchange(asked, answered)) == [f"← POST {URL} 8 B → 200 10 B in 122 ms"]


def test_what_is_missing() -> None:
    assert shown(*exchange(request(), None)) == [f"→ POST {URL} 8 B  incomplete: no_response"]
    assert shown(*exchange(None, response())) == [
        "→ ? https://? ← 200 application/json 10 B  incomplete: no_request"
    ]
    cut = response(incomplete=True, reason="gap,too_long", status=0)
    [line] = shown(*exchange(request(body=b""), cut))
    assert line == f"→ POST {URL} ← ? application/json 10 B in 122 ms  incomplete: gap,too_long"
    assert shown(exchange(request(), response())[2]) == [f"→ POST {URL} ← 200 in 122 ms"]


@pytest.mark.parametrize(
    ("authority", "target", "url"),
    [
        ("h", "http://o/", "http://o/"),
        ("proxy", "h:443", "h:443"),
        ("h", "*", "https://h*"),
        ("h", "/a b", "'https://h/a b'"),
        ("h", "/?u=x://y", "https://h/?u=x://y"),
        ("h", "/" + "x" * 300, "https://h/" + "x" * 190 + "…"),
    ],
)
def test_targets(authority: str, target: str, url: str) -> None:
    [line] = shown(*exchange(request(authority=authority, target=target, body=b""), None))
    assert line == f"→ POST {url}  incomplete: no_response"


def test_errors_are_red_and_directions_have_colours() -> None:
    text = "".join(COLOR.format(event) for event in exchange(request(), response(status=503)))
    assert "\x1b[31m503\x1b[0m" in text
    assert "\x1b[36m→\x1b[0m" in text
    assert "\x1b[32m←\x1b[0m" in text


def test_websocket_messages() -> None:
    assert shown(
        websocket_message(),
        websocket_message(direction="read", opcode="binary", payload=b"\0" * 2000),
        websocket_message(opcode="close", close_code=1001, payload=b"going away"),
        websocket_message(payload=b"x" * 101, incomplete=True, reason="gap"),
    ) == [
        "→ ws text 5 B  hello",
        "← ws binary 2.0 KiB",
        "→ ws close 1001 10 B  going away",
        f"→ ws text 101 B  {'x' * 100}…  incomplete: gap",
    ]
    [line] = shown(websocket_message(), extra=True)
    assert line == "→ ws text 5 B wss://api.example.com/v1/realtime  hello  [1234-7f00-1]"


def test_server_sent_events() -> None:
    stream = sse_stream(response(), SseItem(1, "message", "ab"), SseItem(2, "x", "c"))
    assert shown(sse_event(), sse_event(event="a b", index=0), stream) == [
        'sse #3  {"delta": "Hi"}',
        'sse #0 \'a b\'  {"delta": "Hi"}',
        "sse stream of 2 events, 3 B in 20 ms",
    ]


def test_mcp() -> None:
    note = {
        "kind": "notification", "method": "notifications/x", "tool_name": None, "tool_arguments": None,
        "result": None, "duration_ms": None,
    }  # fmt: skip
    assert shown(
        mcp_call(),
        mcp_call(sender="server", **note),
        mcp_call(result=None, error={"code": -32600}),
        mcp_call(result=None, incomplete=True, reason="no_answer", duration_ms=None),
    ) == [
        'mcp tools/call read_file {"path": "/a"} = {"content": [{"type": "text", "text": "x"}]} in 12 ms',
        "mcp (from the server) notifications/x",
        'mcp tools/call read_file {"path": "/a"} error {"code": -32600} in 12 ms',
        'mcp tools/call read_file {"path": "/a"}  incomplete: no_answer',
    ]
    assert "\x1b[31m= " in COLOR.format(mcp_call(result={"isError": True}))


def test_values_that_cannot_be_shown() -> None:
    deep: Any = 1
    for _ in range(100_000):
        deep = [deep]
    assert shown(mcp_call(result=deep)) == [
        'mcp tools/call read_file {"path": "/a"} = (cannot be shown) in 12 ms'
    ]
    while isinstance(deep, list):  # or Python's own destruction of it goes too deep
        deep = deep[0]


def test_what_is_no_http_and_what_failed() -> None:
    assert shown(unknown_protocol()) == ["unknown protocol: sent 10 B, received 2.0 KiB in 3.2 s"]
    failure = AnalyzerFailure("i", START_NS, "ssl", "Mine", "ValueError: \x1b[2J", "mine.py:3")
    text = Text(NOWHERE).format(failure)
    assert text.endswith(" Mine FAILED and is skipped from now on: ValueError: \\x1b[2J (mine.py:3)\n")


def test_messages_without_exchange_are_forgotten_in_the_end() -> None:
    output = Text(NOWHERE)
    first = exchange(request(), response())
    for event in first[:2]:
        assert output.format(event) == ""
    for number in range(5000):
        output.format(request(number + 1))
    assert " 8 B " not in output.format(first[2])


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.0 KiB"), (1 << 20, "1.0 MiB"), (5 << 40, "5120.0 GiB")],
)
def test_sizes(count: int, text: str) -> None:
    assert byte_size(count) == text


@pytest.mark.parametrize(
    ("ms", "text"), [(0.04, "0.0 ms"), (9.96, "10 ms"), (999.6, "1.0 s"), (7e4, "70.0 s")]
)
def test_times(ms: float, text: str) -> None:
    assert milliseconds(ms) == text


HEAD = {
    "id": TEXTS, "timestamp_ns": NUMBERS, "source": TEXTS, "pid": st.integers(1, 9), "comm": KERNEL_TEXTS,
    "exe": KERNEL_TEXTS, "connection_id": KERNEL_TEXTS,
}  # fmt: skip
CUT = {"incomplete": st.booleans(), "reason": st.none() | TEXTS}
WAY = st.sampled_from(["read", "write"])
MAYBE = st.none() | TEXTS
HEADERS = st.lists(st.tuples(st.just("Content-Type") | TEXTS, TEXTS), max_size=3)
MESSAGE = {
    **HEAD, **CUT, "direction": WAY, "version": TEXTS, "headers": HEADERS, "body": BYTES,
    "last_byte_ns": NUMBERS, "body_bytes": NUMBERS,
}  # fmt: skip
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | KERNEL_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KERNEL_TEXTS, inner, max_size=3),
    max_leaves=8,
)
ITEMS = st.lists(st.builds(SseItem, NUMBERS, TEXTS, TEXTS), max_size=3)
HOSTILE: st.SearchStrategy[Event] = st.one_of(
    st.builds(HttpRequest, **MESSAGE, method=KERNEL_TEXTS, target=KERNEL_TEXTS, authority=KERNEL_TEXTS),
    st.builds(HttpResponse, **MESSAGE, status=NUMBERS, reason_phrase=TEXTS),
    st.builds(
        HttpExchange, **HEAD, **CUT, request_id=MAYBE, response_id=MAYBE, stream_id=st.none(),
        role=st.sampled_from(["client", "server"]), method=KERNEL_TEXTS, target=KERNEL_TEXTS,
        authority=KERNEL_TEXTS, status=NUMBERS, request_first_byte_ns=NUMBERS,
        request_last_byte_ns=NUMBERS, response_first_byte_ns=NUMBERS, response_last_byte_ns=NUMBERS,
        duration_ms=st.none() | st.floats(),
    ),
    st.builds(
        HttpBody, **HEAD, response_id=TEXTS, request_id=MAYBE, stream_id=st.none(), content_type=TEXTS,
        offset=NUMBERS, payload=BYTES, last=st.booleans(),
    ),
    st.builds(
        WebSocketMessage, **HEAD, **CUT, direction=WAY, target=KERNEL_TEXTS, authority=KERNEL_TEXTS,
        opcode=st.sampled_from(["text", "binary", "close", "ping", "pong"]), request_id=MAYBE,
        stream_id=st.none(), payload=BYTES, last_byte_ns=NUMBERS, close_code=st.none() | NUMBERS,
    ),
    st.builds(
        SseEvent, **HEAD, response_id=TEXTS, request_id=MAYBE, index=NUMBERS, event=TEXTS, data=TEXTS
    ),
    st.builds(
        SseStream, **HEAD, **CUT, response_id=TEXTS, request_id=MAYBE, events=ITEMS, last_byte_ns=NUMBERS
    ),
    st.builds(
        McpCall, **HEAD, **CUT, transport=st.just("http"), kind=st.just("request"),
        sender=st.sampled_from(["client", "server"]), method=KERNEL_TEXTS, params=JSON, result=JSON,
        error=st.none() | st.dictionaries(KERNEL_TEXTS, JSON, max_size=3), tool_name=st.none() | KERNEL_TEXTS,
        tool_arguments=JSON, duration_ms=st.none() | st.floats(),
    ),
    st.builds(
        UnknownProtocol, **HEAD, read_bytes=NUMBERS, written_bytes=NUMBERS, first_ns=NUMBERS, last_ns=NUMBERS
    ),
)  # fmt: skip


@given(event=HOSTILE)
def test_no_event_can_control_the_terminal(event: Event) -> None:
    for text in (EXTRA.format(event), COLOR.format(event)):
        assert not CONTROLS.search(re.sub("\x1b\\[[0-9;]*m", "", text)), text
        assert text.count("\n") == (1 if text else 0), "one event is one line at most"
        assert "\t" not in text


@given(target=st.text(), method=st.text(), content_type=st.text())
def test_foreign_text_cannot_pass_for_a_colour(target: str, method: str, content_type: str) -> None:
    asked = request(target=f"{target}\x1b[31m", method=method)
    answered = response(headers=[("content-type", content_type)])
    plain, color = Text(NOWHERE), Text(NOWHERE, color=True)
    events = exchange(asked, answered)
    uncolored = re.sub("\x1b\\[[0-9;]*m", "", "".join(color.format(event) for event in events))
    assert uncolored == "".join(plain.format(event) for event in events)


def test_times_are_those_of_the_request() -> None:
    tie = exchange(request(timestamp_ns=START_NS + 5 * MS), response())[2]
    assert Text(NOWHERE).format(tie)[8:12] == ".128"
