"""Google's Gen AI SDK."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import httpx
from google import genai
from google.genai import errors, types

from .common import SCENARIOS, Ask, Connection, Talk, View

__all__ = ["SCENARIOS", "asking"]

_MODEL = "gemini-2.5-flash"


def _contents(talk: Talk) -> list[Any]:
    contents: list[Any] = [types.Content(role="user", parts=[types.Part(text=talk.prompt)])]
    for view, results in talk.results():
        contents.append(types.Content(role="model", parts=view.reply))
        parts = [
            types.Part(
                function_response=types.FunctionResponse(
                    id=call["id"], name=call["name"], response={"result": result}
                )
            )
            for call, result in results
        ]
        contents.append(types.Content(role="user", parts=parts))
    return contents


def _config(talk: Talk) -> types.GenerateContentConfig:
    functions = [
        types.FunctionDeclaration(name=name, parameters_json_schema=schema)
        for name, schema in talk.tools.items()
    ]
    return types.GenerateContentConfig(
        system_instruction=talk.system,
        tools=[types.Tool(function_declarations=functions)] if functions else None,
        temperature=0.5,
    )


def _view(chunks: list[Any]) -> View:
    view = View(reply=[])
    for chunk in chunks:
        view.model, view.response_id = chunk.model_version, chunk.response_id
        (candidate,) = chunk.candidates
        for part in candidate.content.parts:
            if part.text and part.thought:
                view.reasoning += part.text
            elif part.text:
                view.text += part.text
            elif call := part.function_call:
                view.tool_calls.append({"id": call.id, "name": call.name, "arguments": call.args})
            if part.text or part.function_call:
                view.reply.append(part)
        if candidate.finish_reason:
            view.finish_reasons.append(candidate.finish_reason.value)
        counted = chunk.usage_metadata
        thoughts = counted.thoughts_token_count or 0
        view.usage = {
            "input": counted.prompt_token_count,
            "output": (counted.candidates_token_count or 0) + thoughts,
            "cache_read": counted.cached_content_token_count or 0,
            "reasoning": thoughts,
        }
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    options = types.HttpOptions(base_url=connection.url, httpx_client=connection.client(httpx.Client))
    client = genai.Client(api_key="none", vertexai=False, http_options=options)

    def ask(talk: Talk) -> View:
        asked: dict[str, Any] = {"model": _MODEL, "contents": _contents(talk), "config": _config(talk)}
        try:
            if talk.streaming:
                return _view(list(client.models.generate_content_stream(**asked)))
            return _view([client.models.generate_content(**asked)])
        except errors.APIError as error:
            return View(status=error.code)

    yield ask
    client.close()
