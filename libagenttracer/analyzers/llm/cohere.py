"""Cohere's API: chat (versions 2 and 1) and embed.

https://docs.cohere.com/reference/chat and …/chat-stream. Counts are `tokens`; where only `billed_units` are
told, these. Citations are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .base import Api, Draft, StreamReader
from .parts import (
    MAX_BLOCKS,
    add_answer,
    add_messages,
    count,
    fields,
    integer,
    items,
    media_part,
    named_part,
    number,
    other_part,
    reasoning_part,
    strings,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
)

__all__ = ["APIS", "CohereV1Stream", "read_cohere_v1_request", "read_cohere_v1_response"]

_INPUTS = ("texts", "inputs", "images")


class _Chat:
    """Version 2 (see `Api`)."""

    name = "cohere.chat"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By /v2/chat, with a list of messages."""
        if not path.rstrip("/").endswith("/v2/chat"):
            return False
        return not request or isinstance(request.get("messages"), list)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says."""
        _read_options(request, draft)
        add_messages(draft, [_message(message) for message in items(request.get("messages"))])

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer, or an error, says."""
        response = fields(response)
        message = response.get("message")
        if not isinstance(message, dict):
            _read_error(response, draft)
            return
        draft.llm_response_id = text(response.get("id"))
        _read_usage(fields(response.get("usage")), draft)
        answer = _message(message)
        add_answer(draft, answer["parts"], text(response.get("finish_reason")), answer["role"])

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events."""
        return _Stream(draft)


class _ChatV1:
    """Version 1 (see `Api`)."""

    name = "cohere.chat.v1"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By /v1/chat, with a message."""
        if not path.rstrip("/").endswith("/v1/chat"):
            return False
        return not request or isinstance(request.get("message"), str)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says."""
        _read_options(request, draft)
        read_cohere_v1_request(request, draft)

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer, or an error, says."""
        read_cohere_v1_response(fields(response), draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for JSON in lines; the last one has the whole answer."""
        return CohereV1Stream(draft)


class _Embed:
    """Both versions (see `Api`)."""

    name = "cohere.embeddings"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By /v2/embed, or /v1/embed with an input of this form."""
        if not path.rstrip("/").endswith(("/v2/embed", "/v1/embed")):
            return False
        return not request or any(isinstance(request.get(name), list) for name in _INPUTS)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; each input becomes a message."""
        _read_options(request, draft)
        draft.operation_name = "embeddings"
        draft.embedding_dimensions = count(request.get("output_dimension"))
        found = [[text_part(words)] for words in strings(request.get("texts"))]
        found += [[media_part(None, uri=uri)] for uri in strings(request.get("images"))]
        found += [_parts(fields(value).get("content")) for value in items(request.get("inputs"))]
        draft.messages = [{"role": "user", "parts": parts} for parts in found]

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in the number of tokens, or an error."""
        response = fields(response)
        draft.llm_response_id = text(response.get("id"))
        if "embeddings" not in response:
            _read_error(response, draft)
        _read_usage(fields(response.get("meta")), draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for a stream of events, which this API does not give."""
        return _Stream(draft)


class _Stream:
    """Reads a streamed answer of version 2 into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._plan: list[str] = []
        self._contents: dict[int, tuple[dict[str, list[str]], str]] = {}  # pieces by field, and the type
        self._calls: dict[int, tuple[dict[str, Any], list[str]]] = {}
        self._finish_reason: str | None = None
        self._started = self._ended = False
        self._handlers: dict[str, Callable[[int, dict[str, Any], dict[str, Any]], None]] = {
            "content-delta": self._content,
            "content-start": self._content,
            "tool-call-delta": self._call_delta,
            "tool-call-start": self._call_start,
            "tool-plan-delta": self._tool_plan,
            "message-start": self._start,
            "message-end": self._end,
        }

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes an event; its type is in its data, too."""
        if type(data) is not dict:
            return
        kind = data.get("type")
        handler = self._handlers.get(kind if type(kind) is str else event)
        if handler is not None:
            handler(at_ns, data, fields(data.get("delta")))

    def end(self) -> None:
        """Puts everything together."""
        draft = self._draft
        plan = "".join(self._plan)
        parts = [reasoning_part(plan)] if plan else []
        for index in sorted(self._contents):
            pieces, kind = self._contents[index]
            content = {name: "".join(found) for name, found in pieces.items()}
            parts.append(_part({"type": kind, **content}))
        for index in sorted(self._calls):
            call, arguments = self._calls[index]
            parts.append(_tool_call(call, "".join(arguments)))
        if self._started or parts:
            add_answer(draft, parts, self._finish_reason)
        if not self._ended:
            draft.reasons.add("no_end")
        elif not self._started:
            draft.reasons.add("malformed")

    def _index(self, data: dict[str, Any]) -> int | None:
        index = data.get("index")
        if type(index) is int and 0 <= index < MAX_BLOCKS:
            return index
        self._draft.reasons.add("malformed")
        return None

    def _content(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        content = fields(fields(delta.get("message")).get("content"))
        index = self._index(data)
        if index is None:
            return
        found = self._contents.get(index)
        if found is None:
            kind = text(content.get("type")) or ("thinking" if "thinking" in content else "text")
            found = self._contents[index] = ({kind: []}, kind)
        for name in ("text", "thinking"):
            piece = content.get(name)
            if isinstance(piece, str) and piece:
                found[0].setdefault(name, []).append(piece)
                self._draft.content_at(at_ns)

    def _call_start(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        call = fields(_first(fields(delta.get("message")).get("tool_calls")))
        index = self._index(data)
        if index is None:
            return
        if index in self._calls:
            self._draft.reasons.add("malformed")
            return
        self._calls[index] = (call, strings(fields(call.get("function")).get("arguments")))
        self._draft.content_at(at_ns)

    def _call_delta(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        call = fields(_first(fields(delta.get("message")).get("tool_calls")))
        index = self._index(data)
        found = None if index is None else self._calls.get(index)
        if found is None:
            self._draft.reasons.add("malformed")
            return
        found[1].extend(strings(fields(call.get("function")).get("arguments")))

    def _tool_plan(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        piece = text(fields(delta.get("message")).get("tool_plan"))
        if piece:
            self._plan.append(piece)
            self._draft.content_at(at_ns)

    def _start(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        self._started = True
        self._draft.llm_response_id = text(data.get("id"))

    def _end(self, at_ns: int, data: dict[str, Any], delta: dict[str, Any]) -> None:
        self._ended = True
        self._finish_reason = text(delta.get("finish_reason"))
        _read_usage(fields(delta.get("usage")), self._draft)
        if error := text(delta.get("error")):
            self._draft.error_type = self._finish_reason or "error"
            self._draft.error_message = error


class CohereV1Stream:
    """Reads a streamed answer of version 1 into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._texts: list[str] = []
        self._last: dict[str, Any] | None = None

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes an event."""
        data = fields(data)
        kind, piece = data.get("event_type"), data.get("text")
        if kind == "text-generation" and isinstance(piece, str) and piece:
            self._texts.append(piece)
            self._draft.content_at(at_ns)
        elif kind in ("tool-calls-chunk", "tool-calls-generation"):
            self._draft.content_at(at_ns)
        elif kind == "stream-start":
            self._draft.llm_response_id = text(data.get("generation_id"))
        elif kind == "stream-end":
            self._last = {"finish_reason": data.get("finish_reason"), **fields(data.get("response"))}

    def end(self) -> None:
        """Puts everything together."""
        if self._last is None:
            self._draft.reasons.add("no_end")
        if self._last or self._texts:
            read_cohere_v1_response({"text": "".join(self._texts), **(self._last or {})}, self._draft)


def read_cohere_v1_request(request: dict[str, Any], draft: Draft) -> None:
    """Fills in the messages of version 1."""
    draft.system_instructions = [text_part(words) for words in strings(request.get("preamble"))]
    roles = {"CHATBOT": "assistant", "USER": "user", "SYSTEM": "system", "TOOL": "tool"}
    history = [*items(request.get("chat_history")), {"role": "USER", "message": request.get("message")}]
    for value in history:
        entry = fields(value)
        role = text(entry.get("role")) or "unknown"
        parts = [text_part(words) for words in strings(entry.get("message")) if words]
        parts += [_tool_call_v1(call) for call in items(entry.get("tool_calls"))]
        parts += [tool_result_part(None, result) for result in items(entry.get("tool_results"))]
        draft.messages.append({"role": roles.get(role.upper(), role), "parts": parts})
    if results := items(request.get("tool_results")):
        parts = [tool_result_part(None, result) for result in results]
        draft.messages.append({"role": "tool", "parts": parts})


def read_cohere_v1_response(response: dict[str, Any], draft: Draft) -> None:
    """Fills in an answer of version 1."""
    if "text" not in response:
        _read_error(response, draft)
        return
    draft.llm_response_id = text(response.get("generation_id")) or draft.llm_response_id
    _read_usage(fields(response.get("meta")), draft)
    parts = [text_part(words) for words in strings(response["text"]) if words]
    parts += [_tool_call_v1(call) for call in items(response.get("tool_calls"))]
    add_answer(draft, parts, text(response.get("finish_reason")))


def _read_error(response: dict[str, Any], draft: Draft) -> None:
    draft.error_message = text(response.get("message"))
    if draft.error_message is None:
        draft.reasons.add("malformed")
    else:
        draft.error_type = draft.error_type or "error"


def _read_options(request: dict[str, Any], draft: Draft) -> None:
    draft.provider_name = "cohere"
    draft.request_model = text(request.get("model"))
    draft.tool_definitions = items(request.get("tools"))
    draft.temperature = number(request.get("temperature"))
    draft.top_p = number(request.get("p"))
    draft.top_k = number(request.get("k"))
    draft.max_tokens = count(request.get("max_tokens"))
    draft.seed = integer(request.get("seed"))
    draft.frequency_penalty = number(request.get("frequency_penalty"))
    draft.presence_penalty = number(request.get("presence_penalty"))
    draft.stop_sequences = strings(request.get("stop_sequences"))
    if fields(request.get("response_format")).get("type") == "json_object":
        draft.output_type = "json"


def _read_usage(usage: dict[str, Any], draft: Draft) -> None:
    tokens, billed = fields(usage.get("tokens")), fields(usage.get("billed_units"))

    def known(name: str) -> int | None:
        found = count(tokens.get(name))
        return count(billed.get(name)) if found is None else found

    draft.input_tokens = known("input_tokens")
    draft.output_tokens = known("output_tokens")
    draft.cache_read_input_tokens = count(usage.get("cached_tokens"))


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list) and value else value


def _message(message: Any) -> dict[str, Any]:
    message = fields(message)
    role = text(message.get("role")) or "assistant"
    content = message.get("content")
    if role == "tool":
        response = content if isinstance(content, str) else _parts(content)
        return {"role": role, "parts": [tool_result_part(text(message.get("tool_call_id")), response)]}
    plan = text(message.get("tool_plan"))
    parts = [reasoning_part(plan)] if plan else []
    parts += _parts(content)
    for call in items(message.get("tool_calls")):
        parts.append(_tool_call(fields(call), fields(fields(call).get("function")).get("arguments")))
    return {"role": role, "parts": parts}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(value) for value in items(content)]


def _part(value: Any) -> dict[str, Any]:
    part = fields(value)
    kind = part.get("type")
    if kind == "text" and isinstance(part.get("text"), str):
        return text_part(part["text"])
    if kind == "thinking" and isinstance(part.get("thinking"), str):
        return reasoning_part(part["thinking"])
    if kind == "image_url":
        uri = text(fields(part.get("image_url")).get("url"))
        if uri is not None:
            return {**media_part(None, uri=uri), "modality": "image"}
    if kind == "document" and "document" in part:
        return named_part("document", part["document"])
    return other_part(value)


def _tool_call(call: dict[str, Any], arguments: Any) -> dict[str, Any]:
    function = fields(call.get("function"))
    return tool_call_part(text(call.get("id")), text(function.get("name")), arguments or {})


def _tool_call_v1(call: Any) -> dict[str, Any]:
    call = fields(call)
    return tool_call_part(None, text(call.get("name")), call.get("parameters"))


APIS: tuple[Api, ...] = (_Chat(), _ChatV1(), _Embed())
