"""Amazon Bedrock's Converse and ConverseStream.

https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and …_ConverseStream.html.
Signatures of thinking, citations and cache marks are left out of the parts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from .base import Draft, StreamReader
from .parts import (
    MAX_BLOCKS,
    add_answer,
    count,
    decoded,
    fields,
    items,
    media_part,
    named_part,
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

__all__ = [
    "CONVERSE_EVENTS",
    "Converse",
    "ConverseStream",
    "model_and_verb",
    "read_bedrock_error",
    "read_converse_request",
    "read_converse_response",
]

CONVERSE_EVENTS = frozenset(
    ("messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata")
)
_TEXTS = {"toolUse": "input", "reasoningContent": "text"}  # where the text of a delta is
_MEDIA = {"image": "image", "video": "video", "audio": "audio", "document": "application"}


class Converse:
    """The API itself (see `Api`)."""

    name = "bedrock.converse"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the path: /model/ID/converse or …/converse-stream."""
        model, verb = model_and_verb(path)
        return model is not None and verb in ("converse", "converse-stream")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; the model is in the path."""
        draft.provider_name = "aws.bedrock"
        draft.request_model, _ = model_and_verb(path)
        read_converse_request(request, draft)

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer, or an error, says."""
        read_converse_response(fields(response), draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for an event stream."""
        return ConverseStream(draft)


def model_and_verb(path: str) -> tuple[str | None, str]:
    """The model's id in a path, percent-decoded, and the path's last piece."""
    head, _, verb = path.rstrip("/").rpartition("/")
    model = head.partition("/model/")[2]
    return unquote(model) or None, verb


def read_converse_request(request: dict[str, Any], draft: Draft) -> None:
    """Fills in what a request's body says."""
    draft.system_instructions = _parts(request.get("system"))
    draft.messages = [_message(message) for message in items(request.get("messages"))]
    tools = fields(request.get("toolConfig"))
    draft.tool_definitions = items(tools.get("tools"))
    config = fields(request.get("inferenceConfig"))
    draft.max_tokens = count(config.get("maxTokens"))
    draft.temperature = number(config.get("temperature"))
    draft.top_p = number(config.get("topP"))
    draft.top_k = number(config.get("topK"))
    draft.stop_sequences = strings(config.get("stopSequences"))
    more = fields(request.get("additionalModelRequestFields"))
    if draft.top_k is None:
        draft.top_k = number(more.get("top_k"))
    if fields(fields(request.get("outputConfig")).get("textFormat")).get("type") == "json_schema":
        draft.output_type = "json"


def read_converse_response(response: dict[str, Any], draft: Draft) -> None:
    """Fills in what an answer's body says."""
    if "output" not in response:
        read_bedrock_error(response, draft)
        return
    _read_usage(fields(response.get("usage")), draft)
    message = _message(fields(response["output"]).get("message"))
    add_answer(draft, message["parts"], text(response.get("stopReason")), message["role"])


def read_bedrock_error(response: dict[str, Any], draft: Draft) -> None:
    """Fills in an error; mostly its type is only in a header. Without a message it is none, but malformed."""
    draft.error_message = text(response.get("message")) or text(response.get("Message"))
    kind = text(response.get("__type"))
    if kind is None and draft.error_message is None:
        draft.reasons.add("malformed")
    else:
        draft.error_type = kind.rpartition("#")[2] if kind else draft.error_type or "error"


def _read_usage(usage: dict[str, Any], draft: Draft) -> None:
    set_usage(
        draft,
        uncached=usage.get("inputTokens"),
        cache_read=usage.get("cacheReadInputTokens"),
        cache_creation=usage.get("cacheWriteInputTokens"),
        output=usage.get("outputTokens"),
    )


def _message(message: Any) -> dict[str, Any]:
    message = fields(message)
    return {"role": text(message.get("role")) or "assistant", "parts": _parts(message.get("content"))}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [text_part(content)]
    return [
        _part(block)
        for block in items(content)
        if not (isinstance(block, dict) and len(block) == 1 and "cachePoint" in block)
    ]


def _part(value: Any) -> dict[str, Any]:
    block = fields(value)
    kind = next((key for key in block if key != "type"), None)
    if kind is None:
        return other_part(value)
    content = block[kind]
    if kind == "text" and isinstance(content, str):
        return text_part(content)
    reader = _PARTS.get(kind)
    part = reader(content) if reader is not None and isinstance(content, dict) else None
    if part is None and kind in _MEDIA:
        part = _media_part(kind, fields(content))
    return named_part(kind, content) if part is None else part


def _tool_use(content: dict[str, Any]) -> dict[str, Any] | None:
    if content.get("type") == "server_tool_use":
        return None  # nobody is asked to run it
    return tool_call_part(text(content.get("toolUseId")), text(content.get("name")), content.get("input"))


def _tool_result(content: dict[str, Any]) -> dict[str, Any]:
    return tool_result_part(text(content.get("toolUseId")), _parts(content.get("content")))


def _reasoning(content: dict[str, Any]) -> dict[str, Any] | None:
    words = text(fields(content.get("reasoningText")).get("text"))
    return None if words is None else reasoning_part(words)


def _cited(content: dict[str, Any]) -> dict[str, Any]:
    pieces = [text(fields(piece).get("text")) or "" for piece in items(content.get("content"))]
    return text_part("".join(pieces))


_PARTS: dict[str, Callable[[dict[str, Any]], dict[str, Any] | None]] = {
    "toolUse": _tool_use,
    "toolResult": _tool_result,
    "reasoningContent": _reasoning,
    "citationsContent": _cited,
}


def _media_part(kind: str, content: dict[str, Any]) -> dict[str, Any] | None:
    source = fields(content.get("source"))
    data, uri = text(source.get("bytes")), text(fields(source.get("s3Location")).get("uri"))
    if data is None and uri is None:
        return None
    format_ = text(content.get("format"))
    part = media_part(f"{_MEDIA[kind]}/{format_}" if format_ else None, content=data, uri=uri)
    return {**part, "modality": kind}


class _Block:
    """A piece of content that is being sent: the pieces of its text, and what stands beside it."""

    __slots__ = ("kind", "others", "pieces", "start")

    def __init__(self, kind: str, start: dict[str, Any]) -> None:
        self.kind = kind
        self.start = start
        self.pieces: list[str] = []
        self.others: list[Any] = []

    def add(self, piece: Any) -> bool:
        """Takes the next piece; whether there is something in it."""
        name = _TEXTS.get(self.kind, "")
        words = fields(piece).get(name) if name else piece
        if self.kind == "text" or name:
            if type(words) is str:
                self.pieces.append(words)
            elif "redactedContent" in fields(piece):
                self.others.append(piece["redactedContent"])
                return True
            return bool(words)
        self.others += piece if isinstance(piece, list) else [piece]
        return True

    def whole(self) -> dict[str, Any]:
        """As it would stand in an answer that is not streamed."""
        joined = "".join(self.pieces)
        if self.kind == "text":
            return {"text": joined}
        if self.kind == "toolUse":
            return {"toolUse": {**self.start, "input": decoded(joined) if joined else {}}}
        if self.kind == "reasoningContent":
            if self.pieces or not self.others:
                return {"reasoningContent": {"reasoningText": {"text": joined}}}
            redacted = self.others[0] if len(self.others) == 1 else self.others
            return {"reasoningContent": {"redactedContent": redacted}}
        if self.kind == "toolResult":
            return {"toolResult": {**self.start, "content": self.others}}
        return {self.kind: {**self.start, "deltas": self.others} if self.others else self.start}


class ConverseStream:
    """Reads a streamed answer into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._blocks: dict[int, _Block] = {}
        self._role = "assistant"
        self._stop_reason: str | None = None
        self._started = self._stopped = self._ended = self._failed = False
        self._handlers: dict[str, Callable[[int, dict[str, Any]], None]] = {
            "contentBlockDelta": self._delta,
            "contentBlockStart": self._start_block,
            "messageStart": self._start,
            "messageStop": self._stop,
            "metadata": self._metadata,
        }

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes an event of the stream, or an exception."""
        handler = self._handlers.get(event)
        if handler is not None:
            handler(at_ns, fields(data))
        elif event not in CONVERSE_EVENTS and "message" in fields(data):
            self._failed = True
            read_bedrock_error(fields(data), self._draft)
            self._draft.error_type = event or self._draft.error_type

    def end(self) -> None:
        """Puts everything together."""
        draft = self._draft
        if self._started or self._blocks:
            blocks = [self._blocks[index].whole() for index in sorted(self._blocks)]
            add_answer(draft, [_part(block) for block in blocks], self._stop_reason, self._role)
        if self._failed:
            return
        if not (self._stopped and self._ended):
            draft.reasons.add("no_end")
        if not self._started:
            draft.reasons.add("malformed")

    def _delta(self, at_ns: int, data: dict[str, Any]) -> None:
        delta: Any = data.get("delta")
        index = data.get("contentBlockIndex")
        if type(delta) is not dict or not delta:
            self._draft.reasons.add("malformed")
            return
        kind, piece = next(iter(delta.items()))
        if kind == "citation":
            return
        block = self._blocks.get(index) if type(index) is int else None
        if block is None:
            if kind in ("toolUse", "toolResult"):
                self._draft.reasons.add("malformed")  # these have a start
            block = self._add_block(index, _Block(kind, {}))
        elif block.kind != kind:
            self._draft.reasons.add("malformed")
            return
        if block is not None and block.add(piece) and self._draft.first_content_ns is None:
            self._draft.first_content_ns = at_ns

    def _start_block(self, at_ns: int, data: dict[str, Any]) -> None:
        start = fields(data.get("start"))
        kind = next(iter(start), None)
        index = data.get("contentBlockIndex")
        if kind is None:
            return  # some models start a text so
        if type(index) is not int or index in self._blocks:
            self._draft.reasons.add("malformed")
        elif self._add_block(index, _Block(kind, fields(start[kind]))):
            self._draft.content_at(at_ns)

    def _add_block(self, index: Any, block: _Block) -> _Block | None:
        if type(index) is not int or not 0 <= index < MAX_BLOCKS:
            self._draft.reasons.add("malformed")
            return None
        self._blocks[index] = block
        return block

    def _start(self, at_ns: int, data: dict[str, Any]) -> None:
        self._started = True
        self._role = text(data.get("role")) or "assistant"

    def _stop(self, at_ns: int, data: dict[str, Any]) -> None:
        self._stopped = True
        self._stop_reason = text(data.get("stopReason"))

    def _metadata(self, at_ns: int, data: dict[str, Any]) -> None:
        self._ended = True
        _read_usage(fields(data.get("usage")), self._draft)
