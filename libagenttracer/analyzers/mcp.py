"""Model Context Protocol out of HTTP exchanges, server-sent events and WebSocket messages.

It is recognised by what is said (JSON-RPC 2.0 with methods or headers of MCP), not by path. Transports:
streamable HTTP (protocol versions from 2025-03-26 on, with sessions or stateless), the older HTTP with SSE
(2024-11-05), and WebSocket.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar
from urllib.parse import urljoin, urlsplit

import msgspec

from ..events import (
    ConnectionEvent,
    Event,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    McpCall,
    SseEvent,
    SseStream,
    StreamEnd,
    WebSocketMessage,
    derived_id,
    derived_ids,
)
from .jsonrpc import RpcCall, RpcPairing, messages_in
from .mcp_words import MAX_NAME, is_mcp, name_in, object_in, said_version

__all__ = ["McpAnalyzer"]

_SESSION = "mcp-session-id"
_VERSION = "mcp-protocol-version"
_MAX_RESPONSES = 16  # that wait for their exchange, which follows at once
Sender = Literal["client", "server"]
Transport = Literal["http", "sse", "websocket"]
Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass
class _Exchange:
    """An HTTP request that may have to do with MCP, without its body."""

    id: str
    pid: int
    method: str
    target: str
    direction: Literal["read", "write"]
    protocol: str  # of WebSocket
    version: str
    session: str | None
    scope: Hashable  # where ids of the server's requests are unique; also of the version
    transport: Transport
    known: bool  # that it is MCP
    streamed: bool = False  # its answer is a stream of events
    held: list[McpCall] = field(default_factory=list)  # until it is known which session they began


@dataclass
class _Where:
    """Where a request or notification stood, and what its `McpCall` says of the transport."""

    event: tuple[str, str, int, str, str, str]  # id, source, pid, comm, exe, connection
    number: int
    transport: Transport
    version: str
    session: str | None = None
    request_id: str | None = None
    response_id: str | None = None
    reasons: set[str] = field(default_factory=set)


def _remember(table: OrderedDict[Key, Value], key: Key, value: Value, room: int) -> None:
    table[key] = value
    table.move_to_end(key)
    if len(table) > room:
        table.popitem(last=False)


def _whose(event: ConnectionEvent) -> tuple[str, str, int, str, str, str]:
    return (event.id, event.source, event.pid, event.comm, event.exe, event.connection_id)


def _reasons(event: HttpRequest | HttpExchange | WebSocketMessage) -> set[str]:
    return set((event.reason or "").split(",")) - {""}


def _begins_session(call: McpCall) -> bool:
    return call.method == "initialize" and call.kind == "request" and call.sender == "client"


class McpAnalyzer:
    """Gives an `McpCall` for each request with its answer, and for each notification; all events pass.

    It needs the events of HTTP in the order in which `HttpAnalyzer` gives them, and `SseMerger` before it.

    Args:
        max_open: requests without an answer; if there are more, the oldest is given up.
        max_open_bytes: of these requests together.
        max_known: exchanges, sessions and sockets that are remembered, of each kind.
    """

    def __init__(
        self, *, max_open: int = 10_000, max_open_bytes: int = 32 << 20, max_known: int = 4096
    ) -> None:
        self._pairing = RpcPairing(max_open, max_open_bytes)
        self._max_known = max_known
        self._exchanges: OrderedDict[str, _Exchange] = OrderedDict()  # by request
        self._responses: OrderedDict[str, HttpResponse] = OrderedDict()
        self._versions: OrderedDict[Hashable, str] = OrderedDict()  # negotiated, by scope
        self._endpoints: OrderedDict[Hashable, Hashable] = (
            OrderedDict()
        )  # of the older transport: their scopes
        self._streams: OrderedDict[str, Hashable] = OrderedDict()  # by response: likewise
        self._taken: OrderedDict[str, int] = OrderedDict()  # by response: how many of its events
        self._sockets: OrderedDict[tuple[int, str, int | None], Literal["read", "write"]] = OrderedDict()

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives it, and the calls that are complete now."""
        told: list[McpCall]
        if isinstance(event, SseEvent):
            if '"jsonrpc"' not in event.data and event.event != "endpoint":
                return (event,)
            _remember(self._taken, event.response_id, event.index + 1, self._max_known)
            told = self._server_sent(event)
        elif isinstance(event, HttpRequest):
            told = self._request(event)
        elif isinstance(event, HttpResponse):
            if b'"jsonrpc"' in event.body or event.header(_SESSION) is not None:
                _remember(self._responses, event.id, event, _MAX_RESPONSES)
            return (event,)
        elif isinstance(event, HttpExchange):
            told = self._exchange(event)
        elif isinstance(event, SseStream):
            told = self._stream(event)
        elif isinstance(event, WebSocketMessage):
            told = self._socket(event)
        elif isinstance(event, StreamEnd):
            gone = [key for key in self._sockets if key[1] == event.connection_id]
            told = [call for key in gone for call in self._close(key)]
            for key in gone:
                del self._sockets[key]
            return (*told, event)
        else:
            return (event,)
        return (event, *told)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Nothing waits for a time."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Gives the requests that have no answer."""
        told = [call for exchange in self._exchanges.values() for call in exchange.held]
        told += [self._call(call) for call in self._pairing.close_all()]
        for table in (self._exchanges, self._responses, self._versions, self._endpoints, self._streams):
            table.clear()
        self._taken.clear()
        self._sockets.clear()
        return told

    def _request(self, request: HttpRequest) -> list[McpCall]:
        headers = {name.lower(): value for name, value in reversed(request.headers)}
        endpoint = self._endpoints.get((request.pid, request.target))
        messages = messages_in(request.body) if "json" in headers.get("content-type", "json") else []
        is_socket = headers.get("upgrade", "").lower() == "websocket" or request.method == "CONNECT"
        listens = request.method == "GET" and "text/event-stream" in headers.get("accept", "")
        known = endpoint is not None or any(name.startswith("mcp-") for name in headers)
        known = known or any(map(is_mcp, messages))
        if not (known or is_socket or listens):
            return []
        session = name_in(headers.get(_SESSION)) or None
        own_scope: Hashable = endpoint or (request.pid, "exchange", request.id)
        scope = (request.pid, "session", session) if session and endpoint is None else own_scope
        exchange = _Exchange(
            *(request.id, request.pid, request.method, request.target[:MAX_NAME], request.direction),
            *(name_in(headers.get("sec-websocket-protocol")), name_in(headers.get(_VERSION)), session, scope),
            *("http" if endpoint is None else "sse", known),
        )
        told: list[McpCall] = []
        if len(self._exchanges) >= self._max_known:
            told += self._exchanges.popitem(last=False)[1].held
        self._exchanges[request.id] = exchange
        if not known:
            return told
        size = len(request.body) // max(len(messages), 1)
        for number, message in enumerate(messages):
            where = _Where(
                _whose(request), number, exchange.transport, self._version(exchange, message), session
            )
            where.request_id, where.reasons = request.id, _reasons(request)
            if "method" in message:
                told += self._take(own_scope, "client", message, request.timestamp_ns, where, size)
            else:  # the answer to what the server asked
                told += self._take(scope, "client", message, request.last_byte_ns, where)
        return told

    def _version(self, exchange: _Exchange, message: dict[str, Any]) -> str:
        return exchange.version or said_version(message) or self._versions.get(exchange.scope, "")

    def _exchange(self, event: HttpExchange) -> list[McpCall]:
        """A request got its response, or will not get one."""
        response = self._responses.pop(event.response_id or "", None)
        exchange = self._exchanges.get(event.request_id or "")
        if exchange is None or 100 <= event.status < 200 or exchange.method == "CONNECT":
            return []  # a WebSocket goes on with messages
        del self._exchanges[exchange.id]
        session = exchange.session
        own_scope = (exchange.pid, "exchange", exchange.id)
        told = exchange.held
        if response is not None and exchange.known:
            for number, message in enumerate(messages_in(response.body)):
                where = _Where(
                    *(_whose(response), number, exchange.transport, self._version(exchange, message)),
                    *(session, event.request_id, response.id, _reasons(event)),
                )
                told += self._take(own_scope, "server", message, response.last_byte_ns, where)
        new_session = name_in(response.header(_SESSION)) if response is not None else ""
        if new_session:
            told = [msgspec.structs.replace(call, session_id=call.session_id or new_session) for call in told]
            for call in told:
                if _begins_session(call):
                    scope = (exchange.pid, "session", new_session)
                    _remember(self._versions, scope, call.protocol_version, self._max_known)
        if session and exchange.method == "DELETE" and 200 <= event.status < 300:
            told += self._close((exchange.pid, "session", session))
        if session and exchange.streamed and event.status == 200:
            # the stream may have broken off, and can be resumed with a GET request
            given_up = self._pairing.move(own_scope, exchange.scope)
            return told + [self._call(call) for call in given_up]
        return told + self._close(own_scope, _reasons(event))

    def _server_sent(self, event: SseEvent) -> list[McpCall]:
        exchange = self._exchanges.get(event.request_id or "")
        if event.event == "endpoint":
            self._endpoint(event, exchange)
            return []
        messages = messages_in(event.data)
        own_scope: Hashable = (event.pid, "response", event.response_id)
        older = self._streams.get(event.response_id)
        if older is None and not (exchange is not None and exchange.known):
            if not any(map(is_mcp, messages)):
                return []
            if exchange is not None:
                exchange.known = True
        session = None
        scope = own_scope = older or own_scope
        if older is None and exchange is not None:
            exchange.streamed = True
            session, scope = exchange.session, exchange.scope
            # the stream that a session listens to may bring answers whose own stream broke off
            own_scope = scope if exchange.method == "GET" else (event.pid, "exchange", exchange.id)
        told: list[McpCall] = []
        for number, message in enumerate(messages):
            version = self._versions.get(scope, "") if exchange is None else self._version(exchange, message)
            where = _Where(
                *(_whose(event), number, "http" if older is None else "sse"),
                *(version or self._versions.get(scope, ""), session, event.request_id, event.response_id),
            )
            which = scope if "method" in message else own_scope
            told += self._take(which, "server", message, event.timestamp_ns, where, len(event.data))
        if older is None and exchange is not None and session is None:
            exchange.held += [call for call in told if _begins_session(call)]
            told = [call for call in told if not _begins_session(call)]
        return told

    def _endpoint(self, event: SseEvent, exchange: _Exchange | None) -> None:
        """The older transport tells where requests have to be sent; their answers come on this stream."""
        if len(event.data) > 2 * MAX_NAME:  # urllib keeps what it was given
            return
        try:
            parts = urlsplit(urljoin(exchange.target if exchange is not None else "/", event.data))
        except ValueError:
            return
        target = parts.path + ("?" + parts.query if parts.query else "")
        if target.startswith("/") and len(target) <= MAX_NAME:
            scope = (event.pid, "sse", event.response_id)
            _remember(self._endpoints, (event.pid, target), scope, self._max_known)
            _remember(self._streams, event.response_id, scope, self._max_known)

    def _stream(self, stream: SseStream) -> list[McpCall]:
        """A stream is over: what was not taken from it event by event is taken now."""
        told: list[McpCall] = []
        ids = derived_ids(stream.id, "sse_event")
        begin = self._taken.pop(stream.response_id, 0)
        for index, item in enumerate(stream.events[begin:], begin):
            if '"jsonrpc"' in item.data or item.event == "endpoint":
                event = SseEvent(
                    *(ids(index), item.timestamp_ns, *_whose(stream)[1:], stream.response_id),
                    *(stream.request_id, index, item.event, item.data),
                )
                told += self._server_sent(event)
        scope = self._streams.pop(stream.response_id, None)
        if scope is not None:
            told += self._close(scope)
            self._versions.pop(scope, None)
            for key in [key for key, value in self._endpoints.items() if value == scope]:
                del self._endpoints[key]
        return told

    def _socket(self, event: WebSocketMessage) -> list[McpCall]:
        messages = messages_in(event.payload) if event.opcode == "text" else []
        if not messages:
            return []
        scope = (event.pid, event.connection_id, event.stream_id)
        if scope not in self._sockets:
            exchange = self._exchanges.get(event.request_id or "")
            if not (exchange is not None and "mcp" in exchange.protocol) and not any(map(is_mcp, messages)):
                return []
            client = exchange.direction if exchange is not None else "write"
            _remember(self._sockets, scope, client, self._max_known)
        sender: Sender = "client" if event.direction == self._sockets[scope] else "server"
        told: list[McpCall] = []
        size = len(event.payload) // len(messages)
        for number, message in enumerate(messages):
            version = said_version(message) or self._versions.get(scope, "")
            where = _Where(
                *(_whose(event), number, "websocket", version, None, event.request_id, None, _reasons(event))
            )
            at_ns = event.timestamp_ns if "method" in message else event.last_byte_ns
            told += self._take(scope, sender, message, at_ns, where, size)
        return told

    def _take(
        self,
        scope: Hashable,
        sender: Sender,
        message: dict[str, Any],
        at_ns: int,
        where: _Where,
        size: int = 0,
    ) -> list[McpCall]:
        told = []
        for call in self._pairing.take(scope, sender, message, at_ns, where, size):
            asked: _Where = call.context
            if call.answer is not None:
                asked.reasons |= where.reasons
                asked.version = asked.version or where.version
                if sender == "client":
                    asked.request_id = where.request_id
                else:
                    asked.response_id = where.response_id
                if call.method == "initialize":
                    agreed = object_in(call.answer.get("result")).get("protocolVersion")
                    asked.version = name_in(agreed) or asked.version
                    if asked.transport != "http":  # there it is known when the session is
                        _remember(self._versions, scope, asked.version, self._max_known)
            told.append(self._call(call))
        return told

    def _close(self, scope: Hashable, reasons: Iterable[str] = ()) -> list[McpCall]:
        calls = self._pairing.close(scope)
        for call in calls:
            call.reasons.update(reasons)
        return [self._call(call) for call in calls]

    def _call(self, call: RpcCall) -> McpCall:
        where: _Where = call.context
        event_id, source, pid, comm, exe, connection_id = where.event
        params, answer = object_in(call.params), call.answer or {}
        error = answer.get("error")
        is_tool = call.method == "tools/call"
        tool = params.get("name") if is_tool else None
        version = where.version or (
            name_in(params.get("protocolVersion")) if call.method == "initialize" else ""
        )
        reasons = call.reasons | where.reasons
        return McpCall(
            id=derived_id(event_id, "mcp_call", where.number),
            timestamp_ns=call.begun_ns,
            source=source,
            pid=pid,
            comm=comm,
            exe=exe,
            connection_id=connection_id,
            transport=where.transport,
            kind=call.kind,
            sender=call.sender,
            method=call.method,
            rpc_id=call.rpc_id,
            params=call.params,
            result=answer.get("result"),
            error=error if isinstance(error, dict) or error is None else {"data": error},
            tool_name=tool if isinstance(tool, str) else None,
            tool_arguments=params.get("arguments") if is_tool else None,
            session_id=where.session,
            protocol_version=version,
            duration_ms=(call.ended_ns - call.begun_ns) / 1e6 if call.ended_ns and call.method else None,
            request_id=where.request_id,
            response_id=where.response_id,
            incomplete=bool(reasons),
            reason=",".join(sorted(reasons)) or None,
        )
