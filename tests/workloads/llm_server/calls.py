"""A call as every API's module reads it, and what each of these modules has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from .scenarios import Answer, Error

__all__ = ["Api", "Call", "arguments_pieces", "compact", "ndjson", "sse", "text_of"]


@dataclass
class Call:
    """What was asked.

    Attributes:
        items: what was sent, in order: `[role, kind, content]`, where kind is "text", "reasoning",
            "tool_call" (content: id, name, arguments) or "tool_call_response" (content: id, response).
        usage: which of the counts in `Tokens` the API tells.
        ids: whether calls of tools have ids.
        websocket: asked over a WebSocket.
    """

    api: str
    model: str
    streaming: bool = False
    system: list[str] = field(default_factory=list)
    items: list[list[Any]] = field(default_factory=list)
    tools: list[str] = field(default_factory=list)
    usage: tuple[str, ...] = ("input", "output", "cache_read", "cache_creation", "reasoning")
    ids: bool = True
    websocket: bool = False

    def prompt(self) -> tuple[str, bool]:
        """The user's last text, and whether results of tools follow it."""
        prompt, after_tools = "", False
        for role, kind, content in self.items:
            if role == "user" and kind == "text":
                prompt, after_tools = content, False
            elif kind == "tool_call_response":
                after_tools = True
        return prompt, after_tools

    def truth(self, answer: Answer, told: Told) -> dict[str, Any]:
        """What is logged of a call that was answered; after an error there is nothing of an answer."""
        truth: dict[str, Any] = {
            "api": self.api,
            "request_model": self.model,
            "streaming": self.streaming and (answer.error is None or self.websocket),
            "websocket": self.websocket,
            "system": self.system,
            "messages": self.items,
            "tools": self.tools,
            "status": answer.error.status if answer.error else 200,
            "error_types": told.error_types,
            "error_message": None,
        }
        if error := answer.error or (answer.breaks if self.streaming else None):
            return {**truth, "error_message": error.message}
        calls = [
            {**({"id": call.id} if self.ids else {}), "name": call.name, "arguments": call.arguments}
            for call in answer.tool_calls
        ]
        return {
            **truth,
            "response_model": told.model,
            "response_id": told.response_id,
            "text": "".join(answer.text),
            "reasoning": "".join(answer.reasoning),
            "tool_calls": calls,
            "finish_reasons": told.finish_reasons,
            "usage": {name: getattr(answer.tokens, name) for name in self.usage},
        }


@dataclass
class Told:
    """What the API's own words were: of the answer, or of the error."""

    model: str | None = None
    response_id: str | None = None
    finish_reasons: list[str] = field(default_factory=list)
    error_types: list[str] = field(default_factory=list)


class Api(Protocol):
    """One form of asking. A module of functions has it."""

    KIND: str  # content type of streams

    @staticmethod
    def read(path: str, request: dict[str, Any]) -> Call:
        """What is asked."""

    @staticmethod
    def told(call: Call, answer: Answer) -> Told:
        """In which words it is answered."""

    @staticmethod
    def whole(call: Call, answer: Answer) -> dict[str, Any]:
        """The answer in one piece."""

    @staticmethod
    def stream(call: Call, answer: Answer) -> Iterator[bytes]:
        """The answer in many pieces, each one event or line."""

    @staticmethod
    def refusal(error: Error) -> tuple[dict[str, str], Any]:
        """Headers and body of an error."""


def compact(data: Any) -> str:
    """JSON as most servers write it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":"))


def sse(data: Any, event: str = "") -> bytes:
    """A server-sent event."""
    head = f"event: {event}\n" if event else ""
    return f"{head}data: {data if isinstance(data, str) else compact(data)}\n\n".encode()


def ndjson(data: Any) -> bytes:
    """A line; what some take for an end of line is escaped, as Go's encoder does it."""
    return compact(data).replace("\u2028", "\\u2028").encode() + b"\n"


def arguments_pieces(arguments: dict[str, Any]) -> list[str]:
    """The JSON of arguments in small pieces, the first one empty."""
    text = compact(arguments)
    return ["", *(text[at : at + 5] for at in range(0, len(text), 5))]


def text_of(content: Any) -> str:
    """Text that may stand in a list of parts."""
    if isinstance(content, str):
        return content
    return "".join(part.get("text", "") for part in content or [])
