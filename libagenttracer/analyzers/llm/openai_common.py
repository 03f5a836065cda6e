"""What the forms of OpenAI's API share, and Chat Completions streamed and not: errors, counts, content."""

from __future__ import annotations

from typing import Any
from urllib.parse import unquote

from .base import Draft
from .parts import count, fields, file_part, items, media_part, other_part, reasoning_part, text, text_part

__all__ = ["content_parts", "model_of", "output_type_of", "read_chat_usage", "read_error", "read_head"]

_OUTPUT_TYPES = {"json_object": "json", "json_schema": "json", "text": "text"}
_VAGUE_ERRORS = ("requests", "tokens")  # what a limit is about; the code says that it is one


def output_type_of(format_type: Any) -> str | None:
    """The type of output that a format asks for, in the words of OpenTelemetry."""
    return _OUTPUT_TYPES.get(format_type) if isinstance(format_type, str) else None


def model_of(path: str, request: dict[str, Any]) -> str | None:
    """The model that is asked; at Azure and in the oldest form it is in the path instead."""
    for name in ("model", "model_id", "agent_id"):
        if model := text(request.get(name)):
            return model
    pieces = path.split("/")
    places = [at for at, piece in enumerate(pieces[:-1]) if piece in ("deployments", "engines")]
    return unquote(pieces[places[-1] + 1]) or None if places else None


def read_error(response: dict[str, Any], draft: Draft) -> bool:
    """Fills in an error; whether there is one. Servers say it in several ways."""
    error = response.get("error")
    if error is None and response.get("object") == "error":
        error = response
    if error is None or error is False:
        return False
    if isinstance(error, str):
        draft.error_type = draft.error_type or "error"
        draft.error_message = error
        return True
    said = fields(error)
    kind, code = text(said.get("type")), said.get("code")
    code = str(code) if type(code) is int else text(code)
    if kind in _VAGUE_ERRORS:
        kind = code
    draft.error_type = kind or code or draft.error_type or "error"
    draft.error_message = text(said.get("message"))
    return True


def read_head(response: dict[str, Any], draft: Draft) -> None:
    """Fills in the answer's id and model, where it says them."""
    draft.llm_response_id = text(response.get("id")) or draft.llm_response_id
    draft.response_model = text(response.get("model")) or draft.response_model


def read_chat_usage(usage: dict[str, Any], draft: Draft) -> None:
    """All tokens of the prompt and of the answer are in the totals; at xAI reasoning is not."""
    prompt, made = count(usage.get("prompt_tokens")), count(usage.get("completion_tokens"))
    draft.input_tokens = prompt
    read = fields(usage.get("prompt_tokens_details"))
    cached = (read.get("cached_tokens"), usage.get("prompt_cache_hit_tokens"), usage.get("cached_tokens"))
    draft.cache_read_input_tokens = next((n for value in cached if (n := count(value)) is not None), None)
    draft.cache_creation_input_tokens = count(read.get("cache_write_tokens"))
    thought = count(fields(usage.get("completion_tokens_details")).get("reasoning_tokens"))
    apart = (prompt or 0) + (made or 0) + (thought or 0)
    if made is not None and thought and count(usage.get("total_tokens")) == apart:
        made += thought
    draft.reasoning_output_tokens = thought
    draft.output_tokens = made


def content_parts(content: Any) -> list[dict[str, Any]]:
    """The parts of a message's content: a string, or an array of parts."""
    if isinstance(content, str):
        return [text_part(content)] if content else []
    if isinstance(content, dict):
        return [_content_part(content)]
    return [_content_part(part) for part in items(content)]


def _content_part(part: Any) -> dict[str, Any]:
    if isinstance(part, str):
        return text_part(part)
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "text" and isinstance(part.get("text"), str):
        return text_part(part["text"])
    if kind == "thinking":
        return reasoning_part(_thinking(part.get("thinking")))
    read = _MEDIA.get(kind) if isinstance(kind, str) else None
    return (read(part) if read is not None else None) or other_part(part)


def _image(part: dict[str, Any]) -> dict[str, Any] | None:
    image = part.get("image_url")
    uri = image if isinstance(image, str) else text(fields(image).get("url"))
    return None if uri is None else {**media_part(None, uri=uri), "modality": "image"}


def _audio(part: dict[str, Any]) -> dict[str, Any] | None:
    audio = fields(part.get("input_audio"))
    data, suffix = text(audio.get("data")), text(audio.get("format"))
    return None if data is None else media_part(f"audio/{suffix}" if suffix else "audio", content=data)


def _file(part: dict[str, Any]) -> dict[str, Any] | None:
    file = fields(part.get("file"))
    data, file_id = text(file.get("file_data")), text(file.get("file_id"))
    if file_id is not None:
        return file_part(file_id, "document")
    return None if data is None else {**media_part(None, uri=data), "modality": "document"}


_MEDIA = {"image_url": _image, "input_audio": _audio, "file": _file}


def _thinking(value: Any) -> str:
    if isinstance(value, str):
        return value
    return "".join(text(fields(part).get("text")) or "" for part in items(value))
