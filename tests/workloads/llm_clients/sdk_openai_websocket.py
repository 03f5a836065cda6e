"""OpenAI's SDK: Responses over one WebSocket for all conversations."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Iterator
from typing import Any

import openai

from .common import Ask, Connection, Talk, View
from .sdk_openai import settings
from .sdk_openai_responses import SCENARIOS, request, view_of

__all__ = ["SCENARIOS", "asking"]


@contextlib.contextmanager
def asking(connection: Connection) -> Iterator[Ask]:
    """What asks; everything is a stream here."""
    context = ssl.create_default_context(cafile=connection.ca)
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(openai.OpenAI(**settings(connection)))
        options: Any = {"ssl_context": context, "proxy": None}
        socket: Any = stack.enter_context(client.responses.connect(websocket_connection_options=options))

        def ask(talk: Talk) -> View:
            socket.response.create(**request(talk))
            for event in socket:
                if event.type in {"response.completed", "response.incomplete"}:
                    return view_of(event.response)
                if event.type == "response.failed":
                    return View()
                if event.type == "error":
                    return View(status=event.status)
            raise ValueError("the connection has ended")

        yield ask
