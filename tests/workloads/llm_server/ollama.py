"""Ollama's /api/chat and /api/generate, streamed as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .calls import Call, Told, ndjson
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = "application/x-ndjson"
_FINISH = {"stop": "stop", "tool": "stop", "length": "length"}


def _items(messages: list[dict[str, Any]]) -> tuple[list[str], list[list[Any]]]:
    system, found = [], list[list[Any]]()
    for message in messages:
        role = message["role"]
        if role == "system":
            system.append(message["content"])
        elif role == "tool":
            found.append([role, "tool_call_response", {"response": message["content"]}])
        else:
            if thinking := message.get("thinking"):
                found.append([role, "reasoning", thinking])
            if text := message.get("content"):
                found.append([role, "text", text])
            for call in message.get("tool_calls") or []:
                function = call["function"]
                content = {"name": function["name"], "arguments": function["arguments"]}
                found.append([role, "tool_call", content])
    return system, found


def read(path: str, request: dict[str, Any]) -> Call:
    if path.endswith("/generate"):
        system = [request["system"]] if request.get("system") else []
        sent: list[list[Any]] = [["user", "text", request["prompt"]]]
    else:
        system, sent = _items(request["messages"])
    tools = [tool["function"]["name"] for tool in request.get("tools") or []]
    api = "ollama.generate" if path.endswith("/generate") else "ollama.chat"
    streaming = bool(request.get("stream", True))  # unlike others, it streams if not told otherwise
    return Call(api, request["model"], streaming, system, sent, tools, ("input", "output"), ids=False)


def told(call: Call, answer: Answer) -> Told:
    return Told(
        call.model, None, [_FINISH[answer.finish]], [str(answer.error.status)] if answer.error else []
    )


def _line(call: Call, content: dict[str, Any]) -> dict[str, Any]:
    head = {"model": call.model, "created_at": "2025-08-07T00:00:00.123456789Z"}
    if call.api == "ollama.chat":
        return {**head, "message": {"role": "assistant", "content": "", **content}, "done": False}
    content = {("response" if name == "content" else name): value for name, value in content.items()}
    return {**head, "response": "", **content, "done": False}


def _done(call: Call, answer: Answer, content: dict[str, Any]) -> dict[str, Any]:
    return {
        **_line(call, content),
        "done": True,
        "done_reason": _FINISH[answer.finish],
        "total_duration": 5043500667,
        "load_duration": 5025959,
        "prompt_eval_count": answer.tokens.input,
        "prompt_eval_duration": 325953000,
        "eval_count": answer.tokens.output,
        "eval_duration": 4709213000,
    }


def _calls(answer: Answer) -> list[dict[str, Any]]:
    return [{"function": {"name": call.name, "arguments": call.arguments}} for call in answer.tool_calls]


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    content: dict[str, Any] = {"content": "".join(answer.text)}
    if answer.reasoning:
        content["thinking"] = "".join(answer.reasoning)
    if answer.tool_calls:
        content["tool_calls"] = _calls(answer)
    return _done(call, answer, content)


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    for text in answer.reasoning:
        yield ndjson(_line(call, {"thinking": text}))
    for text in answer.text:
        yield ndjson(_line(call, {"content": text}))
    for item in _calls(answer):
        yield ndjson(_line(call, {"tool_calls": [item]}))
    yield ndjson(_done(call, answer, {}))


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    return error.headers, {"error": error.message}
