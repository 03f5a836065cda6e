"""Anthropic's Messages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .calls import Call, Told, arguments_pieces, sse, text_of
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "text/event-stream"
_FINISH = {"stop": "end_turn", "tool": "tool_use", "length": "max_tokens"}
_ERRORS = {
    "rate_limit": "rate_limit_error",
    "bad_request": "invalid_request_error",
    "overloaded": "overloaded_error",
}


def _items(messages: list[dict[str, Any]]) -> list[list[Any]]:
    found: list[list[Any]] = []
    for message in messages:
        role, content = message["role"], message["content"]
        for block in [{"type": "text", "text": content}] if isinstance(content, str) else content:
            kind = block["type"]
            if kind == "text":
                found.append([role, kind, block["text"]])
            elif kind == "thinking":
                found.append([role, "reasoning", block["thinking"]])
            elif kind == "tool_use":
                call = {"id": block["id"], "name": block["name"], "arguments": block["input"]}
                found.append([role, "tool_call", call])
            elif kind == "tool_result":
                response = {"id": block["tool_use_id"], "response": text_of(block["content"])}
                found.append([role, "tool_call_response", response])
    return found


def read(path: str, request: dict[str, Any]) -> Call:
    system = request.get("system") or []
    texts = [system] if isinstance(system, str) else [block["text"] for block in system]
    tools = [tool["name"] for tool in request.get("tools") or []]
    sent = _items(request["messages"])
    usage = ("input", "output", "cache_read", "cache_creation", "reasoning")
    return Call(
        "anthropic.messages", request["model"], bool(request.get("stream")), texts, sent, tools, usage
    )


def told(call: Call, answer: Answer) -> Told:
    error = answer.error or (answer.breaks if call.streaming else None)
    types = [_ERRORS[error.kind]] if error else []
    return Told(f"{call.model}-20250929", f"msg_{answer.id}", [_FINISH[answer.finish]], types)


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if answer.reasoning:
        thinking = "".join(answer.reasoning)
        blocks.append({"type": "thinking", "thinking": thinking, "signature": answer.signature})
    if answer.text:
        blocks.append({"type": "text", "text": "".join(answer.text)})
    for call in answer.tool_calls:
        blocks.append({"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments})
    return blocks


def _message(call: Call, answer: Answer) -> dict[str, Any]:
    words, tokens = told(call, answer), answer.tokens
    return {
        "id": words.response_id,
        "type": "message",
        "role": "assistant",
        "model": words.model,
        "content": _blocks(answer),
        "stop_reason": _FINISH[answer.finish],
        "stop_sequence": None,
        "usage": {
            "input_tokens": tokens.uncached,
            "cache_creation_input_tokens": tokens.cache_creation,
            "cache_read_input_tokens": tokens.cache_read,
            "output_tokens": tokens.output,
            "output_tokens_details": {"thinking_tokens": tokens.reasoning},
        },
    }


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    return _message(call, answer)


def _deltas(answer: Answer, block: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """How a block begins, and what is added to it."""
    if block["type"] == "thinking":
        deltas: list[dict[str, Any]] = [{"type": "thinking_delta", "thinking": t} for t in answer.reasoning]
        deltas.append({"type": "signature_delta", "signature": answer.signature})
        return {**block, "thinking": "", "signature": ""}, deltas
    if block["type"] == "text":
        return {**block, "text": ""}, [{"type": "text_delta", "text": text} for text in answer.text]
    pieces = arguments_pieces(block["input"])
    return {**block, "input": {}}, [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]


def _events(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    message = _message(call, answer)
    begun = {**message, "content": [], "stop_reason": None}
    counts = {name: count for name, count in message["usage"].items() if name.startswith("output_")}
    started = {**message["usage"], "output_tokens": 1, "output_tokens_details": None}
    yield {"type": "message_start", "message": {**begun, "usage": started}}
    yield {"type": "ping"}
    for index, block in enumerate(message["content"]):
        start, deltas = _deltas(answer, block)
        yield {"type": "content_block_start", "index": index, "content_block": start}
        for delta in deltas:
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    ending = {"stop_reason": message["stop_reason"], "stop_sequence": None}
    yield {"type": "message_delta", "delta": ending, "usage": counts}
    yield {"type": "message_stop"}


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    for number, event in enumerate(_events(call, answer)):
        if answer.breaks and number > 5:
            yield sse(refusal(answer.breaks)[1], "error")
            return
        yield sse(event, event["type"])


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    body = {"type": "error", "error": {"type": _ERRORS[error.kind], "message": error.message}}
    limits = {name.replace("x-", "anthropic-"): value for name, value in error.headers.items()}
    return {"request-id": "req_1", **limits}, body
