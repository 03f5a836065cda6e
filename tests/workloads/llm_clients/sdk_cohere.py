"""Cohere's SDK: chat of version 2."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import cohere
import httpx
from cohere.core.api_error import ApiError

from .common import SCENARIOS, Ask, Connection, Talk, View
from .sdk_openai import messages, tools

__all__ = ["SCENARIOS", "asking"]


def _usage(counted: Any) -> dict[str, int]:
    tokens = counted.tokens
    return {
        "input": int(tokens.input_tokens),
        "output": int(tokens.output_tokens),
        "cache_read": int(counted.cached_tokens),
    }


def _call(call: Any) -> dict[str, Any]:
    return {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}


def _whole(answer: Any) -> View:
    view = View(response_id=answer.id, finish_reasons=[answer.finish_reason], usage=_usage(answer.usage))
    for part in answer.message.content or []:
        if part.type == "thinking":
            view.reasoning += part.thinking
        else:
            view.text += part.text
    view.tool_calls = [_call(call) for call in answer.message.tool_calls or []]
    return view


def _joined(events: Iterator[Any]) -> View:
    view = View()
    for event in events:
        delta: Any = getattr(event, "delta", None)
        if event.type == "message-start":
            view.response_id = event.id
        elif event.type == "content-delta":
            view.text += delta.message.content.text or ""
            view.reasoning += delta.message.content.thinking or ""
        elif event.type == "tool-call-start":
            view.tool_calls.append(_call(delta.message.tool_calls))
        elif event.type == "tool-call-delta":
            view.tool_calls[-1]["arguments"] += delta.message.tool_calls.function.arguments
        elif event.type == "message-end":
            view.finish_reasons, view.usage = [delta.finish_reason], _usage(delta.usage)
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    client = cohere.ClientV2("none", base_url=connection.url, httpx_client=connection.client(httpx.Client))

    def ask(talk: Talk) -> View:
        asked: dict[str, Any] = {"model": "command-a-03-2025", "messages": messages(talk)}
        asked["request_options"] = {"max_retries": 0}
        if talk.tools:
            asked["tools"] = tools(talk)
        try:
            view = _joined(client.chat_stream(**asked)) if talk.streaming else _whole(client.chat(**asked))
        except ApiError as error:
            return View(status=error.status_code or 0)
        view.tool_calls = [{**call, "arguments": json.loads(call["arguments"])} for call in view.tool_calls]
        return view

    yield ask
