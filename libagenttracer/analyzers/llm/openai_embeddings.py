"""Embeddings as OpenAI has them: https://platform.openai.com/docs/api-reference/embeddings.

The vectors themselves are left out.
"""

from __future__ import annotations

from typing import Any

from .base import Api, Draft, StreamReader
from .openai_common import model_of, read_error
from .openai_stream import ChatStream
from .parts import count, fields, items, named_part, text, text_part

__all__ = ["APIS"]


class _Embeddings:
    """The API itself (see `Api`)."""

    name = "openai.embeddings"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the end of the path and an input."""
        return path.rstrip("/").endswith("/embeddings") and (not request or "input" in request)

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says: each input is a message."""
        draft.operation_name = "embeddings"
        draft.request_model = model_of(path, request)
        draft.embedding_dimensions = count(request.get("dimensions"))
        given = request.get("input")
        if not isinstance(given, list) or all(type(token) is int for token in given):
            given = [given]  # else there are several
        for value in given:
            part = text_part(value) if isinstance(value, str) else named_part("tokens", value)
            draft.messages.append({"role": "user", "parts": [part]})

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in the number of tokens and of dimensions, or an error."""
        response = fields(response)
        if read_error(response, draft):
            return
        draft.response_model = text(response.get("model"))
        draft.llm_response_id = text(response.get("id"))
        draft.input_tokens = count(fields(response.get("usage")).get("prompt_tokens"))
        data = items(response.get("data"))
        if not data:
            draft.reasons.add("malformed")
        elif draft.embedding_dimensions is None:
            draft.embedding_dimensions = _dimensions(fields(data[0]).get("embedding"))

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for a stream, which this API does not give."""
        return ChatStream(draft)


def _dimensions(vector: Any) -> int | None:
    if isinstance(vector, str):  # base64 of numbers of 32 bits
        return len(vector.rstrip("=")) * 3 // 4 // 4
    return len(vector) if isinstance(vector, list) else None


APIS: tuple[Api, ...] = (_Embeddings(),)
