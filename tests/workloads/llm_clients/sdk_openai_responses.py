"""OpenAI's SDK: Responses."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import openai

from . import common
from .common import Ask, Connection, Talk, View, without_none
from .sdk_openai import settings

__all__ = ["SCENARIOS", "asking", "request", "view_of"]

SCENARIOS = [*common.SCENARIOS, "error-midway"]


def request(talk: Talk) -> dict[str, Any]:
    """What is asked, without whether it is streamed."""
    items: list[dict[str, Any]] = [{"role": "user", "content": [{"type": "input_text", "text": talk.prompt}]}]
    for view, results in talk.results():
        items += view.reply
        items += [
            {"type": "function_call_output", "call_id": call["id"], "output": result}
            for call, result in results
        ]
    asked: dict[str, Any] = {"model": "gpt-5", "instructions": talk.system, "input": items}
    if talk.tools:
        asked["tools"] = [
            {"type": "function", "name": name, "parameters": schema, "strict": False}
            for name, schema in talk.tools.items()
        ]
    return asked


def view_of(answer: Any) -> View:
    """What a response says."""
    view = View(model=answer.model, response_id=answer.id, text=answer.output_text)
    for item in answer.output:
        if item.type == "reasoning":
            view.reasoning += "".join(part.text for part in item.summary)
        elif item.type == "function_call":
            arguments = json.loads(item.arguments)
            view.tool_calls.append({"id": item.call_id, "name": item.name, "arguments": arguments})
    view.reply = [without_none(item.to_dict()) for item in answer.output]
    details = answer.incomplete_details
    view.finish_reasons = [details.reason if details else answer.status]
    view.usage = {
        "input": answer.usage.input_tokens,
        "output": answer.usage.output_tokens,
        "cache_read": answer.usage.input_tokens_details.cached_tokens,
        "cache_creation": answer.usage.input_tokens_details.cache_write_tokens,
        "reasoning": answer.usage.output_tokens_details.reasoning_tokens,
    }
    return view


def _streamed(events: Any) -> View:
    text = ""
    for event in events:
        if event.type == "response.output_text.delta":
            text += event.delta
        elif event.type in {"response.completed", "response.incomplete"}:
            view = view_of(event.response)
            view.text = text
            return view
        elif event.type == "response.failed":
            return View()
    raise ValueError("the stream has no end")


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    http_client = connection.client(openai.DefaultHttpxClient)
    with openai.OpenAI(**settings(connection), http_client=http_client) as client:

        def ask(talk: Talk) -> View:
            try:
                answer: Any = client.responses.create(**request(talk), stream=talk.streaming)
                return _streamed(answer) if talk.streaming else view_of(answer)
            except openai.APIStatusError as error:
                return View(status=error.status_code)

        yield ask
