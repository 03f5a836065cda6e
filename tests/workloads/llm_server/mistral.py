"""Mistral's chat completions: as OpenAI's but for reasoning, which stands among the content."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from . import openai_chat
from .calls import Call, Told, compact, sse, text_of
from .openai_chat import FINISH
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "text/event-stream"


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    """A message as OpenAI would have it."""
    parts = message.get("content")
    if not isinstance(parts, list):
        return message
    reasoning = "".join(text_of(part["thinking"]) for part in parts if part["type"] == "thinking")
    return {**message, "content": text_of(parts), "reasoning_content": reasoning}


def read(path: str, request: dict[str, Any]) -> Call:
    call = openai_chat.read(path, {**request, "messages": [_plain(item) for item in request["messages"]]})
    call.usage = ("input", "output")
    return call


def told(call: Call, answer: Answer) -> Told:
    types = {"rate_limit": ["rate_limited", "1300"], "bad_request": ["invalid_request_invalid_args", "1510"]}
    kinds = types[answer.error.kind] if answer.error else []
    return Told(call.model, answer.id, [FINISH[answer.finish]], kinds)


def _content(text: str, reasoning: str) -> str | list[dict[str, Any]]:
    if not reasoning:
        return text
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": reasoning}]}
    return [thinking, {"type": "text", "text": text}] if text else [thinking]


def _usage(answer: Answer) -> dict[str, int]:
    tokens = answer.tokens
    counts = {"prompt_tokens": tokens.input, "completion_tokens": tokens.output}
    return {**counts, "total_tokens": tokens.input + tokens.output}


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [
        openai_chat.tool_call(call, compact(call.arguments), index=index)
        for index, call in enumerate(answer.tool_calls)
    ]


def _head(call: Call, answer: Answer, kind: str) -> dict[str, Any]:
    return {"id": answer.id, "object": kind, "created": 1754500000, "model": call.model}


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    content = _content("".join(answer.text), "".join(answer.reasoning))
    message: dict[str, Any] = {"role": "assistant", "content": content, "tool_calls": None}
    if answer.tool_calls:
        message["tool_calls"] = _calls(answer)
    choice = {"index": 0, "message": message, "finish_reason": FINISH[answer.finish]}
    return {**_head(call, answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)}


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    head = _head(call, answer, "chat.completion.chunk")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": _content("", text)} for text in answer.reasoning]
    deltas += [{"content": text} for text in answer.text]
    for delta in deltas:
        yield sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]})
    last: dict[str, Any] = {"content": ""}
    if answer.tool_calls:  # they come whole, with the end
        last["tool_calls"] = _calls(answer)
    choice = {"index": 0, "delta": last, "finish_reason": FINISH[answer.finish]}
    yield sse({**head, "choices": [choice], "usage": _usage(answer)})
    yield sse("[DONE]")


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    types = {"rate_limit": ("rate_limited", "1300"), "bad_request": ("invalid_request_invalid_args", "1510")}
    kind, code = types[error.kind]
    body = {"object": "error", "message": error.message, "type": kind, "param": None, "code": code}
    return error.headers, body
