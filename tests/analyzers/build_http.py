"""Makes the events of HTTP exchanges, and sends them through the analyzers of MCP."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

from libagenttracer.analyzers import Chain
from libagenttracer.analyzers.mcp import McpAnalyzer
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    McpCall,
    from_json,
    to_json,
)

__all__ = ["JSON", "MS", "SSE", "WHOSE", "Http", "run"]

WHOSE: dict[str, Any] = {
    "source": "ssl",
    "pid": 7,
    "comm": "agent",
    "exe": "/bin/agent",
    "connection_id": "c",
}
MS = 1_000_000
JSON = {"content-type": "application/json"}
SSE = {"content-type": "text/event-stream"}


class Http:
    """Makes the events of HTTP; each has its own time, in milliseconds."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.requests: dict[int, HttpRequest] = {}
        self.offsets: dict[int, int] = {}
        self.heads: dict[int, tuple[int, dict[str, str]]] = {}
        self._bodies: dict[int, bytes] = {}
        self._numbers = itertools.count(1)

    def _next(self, **changes: Any) -> dict[str, Any]:
        number = next(self._numbers)
        return {**WHOSE, "id": f"e{number}", "timestamp_ns": number * MS, **changes}

    def request(
        self, n: int, method: str, target: str, headers: dict[str, str], body: bytes, **more: Any
    ) -> None:
        common = self._next(id=f"request{n}", direction="write", version="1.1", **more)
        self.requests[n] = HttpRequest(
            **{"last_byte_ns": common["timestamp_ns"], **common},
            method=method,
            target=target,
            headers=list(headers.items()),
            body=body,
        )
        self.events.append(self.requests[n])

    def head(self, n: int, status: int, headers: dict[str, str]) -> None:
        self.heads[n] = (status, headers)
        self._bodies[n] = b""

    def body(self, n: int, data: bytes) -> None:
        if self.heads[n][1].get("content-type", "").startswith("text/event-stream"):
            self._part(n, data)
        self._bodies[n] += data

    def _part(self, n: int, data: bytes, **more: Any) -> None:
        part = {"response_id": f"response{n}", "request_id": f"request{n}", "stream_id": None, **more}
        offset = len(self._bodies[n])
        self.events.append(
            HttpBody(**self._next(), **part, content_type="text/event-stream", offset=offset, payload=data)
        )

    def end(self, n: int, reason: str | None = None) -> None:
        status, headers = self.heads[n]
        if headers.get("content-type", "").startswith("text/event-stream"):
            self._part(n, b"", last=True)
        common = self._next(id=f"response{n}", direction="read", version="1.1")
        self.events.append(
            HttpResponse(
                **common,
                headers=[(name.title(), value) for name, value in headers.items()],
                body=self._bodies[n],
                last_byte_ns=common["timestamp_ns"],
                status=status,
            )
        )
        self.exchange(n, status, reason)

    def exchange(self, n: int, status: int = 0, reason: str | None = None) -> None:
        request = self.requests[n]
        self.events.append(
            HttpExchange(
                **self._next(),
                request_id=request.id,
                response_id=f"response{n}" if status else None,
                stream_id=None,
                role="client",
                method=request.method,
                target=request.target,
                authority="",
                status=status,
                request_first_byte_ns=None,
                request_last_byte_ns=None,
                response_first_byte_ns=None,
                response_last_byte_ns=None,
                duration_ms=None,
                incomplete=reason is not None,
                reason=reason,
            )
        )

    def post(self, n: int, message: Any, headers: dict[str, str] | None = None, target: str = "/mcp") -> None:
        self.request(n, "POST", target, {**JSON, **(headers or {})}, json.dumps(message).encode())

    def answer(
        self, n: int, message: Any, headers: dict[str, str] | None = None, status: int = 200, **more: Any
    ) -> None:
        self.head(n, status, {**JSON, **(headers or {})})
        self.body(n, b"" if message is None else json.dumps(message).encode())
        self.end(n, **more)

    def event(self, n: int, message: Any) -> None:
        self.body(n, f"event: message\ndata: {json.dumps(message)}\n\n".encode())


def run(events: Iterable[Event], *, each: bool = True, flush: bool = True, **options: Any) -> list[McpCall]:
    chain = Chain([SseMerger(each=each), McpAnalyzer(**options)])
    told = [event for fed in events for event in chain.feed(fed)]
    if flush:
        told += chain.flush()
    assert len({event.id for event in told}) == len(told)
    calls = [event for event in told if isinstance(event, McpCall)]
    for call in calls:
        assert from_json(to_json(call)) == call
        assert call.incomplete == bool(call.reason)
    return calls
