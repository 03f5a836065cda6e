"""Model Context Protocol: JSON-RPC 2.0 between an agent and its tools."""

from __future__ import annotations

from typing import Any, Literal

from .base import event_type
from .connection import ConnectionEvent

__all__ = ["McpCall"]


@event_type("mcp_call")
class McpCall(ConnectionEvent, frozen=True, gc=False):
    """A request with its result or error, or a notification. `timestamp_ns` is that of the request.

    Attributes:
        transport: "http" (streamable HTTP), "sse" (the older HTTP with SSE), "websocket" or "stdio".
        kind: "request" or "notification".
        sender: who sent it: the "client" (the agent) or the "server" (the tools).
        method: for instance "tools/call".
        rpc_id: the request's id, null for a notification.
        params: as sent.
        result: of a request; null if there was an error, or no answer.
        error: code, message and data of an error.
        tool_name, tool_arguments: of "tools/call".
        session_id: Mcp-Session-Id, if the server uses sessions.
        protocol_version: as negotiated or given in a header, "" where unknown.
        duration_ms: from the request to its answer.
        request_id, response_id: the HTTP messages, where it came that way.
        incomplete: the answer is missing, or a part of it; `reason` says why ("no_answer", or as in
            `HttpMessage`).
    """

    transport: Literal["http", "sse", "websocket", "stdio"]
    kind: Literal["request", "notification"]
    sender: Literal["client", "server"]
    method: str
    rpc_id: int | str | None = None
    params: Any = None
    result: Any = None
    error: dict[str, Any] | None = None
    tool_name: str | None = None
    tool_arguments: Any = None
    session_id: str | None = None
    protocol_version: str = ""
    duration_ms: float | None = None
    request_id: str | None = None
    response_id: str | None = None
    incomplete: bool = False
    reason: str | None = None
