"""Events of HTTP and of what it carries, as the analyzers give them."""

from __future__ import annotations

from typing import Any

from libagenttracer.analyzers.http.messages import make_exchange
from libagenttracer.events import (
    Event,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    LlmCall,
    McpCall,
    SseEvent,
    SseItem,
    SseStream,
    UnknownProtocol,
    WebSocketMessage,
    derived_id,
)

__all__ = [
    "MS",
    "START_NS", "exchange", "llm_call", "mcp_call", "request", "response", "sse_event", "sse_stream",
    "text_message", "unknown_protocol", "websocket", "websocket_message",
]  # fmt: skip

START_NS = 1_640_995_200_123_456_789  # 2022-01-01
MS = 1_000_000


def _who(kind: str, number: int, at_ns: int) -> dict[str, Any]:
    return {
        "id": derived_id("test", kind, number), "timestamp_ns": at_ns, "source": "ssl", "pid": 1234,
        "comm": "python", "exe": "/usr/bin/python3", "connection_id": "1234-7f00-1",
    }  # fmt: skip


def request(number: int = 0, **changes: Any) -> HttpRequest:
    body = changes.get("body", b'{"q": 1}')
    fields: dict[str, Any] = {
        **_who("http_request", number, START_NS), "direction": "write", "version": "1.1",
        "headers": [("Host", "api.example.com"), ("Content-Type", "application/json")],
        "body": body, "body_bytes": len(body), "last_byte_ns": START_NS + 2 * MS, "method": "POST",
        "target": "/v1/chat?a=1&b=%C3%A9+x&c", "authority": "api.example.com",
    }  # fmt: skip
    return HttpRequest(**{**fields, **changes})


def response(number: int = 0, **changes: Any) -> HttpResponse:
    body = changes.get("body", b'{"a": "b"}')
    fields: dict[str, Any] = {
        **_who("http_response", number, START_NS + 102 * MS), "direction": "read", "version": "1.1",
        "headers": [("content-type", "application/json; charset=utf-8")], "body": body,
        "body_bytes": len(body), "last_byte_ns": START_NS + 122 * MS, "status": 200, "reason_phrase": "OK",
    }  # fmt: skip
    return HttpResponse(**{**fields, **changes})


def exchange(asked: HttpRequest | None, answered: HttpResponse | None, *reasons: str) -> list[Event]:
    """Both messages and the event that ties them."""
    given: list[Event] = [event for event in (asked, answered) if event is not None]
    tie: HttpExchange = make_exchange(asked, answered, reasons)
    return [*given, tie]


def sse_event(**changes: Any) -> SseEvent:
    fields = {
        **_who("sse_event", 0, START_NS), "response_id": "r", "request_id": "q", "index": 3,
        "event": "message", "data": '{"delta": "Hi"}',
    }  # fmt: skip
    return SseEvent(**{**fields, **changes})


def sse_stream(of: HttpResponse, *items: SseItem, **changes: Any) -> SseStream:
    fields = {
        **_who("sse_stream", 0, START_NS + 102 * MS), "response_id": of.id, "request_id": None,
        "events": list(items), "last_byte_ns": of.last_byte_ns,
    }  # fmt: skip
    return SseStream(**{**fields, **changes})


def websocket(number: int = 0, *, served: bool = False) -> list[Event]:
    """The opening of a WebSocket."""
    headers = [("Host", "api.example.com"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]
    way, back = ("read", "write") if served else ("write", "read")
    asked = request(number, method="GET", target="/v1/realtime", headers=headers, body=b"", direction=way)
    answered = response(number, status=101, headers=[("Upgrade", "websocket")], body=b"", direction=back)
    return exchange(asked, answered)


def websocket_message(number: int = 0, **changes: Any) -> WebSocketMessage:
    fields = {
        **_who("websocket_message", number, START_NS + (200 + number) * MS), "direction": "write",
        "opcode": "text", "target": "/v1/realtime", "authority": "api.example.com",
        "request_id": request().id, "stream_id": None, "payload": b"hello",
        "last_byte_ns": START_NS + (200 + number) * MS,
    }  # fmt: skip
    return WebSocketMessage(**{**fields, **changes})


def mcp_call(**changes: Any) -> McpCall:
    fields = {
        **_who("mcp_call", 0, START_NS), "transport": "http", "kind": "request", "sender": "client",
        "method": "tools/call", "rpc_id": 1, "tool_name": "read_file", "tool_arguments": {"path": "/a"},
        "result": {"content": [{"type": "text", "text": "x"}]}, "duration_ms": 12.0,
    }  # fmt: skip
    return McpCall(**{**fields, **changes})


def unknown_protocol(**changes: Any) -> UnknownProtocol:
    fields = {
        **_who("unknown_protocol", 0, START_NS), "read_bytes": 2048, "written_bytes": 10,
        "first_ns": START_NS, "last_ns": START_NS + 3200 * MS,
    }  # fmt: skip
    return UnknownProtocol(**{**fields, **changes})


def text_message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def llm_call(number: int = 0, **changes: Any) -> LlmCall:
    fields: dict[str, Any] = {
        **_who("llm_call", number, START_NS + number * 1000 * MS), "provider_name": "openai",
        "operation_name": "chat", "api": "openai.chat", "request_model": "gpt-test",
    }  # fmt: skip
    return LlmCall(**{**fields, **changes})
