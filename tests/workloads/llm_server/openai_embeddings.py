"""OpenAI's embeddings."""

from __future__ import annotations

import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from . import openai_chat
from .calls import Call, Told
from .scenarios import Answer, Error

__all__ = ["KIND", "read", "refusal", "stream", "told", "whole"]

KIND = ""


def read(path: str, request: dict[str, Any]) -> Call:
    texts = request["input"] if isinstance(request["input"], list) else [request["input"]]
    sent: list[list[Any]] = [["user", "text", text] for text in texts]
    return Call("openai.embeddings", request["model"], items=sent, usage=("input",))


def told(call: Call, answer: Answer) -> Told:
    return Told(call.model)


def whole(call: Call, answer: Answer) -> dict[str, Any]:
    vector = b64encode(struct.pack("<8f", *range(8))).decode()  # what the SDK asks for
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, _ in enumerate(call.items)]
    usage = {"prompt_tokens": answer.tokens.input, "total_tokens": answer.tokens.input}
    return {"object": "list", "data": data, "model": call.model, "usage": usage}


def stream(call: Call, answer: Answer) -> Iterator[bytes]:
    return iter([])


def refusal(error: Error) -> tuple[dict[str, str], Any]:
    return openai_chat.refusal(error)
