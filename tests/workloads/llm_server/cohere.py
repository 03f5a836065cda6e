"""Cohere's v2 chat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from .calls import Call, Told, arguments_pieces, compact, sse, text_of
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "text/event-stream"
_FINISH = {"stop": "COMPLETE", "tool": "TOOL_CALL", "length": "MAX_TOKENS"}


def _items(messages: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    system, found = [], list[list[Any]]()
    for message in messages:
        role, content = message["role"], message.get("content") or []
        if role == "system":
            system.append(text_of(content))
            continue
        if role == "tool":
            response = {"id": message["tool_call_id"], "response": text_of(content)}
            found.append([role, "tool_call_response", response])
            continue
        for part in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = "reasoning" if part["type"] == "thinking" else "text"
            found.append([role, kind, part[part["type"]]])
        for call in message.get("tool_calls") or []:
            function = call["function"]
            arguments = json.loads(function["arguments"])
            found.append(
                [role, "tool_call", {"id": call["id"], "name": function["name"], "arguments": arguments}]
            )
    return system, found


def read(path: str, request: dict[str, Any]) -> Call:
    system, sent = _items(request["messages"])
    tools = [tool["function"]["name"] for tool in request.get("tools") or []]
    usage = ("input", "output", "cache_read")
    return Call("cohere.chat", request["model"], bool(request.get("stream")), system, sent, tools, usage)


def told(call: Call, answer: Answer) -> Told:
    types = [str(answer.error.status)] if answer.error else []
    return Told(None, answer.id, [_FINISH[answer.finish]], types)


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    counts = {"input_tokens": tokens.input, "output_tokens": tokens.output}
    billed = {"input_tokens": tokens.input - 5, "output_tokens": tokens.output}  # without what is added to it
    return {"billed_units": billed, "tokens": counts, "cached_tokens": tokens.cache_read}


def _call(item: Any, arguments: str) -> dict[str, Any]:
    return {"id": item.id, "type": "function", "function": {"name": item.name, "arguments": arguments}}


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        content.append({"type": "thinking", "thinking": "".join(answer.reasoning)})
    if answer.text:
        content.append({"type": "text", "text": "".join(answer.text)})
    if content:
        message["content"] = content
    if answer.tool_calls:
        message["tool_calls"] = [_call(item, compact(item.arguments)) for item in answer.tool_calls]
    finish = _FINISH[answer.finish]
    return {"id": answer.id, "finish_reason": finish, "message": message, "usage": _usage(answer)}


def _events(answer: Answer) -> Iterator[dict[str, Any]]:
    empty = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
    yield {"type": "message-start", "id": answer.id, "delta": {"message": empty}}
    contents = [(kind, pieces) for kind, pieces in _contents(answer) if pieces]
    for index, (kind, pieces) in enumerate(contents):
        start: dict[str, Any] = {"message": {"content": {"type": kind, kind: ""}}}
        yield {"type": "content-start", "index": index, "delta": start}
        for piece in pieces:
            added = {"message": {"content": {kind: piece}}}
            yield {"type": "content-delta", "index": index, "delta": added}
        yield {"type": "content-end", "index": index}
    for index, item in enumerate(answer.tool_calls):
        delta = {"message": {"tool_calls": _call(item, "")}}
        yield {"type": "tool-call-start", "index": index, "delta": delta}
        for piece in arguments_pieces(item.arguments)[1:]:
            delta = {"message": {"tool_calls": {"function": {"arguments": piece}}}}
            yield {"type": "tool-call-delta", "index": index, "delta": delta}
        yield {"type": "tool-call-end", "index": index}
    yield {
        "type": "message-end",
        "id": answer.id,
        "delta": {"finish_reason": _FINISH[answer.finish], "usage": _usage(answer)},
    }


def _contents(answer: Answer) -> list[tuple[str, list[str]]]:
    return [("thinking", answer.reasoning), ("text", answer.text)]


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    for event in _events(answer):
        yield sse(event, event["type"])


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    return error.headers, {"id": "error-1", "message": error.message}
