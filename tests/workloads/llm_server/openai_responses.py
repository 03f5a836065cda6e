"""OpenAI's Responses: over HTTP, and the same events over a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from . import openai_chat
from .calls import Call, Told, arguments_pieces, compact, sse, text_of
from .scenarios import Answer, Error

__all__ = ["KIND", "events", "read", "refusal", "stream", "told", "whole"]

KIND = "text/event-stream"


def _items(sent: Any) -> tuple[list[str], list[list[Any]]]:
    system, found = [], list[list[Any]]()
    for item in [{"role": "user", "content": sent}] if isinstance(sent, str) else sent:
        kind, role = item.get("type", "message"), item.get("role", "assistant")
        if kind == "message" and role in {"system", "developer"}:
            system.append(text_of(item["content"]))
        elif kind == "message":
            found.append([role, "text", text_of(item["content"])])
        elif kind == "reasoning":
            found.append([role, "reasoning", text_of(item["summary"])])
        elif kind == "function_call":
            arguments = json.loads(item["arguments"])
            content = {"id": item["call_id"], "name": item["name"], "arguments": arguments}
            found.append([role, "tool_call", content])
        elif kind == "function_call_output":
            content = {"id": item["call_id"], "response": item["output"]}
            found.append(["tool", "tool_call_response", content])
    return system, found


def read(path: str, request: dict[str, Any]) -> Call:
    system, sent = _items(request["input"])
    if instructions := request.get("instructions"):
        system.insert(0, instructions)
    tools = [tool["name"] for tool in request.get("tools") or []]
    streaming = bool(request.get("stream")) or request.get("type") == "response.create"
    return Call("openai.responses", request["model"], streaming, system, sent, tools)


def told(call: Call, answer: Answer) -> Told:
    words = openai_chat.told(call, answer)
    words.response_id = f"resp_{answer.id}"
    words.finish_reasons = ["max_output_tokens" if answer.finish == "length" else "completed"]
    return words


def _output(answer: Answer, status: str = "completed") -> list[dict[str, Any]]:
    output: list[dict[str, Any]] = []
    if answer.reasoning:
        summary = [{"type": "summary_text", "text": "".join(answer.reasoning)}]
        reasoning = {"id": f"rs_{answer.id}", "type": "reasoning", "summary": summary}
        output.append({**reasoning, "encrypted_content": answer.signature})
    if answer.text:
        part = {"type": "output_text", "text": "".join(answer.text), "annotations": [], "logprobs": []}
        message = {"id": f"msg_{answer.id}", "type": "message", "role": "assistant"}
        output.append({**message, "status": status, "content": [part]})
    for number, call in enumerate(answer.tool_calls):
        item = {"id": f"fc_{answer.id}{number}", "type": "function_call", "status": status}
        output.append({**item, "call_id": call.id, "name": call.name, "arguments": compact(call.arguments)})
    return output


def _response(call: Call, answer: Answer, status: str) -> dict[str, Any]:
    words = told(call, answer)
    done, tokens = status != "in_progress", answer.tokens
    return {
        "id": words.response_id,
        "object": "response",
        "created_at": 1754500000,
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": call.system[0] if call.system else None,
        "model": words.model,
        "output": _output(answer) if done else [],
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": tokens.input,
            "input_tokens_details": openai_chat.cached_tokens(tokens),
            "output_tokens": tokens.output,
            "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
            "total_tokens": tokens.input + tokens.output,
        }
        if done
        else None,
    }


def _final(answer: Answer) -> str:
    return "incomplete" if answer.finish == "length" else "completed"


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    return _response(call, answer, _final(answer))


def _item_events(answer: Answer, at: int, item: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    where: dict[str, Any] = {"item_id": item["id"], "output_index": at}
    if item["type"] == "function_call":
        yield "response.output_item.added", {"output_index": at, "item": {**item, "arguments": ""}}
        for piece in arguments_pieces(json.loads(item["arguments"]))[1:]:
            yield "response.function_call_arguments.delta", {**where, "delta": piece}
        done = {**where, "arguments": item["arguments"], "name": item["name"]}
        yield "response.function_call_arguments.done", done
    else:
        key = "summary" if item["type"] == "reasoning" else "content"
        pieces = answer.reasoning if key == "summary" else answer.text
        name = "reasoning_summary" if key == "summary" else "content"
        text = "response.reasoning_summary_text" if key == "summary" else "response.output_text"
        where[f"{key}_index"] = 0
        part = item[key][0]
        yield "response.output_item.added", {"output_index": at, "item": {**item, key: []}}
        yield f"response.{name}_part.added", {**where, "part": {**part, "text": ""}}
        for piece in pieces:
            yield f"{text}.delta", {**where, "delta": piece}
        yield f"{text}.done", {**where, "text": part["text"]}
        yield f"response.{name}_part.done", {**where, "part": part}
    yield "response.output_item.done", {"output_index": at, "item": item}


def events(call: Call, answer: Answer) -> Iterator[dict[str, Any]]:
    """The events of a stream."""
    begun = {"response": _response(call, answer, "in_progress")}
    found = [("response.created", begun), ("response.in_progress", begun)]
    for at, item in enumerate(_output(answer)):
        found += _item_events(answer, at, item)
    final = _final(answer)
    found.append((f"response.{final}", {"response": _response(call, answer, final)}))
    for number, (name, data) in enumerate(found):
        if answer.breaks and number > 5:
            failed = {**begun["response"], "status": "failed"}
            failed["error"] = {"code": "server_error", "message": answer.breaks.message}
            yield {"type": "response.failed", "sequence_number": number, "response": failed}
            return
        yield {"type": name, "sequence_number": number, **data}


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    for event in events(call, answer):
        yield sse(event, event["type"])


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    return openai_chat.refusal(error)
