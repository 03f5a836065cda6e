"""Calls of MCP are told with what belongs to them, and marked where their answer is missing."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.jsonrpc import RpcPairing, messages_in
from libagenttracer.events import HttpRequest, McpCall, StreamEnd, WebSocketMessage

from .build_http import JSON, MS, SSE, WHOSE, Http, run


def ask(number: int | str, method: str = "tools/call", **params: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


def reply(number: int | str | None, result: Any = None, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": number, **(more or {"result": result})}


def brief(calls: Iterable[McpCall]) -> list[tuple[Any, ...]]:
    return [(c.method, c.rpc_id, c.result, c.error, c.reason) for c in calls]


def test_batches() -> None:
    http = Http()
    notification = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    http.post(1, [ask(1, name="a"), notification, ask("1", name="b"), ask(2, name="c")])
    http.answer(1, [reply("1", "B"), reply(2, error={"code": -1, "message": "m"}), reply(1, "A")])
    assert brief(run(http.events)) == [
        ("notifications/initialized", None, None, None, None),
        ("tools/call", "1", "B", None, None),
        ("tools/call", 2, None, {"code": -1, "message": "m"}, None),
        ("tools/call", 1, "A", None, None),
    ]


def test_equal_ids_in_different_exchanges() -> None:
    """Stateless clients may give all their requests the same id."""
    http = Http()
    for n in (1, 2, 3):
        http.post(n, ask(1, name=str(n)))
    for n in (2, 3, 1):
        http.answer(n, reply(1, n))
    assert [(c.tool_name, c.result) for c in run(http.events)] == [("2", 2), ("3", 3), ("1", 1)]


def test_a_request_without_answer() -> None:
    http = Http()
    http.post(1, ask(1))
    http.answer(1, None, status=500)
    http.post(2, ask(2))
    http.exchange(2, reason="no_response,aborted")
    http.post(3, ask(3))
    http.head(3, 200, JSON)
    http.body(3, b'{"jsonrpc": "2.0", "id": 3, "result": {"text": "cut o')
    http.end(3, reason="aborted")
    http.post(4, ask(4))
    http.answer(4, reply(4, "one of two"), reason="gap")
    http.post(5, ask(5))
    http.answer(5, reply(None, error={"code": -32700, "message": "what?"}), status=400)
    http.post(6, ask(6))
    assert brief(run(http.events)) == [
        ("tools/call", 1, None, None, "no_answer"),
        ("tools/call", 2, None, None, "aborted,no_answer,no_response"),
        ("tools/call", 3, None, None, "aborted,no_answer"),
        ("tools/call", 4, "one of two", None, "gap"),
        ("tools/call", 5, None, {"code": -32700, "message": "what?"}, None),
        ("tools/call", 6, None, None, "no_answer"),
    ]


def test_a_stream_that_is_resumed() -> None:
    http = Http()
    session = {"Mcp-Session-Id": "s"}
    http.post(1, ask(1, name="long"), session)
    http.head(1, 200, SSE)
    http.event(1, {"jsonrpc": "2.0", "method": "notifications/progress"})
    http.end(1)
    http.request(2, "GET", "/mcp", {"accept": "text/event-stream", "last-event-id": "1", **session}, b"")
    http.head(2, 200, SSE)
    http.event(2, reply(1, "at last"))
    progress, call = run(http.events)
    assert (progress.kind, progress.sender, progress.session_id) == ("notification", "server", "s")
    assert (call.result, call.request_id, call.response_id, call.reason) == (
        "at last",
        "request1",
        "response2",
        None,
    )


def test_the_end_of_a_session() -> None:
    http = Http()
    session = {"Mcp-Session-Id": "s"}
    http.request(1, "GET", "/mcp", {"accept": "text/event-stream", **session}, b"")
    http.head(1, 200, SSE)
    http.event(1, ask(9, "roots/list"))
    http.request(2, "DELETE", "/mcp", session, b"")
    http.answer(2, None)
    (call,) = run(http.events, flush=False)
    assert (call.method, call.sender, call.reason, call.request_id, call.response_id) == (
        "roots/list",
        "server",
        "no_answer",
        "request1",
        "response1",
    )


def test_joined_late() -> None:
    http = Http()
    http.request(1, "GET", "/mcp", {"accept": "text/event-stream", "Mcp-Session-Id": "s"}, b"")
    http.head(1, 200, SSE)
    http.event(1, reply(5, "x"))
    (call,) = run(http.events)
    assert brief([call]) == [("", 5, "x", None, "no_request")]
    assert (call.sender, call.duration_ms) == ("client", None)


def test_a_version_in_each_request() -> None:
    http = Http()
    meta = {"_meta": {"io.modelcontextprotocol/protocolVersion": "2026-07-28"}}
    http.post(1, ask(1, "other/method", **meta))
    http.answer(1, reply(1, {"resultType": "complete"}))
    (call,) = run(http.events)
    assert (call.protocol_version, call.method) == ("2026-07-28", "other/method")


def test_the_version_of_a_session() -> None:
    http = Http()
    http.post(1, ask(1, "initialize", protocolVersion="2025-06-18"))
    http.head(1, 200, {**SSE, "mcp-session-id": "s"})
    http.event(1, reply(1, {"protocolVersion": "2025-03-26"}))
    http.end(1)
    http.post(2, ask(2), {"mcp-session-id": "s"})
    http.answer(2, reply(2))
    for each in (True, False):
        calls = run(http.events, each=each)
        assert [(c.method, c.protocol_version, c.session_id) for c in calls] == [
            ("initialize", "2025-03-26", "s"),
            ("tools/call", "2025-03-26", "s"),
        ]


@pytest.mark.parametrize("endpoint", ["/messages?s=1", "messages?s=1", "https://host:1/messages?s=1#x"])
def test_the_older_transport(endpoint: str) -> None:
    http = Http()
    http.request(1, "GET", "/sse", {"accept": "text/event-stream"}, b"")
    http.head(1, 200, SSE)
    http.body(1, f"event: endpoint\ndata: {endpoint}\n\n".encode())
    http.post(2, ask(1, "own/method"), target="/messages?s=1")
    http.event(1, reply(1, "answer"))
    http.answer(2, None, status=202)
    http.event(1, ask(1, "sampling/createMessage"))
    http.post(3, reply(1, "sample"), target="/messages?s=1")
    http.post(4, ask(2), target="/messages?s=1")
    http.end(1)
    calls = run(http.events, flush=False)
    assert brief(calls) == [
        ("own/method", 1, "answer", None, None),
        ("sampling/createMessage", 1, "sample", None, None),
        ("tools/call", 2, None, None, "no_answer"),
    ]
    assert {c.transport for c in calls} == {"sse"}
    assert (calls[0].request_id, calls[0].response_id) == ("request2", "response1")
    assert (calls[1].request_id, calls[1].response_id) == ("request3", "response1")


def test_other_uses_of_json_rpc_are_not_told() -> None:
    http = Http()
    http.post(1, ask(1, "eth_call"))
    http.answer(1, reply(1, "0x"))
    http.post(2, {"method": "tools/call", "id": 1})
    http.post(3, ask(1, "initialize", rootUri="file:///"))
    http.request(4, "GET", "/feed", {"accept": "text/event-stream"}, b"")
    http.head(4, 200, SSE)
    http.event(4, ask(1, "x"))
    http.body(4, b"event: endpoint\ndata: http://[bad\n\n")
    http.request(5, "POST", "/", {"content-type": "text/plain"}, json.dumps(ask(1)).encode())
    assert run(http.events) == []


def frame(number: int, direction: str, message: Any, **changes: Any) -> WebSocketMessage:
    return WebSocketMessage(
        **{
            **WHOSE,
            **{"id": f"w{number}", "timestamp_ns": number * MS, "last_byte_ns": number * MS + 1},
            **{
                "direction": direction,
                "opcode": "text",
                "target": "/",
                "authority": "",
                "request_id": "request1",
            },
            **{"stream_id": None, "payload": json.dumps(message).encode(), **changes},
        }
    )


@pytest.mark.parametrize("role", ["client", "server"])
def test_websocket(role: str) -> None:
    ours, theirs = ("write", "read") if role == "client" else ("read", "write")
    http = Http()
    head = {"Upgrade": "websocket", "Sec-WebSocket-Protocol": "mcp"}
    http.request(1, "GET", "/ws", head, b"")
    http.events[0] = request = HttpRequest(
        **{**{f: getattr(http.requests[1], f) for f in HttpRequest.__struct_fields__}, "direction": ours}
    )
    http.requests[1] = request
    http.answer(1, None, status=101)
    events = [
        *http.events,
        frame(10, ours, ask(0, "initialize", protocolVersion="2025-03-26")),
        frame(11, theirs, reply(0, {"protocolVersion": "2025-03-26"})),
        frame(12, ours, ask(1, name="t")),
        frame(13, theirs, ask(1, "ping")),
        frame(14, ours, reply(1, {})),
        frame(15, theirs, reply(1, "r"), incomplete=True, reason="gap"),
        frame(16, ours, ask(2)),
        StreamEnd(**WHOSE, id="end", timestamp_ns=17, cause="end"),
    ]
    calls = run(events, flush=False)
    assert brief(calls) == [
        ("initialize", 0, {"protocolVersion": "2025-03-26"}, None, None),
        ("ping", 1, {}, None, None),
        ("tools/call", 1, "r", None, "gap"),
        ("tools/call", 2, None, None, "no_answer"),
    ]
    assert [c.sender for c in calls] == ["client", "server", "client", "client"]
    assert {(c.protocol_version, c.transport) for c in calls} == {("2025-03-26", "websocket")}
    assert calls[0].duration_ms == pytest.approx(1, rel=1e-3)


def test_bounds() -> None:
    http = Http()
    for n in range(1, 9):
        http.post(n, ask(n))
    assert [c.rpc_id for c in run(http.events, flush=False, max_open=3)] == [1, 2, 3, 4, 5]
    big = Http()
    for n in range(1, 4):
        big.post(n, ask(n, text="x" * 400))
    assert [c.rpc_id for c in run(big.events, flush=False, max_open_bytes=1000)] == [1]
    for n in range(1, 9):
        http.answer(n, reply(n))
    calls = run(http.events, max_known=3)
    assert [c.rpc_id for c in calls if not c.incomplete] == [6, 7, 8]
    assert {c.rpc_id for c in calls} == set(range(1, 9))


def test_pairing_without_http() -> None:
    """As the lines of a process's standard input and output would give it."""
    pairing = RpcPairing()
    assert pairing.take("p", "client", ask("x", "tools/list"), 5, "context") == []
    assert pairing.take("other", "server", reply("y", 1), 6)[0].reasons == {"no_request"}
    (call,) = pairing.take("p", "server", reply("x", [1]), 9)
    assert (call.method, call.begun_ns, call.ended_ns, call.context) == ("tools/list", 5, 9, "context")
    assert call.answer == reply("x", [1])
    pairing.take("p", "client", ask(1), 10)
    (again,) = pairing.take("p", "client", ask(1), 11)
    assert (again.begun_ns, again.reasons) == (10, {"no_answer"})
    assert [c.begun_ns for c in pairing.close_all()] == [11]
    assert pairing.close("p") == []


def test_messages_in() -> None:
    for text in (
        "",
        "{",
        '"jsonrpc"',
        '{"jsonrpc": "1.0"}',
        '[1, {"jsonrpc": 2}]',
        '{"jsonrpc":' + "[" * 100_000,
    ):
        assert messages_in(text) == messages_in(text.encode()) == []
    deep = '{"jsonrpc": "2.0", "params": ' + "[" * 500 + "]" * 500 + "}"
    assert messages_in(deep) == []
    wide = '{"jsonrpc": "2.0", "params": [' + ",".join(["[{}]"] * 500) + "]}"
    assert len(messages_in(wide)) == 1
    assert messages_in(b'{"jsonrpc": "2.0", "a": "\xff"}') == []


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)
odd_messages = st.fixed_dictionaries(
    {"jsonrpc": st.just("2.0")},
    optional={
        "id": st.one_of(json_values, st.integers(0, 3)),
        "method": st.one_of(json_values, st.sampled_from(["initialize", "tools/call", "notifications/x"])),
        "params": st.one_of(
            json_values,
            st.fixed_dictionaries(
                {}, optional={"name": json_values, "_meta": json_values, "protocolVersion": json_values}
            ),
        ),
        "result": json_values,
        "error": json_values,
    },
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["post", "answer", "event", "endpoint", "socket"]),
            odd_messages,
            st.integers(1, 4),
        ),
        max_size=12,
    ),
    st.sampled_from([{}, {"mcp-session-id": "s"}, {"mcp-protocol-version": "v"}]),
)
def test_any_messages(steps: list[tuple[str, Any, int]], headers: dict[str, str]) -> None:
    http = Http()
    events = http.events
    http.request(0, "GET", "/mcp", {"accept": "text/event-stream", **headers}, b"")
    http.head(0, 200, SSE)
    for number, (step, message, n) in enumerate(steps):
        n += number * 10  # noqa: PLW2901
        if step == "post":
            http.post(n, message, headers)
        elif step == "answer":
            http.post(n, ask(1), headers)
            http.answer(n, message)
        elif step == "event":
            http.event(0, message)
        elif step == "endpoint":
            http.body(0, b"event: endpoint\ndata: /mcp\n\n")
        else:
            events.append(frame(1000 + n, "read" if n % 2 else "write", message))
    http.end(0)
    run(events)
