"""Anthropic's Messages API, also on Vertex AI (rawPredict).

https://docs.anthropic.com/en/api/messages and …/messages-streaming. Signatures of thinking, citations and
cache marks are left out of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Api, Draft, StreamReader
from .parts import (
    MAX_BLOCKS,
    add_answer,
    count,
    decoded,
    fields,
    file_part,
    items,
    last_piece,
    media_part,
    number,
    other_part,
    reasoning_part,
    set_usage,
    strings,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
)

__all__ = ["APIS", "AnthropicStream", "read_anthropic_request", "read_anthropic_response"]

_VERTEX_VERBS = ("rawPredict", "streamRawPredict")
# which field of a delta has the content, and to which one of the block it belongs
_DELTAS = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "input_json_delta": ("partial_json", "input"),
    "compaction_delta": ("content", "content"),
}
_BLOCK_OF_DELTA = {"text_delta": "text", "thinking_delta": "thinking", "input_json_delta": "tool_use"}
_IGNORED_DELTAS = ("signature_delta", "citations_delta")
_USAGE = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens")


class _Messages:
    """The API itself (see `Api`)."""

    name = "anthropic.messages"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By /v1/messages with a list of messages, or by Vertex AI's verbs with `anthropic_version`."""
        if path.rstrip("/").endswith("/v1/messages"):
            return not request or isinstance(request.get("messages"), list)
        before, model, verb = last_piece(path)
        if verb not in _VERTEX_VERBS or model == "count-tokens":
            return False
        return "anthropic_version" in request or before.endswith("/anthropic/models")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; on Vertex AI the model is in the path."""
        draft.provider_name = "anthropic"
        read_anthropic_request(request, draft)
        _, model, verb = last_piece(path)
        if verb in _VERTEX_VERBS:
            draft.provider_name = "gcp.vertex_ai"
            draft.request_model = model or None

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what a message, or an error, says."""
        read_anthropic_response(response, draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events."""
        return AnthropicStream(draft)


def read_anthropic_request(request: dict[str, Any], draft: Draft) -> None:
    """Fills in what a request's body says."""
    draft.request_model = text(request.get("model"))
    draft.system_instructions = _parts(request.get("system"))
    draft.messages = [_message(message) for message in items(request.get("messages"))]
    draft.tool_definitions = items(request.get("tools"))
    draft.max_tokens = count(request.get("max_tokens"))
    draft.temperature = number(request.get("temperature"))
    draft.top_p = number(request.get("top_p"))
    draft.top_k = number(request.get("top_k"))
    draft.stop_sequences = strings(request.get("stop_sequences"))
    output = request.get("output_format") or fields(request.get("output_config")).get("format")
    if fields(output).get("type") == "json_schema":
        draft.output_type = "json"


def read_anthropic_response(response: Any, draft: Draft) -> None:
    """Fills in what an answer's body says."""
    response = fields(response)
    if response.get("type") == "error" or "error" in response:
        _read_error(response, draft)
        return
    if not isinstance(response.get("content"), list):
        draft.reasons.add("malformed")
    _read_head(response, draft)
    _read_usage(fields(response.get("usage")), draft)
    add_answer(draft, _parts(response.get("content")), text(response.get("stop_reason")))


def _read_head(message: dict[str, Any], draft: Draft) -> None:
    draft.llm_response_id = text(message.get("id"))
    draft.response_model = text(message.get("model"))


def _read_error(response: dict[str, Any], draft: Draft) -> None:
    error = fields(response.get("error"))
    draft.error_type = text(error.get("type")) or draft.error_type or "error"
    draft.error_message = text(error.get("message"))


def _read_usage(usage: dict[str, Any], draft: Draft) -> None:
    set_usage(
        draft,
        uncached=usage.get("input_tokens"),
        cache_read=usage.get("cache_read_input_tokens"),
        cache_creation=usage.get("cache_creation_input_tokens"),
        output=usage.get("output_tokens"),
        reasoning=fields(usage.get("output_tokens_details")).get("thinking_tokens"),
    )


def _message(message: Any) -> dict[str, Any]:
    message = fields(message)
    return {"role": text(message.get("role")) or "unknown", "parts": _parts(message.get("content"))}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(block) for block in items(content)]


def _part(block: Any) -> dict[str, Any]:
    kind = block.get("type") if isinstance(block, dict) else None
    if kind == "text" and isinstance(block.get("text"), str):
        return text_part(block["text"])
    if kind == "thinking" and isinstance(block.get("thinking"), str):
        return reasoning_part(block["thinking"])
    if kind == "tool_use":
        return tool_call_part(text(block.get("id")), text(block.get("name")), block.get("input"))
    if kind == "tool_result":
        response = block.get("content")
        if isinstance(response, list):
            response = _parts(response)
        return tool_result_part(text(block.get("tool_use_id")), response)
    if kind in ("image", "document"):
        return _media_part(block, fields(block.get("source")))
    return other_part(block)


def _media_part(block: dict[str, Any], source: dict[str, Any]) -> dict[str, Any]:
    kind: str = block["type"]
    data, url, file_id = text(source.get("data")), text(source.get("url")), text(source.get("file_id"))
    if source.get("type") == "base64" and data is not None:
        part = media_part(text(source.get("media_type")), content=data)
    elif url is not None:
        part = media_part(None, uri=url)
    elif file_id is not None:
        part = file_part(file_id, kind)
    else:
        return block
    return {**part, "modality": kind}


class _Block:
    """A piece of content that is being sent."""

    __slots__ = ("field", "pieces", "start")

    def __init__(self, start: dict[str, Any]) -> None:
        self.start = start
        self.field = ""
        self.pieces: list[str] = []

    def whole(self) -> dict[str, Any]:
        """As it would stand in an answer that is not streamed."""
        if not self.pieces:
            return self.start
        content = "".join(self.pieces)
        if self.field == "input":
            return {**self.start, "input": decoded(content)}
        return {**self.start, self.field: (text(self.start.get(self.field)) or "") + content}


class AnthropicStream:
    """Reads a streamed message into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._blocks: dict[int, _Block] = {}
        self._usage: dict[str, Any] = {}
        self._stop_reason: str | None = None
        self._started = self._ended = False
        self._handlers: dict[str, Callable[[int, dict[str, Any]], None]] = {
            "content_block_delta": self._delta,
            "content_block_start": self._start_block,
            "message_start": self._start,
            "message_delta": self._message_delta,
            "message_stop": self._stop,
            "error": self._error,
        }

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes an event; its type is in its data, too."""
        if type(data) is not dict:
            return
        kind = data.get("type")
        handler = self._handlers.get(kind if type(kind) is str else event)
        if handler is not None:
            handler(at_ns, data)

    def end(self) -> None:
        """Puts everything together."""
        draft = self._draft
        _read_usage(self._usage, draft)
        if self._started or self._blocks:
            blocks = [self._blocks[index].whole() for index in sorted(self._blocks)]
            add_answer(draft, [_part(block) for block in blocks], self._stop_reason)
        if not self._ended:
            draft.reasons.add("no_end")
        if not self._started and draft.error_type is None:
            draft.reasons.add("malformed")

    def _delta(self, at_ns: int, data: dict[str, Any]) -> None:
        delta: Any = data.get("delta")
        kind: Any = delta.get("type") if type(delta) is dict else None
        names = _DELTAS.get(kind) if type(kind) is str else None
        if names is None:
            if kind not in _IGNORED_DELTAS:
                self._draft.reasons.add("malformed")
            return
        piece = delta.get(names[0])
        index = data.get("index")
        block = self._blocks.get(index) if type(index) is int else None
        if block is None:
            self._draft.reasons.add("malformed")
            block = self._add_block(index, {"type": _BLOCK_OF_DELTA.get(kind, "unknown")})
        if block is None or type(piece) is not str:
            return
        if piece:
            if block.field != names[1]:
                if block.pieces:
                    self._draft.reasons.add("malformed")
                    return
                block.field = names[1]
            block.pieces.append(piece)
            if self._draft.first_content_ns is None:
                self._draft.first_content_ns = at_ns

    def _start_block(self, at_ns: int, data: dict[str, Any]) -> None:
        start = fields(data.get("content_block"))
        kind, index = start.get("type"), data.get("index")
        if type(index) is not int or index in self._blocks or type(kind) is not str:
            self._draft.reasons.add("malformed")
            return
        if self._add_block(index, start) and (kind not in ("text", "thinking") or start.get(kind)):
            self._draft.content_at(at_ns)

    def _add_block(self, index: Any, start: dict[str, Any]) -> _Block | None:
        if type(index) is not int or not 0 <= index < MAX_BLOCKS:
            self._draft.reasons.add("malformed")
            return None
        block = self._blocks[index] = _Block(start)
        return block

    def _start(self, at_ns: int, data: dict[str, Any]) -> None:
        message = fields(data.get("message"))
        self._started = True
        _read_head(message, self._draft)
        self._count(message.get("usage"))
        self._stop_reason = text(message.get("stop_reason"))
        for index, block in enumerate(items(message.get("content"))[:MAX_BLOCKS]):
            self._blocks.setdefault(index, _Block(fields(block)))  # some servers send it all at once

    def _message_delta(self, at_ns: int, data: dict[str, Any]) -> None:
        reason = text(fields(data.get("delta")).get("stop_reason"))
        self._stop_reason = reason or self._stop_reason
        self._count(data.get("usage"))

    def _count(self, usage: Any) -> None:
        """Counts are cumulative: the highest one is the last, whatever a later event leaves at 0."""
        usage = fields(usage)
        for name in _USAGE:
            if (tokens := count(usage.get(name))) is not None:
                self._usage[name] = max(tokens, self._usage.get(name, 0))
        if "output_tokens_details" in usage:
            self._usage["output_tokens_details"] = usage["output_tokens_details"]

    def _stop(self, at_ns: int, data: dict[str, Any]) -> None:
        self._ended = True

    def _error(self, at_ns: int, data: dict[str, Any]) -> None:
        self._ended = True
        _read_error(data, self._draft)


APIS: tuple[Api, ...] = (_Messages(),)
