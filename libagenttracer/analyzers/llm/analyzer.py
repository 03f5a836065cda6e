"""Finds calls of language models among HTTP exchanges and WebSocket messages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from ...events import (
    ConnectionEvent,
    Event,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    LlmCall,
    SseStream,
    StreamEnd,
    WebSocketMessage,
)
from . import anthropic, bedrock, cohere, gemini, ollama, openai_chat, openai_embeddings, openai_responses
from .base import Api, Draft
from .calls import Origin, make_call, path_of
from .conversations import Conversations
from .framing import decode_json, read_answer
from .sockets import SocketCalls

__all__ = ["APIS", "LlmAnalyzer"]

# the first that recognises a request reads it: those whose paths say most come first
APIS: tuple[Api, ...] = (
    *anthropic.APIS,
    *gemini.APIS,
    *bedrock.APIS,
    *cohere.APIS,
    *ollama.APIS,
    *openai_responses.APIS,
    *openai_chat.APIS,
    *openai_embeddings.APIS,
)
_MAX_PATH = 2048
_ITEM_BYTES = 96  # that a message, a header, or an event of a stream takes besides its text
_MAX_SHOWN = 2000  # characters of an error that is no JSON


@dataclass
class _Connection:
    """What came on a connection while a request that may be a call is open; by the events' ids."""

    requests: dict[str, HttpRequest] = field(default_factory=dict)
    responses: dict[str, HttpResponse] = field(default_factory=dict)
    streams: dict[str, list[SseStream]] = field(default_factory=dict)
    held_bytes: int = 0


class LlmAnalyzer:
    """Gives an `LlmCall` behind the exchange that it came from; all events pass.

    Requests are recognised by path and body, not by host, so that gateways and compatible servers are found.
    Requests that may be calls, and the responses and `sse_stream`s of their connections, are kept until the
    exchange comes. The calls of OpenAI's Responses over WebSocket follow the message that ends them.

    Args:
        apis: the forms to recognise, see `Api`.
        max_connections: with open calls that are followed; if there are more, the calls of the one without
            news for the longest time are given as incomplete.
        max_held_bytes: bodies of all of them together; likewise.
        max_socket_bytes: messages of one call over WebSocket.
        max_ends: calls that later ones may continue.

    Raises:
        ValueError: `max_connections` or `max_ends` is not positive.
    """

    def __init__(
        self,
        *,
        apis: Sequence[Api] = APIS,
        max_connections: int = 4096,
        max_held_bytes: int = 256 << 20,
        max_socket_bytes: int = 32 << 20,
        max_ends: int = 16384,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections is not positive: {max_connections}")
        self._apis = apis
        self._max_connections = max_connections
        self._max_held_bytes = max_held_bytes
        self._held_bytes = 0
        self._connections: OrderedDict[str, _Connection] = OrderedDict()
        self._conversations = Conversations(max_ends)
        self._sockets = SocketCalls(self._conversations, max_connections, max_held_bytes, max_socket_bytes)
        self._may_be = lru_cache(4096)(self._may_be_call)
        self._handlers: dict[type[Event], Callable[[Any], Iterable[LlmCall]]] = {
            HttpRequest: self._request,
            HttpResponse: self._response,
            SseStream: self._stream,
            HttpExchange: self._exchange,
            WebSocketMessage: self._sockets.message,
        }

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives it, and the calls that are over with it."""
        handler = self._handlers.get(type(event))
        if handler is not None:
            calls = handler(event)
            return (event, *calls) if calls else (event,)
        if type(event) is StreamEnd:
            given = self._give_up(event.connection_id)
            return (*given, *self._sockets.connection_over(event.connection_id), event)
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Nothing waits for a time."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Gives the calls that are not over."""
        given = [call for connection_id in [*self._connections] for call in self._give_up(connection_id)]
        return [*given, *self._sockets.flush()]

    def _may_be_call(self, path: str) -> bool:
        return any(api.recognises(path, {}) for api in self._apis)

    def _request(self, request: HttpRequest) -> Iterable[LlmCall]:
        if request.method not in ("POST", "") or len(request.target) > _MAX_PATH:
            return ()
        if not self._may_be(path_of(request.target)):
            return ()
        connection = self._connections.setdefault(request.connection_id, _Connection())
        connection.requests[request.id] = request
        return self._hold(connection, request.connection_id, _message_bytes(request))

    def _response(self, response: HttpResponse) -> Iterable[LlmCall]:
        connection = self._connections.get(response.connection_id)
        if connection is None or 100 <= response.status < 200:
            return ()
        connection.responses[response.id] = response
        return self._hold(connection, response.connection_id, _message_bytes(response))

    def _stream(self, stream: SseStream) -> Iterable[LlmCall]:
        connection = self._connections.get(stream.connection_id)
        if connection is None:
            return ()
        connection.streams.setdefault(stream.response_id, []).append(stream)
        return self._hold(connection, stream.connection_id, _stream_bytes(stream))

    def _hold(self, connection: _Connection, connection_id: str, size: int) -> Iterable[LlmCall]:
        connection.held_bytes += size
        self._held_bytes += size
        self._connections.move_to_end(connection_id)
        given: list[LlmCall] = []
        while self._connections and (
            len(self._connections) > self._max_connections or self._held_bytes > self._max_held_bytes
        ):
            given += self._give_up(next(iter(self._connections)))
        return given

    def _give_up(self, connection_id: str) -> list[LlmCall]:
        """Gives the calls of a connection without their answers."""
        connection = self._connections.pop(connection_id, None)
        if connection is None:
            return []
        self._held_bytes -= connection.held_bytes
        given = []
        for request in connection.requests.values():
            draft = _read(self._apis, request, None, [], {"no_response"})
            if draft is not None:
                given.append(make_call(draft, _origin(request, request), self._conversations))
        return given

    def _exchange(self, exchange: HttpExchange) -> Iterable[LlmCall]:
        connection = self._connections.get(exchange.connection_id)
        if connection is None:
            return ()
        request = connection.requests.pop(exchange.request_id or "", None)
        response = connection.responses.pop(exchange.response_id or "", None)
        streams = connection.streams.pop(exchange.response_id or "", [])
        freed = sum(_message_bytes(message) for message in (request, response) if message is not None)
        freed += sum(map(_stream_bytes, streams))
        connection.held_bytes -= freed
        self._held_bytes -= freed
        if not connection.requests:
            self._held_bytes -= connection.held_bytes
            del self._connections[exchange.connection_id]
        if request is None:
            return ()
        reasons = set(filter(None, (exchange.reason or "").split(",")))
        if response is None:
            reasons.add("no_response")
        draft = _read(self._apis, request, response, streams, reasons)
        if draft is None:
            return ()
        origin = _origin(exchange, request)
        origin.exchange_id = exchange.id
        if response is not None:
            origin.end_ns, origin.status = response.last_byte_ns, response.status or None
            origin.headers, origin.response_id = response.headers, response.id
        return (make_call(draft, origin, self._conversations),)


def _origin(event: ConnectionEvent, request: HttpRequest) -> Origin:
    return Origin(
        *(event, request, request.authority, request.target, request.last_byte_ns), request_id=request.id
    )


def _stream_bytes(stream: SseStream) -> int:
    return sum([len(item.data) for item in stream.events]) + _ITEM_BYTES * len(stream.events)


def _message_bytes(message: HttpRequest | HttpResponse) -> int:
    heads = sum([len(name) + len(value) + _ITEM_BYTES for name, value in message.headers])
    return len(message.body) + heads + _ITEM_BYTES


def _read(
    apis: Sequence[Api],
    request: HttpRequest,
    response: HttpResponse | None,
    streams: list[SseStream],
    reasons: set[str],
) -> Draft | None:
    """Reads a request and its answer; None if it is no call."""
    path = path_of(request.target)
    try:
        asked = decode_json(request.body)
    except ValueError:
        if not request.incomplete and "json" not in (request.header("content-type") or "").lower():
            return None  # something else that has this path
        asked = {}
        reasons.add("bad_json")
    if not isinstance(asked, dict):
        return None
    api = next((api for api in apis if api.recognises(path, asked)), None)
    if api is None:
        return None
    draft = Draft(api=api.name, reasons=reasons)
    api.read_request(path, asked, draft)
    if response is not None:
        _read_response(api, response, streams, draft)
        if draft.streaming and "no_end" not in draft.reasons and not request.incomplete:
            draft.reasons.discard("aborted")  # the answer said that it is over, and clients then hang up
    return draft


def _read_response(api: Api, response: HttpResponse, streams: list[SseStream], draft: Draft) -> None:
    failed = response.status >= 400
    if failed:
        draft.error_type = str(response.status)
    answer = read_answer(response, streams)
    value, items = answer.value, answer.items
    if failed:
        _read_failure(api, response, items[0].data if items else value, draft)
        return
    draft.reasons |= answer.reasons
    if items is None:
        if not answer.reasons:
            api.read_response(value, draft)
        return
    draft.streaming = True
    reader = api.stream(draft)
    for at_ns, event, data in items:
        reader.item(at_ns, event, data)
    reader.end()
    if not answer.timed:
        draft.first_content_ns = None


def _read_failure(api: Api, response: HttpResponse, value: Any, draft: Draft) -> None:
    """Reads an error, which proxies and gateways put in any form."""
    before = set(draft.reasons)
    api.read_response(value, draft)
    draft.reasons = before
    draft.output_messages, draft.finish_reasons, draft.tool_calls = [], [], []
    if draft.error_type == str(response.status):
        named = response.header("x-amzn-errortype")  # "ThrottlingException:http://…"
        draft.error_type = (named or draft.error_type).partition(":")[0]
    if draft.error_message is None and response.body:
        draft.error_message = response.body[:_MAX_SHOWN].decode("utf-8", "replace")
