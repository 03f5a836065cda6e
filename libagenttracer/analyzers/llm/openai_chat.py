"""OpenAI's Chat Completions, and the many servers that speak it; also the older Completions.

https://platform.openai.com/docs/api-reference/chat and …/completions. Besides OpenAI's own fields those are
read that compatible servers add: reasoning (DeepSeek, OpenRouter, vLLM), thinking in content (Mistral), and
their counts of tokens.
"""

from __future__ import annotations

from typing import Any

from .base import Api, Draft, StreamReader
from .openai_common import content_parts, model_of, output_type_of, read_chat_usage, read_error, read_head
from .openai_stream import REASONING_FIELDS, ChatStream
from .parts import (
    add_answer,
    count,
    fields,
    integer,
    items,
    named_part,
    number,
    reasoning_part,
    strings,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
)

__all__ = ["APIS"]

_CHAT_PATHS = ("/chat/completions", "/agents/completions", "/text/chat", "/text/chat_stream")
_SYSTEM_ROLES = ("system", "developer")


class _Chat:
    """Chat Completions (see `Api`)."""

    name = "openai.chat"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the end of the path and a list of messages."""
        path = path.rstrip("/")
        return path.endswith(_CHAT_PATHS) and (not request or isinstance(request.get("messages"), list))

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; system and developer messages are the system prompt."""
        _read_options(path, request, draft)
        for value in items(request.get("messages")):
            message = fields(value)
            if message.get("role") in _SYSTEM_ROLES:
                draft.system_instructions += content_parts(message.get("content"))
            else:
                draft.messages.append(_message(message))
        draft.tool_definitions = items(request.get("tools")) or items(request.get("functions"))
        draft.output_type = output_type_of(fields(request.get("response_format")).get("type"))
        if "audio" in strings(request.get("modalities")):
            draft.output_type = "speech"

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what a completion, or an error, says."""
        _read_response(response, draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events."""
        return ChatStream(draft)


class _Completions:
    """The older Completions, with one prompt instead of messages (see `Api`)."""

    name = "openai.completions"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the end of the path and a prompt."""
        path = path.rstrip("/")
        older = path.endswith("/completions") and not path.endswith("/chat/completions")
        return older and (not request or "prompt" in request)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says: each prompt is a message."""
        draft.operation_name = "text_completion"
        _read_options(path, request, draft)
        prompt = request.get("prompt")
        if not isinstance(prompt, list) or all(type(token) is int for token in prompt):
            prompt = [prompt]  # else there are several
        for value in prompt:
            part = text_part(value) if isinstance(value, str) else named_part("tokens", value)
            draft.messages.append({"role": "user", "parts": [part]})

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what a completion, or an error, says."""
        _read_response(response, draft)

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for server-sent events."""
        return ChatStream(draft)


def _read_options(path: str, request: dict[str, Any], draft: Draft) -> None:
    draft.request_model = model_of(path, request)
    draft.temperature = number(request.get("temperature"))
    draft.top_p = number(request.get("top_p"))
    draft.top_k = number(request.get("top_k"))
    limit = count(request.get("max_completion_tokens"))
    draft.max_tokens = count(request.get("max_tokens")) if limit is None else limit
    seed = integer(request.get("seed"))
    draft.seed = integer(request.get("random_seed")) if seed is None else seed
    draft.stop_sequences = strings(request.get("stop"))
    draft.frequency_penalty = number(request.get("frequency_penalty"))
    draft.presence_penalty = number(request.get("presence_penalty"))
    draft.choice_count = count(request.get("n"))


def _message(message: dict[str, Any]) -> dict[str, Any]:
    role = text(message.get("role")) or "unknown"
    content = message.get("content")
    if role in ("tool", "function"):
        if isinstance(content, list):
            content = content_parts(content)
        parts = [tool_result_part(text(message.get("tool_call_id")), content)]
    else:
        parts = _message_parts(message)
    name = text(message.get("name"))
    return {"role": role, "parts": parts} if name is None else {"role": role, "parts": parts, "name": name}


def _message_parts(message: dict[str, Any]) -> list[dict[str, Any]]:
    """What a message of the user or the model has; reasoning first."""
    parts = []
    reasoning = next((said for name in REASONING_FIELDS if (said := text(message.get(name)))), None)
    if reasoning:
        parts.append(reasoning_part(reasoning))
    parts += content_parts(message.get("content"))
    if refusal := text(message.get("refusal")):
        parts.append({"type": "refusal", "refusal": refusal})
    if isinstance(message.get("audio"), dict):
        parts.append({"type": "audio", "audio": message["audio"]})
    parts += [_tool_call(fields(call)) for call in items(message.get("tool_calls"))]
    if isinstance(message.get("function_call"), dict):
        parts.append(_function_call(None, message["function_call"]))
    return parts


def _tool_call(call: dict[str, Any]) -> dict[str, Any]:
    call_id = text(call.get("id"))
    custom = call.get("custom")
    if isinstance(custom, dict):
        return tool_call_part(call_id, text(custom.get("name")), custom.get("input"))
    return _function_call(call_id, fields(call.get("function")))


def _function_call(call_id: str | None, function: dict[str, Any]) -> dict[str, Any]:
    return tool_call_part(call_id, text(function.get("name")), function.get("arguments"))


def _read_response(response: Any, draft: Draft) -> None:
    response = fields(response)
    if read_error(response, draft):
        return
    read_head(response, draft)
    read_chat_usage(fields(response.get("usage")), draft)
    choices = items(response.get("choices"))
    if not choices:
        draft.reasons.add("malformed")
    for value in choices:
        choice = fields(value)
        if isinstance(choice.get("text"), str):
            parts = [text_part(choice["text"])]
        else:
            parts = _message_parts(fields(choice.get("message")))
        reason = text(choice.get("finish_reason"))
        add_answer(draft, parts, reason, text(fields(choice.get("message")).get("role")) or "assistant")
        if isinstance(choice.get("error"), dict):
            read_error(choice, draft)


APIS: tuple[Api, ...] = (_Chat(), _Completions())
