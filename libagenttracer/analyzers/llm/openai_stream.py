"""Streamed answers of OpenAI's Chat Completions, put together; see `openai_chat`."""

from __future__ import annotations

from typing import Any

import msgspec

from .base import Draft
from .framing import DONE
from .openai_common import content_parts, read_chat_usage, read_error, read_head
from .parts import (
    MAX_BLOCKS,
    add_answer,
    fields,
    items,
    reasoning_part,
    text,
    text_part,
    tool_call_part,
)

__all__ = ["REASONING_FIELDS", "ChatStream"]

REASONING_FIELDS = ("reasoning_content", "reasoning")  # whose content is the same, if both are there


class _Call:
    """A tool call that is being sent."""

    __slots__ = ("arguments", "call_id", "name")

    def __init__(self) -> None:
        self.call_id: str | None = None
        self.name = ""
        self.arguments: list[str] = []


class _Choice:
    """A choice that is being sent."""

    __slots__ = ("calls", "finish_reason", "open_calls", "others", "reasoning", "refusal", "role", "texts")

    def __init__(self) -> None:
        self.role: str | None = None
        self.reasoning: list[str] = []
        self.texts: list[str] = []
        self.refusal: list[str] = []
        self.others: list[dict[str, Any]] = []
        self.calls: list[_Call] = []
        self.open_calls: dict[int, _Call] = {}  # by index, which some servers use again for the next call
        self.finish_reason: str | None = None

    def parts(self) -> list[dict[str, Any]]:
        parts = [reasoning_part("".join(self.reasoning))] if self.reasoning else []
        if self.texts:
            parts.append(text_part("".join(self.texts)))
        if self.refusal:
            parts.append({"type": "refusal", "refusal": "".join(self.refusal)})
        parts += self.others
        for call in self.calls:
            parts.append(tool_call_part(call.call_id, call.name or None, "".join(call.arguments)))
        return parts


class ChatStream:
    """Reads a streamed answer into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._choices: dict[int, _Choice] = {}
        self._usage: dict[str, Any] = {}
        self._done = False

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes a chunk."""
        draft = self._draft
        if type(data) is not dict:
            if event == DONE:
                self._done = True
            return
        if draft.llm_response_id is None or draft.response_model is None:
            read_head(data, draft)
        usage = data.get("usage") or fields(data.get("x_groq")).get("usage")
        if type(usage) is dict:
            self._usage = usage  # the last one counts all
        choices = data.get("choices")
        if type(choices) is list:
            for value in choices:
                if type(value) is dict:
                    self._add(at_ns, value)
        if "error" in data or data.get("object") == "error":
            self._done = read_error(data, draft) or self._done

    def end(self) -> None:
        """Puts everything together."""
        draft = self._draft
        read_chat_usage(self._usage, draft)
        finished = 0
        for index in sorted(self._choices):
            choice = self._choices[index]
            finished += choice.finish_reason is not None
            add_answer(draft, choice.parts(), choice.finish_reason, choice.role or "assistant")
        if not self._done and (finished < len(self._choices) or finished < (draft.choice_count or 1)):
            draft.reasons.add("no_end")
        if not self._choices and draft.error_type is None:
            draft.reasons.add("malformed")

    def _add(self, at_ns: int, value: dict[str, Any]) -> None:
        index = value.get("index", 0)
        choice = self._choices.get(index) if type(index) is int else None
        if choice is None:
            if type(index) is not int or not 0 <= index < MAX_BLOCKS or len(self._choices) >= MAX_BLOCKS:
                self._draft.reasons.add("malformed")
                return
            choice = self._choices[index] = _Choice()
        delta: Any = value.get("delta")
        if type(delta) is not dict:
            delta = {"content": value["text"]} if "text" in value else fields(value.get("message"))
        content = delta.get("content")
        if type(content) is str:
            if content:
                choice.texts.append(content)
                self._draft.content_at(at_ns)
        elif content:
            self._parts(at_ns, choice, content_parts(content))
        if len(delta) > 1 or content is None:
            self._rest(at_ns, choice, delta)
        reason = value.get("finish_reason")
        if type(reason) is str:
            choice.finish_reason = reason
        if "usage" in value and type(value["usage"]) is dict:
            self._usage = value["usage"]

    def _rest(self, at_ns: int, choice: _Choice, delta: dict[str, Any]) -> None:
        """Takes what is in a delta besides its content."""
        role = delta.get("role")
        if type(role) is str:
            choice.role = choice.role or role
        for name in REASONING_FIELDS:
            said = delta.get(name)
            if type(said) is str and said:
                choice.reasoning.append(said)
                self._draft.content_at(at_ns)
                break
        refusal = delta.get("refusal")
        if type(refusal) is str and refusal:
            choice.refusal.append(refusal)
            self._draft.content_at(at_ns)
        for position, call in enumerate(items(delta.get("tool_calls"))):
            self._call(at_ns, choice, position, fields(call))
        if type(delta.get("function_call")) is dict:
            self._call(at_ns, choice, 0, {"index": 0, "function": delta["function_call"]})

    def _parts(self, at_ns: int, choice: _Choice, parts: list[dict[str, Any]]) -> None:
        self._draft.content_at(at_ns)
        for part in parts:
            kept = {"text": choice.texts, "reasoning": choice.reasoning}.get(part["type"])
            if kept is not None:
                kept.append(part["content"])
            else:
                choice.others.append(part)

    def _call(self, at_ns: int, choice: _Choice, position: int, delta: dict[str, Any]) -> None:
        """Takes a piece of a tool call; servers that send calls whole may leave out the index."""
        index = delta.get("index")
        call_id = text(delta.get("id"))
        if index is None:
            index = len(choice.calls) if call_id else position
        if type(index) is not int or not 0 <= index < MAX_BLOCKS or len(choice.calls) >= MAX_BLOCKS:
            self._draft.reasons.add("malformed")
            return
        call = choice.open_calls.get(index)
        if call is None or (call_id and call.call_id and call_id != call.call_id):
            call = choice.open_calls[index] = _Call()
            choice.calls.append(call)
        call.call_id = call.call_id or call_id
        function = fields(delta.get("function")) or fields(delta.get("custom"))
        name = text(function.get("name"))
        if name and not call.name:
            call.name = name
        arguments = function.get("arguments", function.get("input"))
        if isinstance(arguments, str):
            call.arguments.append(arguments)
        elif arguments is not None and not call.arguments:
            call.arguments.append(msgspec.json.encode(arguments).decode())
        self._draft.content_at(at_ns)
