"""Anthropic's SDK: Messages."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic

from . import common
from .common import Ask, AskAsync, Connection, Talk, View, without_none

__all__ = ["SCENARIOS", "asking", "asking_async"]

SCENARIOS = [*common.SCENARIOS, "error-midway"]


def _settings(connection: Connection) -> dict[str, Any]:
    return {"base_url": connection.url, "api_key": "none", "max_retries": 0}


def _request(talk: Talk) -> dict[str, Any]:
    messages: list[dict[str, Any]] = [{"role": "user", "content": talk.prompt}]
    for view, results in talk.results():
        messages.append({"role": "assistant", "content": view.reply})
        content = [
            {"type": "tool_result", "tool_use_id": call["id"], "content": result} for call, result in results
        ]
        messages.append({"role": "user", "content": content})
    request: dict[str, Any] = {
        "model": "claude-sonnet-4-5",
        "max_tokens": 4000,
        "system": [{"type": "text", "text": talk.system, "cache_control": {"type": "ephemeral"}}],
        "messages": messages,
    }
    if "thinking" in talk.scenario:
        request["thinking"] = {"type": "enabled", "budget_tokens": 2000}
    if talk.tools:
        request["tools"] = [
            {"name": name, "description": name, "input_schema": schema} for name, schema in talk.tools.items()
        ]
    return request


def _view(answer: Any) -> View:
    view = View(model=answer.model, response_id=answer.id, finish_reasons=[answer.stop_reason])
    for block in answer.content:
        if block.type == "thinking":
            view.reasoning += block.thinking
        elif block.type == "text":
            view.text += block.text
        elif block.type == "tool_use":
            view.tool_calls.append({"id": block.id, "name": block.name, "arguments": block.input})
    view.reply = [without_none(block.to_dict()) for block in answer.content]
    usage = answer.usage
    view.usage = {
        "input": usage.input_tokens + usage.cache_read_input_tokens + usage.cache_creation_input_tokens,
        "output": usage.output_tokens,
        "cache_read": usage.cache_read_input_tokens,
        "cache_creation": usage.cache_creation_input_tokens,
        "reasoning": usage.output_tokens_details.thinking_tokens,
    }
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    http_client = connection.client(anthropic.DefaultHttpxClient)
    with anthropic.Anthropic(**_settings(connection), http_client=http_client) as client:

        def ask(talk: Talk) -> View:
            try:
                if not talk.streaming:
                    return _view(client.messages.create(**_request(talk)))
                with client.messages.stream(**_request(talk)) as stream:
                    return _view(stream.get_final_message())
            except anthropic.APIStatusError as error:
                return View(status=error.status_code)

        yield ask


@contextlib.asynccontextmanager
async def asking_async(connection: Connection) -> AsyncIterator[AskAsync]:
    """What asks."""
    http_client = connection.client(anthropic.DefaultAsyncHttpxClient)
    async with anthropic.AsyncAnthropic(**_settings(connection), http_client=http_client) as client:

        async def ask(talk: Talk) -> View:
            try:
                if not talk.streaming:
                    return _view(await client.messages.create(**_request(talk)))
                async with client.messages.stream(**_request(talk)) as stream:
                    return _view(await stream.get_final_message())
            except anthropic.APIStatusError as error:
                return View(status=error.status_code)

        yield ask
