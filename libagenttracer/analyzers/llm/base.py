"""What every API of a language model brings, and the call that is put together."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

__all__ = ["Api", "Draft", "StreamReader"]


@dataclass
class Draft:
    """A call while it is read; the attributes are those of `LlmCall`, which says what they mean.

    What is not in `LlmCall`:
        reasons: why it is incomplete.
        first_content_ns: when the first content of a streamed answer came (text, reasoning, or a tool call).
        previous_response_id: the earlier answer that this call continues, where the API has such a thing.
    """

    provider_name: str = "unknown"
    operation_name: str = "chat"
    api: str = ""
    request_model: str | None = None
    response_model: str | None = None
    llm_response_id: str | None = None
    conversation_id: str | None = None
    system_instructions: list[dict[str, Any]] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    output_messages: list[dict[str, Any]] = field(default_factory=list)
    tool_definitions: list[Any] = field(default_factory=list)
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    finish_reasons: list[str] = field(default_factory=list)
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    reasoning_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    stop_sequences: list[str] = field(default_factory=list)
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    choice_count: int | None = None
    output_type: str | None = None
    embedding_dimensions: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    streaming: bool = False
    reasons: set[str] = field(default_factory=set)
    first_content_ns: int | None = None
    previous_response_id: str | None = None

    def content_at(self, at_ns: int) -> None:
        """Content of a streamed answer came."""
        if self.first_content_ns is None:
            self.first_content_ns = at_ns


class StreamReader(Protocol):
    """Reads a streamed answer into a draft."""

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes the next item.

        Args:
            at_ns: when it had come, nanoseconds since the epoch.
            event: its type ("" where the framing has none): of a server-sent event, or an AWS event stream's
                ":event-type", ":exception-type" or ":error-code"; "[DONE]" for the mark that ends many
                streams (data is then None).
            data: its JSON, decoded; any JSON value, since anybody may have sent it.
        """

    def end(self) -> None:
        """The stream is over: puts what was assembled into the draft; adds the reason "no_end" if the stream
        did not say that it is over."""


class Api(Protocol):
    """One form of asking a model. Stateless. Nothing that a peer sends makes a method raise.

    Attributes:
        name: as in `LlmCall.api`.
    """

    name: str

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """Whether a request is of this form: by its path (no query) and its body (JSON).

        The body is {} where it is not known (yet): then whether the path alone allows it.
        """

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says."""

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer says that came as one JSON value; also an error's."""

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for a streamed answer."""
