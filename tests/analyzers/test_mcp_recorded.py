"""What the `mcp` package's client and server say over HTTP on the loopback device is told call by call."""

from __future__ import annotations

import asyncio
import functools
import itertools
import json
import socket
from collections.abc import AsyncIterator, Iterable
from typing import Any

import httpx2
import mcp_types
import pytest
import uvicorn
from mcp.client.client import Client
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import Context, MCPServer
from pydantic import BaseModel

from libagenttracer.events import Event, HttpRequest, HttpResponse

from .build_http import Http, run


class Person(BaseModel):
    name: str


def demo_server() -> MCPServer[Any]:
    server: MCPServer[Any] = MCPServer("demo")

    @server.tool()
    def add(a: int, b: int) -> int:
        return a + b

    @server.tool()
    async def slow(ctx: Context) -> str:
        await ctx.report_progress(1, 2)
        return "done"

    @server.tool()
    async def greet(ctx: Context) -> str:
        answer = await ctx.elicit("who?", Person)
        return f"hello {getattr(answer, 'data').name}"  # noqa: B009

    @server.tool()
    def fail() -> str:
        raise ValueError("no")

    return server


class Recorder(httpx2.AsyncBaseTransport):
    def __init__(self, http: Http) -> None:
        self._inner = httpx2.AsyncHTTPTransport()
        self._http = http
        self._numbers = itertools.count(1)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        body = await request.aread()
        n = next(self._numbers)
        self._http.request(n, request.method, request.url.raw_path.decode(), dict(request.headers), body)
        response = await self._inner.handle_async_request(request)
        self._http.head(n, response.status_code, dict(response.headers))
        http, inner = self._http, response.stream
        assert isinstance(inner, httpx2.AsyncByteStream)
        stream: httpx2.AsyncByteStream = inner

        class Recorded(httpx2.AsyncByteStream):
            async def __aiter__(self) -> AsyncIterator[bytes]:
                async for data in stream:
                    http.body(n, data)
                    yield data

            async def aclose(self) -> None:
                await stream.aclose()
                http.end(n)

        return httpx2.Response(
            response.status_code, headers=response.headers, stream=Recorded(), extensions=response.extensions
        )

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _converse(kind: str) -> list[Event]:
    http = Http()
    recorder = Recorder(http)
    server = demo_server()
    app = (
        server.sse_app()
        if kind == "sse"
        else server.streamable_http_app(json_response=kind == "json", stateless_http=kind == "stateless")
    )
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    base = f"http://127.0.0.1:{listener.getsockname()[1]}"
    running = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
    task = asyncio.create_task(running.serve(sockets=[listener]))

    def client(headers: Any = None, timeout: Any = None, auth: Any = None) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(transport=recorder, headers=headers)

    async def elicited(context: Any, params: Any) -> mcp_types.ElicitResult:
        return mcp_types.ElicitResult(action="accept", content={"name": "Ada"})

    transport: Any = (
        sse_client(f"{base}/sse", httpx_client_factory=client)
        if kind == "sse"
        else streamable_http_client(f"{base}/mcp", http_client=client())
    )
    try:
        while not running.started:
            await asyncio.sleep(0.01)
        mode = "auto" if kind == "stateless" else "legacy"
        async with Client(transport, mode=mode, elicitation_callback=elicited) as peer:
            await peer.call_tool("add", {"a": 1, "b": 2})
            if kind in ("stream", "sse"):
                await peer.call_tool("greet", {})
            await peer.call_tool("slow", {}, progress_callback=lambda *_: asyncio.sleep(0))
            await peer.call_tool("fail", {})
            await asyncio.gather(*(peer.call_tool("add", {"a": n, "b": 100}) for n in range(5)))
    finally:
        running.should_exit = running.force_exit = True
        await task
    return http.events


@functools.cache
def recorded(kind: str) -> list[Event]:
    return asyncio.run(asyncio.wait_for(_converse(kind), 20))


def truth(events: Iterable[Event]) -> dict[str, list[dict[str, Any]]]:
    """All messages, by who sent them, in the plainest way."""
    said: dict[str, list[dict[str, Any]]] = {"client": [], "server": []}
    for event in events:
        if isinstance(event, HttpRequest) and event.body:
            said["client"].append(json.loads(event.body))
        if isinstance(event, HttpResponse) and b"jsonrpc" in event.body:
            lines = event.body.decode().splitlines()
            texts = [line[6:] for line in lines if line.startswith("data: {")] or [event.body.decode()]
            said["server"] += map(json.loads, texts)
    return said


@pytest.mark.parametrize(
    ("kind", "each"),
    # what the server asks is told too late without the single events: its answer is then there already
    [
        ("json", True),
        ("stream", True),
        ("stateless", True),
        ("sse", True),
        ("json", False),
        ("stateless", False),
    ],
)
def test_a_real_conversation(kind: str, each: bool) -> None:
    events = recorded(kind)
    calls = run(events, each=each)
    said = truth(events)
    asked = {(who, str(m["id"])): m for who in said for m in said[who] if "method" in m and "id" in m}
    answered = {
        ({"client": "server", "server": "client"}[who], str(m["id"])): m
        for who in said
        for m in said[who]
        if "method" not in m
    }
    notified = [m["method"] for who in said for m in said[who] if "method" in m and "id" not in m]
    assert sorted(c.method for c in calls if c.kind == "notification") == sorted(notified)
    requests = {(c.sender, str(c.rpc_id)): c for c in calls if c.kind == "request"}
    assert requests.keys() == asked.keys() == answered.keys()
    for key, call in requests.items():
        assert (call.method, call.params) == (asked[key]["method"], asked[key].get("params"))
        assert (call.result, call.error) == (answered[key].get("result"), answered[key].get("error"))
        assert call.duration_ms is not None
        assert call.duration_ms > 0
        assert call.request_id is not None
        assert call.response_id is not None
    assert not [call for call in calls if call.incomplete]
    tools = [(c.tool_name, c.tool_arguments) for c in calls if c.method == "tools/call"]
    assert ("add", {"a": 1, "b": 2}) in tools
    assert tools.count(("fail", {})) == 1
    versions = {c.protocol_version for c in calls}
    sessions = {c.session_id for c in calls}
    assert {c.transport for c in calls} == {"sse" if kind == "sse" else "http"}
    if kind == "stateless":
        assert (versions, sessions) == ({mcp_types.LATEST_PROTOCOL_VERSION}, {None})
        assert "initialize" not in {c.method for c in calls}
    else:
        assert versions == {"2025-11-25"}
        assert (sessions == {None}) == (kind == "sse")
        assert len(sessions) == 1
    elicitations = [c for c in calls if c.method == "elicitation/create"]
    assert [(c.sender, c.result["content"]) for c in elicitations] == (
        [("server", {"name": "Ada"})] if kind in ("stream", "sse") else []
    )


def test_a_real_conversation_that_breaks_off() -> None:
    """Wherever it ends, what is complete is right, and what has no answer is marked."""
    for kind in ("json", "stream", "sse"):
        events = recorded(kind)
        whole = {call.id: call for call in run(events)}
        for end in range(0, len(events), 3):
            for call in run(events[:end]):
                if call.incomplete:
                    assert "no_answer" in str(call.reason)
                    assert (call.result, call.error) == (None, None)
                else:
                    assert call == whole[call.id] or call.method == "initialize"
