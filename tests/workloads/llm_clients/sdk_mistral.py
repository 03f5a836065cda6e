"""Mistral's SDK: chat completions."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

from mistralai.client import Mistral, errors, httpclient

from .common import SCENARIOS, Ask, Connection, Talk, View
from .sdk_openai import messages, tools

__all__ = ["SCENARIOS", "asking"]

_httpx: Any = httpclient.httpx  # type: ignore[attr-defined]


def _add(view: View, said: Any) -> None:
    """Takes over a message, or a part of one."""
    if isinstance(said.content, str):
        view.text += said.content
    for part in said.content if isinstance(said.content, list) else []:
        if part.type == "thinking":
            view.reasoning += "".join(piece.text for piece in part.thinking)
        else:
            view.text += part.text
    for call in said.tool_calls or []:
        arguments = json.loads(call.function.arguments)
        view.tool_calls.append({"id": call.id, "name": call.function.name, "arguments": arguments})


def _view(answers: list[Any]) -> View:
    view = View()
    for answer in answers:
        view.model, view.response_id = answer.model, answer.id
        (choice,) = answer.choices
        _add(view, getattr(choice, "message", None) or choice.delta)
        if choice.finish_reason:
            view.finish_reasons.append(str(choice.finish_reason))
            view.usage = {"input": answer.usage.prompt_tokens, "output": answer.usage.completion_tokens}
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    http_client = connection.client(_httpx.Client)
    with Mistral(api_key="none", server_url=f"{connection.url}/mistral", client=http_client) as client:

        def ask(talk: Talk) -> View:
            asked: dict[str, Any] = {"model": "mistral-small-latest", "messages": messages(talk)}
            if talk.tools:
                asked["tools"] = tools(talk)
            try:
                if talk.streaming:
                    return _view([event.data for event in client.chat.stream(**asked)])
                return _view([client.chat.complete(**asked)])
            except errors.SDKError as error:
                return View(status=error.status_code)

        yield ask
