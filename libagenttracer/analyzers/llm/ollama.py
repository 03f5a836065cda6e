"""Ollama's own API: /api/chat, /api/generate, /api/embed and /api/embeddings.

https://github.com/ollama/ollama/blob/main/docs/api.md. A stream is JSON in lines; its last object has `done`.
"""

from __future__ import annotations

from typing import Any

from .base import Api, Draft, StreamReader
from .parts import (
    MAX_BLOCKS,
    add_answer,
    add_messages,
    count,
    fields,
    integer,
    items,
    media_part,
    number,
    reasoning_part,
    strings,
    text,
    text_part,
    tool_call_part,
    tool_result_part,
)

__all__ = ["APIS"]


class _Api:
    """What its forms share (see `Api`)."""

    name = ""
    operation = "chat"
    paths: tuple[str, ...] = ()

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the end of the path, and a model in the body."""
        if not path.rstrip("/").endswith(self.paths):
            return False
        return not request or isinstance(request.get("model"), str)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says."""
        draft.provider_name = "ollama"
        draft.operation_name = self.operation
        draft.request_model = text(request.get("model"))
        draft.tool_definitions = items(request.get("tools"))
        draft.embedding_dimensions = count(request.get("dimensions"))
        options = fields(request.get("options"))
        draft.temperature = number(options.get("temperature"))
        draft.top_p = number(options.get("top_p"))
        draft.top_k = number(options.get("top_k"))
        draft.seed = integer(options.get("seed"))
        draft.max_tokens = count(options.get("num_predict"))
        draft.frequency_penalty = number(options.get("frequency_penalty"))
        draft.presence_penalty = number(options.get("presence_penalty"))
        draft.stop_sequences = strings(options.get("stop"))
        if request.get("format"):
            draft.output_type = "json"

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer says."""
        answer = _Answer(draft)
        for chunk in response if isinstance(response, list) else [response]:
            answer.item(0, "", chunk)
        draft.first_content_ns = None
        answer.end()

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for JSON in lines."""
        draft.streaming = True
        return _Answer(draft)


class _Chat(_Api):
    name = "ollama.chat"
    paths = ("/api/chat",)

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        return super().recognises(path, request) and (
            not request or isinstance(request.get("messages"), list)
        )

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        super().read_request(path, request, draft)
        add_messages(draft, [_message(message) for message in items(request.get("messages"))])


class _Generate(_Api):
    name = "ollama.generate"
    operation = "text_completion"
    paths = ("/api/generate",)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        super().read_request(path, request, draft)
        draft.system_instructions = [text_part(words) for words in strings(request.get("system")) if words]
        parts = [text_part(words) for words in strings(request.get("prompt"))] + _images(request)
        if suffix := text(request.get("suffix")):
            parts.append({"type": "suffix", "content": suffix})
        draft.messages = [{"role": "user", "parts": parts}] if parts else []


class _Embed(_Api):
    name = "ollama.embeddings"
    operation = "embeddings"
    paths = ("/api/embed", "/api/embeddings")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        super().read_request(path, request, draft)
        texts = strings(request.get("input")) + strings(request.get("prompt"))
        draft.messages = [{"role": "user", "parts": [text_part(words)]} for words in texts]

    def read_response(self, response: Any, draft: Draft) -> None:
        response = fields(response)
        draft.response_model = text(response.get("model"))
        draft.input_tokens = count(response.get("prompt_eval_count"))
        if "error" in response:
            _read_error(response, draft)
        elif "embedding" not in response and "embeddings" not in response:
            draft.reasons.add("malformed")


class _Answer:
    """Reads an answer, streamed or not, into a draft (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._thoughts: list[str] = []
        self._texts: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._last: dict[str, Any] = {}
        self._role = "assistant"
        self._any = self._failed = False

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes a part of the answer, which has the form of a whole one."""
        data = fields(data)
        if "error" in data:
            self._failed = True
            _read_error(data, self._draft)
            return
        message = data.get("message")
        if isinstance(message, dict):
            words = message.get("content")
            for call in items(message.get("tool_calls")):
                if len(self._calls) >= MAX_BLOCKS:
                    self._draft.reasons.add("malformed")
                    break
                self._calls.append(_tool_call(call))
            self._role = text(message.get("role")) or self._role
        else:
            message, words = data, data.get("response")
        thought = message.get("thinking")
        if isinstance(thought, str) and thought:
            self._thoughts.append(thought)
        if isinstance(words, str) and words:
            self._texts.append(words)
        if self._draft.first_content_ns is None and (self._texts or self._thoughts or self._calls):
            self._draft.first_content_ns = at_ns
        if data.get("model"):
            self._any = True
            self._draft.response_model = text(data["model"])
        if data.get("done") is True:
            self._last = data

    def end(self) -> None:
        """Puts everything together."""
        draft, last = self._draft, self._last
        if not self._failed and not last:
            draft.reasons.add("no_end")
        if (tokens := count(last.get("prompt_eval_count"))) is not None:
            draft.input_tokens = tokens
        if (tokens := count(last.get("eval_count"))) is not None:
            draft.output_tokens = tokens
        parts = _words("".join(self._thoughts), "".join(self._texts)) + self._calls
        if self._any or parts:
            add_answer(draft, parts, text(last.get("done_reason")), self._role)


def _read_error(response: dict[str, Any], draft: Draft) -> None:
    error = response["error"]
    draft.error_type = draft.error_type or "error"
    draft.error_message = text(error) or text(fields(error).get("message"))


def _words(thinking: Any, content: Any) -> list[dict[str, Any]]:
    parts = [reasoning_part(thinking)] if isinstance(thinking, str) and thinking else []
    return [*parts, text_part(content)] if isinstance(content, str) and content else parts


def _images(value: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {**media_part(None, content=image), "modality": "image"} for image in strings(value.get("images"))
    ]


def _tool_call(call: Any) -> dict[str, Any]:
    call = fields(call)
    function = fields(call.get("function"))
    return tool_call_part(text(call.get("id")), text(function.get("name")), function.get("arguments"))


def _message(message: Any) -> dict[str, Any]:
    message = fields(message)
    role = text(message.get("role")) or "unknown"
    if role == "tool":
        name = text(message.get("tool_name")) or text(message.get("name"))
        call_id = text(message.get("tool_call_id"))
        return {"role": role, "parts": [tool_result_part(call_id, message.get("content"), name)]}
    parts = _words(message.get("thinking"), message.get("content")) + _images(message)
    return {"role": role, "parts": parts + [_tool_call(call) for call in items(message.get("tool_calls"))]}


APIS: tuple[Api, ...] = (_Chat(), _Generate(), _Embed())
