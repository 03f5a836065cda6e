"""OpenAI's SDK: Chat Completions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from typing import Any

import openai

from . import common
from .common import Ask, AskAsync, Connection, Talk, View

__all__ = ["SCENARIOS", "asking", "asking_async", "messages", "settings", "tools", "usage"]

SCENARIOS = [*common.SCENARIOS, "error-midway", "embeddings"]
_EMBEDDING = "text-embedding-3-small"


def settings(connection: Connection) -> dict[str, Any]:
    """For clients of this SDK."""
    key = os.environ.get("OPENAI_API_KEY", "none")
    return {"base_url": f"{connection.url}/v1", "api_key": key, "max_retries": 0}


def messages(talk: Talk) -> list[dict[str, Any]]:
    """As this API has them."""
    made: list[dict[str, Any]] = [
        {"role": "system", "content": talk.system},
        {"role": "user", "content": [{"type": "text", "text": talk.prompt}]},
    ]
    for view, results in talk.results():
        calls = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])},
            }
            for call, _ in results
        ]
        made.append({"role": "assistant", "content": view.text or None, "tool_calls": calls})
        made += [{"role": "tool", "tool_call_id": call["id"], "content": result} for call, result in results]
    return made


def tools(talk: Talk) -> list[dict[str, Any]]:
    """As this API, and those like it, have them."""
    return [
        {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}
        for name, schema in talk.tools.items()
    ]


def _request(talk: Talk) -> dict[str, Any]:
    request: dict[str, Any] = {"model": "gpt-5-mini", "messages": messages(talk), "temperature": 0.5}
    if talk.tools:
        request["tools"] = tools(talk)
    if talk.streaming:
        request.update(stream=True, stream_options={"include_usage": True})
    return request


def usage(counted: Any) -> dict[str, int]:
    """Of Chat Completions."""
    return {
        "input": counted.prompt_tokens,
        "output": counted.completion_tokens,
        "cache_read": counted.prompt_tokens_details.cached_tokens,
        "cache_creation": counted.prompt_tokens_details.cache_write_tokens,
        "reasoning": counted.completion_tokens_details.reasoning_tokens,
    }


def _embedded(answer: Any) -> View:
    return View(usage={"input": answer.usage.prompt_tokens}, model=answer.model)


def _whole(answer: Any) -> View:
    (choice,) = answer.choices
    message = choice.message
    calls = [
        {"id": call.id, "name": call.function.name, "arguments": json.loads(call.function.arguments)}
        for call in message.tool_calls or []
    ]
    return View(
        text=message.content or "",
        reasoning=getattr(message, "reasoning_content", ""),
        tool_calls=calls,
        usage=usage(answer.usage),
        finish_reasons=[choice.finish_reason],
        model=answer.model,
        response_id=answer.id,
    )


def _joined(chunks: list[Any]) -> View:
    view, calls = View(), dict[int, dict[str, Any]]()
    for chunk in chunks:
        view.model, view.response_id = chunk.model, chunk.id
        if chunk.usage:
            view.usage = usage(chunk.usage)
        for choice in chunk.choices:
            view.text += choice.delta.content or ""
            view.reasoning += getattr(choice.delta, "reasoning_content", "")
            for part in choice.delta.tool_calls or []:
                if part.id:
                    calls[part.index] = {"id": part.id, "name": part.function.name, "arguments": ""}
                calls[part.index]["arguments"] += part.function.arguments
            if choice.finish_reason:
                view.finish_reasons.append(choice.finish_reason)
    view.tool_calls = [{**calls[at], "arguments": json.loads(calls[at]["arguments"])} for at in sorted(calls)]
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    http_client = connection.client(openai.DefaultHttpxClient)
    with openai.OpenAI(**settings(connection), http_client=http_client) as client:

        def ask(talk: Talk) -> View:
            try:
                if talk.scenario == "embeddings":
                    return _embedded(client.embeddings.create(model=_EMBEDDING, input=[talk.prompt]))
                answer: Any = client.chat.completions.create(**_request(talk))
                return _joined(list(answer)) if talk.streaming else _whole(answer)
            except openai.APIError as error:
                return View(status=getattr(error, "status_code", 200))

        yield ask


@contextlib.asynccontextmanager
async def asking_async(connection: Connection) -> AsyncIterator[AskAsync]:
    """What asks."""
    http_client = connection.client(openai.DefaultAsyncHttpxClient)
    async with openai.AsyncOpenAI(**settings(connection), http_client=http_client) as client:

        async def ask(talk: Talk) -> View:
            try:
                if talk.scenario == "embeddings":
                    return _embedded(await client.embeddings.create(model=_EMBEDDING, input=[talk.prompt]))
                answer: Any = await client.chat.completions.create(**_request(talk))
                return _joined([chunk async for chunk in answer]) if talk.streaming else _whole(answer)
            except openai.APIError as error:
                return View(status=getattr(error, "status_code", 200))

        yield ask
