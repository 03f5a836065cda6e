"""Reads JSON that anybody may have sent, and builds the parts of messages.

The getters give what is there if it has the type asked for, else nothing: they never raise. The parts are
those of OpenTelemetry's GenAI conventions (see `LlmCall`).
"""

from __future__ import annotations

from math import isfinite
from typing import Any
from urllib.parse import unquote

from .base import Draft
from .framing import decode_json

__all__ = [
    "MAX_BLOCKS",
    "add_answer",
    "add_messages",
    "count",
    "decoded",
    "fields",
    "file_part",
    "integer",
    "items",
    "last_piece",
    "media_part",
    "named_part",
    "number",
    "other_part",
    "reasoning_part",
    "set_usage",
    "strings",
    "text",
    "text_part",
    "tool_call_part",
    "tool_result_part",
    "total",
]

Part = dict[str, Any]

MAX_BLOCKS = 10_000  # pieces of content, tool calls or choices that a streamed answer is assembled from
_OWN = ("text", "reasoning", "tool_call", "tool_call_response", "blob", "uri", "file")  # types of parts
_MAX_INT = 2**63 - 1  # what an event can have


def text(value: Any) -> str | None:
    """A string."""
    return value if isinstance(value, str) else None


def number(value: Any) -> float | None:
    """A number that is finite and no bool."""
    if type(value) is float:
        return value if isfinite(value) else None
    return value if type(value) is int and -_MAX_INT <= value <= _MAX_INT else None


def integer(value: Any) -> int | None:
    """A whole number of at most 64 bits, also if it is written as 3.0."""
    if type(value) is float:
        value = int(value) if value.is_integer() else None  # infinity and NaN are none
    return value if type(value) is int and -_MAX_INT <= value <= _MAX_INT else None


def count(value: Any) -> int | None:
    """As `integer`, but not a negative one."""
    whole = integer(value)
    return None if whole is None or whole < 0 else whole


def total(*counts: int | None) -> int | None:
    """The sum of those that are known; None if none is."""
    known = [value for value in counts if value is not None]
    return min(sum(known), _MAX_INT) if known else None


def fields(value: Any) -> dict[str, Any]:
    """An object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """An array, else an empty one."""
    return value if isinstance(value, list) else []


def strings(value: Any) -> list[str]:
    """The strings of an array, or a single one."""
    return [value] if isinstance(value, str) else [item for item in items(value) if isinstance(item, str)]


def decoded(value: Any) -> Any:
    """The JSON within a string; the string itself if it is none, or nested too deeply; else the value."""
    if not isinstance(value, str):
        return value
    try:
        return decode_json(value)
    except ValueError:  # also for surrogates
        return value


def last_piece(path: str) -> tuple[str, str, str]:
    """A path's last piece, as "name:verb", with what stands before it; percent-decoded.

    Returns:
        What is before the last "/", the name, and the verb ("" if there is no ":").
    """
    before, _, last = path.rstrip("/").rpartition("/")
    name, colon, verb = unquote(last).rpartition(":")
    return (before, name, verb) if colon else (before, verb, "")


def text_part(content: str) -> Part:
    """What was said."""
    return {"type": "text", "content": content}


def reasoning_part(content: str) -> Part:
    """What was thought."""
    return {"type": "reasoning", "content": content}


def tool_call_part(call_id: str | None, name: str | None, arguments: Any) -> Part:
    """A call that the model asks for; arguments are decoded if they are JSON in a string."""
    return {"type": "tool_call", "id": call_id, "name": name, "arguments": decoded(arguments)}


def tool_result_part(call_id: str | None, response: Any, name: str | None = None) -> Part:
    """What a tool gave; the tool's name where that says which call it answers."""
    part = {"type": "tool_call_response", "id": call_id, "response": response}
    return part if name is None else {**part, "name": name}


def media_part(mime_type: str | None, *, content: str | None = None, uri: str | None = None) -> Part:
    """An image or another file: its bytes in base64, or where it is.

    A "data:" URI is taken apart.
    """
    if uri is not None and uri[:5].lower() == "data:" and "," in uri:
        head, _, content = uri[5:].partition(",")
        mime_type, uri = head.partition(";")[0] or mime_type, None
    kind = (mime_type or "").partition("/")[0]
    part = {"type": "blob" if uri is None else "uri", "modality": kind, "mime_type": mime_type}
    return {**part, "content": content} if uri is None else {**part, "uri": uri}


def file_part(file_id: str, modality: str) -> Part:
    """A file that the provider has."""
    return {"type": "file", "modality": modality, "mime_type": None, "file_id": file_id}


def other_part(value: Any) -> Part:
    """What has no part of its own: as it is if it is an object with a type, else as something unknown."""
    kind = value.get("type") if isinstance(value, dict) else None
    return value if isinstance(kind, str) and kind not in _OWN else named_part("unknown", value)


def named_part(kind: str, content: Any) -> Part:
    """Content of a kind that has no part of its own."""
    return {"type": "unknown" if kind in _OWN else kind, "content": content}


def add_messages(draft: Draft, messages: list[dict[str, Any]]) -> None:
    """Adds messages of a request; what the system says in them is part of the system prompt."""
    for message in messages:
        if message["role"] == "system":
            draft.system_instructions += message["parts"]
        else:
            draft.messages.append(message)


def add_answer(draft: Draft, parts: list[Part], finish_reason: str | None, role: str = "assistant") -> None:
    """Adds a message of the answer, the tool calls in it and why it ended."""
    message: dict[str, Any] = {"role": role, "parts": parts}
    if finish_reason is not None:
        message["finish_reason"] = finish_reason
        draft.finish_reasons.append(finish_reason)
    draft.output_messages.append(message)
    draft.tool_calls += [
        {"id": part["id"], "name": part["name"], "arguments": part["arguments"]}
        for part in parts
        if part["type"] == "tool_call"
    ]


def set_usage(
    draft: Draft,
    *,
    uncached: Any = None,
    cache_read: Any = None,
    cache_creation: Any = None,
    output: Any = None,
    reasoning: Any = None,
) -> None:
    """Sets the numbers of tokens of an API that counts those from and into a cache apart (`uncached` are the
    others); `output` includes `reasoning`. What is not known stays as it was."""
    read, created = count(cache_read), count(cache_creation)
    if (uncached := count(uncached)) is not None:
        draft.input_tokens = total(uncached, read, created)
    if read is not None:
        draft.cache_read_input_tokens = read
    if created is not None:
        draft.cache_creation_input_tokens = created
    if (made := count(output)) is not None:
        draft.output_tokens = made
    if (thought := count(reasoning)) is not None:
        draft.reasoning_output_tokens = thought
