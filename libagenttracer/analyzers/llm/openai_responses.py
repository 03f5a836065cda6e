"""OpenAI's Responses: over HTTP, streamed or not, and over WebSocket.

https://platform.openai.com/docs/api-reference/responses and …/responses-streaming. Encrypted reasoning is
left out, as are items of reasoning without words.
"""

from __future__ import annotations

from typing import Any

from .base import Api, Draft, StreamReader
from .openai_common import output_type_of, read_error
from .parts import (
    MAX_BLOCKS,
    add_answer,
    count,
    fields,
    file_part,
    items,
    media_part,
    number,
    other_part,
    reasoning_part,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
)

__all__ = ["APIS", "TERMINAL_EVENTS", "Responses"]

TERMINAL_EVENTS = ("response.completed", "response.incomplete", "response.failed", "error")
_PENDING = ("queued", "in_progress")  # the answer is yet to be made
_SYSTEM_ROLES = ("system", "developer")
_ARGUMENTS = ("arguments", "input", "action", "actions", "operation")  # where kinds of calls have them
# what a delta belongs to: the type of item, the field within it, and the number of the piece there
_DELTAS = {
    "response.output_text.delta": ("message", "output_text", "content_index"),
    "response.refusal.delta": ("message", "refusal", "content_index"),
    "response.function_call_arguments.delta": ("function_call", "arguments", ""),
    "response.custom_tool_call_input.delta": ("custom_tool_call", "input", ""),
    "response.mcp_call_arguments.delta": ("mcp_call", "arguments", ""),
    "response.code_interpreter_call_code.delta": ("code_interpreter_call", "code", ""),
    "response.reasoning_summary_text.delta": ("reasoning", "summary", "summary_index"),
    "response.reasoning_text.delta": ("reasoning", "content", "content_index"),
}


class Responses:
    """The API itself (see `Api`)."""

    name = "openai.responses"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the end of the path and what is put in."""
        if not path.rstrip("/").endswith("/responses"):
            return False
        given = ("input", "prompt", "instructions", "previous_response_id", "conversation")
        return not request or any(name in request for name in given)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; system and developer messages are the system prompt, too."""
        draft.request_model = text(request.get("model"))
        instructions = request.get("instructions")
        if isinstance(instructions, str):
            draft.system_instructions = [text_part(instructions)]
            instructions = None
        for given in (instructions, request.get("input")):
            system, messages = _input(given)
            draft.system_instructions += system
            draft.messages += messages
        draft.tool_definitions = items(request.get("tools"))
        draft.temperature = number(request.get("temperature"))
        draft.top_p = number(request.get("top_p"))
        draft.max_tokens = count(request.get("max_output_tokens"))
        asked = fields(fields(request.get("text")).get("format")).get("type")
        draft.output_type = output_type_of(asked)
        draft.previous_response_id = text(request.get("previous_response_id"))
        conversation = request.get("conversation")
        draft.conversation_id = text(fields(conversation).get("id")) or text(conversation)

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what a response, or an error, says."""
        response = fields(response)
        _read_head(response, draft)
        if not isinstance(response.get("output"), list):
            if not read_error(response, draft):
                draft.reasons.add("malformed")
            return
        _read_end(response, draft, response["output"])

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events, or for WebSocket messages."""
        return _Stream(draft)


def _read_head(response: dict[str, Any], draft: Draft) -> None:
    draft.llm_response_id = text(response.get("id")) or draft.llm_response_id
    draft.response_model = text(response.get("model")) or draft.response_model


def _read_end(response: dict[str, Any], draft: Draft, output: list[Any]) -> None:
    """Fills in the output, how it ended and what it took."""
    usage = fields(response.get("usage"))
    draft.input_tokens = count(usage.get("input_tokens"))
    read = fields(usage.get("input_tokens_details"))
    draft.cache_read_input_tokens = count(read.get("cached_tokens"))
    draft.cache_creation_input_tokens = count(read.get("cache_write_tokens"))
    draft.output_tokens = count(usage.get("output_tokens"))
    draft.reasoning_output_tokens = count(fields(usage.get("output_tokens_details")).get("reasoning_tokens"))
    read_error(response, draft)
    status = text(response.get("status"))
    if status in _PENDING:
        draft.reasons.add("no_end")
        status = None
    reason = text(fields(response.get("incomplete_details")).get("reason")) or status
    parts = [part for item in output for part in _item(item)[1]]
    if parts or draft.error_type is None:
        add_answer(draft, parts, reason)
    elif reason is not None:
        draft.finish_reasons.append(reason)


def _input(value: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """System prompt and messages; items of the model that follow one another are one message."""
    if isinstance(value, str):
        return [], [{"role": "user", "parts": [text_part(value)]}]
    system: list[dict[str, Any]] = []
    messages: list[dict[str, Any]] = []
    for item in items(value):
        role, parts = _item(item)
        if role in _SYSTEM_ROLES:
            system += parts
        elif role == "assistant" and messages and messages[-1]["role"] == role:
            messages[-1]["parts"] += parts
        elif parts:
            messages.append({"role": role, "parts": parts})
    return system, messages


def _item(value: Any) -> tuple[str, list[dict[str, Any]]]:
    """Role and parts of an item of input or output."""
    item = fields(value)
    kind, role = text(item.get("type")) or "message", text(item.get("role"))
    if kind == "message" and (role or "content" in item):
        return role or "assistant", _content(item.get("content"))
    call_id = text(item.get("call_id"))
    if kind == "reasoning":
        pieces = [*items(item.get("summary")), *items(item.get("content"))]
        words = [said for piece in pieces if (said := text(fields(piece).get("text")))]
        return "assistant", [reasoning_part("\n\n".join(words))] if words else []
    if kind.endswith("_call") and call_id is not None:
        arguments = next((item[name] for name in _ARGUMENTS if name in item), None)
        name = text(item.get("name")) or kind.removesuffix("_call")
        return "assistant", [tool_call_part(call_id, name, arguments)]
    if kind.endswith("_call_output") and call_id is not None:
        output = item.get("output")
        return "tool", [tool_result_part(call_id, _content(output) if isinstance(output, list) else output)]
    answers = kind.endswith(("_output", "_response"))
    return "tool" if answers else "assistant" if item else "unknown", [other_part(value)]


def _content(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(part) for part in items(content)]


def _part(part: Any) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text") and isinstance(part.get("text"), str):
        return text_part(part["text"])
    if kind in ("input_image", "input_file"):
        modality = "image" if kind == "input_image" else "document"
        uri = text(part.get("image_url")) or text(part.get("file_url")) or text(part.get("file_data"))
        file_id = text(part.get("file_id"))
        if uri is not None:
            return {**media_part(None, uri=uri), "modality": modality}
        if file_id is not None:
            return file_part(file_id, modality)
    if kind == "refusal" and isinstance(part.get("refusal"), str):
        return {"type": "refusal", "refusal": part["refusal"]}
    return other_part(part)


class _Item:
    """An item of output that is being sent: the text of each of its pieces."""

    __slots__ = ("pieces", "start", "whole")

    def __init__(self, start: dict[str, Any], *, whole: bool = False) -> None:
        self.start = start
        self.whole = whole  # it came as it is at its end
        self.pieces: dict[tuple[str, int], list[str]] = {}

    def value(self) -> dict[str, Any]:
        """As it would stand in an answer that is not streamed."""
        if self.whole or not self.pieces:
            return self.start
        value = {**self.start, "content": [], "summary": []}
        for (name, _), words in sorted(self.pieces.items(), key=lambda piece: piece[0][1]):
            said = "".join(words)
            if name in ("output_text", "refusal"):
                value["content"].append({"type": name, "text" if name == "output_text" else name: said})
            elif name in ("summary", "content"):
                value[name].append({"text": said})
            else:
                value[name] = said
        return value


class _Stream:
    """Reads a streamed answer into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._items: dict[int, _Item] = {}
        self._end: dict[str, Any] | None = None

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes an event; its type is in its data, too."""
        if type(data) is not dict:
            return
        kind = data.get("type")
        if type(kind) is not str:
            kind = event
        names = _DELTAS.get(kind)
        if names is not None:
            self._delta(at_ns, names, data)
        elif kind in ("response.output_item.added", "response.output_item.done"):
            self._item(at_ns, data, whole=kind.endswith("done"))
        elif kind == "error":
            if "error" not in data:
                data = {"error": {"code": data.get("code"), "message": data.get("message")}}
            read_error(data, self._draft)
            self._end = self._end or {}
        elif type(data.get("response")) is dict:
            response = data["response"]
            _read_head(response, self._draft)
            if kind in TERMINAL_EVENTS:
                self._end = response

    def end(self) -> None:
        """Puts everything together: the end has it all, but some servers leave the output out there."""
        draft = self._draft
        output = items((self._end or {}).get("output"))
        if not output:
            output = [self._items[index].value() for index in sorted(self._items)]
        if self._end is None:
            draft.reasons.add("no_end")
        if self._end is not None or output:
            _read_end(self._end or {}, draft, output)

    def _delta(self, at_ns: int, names: tuple[str, str, str], data: dict[str, Any]) -> None:
        kind, name, number_name = names
        delta, index, piece = data.get("delta"), data.get("output_index"), data.get(number_name, 0)
        item = self._items.get(index) if type(index) is int else None
        if item is None:
            self._draft.reasons.add("malformed")  # it was not announced
            item = self._add(index, {"type": kind})
        if item is None or type(delta) is not str or type(piece) is not int or not delta:
            return
        words = item.pieces.get((name, piece))
        if words is None:
            words = item.pieces[name, piece] = []
        words.append(delta)
        if self._draft.first_content_ns is None:
            self._draft.first_content_ns = at_ns

    def _item(self, at_ns: int, data: dict[str, Any], *, whole: bool) -> None:
        item = fields(data.get("item"))
        self._add(data.get("output_index"), item, whole=whole)
        if whole or text(item.get("type")) not in ("message", "reasoning"):
            self._draft.content_at(at_ns)

    def _add(self, index: Any, start: dict[str, Any], *, whole: bool = False) -> _Item | None:
        if type(index) is not int or not 0 <= index < MAX_BLOCKS:
            self._draft.reasons.add("malformed")
            return None
        item = self._items[index] = _Item(start, whole=whole)
        return item


APIS: tuple[Api, ...] = (Responses(),)
