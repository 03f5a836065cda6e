"""OpenAI's Chat Completions, with the `reasoning_content` of compatible servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .calls import Call, Told, arguments_pieces, sse, text_of
from .scenarios import Answer, Error, Tokens, ToolCall

__all__ = ["FINISH", "KIND", "cached_tokens", "read", "refusal", "stream", "told", "tool_call", "whole"]

KIND = "text/event-stream"
FINISH = {"stop": "stop", "tool": "tool_calls", "length": "length"}


def _items(messages: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    """System prompts, and the rest of the messages."""
    system, found = [], list[list[Any]]()
    for message in messages:
        role, content = message["role"], message.get("content")
        if role in {"system", "developer"}:
            system.append(text_of(content))
        elif role == "tool":
            response = {"id": message["tool_call_id"], "response": text_of(content)}
            found.append([role, "tool_call_response", response])
        else:
            if reasoning := message.get("reasoning_content"):
                found.append([role, "reasoning", reasoning])
            if text := text_of(content):
                found.append([role, "text", text])
            for call in message.get("tool_calls") or []:
                function = call["function"]
                arguments = json.loads(function["arguments"])
                content = {"id": call["id"], "name": function["name"], "arguments": arguments}
                found.append([role, "tool_call", content])
    return system, found


def read(path: str, request: dict[str, Any]) -> Call:
    system, sent = _items(request["messages"])
    tools = [tool["function"]["name"] for tool in request.get("tools") or []]
    return Call("openai.chat", request["model"], bool(request.get("stream")), system, sent, tools)


def told(call: Call, answer: Answer) -> Told:
    errors = {"rate_limit": ["tokens", "rate_limit_exceeded"], "bad_request": ["invalid_request_error"]}
    error = answer.error or (answer.breaks if call.streaming else None)
    types = errors.get(error.kind, ["server_error"]) if error else []
    return Told(f"{call.model}-2025-08-07", f"chatcmpl-{answer.id}", [FINISH[answer.finish]], types)


def tool_call(call: ToolCall, arguments: str, **more: Any) -> dict[str, Any]:
    function = {"name": call.name, "arguments": arguments}
    return {**more, "id": call.id, "type": "function", "function": function}


def cached_tokens(tokens: Tokens) -> dict[str, int]:
    return {"cached_tokens": tokens.cache_read, "cache_write_tokens": tokens.cache_creation}


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": cached_tokens(tokens),
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    }


def _head(call: Call, answer: Answer, kind: str) -> dict[str, Any]:
    words = told(call, answer)
    return {"id": words.response_id, "object": kind, "created": 1754500000, "model": words.model}


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.text) or None, "refusal": None}
    if answer.reasoning:
        message["reasoning_content"] = "".join(answer.reasoning)
    if answer.tool_calls:
        message["tool_calls"] = [
            tool_call(item, json.dumps(item.arguments, ensure_ascii=False)) for item in answer.tool_calls
        ]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": FINISH[answer.finish]}
    return {**_head(call, answer, "chat.completion"), "choices": [choice], "usage": _usage(answer)}


def _deltas(answer: Answer) -> Iterator[dict[str, Any]]:
    yield {"role": "assistant", "content": "", "refusal": None}
    for text in answer.reasoning:
        yield {"reasoning_content": text}
    for text in answer.text:
        yield {"content": text}
    pieces = [arguments_pieces(item.arguments) for item in answer.tool_calls]
    for index, item in enumerate(answer.tool_calls):
        yield {"tool_calls": [tool_call(item, pieces[index][0], index=index)]}
    for at in range(1, max(map(len, pieces), default=0)):  # arguments of several tools take turns
        for index, parts in enumerate(pieces):
            if at < len(parts):
                yield {"tool_calls": [{"index": index, "function": {"arguments": parts[at]}}]}


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    head = _head(call, answer, "chat.completion.chunk")
    for number, delta in enumerate(_deltas(answer)):
        if answer.breaks and number > 5:
            yield sse(refusal(answer.breaks)[1])
            return
        yield sse({**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None})
    last = {"index": 0, "delta": {}, "finish_reason": FINISH[answer.finish]}
    yield sse({**head, "choices": [last], "usage": None})
    yield sse({**head, "choices": [], "usage": _usage(answer)})
    yield sse("[DONE]")


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    types = {"rate_limit": ("tokens", "rate_limit_exceeded"), "bad_request": ("invalid_request_error", None)}
    kind, code = types.get(error.kind, ("server_error", None))
    body = {"error": {"message": error.message, "type": kind, "param": None, "code": code}}
    return {"x-request-id": "req_1", **error.headers}, body
