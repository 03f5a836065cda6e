"""Amazon Bedrock's Converse and ConverseStream, the latter as a stream of binary events.

The framing is that of the smithy specification, application/vnd.amazon.eventstream.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from .calls import Call, Told, arguments_pieces, compact
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "application/vnd.amazon.eventstream"
_FINISH = {"stop": "end_turn", "tool": "tool_use", "length": "max_tokens"}
_ERRORS = {
    "rate_limit": "ThrottlingException",
    "bad_request": "ValidationException",
    "overloaded": "ServiceUnavailableException",
}
_STRING = 7  # type of a header's value


def _items(messages: list[dict[str, Any]]) -> list[list[Any]]:
    found: list[list[Any]] = []
    for message in messages:
        role = message["role"]
        for block in message["content"]:
            if "text" in block:
                found.append([role, "text", block["text"]])
            elif reasoning := block.get("reasoningContent"):
                found.append([role, "reasoning", reasoning["reasoningText"]["text"]])
            elif use := block.get("toolUse"):
                call = {"id": use["toolUseId"], "name": use["name"], "arguments": use["input"]}
                found.append([role, "tool_call", call])
            elif result := block.get("toolResult"):
                response = {"id": result["toolUseId"], "response": result["content"][0]["text"]}
                found.append([role, "tool_call_response", response])
    return found


def read(path: str, request: dict[str, Any]) -> Call:
    _, _, model, operation = path.split("/")[-4:]
    system = [block["text"] for block in request.get("system", [])]
    tools = [tool["toolSpec"]["name"] for tool in request.get("toolConfig", {}).get("tools", [])]
    usage = ("input", "output", "cache_read", "cache_creation")
    streaming = operation == "converse-stream"
    sent = _items(request["messages"])
    return Call("bedrock.converse", unquote(model), streaming, system, sent, tools, usage)


def told(call: Call, answer: Answer) -> Told:
    types = [_ERRORS[answer.error.kind]] if answer.error else []
    return Told(None, None, [_FINISH[answer.finish]], types)


def _usage(answer: Answer) -> dict[str, Any]:
    tokens = answer.tokens
    return {
        "inputTokens": tokens.uncached,
        "outputTokens": tokens.output,
        "totalTokens": tokens.input + tokens.output,
        "cacheReadInputTokens": tokens.cache_read,
        "cacheWriteInputTokens": tokens.cache_creation,
    }


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if answer.reasoning:
        reasoning = {"text": "".join(answer.reasoning), "signature": answer.signature}
        content.append({"reasoningContent": {"reasoningText": reasoning}})
    if answer.text:
        content.append({"text": "".join(answer.text)})
    for item in answer.tool_calls:
        use = {"toolUseId": item.id, "name": item.name, "input": item.arguments}
        content.append({"toolUse": use})
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _FINISH[answer.finish],
        "usage": _usage(answer),
        "metrics": {"latencyMs": 551},
    }


def _frame(name: str, data: dict[str, Any]) -> bytes:
    pairs = {":event-type": name, ":content-type": "application/json", ":message-type": "event"}
    headers = b"".join(
        struct.pack(
            f">B{len(key)}sBH{len(value)}s", len(key), key.encode(), _STRING, len(value), value.encode()
        )
        for key, value in pairs.items()
    )
    payload = compact(data).encode()
    prelude = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack(">I", zlib.crc32(prelude)) + headers + payload
    return message + struct.pack(">I", zlib.crc32(message))


def _blocks(answer: Answer) -> Iterator[tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """How each block begins (if that is told), and what is added to it."""
    if answer.reasoning:
        deltas: list[dict[str, Any]] = [{"reasoningContent": {"text": text}} for text in answer.reasoning]
        yield None, [*deltas, {"reasoningContent": {"signature": answer.signature}}]
    if answer.text:
        yield None, [{"text": text} for text in answer.text]
    for item in answer.tool_calls:
        deltas = [{"toolUse": {"input": piece}} for piece in arguments_pieces(item.arguments)]
        yield {"toolUse": {"toolUseId": item.id, "name": item.name}}, deltas


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    yield _frame("messageStart", {"role": "assistant"})
    for index, (start, deltas) in enumerate(_blocks(answer)):
        if start:
            yield _frame("contentBlockStart", {"contentBlockIndex": index, "start": start})
        for delta in deltas:
            yield _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})
        yield _frame("contentBlockStop", {"contentBlockIndex": index})
    yield _frame("messageStop", {"stopReason": _FINISH[answer.finish]})
    yield _frame("metadata", {"usage": _usage(answer), "metrics": {"latencyMs": 551}})


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    return {**error.headers, "x-amzn-errortype": _ERRORS[error.kind]}, {"message": error.message}
