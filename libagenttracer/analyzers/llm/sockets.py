"""Calls over WebSocket: OpenAI's Responses, one turn after the other on a connection.

https://developers.openai.com/api/docs/guides/websocket-mode: the client sends "response.create" with what
would be the body of a request; the server answers with the events of a streamed answer.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from ...events import LlmCall, WebSocketMessage
from .base import Draft
from .calls import Origin, make_call, path_of
from .conversations import Conversations
from .framing import decode_json
from .openai_responses import TERMINAL_EVENTS, Responses

__all__ = ["SocketCalls"]

_CREATE = b'"response.create"'
_PATHS = ("/responses", "/responses/ws")
_API = Responses()
# A question is told when the call that sent it returns; on a fast way its answer may be read before that.
_MAX_EARLY_NS = 100_000_000
_MAX_EARLY = 32
_MAX_EARLY_BYTES = 1 << 20
_Key = tuple[str, int | None]


class _Turn:
    """A call that was not answered to its end."""

    def __init__(self, asked: WebSocketMessage, request: dict[str, Any]) -> None:
        self.asked = asked
        self.end_ns: int | None = None
        self.held_bytes = len(asked.payload)
        self.draft = Draft(api=_API.name)
        _API.read_request(path_of(asked.target), request, self.draft)
        self.reader = _API.stream(self.draft)


class SocketCalls:
    """Puts the calls on WebSockets together.

    Args:
        conversations: to which they belong.
        max_turns: open calls that are followed; if there are more, the oldest one ends.
        max_held_bytes: messages of all of them together; likewise.
        max_turn_bytes: messages of one of them; only how it ends is read of what is beyond.
    """

    def __init__(
        self, conversations: Conversations, max_turns: int, max_held_bytes: int, max_turn_bytes: int
    ) -> None:
        self._conversations = conversations
        self._max_turns = max_turns
        self._max_held_bytes = max_held_bytes
        self._max_turn_bytes = max_turn_bytes
        self._held_bytes = 0
        self._turns: OrderedDict[_Key, _Turn] = OrderedDict()
        self._early: OrderedDict[_Key, list[WebSocketMessage]] = OrderedDict()

    def message(self, message: WebSocketMessage) -> list[LlmCall]:
        """Takes the next message; gives the calls that are over now."""
        key = message.connection_id, message.stream_id
        turn = self._turns.get(key)
        if message.opcode not in ("text", "binary"):
            return [self._end(key)] if turn is not None and message.opcode == "close" else []
        if turn is not None and message.direction != turn.asked.direction:
            return self._answer(key, turn, message)
        request = _request(message)
        if request is None:
            if turn is None:
                self._keep_early(key, message)
            return []
        given = [self._end(key)] if turn is not None else []
        turn = self._turns[key] = _Turn(message, request)
        self._held_bytes += turn.held_bytes
        for early in self._early.pop(key, ()):
            in_time = early.timestamp_ns >= message.timestamp_ns - _MAX_EARLY_NS
            if in_time and early.direction != message.direction and self._turns.get(key) is turn:
                given += self._answer(key, turn, early)
        return [*given, *self._shrink()]

    def _keep_early(self, key: _Key, message: WebSocketMessage) -> None:
        """Keeps what may be the beginning of an answer whose question is not told yet."""
        if len(message.payload) > _MAX_EARLY_BYTES or b'"response.' not in message.payload:
            return
        kept = self._early.setdefault(key, [])
        kept.append(message)
        while len(kept) > _MAX_EARLY or sum(len(one.payload) for one in kept) > _MAX_EARLY_BYTES:
            kept.pop(0)
        self._early.move_to_end(key)
        if len(self._early) > _MAX_EARLY:
            self._early.popitem(last=False)

    def connection_over(self, connection_id: str) -> list[LlmCall]:
        """Gives the calls on a connection that is over."""
        for key in [key for key in self._early if key[0] == connection_id]:
            del self._early[key]
        return [self._end(key) for key in [*self._turns] if key[0] == connection_id]

    def flush(self) -> list[LlmCall]:
        """Gives all calls that are not over."""
        return [self._end(key) for key in [*self._turns]]

    def _answer(self, key: _Key, turn: _Turn, message: WebSocketMessage) -> list[LlmCall]:
        reasons = turn.draft.reasons
        if message.incomplete:
            reasons.update((message.reason or "").split(","))
            reasons.discard("")
        turn.end_ns = message.last_byte_ns
        try:
            event = decode_json(message.payload)
        except ValueError:
            reasons.add("bad_json")
            return []
        kind = event.get("type") if isinstance(event, dict) else None
        ended = isinstance(kind, str) and kind in TERMINAL_EVENTS
        if ended or turn.held_bytes <= self._max_turn_bytes:
            turn.reader.item(message.last_byte_ns, "", event)
        else:
            reasons.add("too_long")
        if ended:
            return [self._end(key)]
        turn.held_bytes += len(message.payload)
        self._held_bytes += len(message.payload)
        return self._shrink()

    def _shrink(self) -> list[LlmCall]:
        given = []
        while self._turns and (len(self._turns) > self._max_turns or self._held_bytes > self._max_held_bytes):
            given.append(self._end(next(iter(self._turns))))
        return given

    def _end(self, key: _Key) -> LlmCall:
        turn = self._turns.pop(key)
        self._held_bytes -= turn.held_bytes
        turn.reader.end()
        asked = turn.asked
        if turn.end_ns is None:
            turn.draft.reasons.add("no_response")
        if asked.incomplete:
            turn.draft.reasons.update(filter(None, (asked.reason or "").split(",")))
        origin = Origin(
            *(asked, asked, asked.authority, asked.target, asked.last_byte_ns, turn.end_ns),
            request_id=asked.request_id,
        )
        return make_call(turn.draft, origin, self._conversations)


def _request(message: WebSocketMessage) -> dict[str, Any] | None:
    """What a message asks for, if it begins a call."""
    if _CREATE not in message.payload:
        return None
    if message.target and not path_of(message.target).rstrip("/").endswith(_PATHS):
        return None
    try:
        request = decode_json(message.payload)
    except ValueError:
        return None
    if not isinstance(request, dict) or request.get("type") != "response.create":
        return None
    return request if message.target or ("model" in request and "input" in request) else None
