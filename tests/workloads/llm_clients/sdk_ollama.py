"""Ollama's SDK: chat; a scenario "plain" is asked of generate."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import ollama

from .common import SCENARIOS, Ask, Connection, Talk, View
from .sdk_openai import tools

__all__ = ["SCENARIOS", "asking"]

_MODEL = "qwen3:4b"


def _messages(talk: Talk) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = [
        {"role": "system", "content": talk.system},
        {"role": "user", "content": talk.prompt},
    ]
    for view, results in talk.results():
        calls = [{"function": {"name": call["name"], "arguments": call["arguments"]}} for call, _ in results]
        reply = {"role": "assistant", "content": view.text, "thinking": view.reasoning, "tool_calls": calls}
        messages.append(reply)
        messages += [
            {"role": "tool", "tool_name": call["name"], "content": result} for call, result in results
        ]
    return messages


def _view(chunks: list[Any]) -> View:
    view = View()
    for chunk in chunks:
        said = getattr(chunk, "message", chunk)
        view.text += (said.response if said is chunk else said.content) or ""
        view.reasoning += said.thinking or ""
        for call in getattr(said, "tool_calls", None) or []:
            arguments = dict(call.function.arguments)
            view.tool_calls.append({"name": call.function.name, "arguments": arguments})
    last = chunks[-1]
    view.model, view.finish_reasons = last.model, [last.done_reason]
    view.usage = {"input": last.prompt_eval_count, "output": last.eval_count}
    return view


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks."""
    context = ssl.create_default_context(cafile=connection.ca)
    client: Any = ollama.Client(connection.url, verify=context, http2=connection.http2, trust_env=False)

    def ask(talk: Talk) -> View:
        try:
            answer: Any
            if talk.scenario == "plain":
                answer = client.generate(
                    _MODEL, talk.prompt, system=talk.system, stream=talk.streaming, options={"seed": 7}
                )
            else:
                more = {"tools": tools(talk), "think": "thinking" in talk.scenario}
                answer = client.chat(_MODEL, _messages(talk), stream=talk.streaming, **more)
            return _view(list(answer) if talk.streaming else [answer])
        except ollama.ResponseError as error:
            return View(status=error.status_code)

    yield ask
