"""Gemini's generateContent and streamGenerateContent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from .calls import Call, Told, sse
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "text/event-stream"
_FINISH = {"stop": "STOP", "tool": "STOP", "length": "MAX_TOKENS"}
_ERRORS = {"rate_limit": "RESOURCE_EXHAUSTED", "bad_request": "INVALID_ARGUMENT", "overloaded": "UNAVAILABLE"}
_ROLES = {"model": "assistant"}


def _items(contents: list[dict[str, Any]]) -> list[list[Any]]:
    found: list[list[Any]] = []
    for content in contents:
        role = _ROLES.get(content["role"], content["role"])
        for part in content["parts"]:
            if "text" in part:
                found.append([role, "reasoning" if part.get("thought") else "text", part["text"]])
            elif call := part.get("functionCall"):
                item = {"id": call.get("id"), "name": call["name"], "arguments": call["args"]}
                found.append([role, "tool_call", item])
            elif result := part.get("functionResponse"):
                response = {"id": result.get("id"), "response": result["response"]}
                found.append([role, "tool_call_response", response])
    return found


def read(path: str, request: dict[str, Any]) -> Call:
    named = re.search(r"/models/([^/:]+):(stream)?", path)
    assert named, path
    system = [part["text"] for part in request.get("systemInstruction", {}).get("parts", [])]
    tools = [
        function["name"] for tool in request.get("tools", []) for function in tool["functionDeclarations"]
    ]
    sent, usage = _items(request["contents"]), ("input", "output", "cache_read", "reasoning")
    return Call("gemini", named[1], bool(named[2]), system, sent, tools, usage)


def told(call: Call, answer: Answer) -> Told:
    types = [_ERRORS[answer.error.kind]] if answer.error else []
    return Told(f"{call.model}-001", answer.id, [_FINISH[answer.finish]], types)


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    usage = {
        "promptTokenCount": tokens.input,
        "candidatesTokenCount": tokens.output - tokens.reasoning,
        "totalTokenCount": tokens.input + tokens.output,
        "cachedContentTokenCount": tokens.cache_read,
        "thoughtsTokenCount": tokens.reasoning,
    }
    return {name: count for name, count in usage.items() if count}


def _parts(answer: Answer, *, joined: bool) -> list[dict[str, Any]]:
    reasoning = ["".join(answer.reasoning)] if joined else answer.reasoning
    text = ["".join(answer.text)] if joined else answer.text
    parts: list[dict[str, Any]] = [{"text": piece, "thought": True} for piece in reasoning if piece]
    parts += [{"text": piece} for piece in text if piece]
    for call in answer.tool_calls:
        parts.append({"functionCall": {"id": call.id, "name": call.name, "args": call.arguments}})
    return parts


def _chunk(call: Call, answer: Answer, parts: list[dict[str, Any]], *, last: bool) -> dict[str, Any]:
    words = told(call, answer)
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = _FINISH[answer.finish]
    usage = _usage(answer)
    if not last:  # it counts as it goes
        usage = {"promptTokenCount": usage["promptTokenCount"], "totalTokenCount": usage["promptTokenCount"]}
    return {
        "candidates": [candidate],
        "usageMetadata": usage,
        "modelVersion": words.model,
        "responseId": words.response_id,
    }


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    return _chunk(call, answer, _parts(answer, joined=True), last=True)


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    for part in _parts(answer, joined=False):
        yield sse(_chunk(call, answer, [part], last=False)).replace(b"\n", b"\r\n")
    yield sse(_chunk(call, answer, [{"text": ""}], last=True)).replace(b"\n", b"\r\n")


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    body = {"code": error.status, "message": error.message, "status": _ERRORS[error.kind]}
    return error.headers, {"error": body}
