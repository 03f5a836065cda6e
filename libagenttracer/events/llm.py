"""Calls of language models, in the words of OpenTelemetry's GenAI conventions (1.41)."""

from __future__ import annotations

from typing import Any

import msgspec

from .base import event_type
from .connection import ConnectionEvent

__all__ = ["LlmCall"]

Message = dict[str, Any]

_NAMES = {
    "provider_name": "gen_ai.provider.name",
    "operation_name": "gen_ai.operation.name",
    "request_model": "gen_ai.request.model",
    "response_model": "gen_ai.response.model",
    "llm_response_id": "gen_ai.response.id",
    "conversation_id": "gen_ai.conversation.id",
    "system_instructions": "gen_ai.system_instructions",
    "output_messages": "gen_ai.output.messages",
    "tool_definitions": "gen_ai.tool.definitions",
    "finish_reasons": "gen_ai.response.finish_reasons",
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_input_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_creation_input_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_output_tokens": "gen_ai.usage.reasoning.output_tokens",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "seed": "gen_ai.request.seed",
    "stop_sequences": "gen_ai.request.stop_sequences",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "choice_count": "gen_ai.request.choice.count",
    "output_type": "gen_ai.output.type",
    "embedding_dimensions": "gen_ai.embeddings.dimension.count",
    "server_address": "server.address",
    "server_port": "server.port",
    "error_type": "error.type",
    "status": "http.response.status_code",
}


@event_type("llm_call")
class LlmCall(ConnectionEvent, frozen=True, gc=False, kw_only=True, rename=_NAMES):
    """One call of a model. `timestamp_ns` is that of the request's first byte. In JSON many fields have the
    names of OpenTelemetry's GenAI attributes, for instance `request_model` is `gen_ai.request.model`.

    Messages have OpenTelemetry's form: `{"role": …, "parts": [{"type": "text", "content": …}, …]}`, with
    parts "text", "reasoning" (content), "tool_call" (id, name, arguments), "tool_call_response" (id,
    response), "blob" and "uri" (modality, mime_type, content or uri); those of the answer have a
    `finish_reason` too. What has no such part is kept under its own type.

    Attributes:
        provider_name: "openai", "anthropic", "gcp.gemini", "gcp.vertex_ai", "aws.bedrock", "azure.ai.openai",
            "mistral_ai", "cohere", "ollama", …; "unknown" for a compatible server that is none of these.
        operation_name: "chat", "text_completion", "generate_content", "embeddings".
        api: the form of the exchange: "openai.chat", "openai.responses", "anthropic.messages",
            "gemini", "ollama.chat", "ollama.generate", "cohere.chat", "bedrock.converse", "bedrock.invoke",
            "openai.completions", "openai.embeddings", ….
        request_model, response_model: the model asked, and the one that answered.
        llm_response_id: the provider's id of the answer.
        conversation_id: the same for calls whose history continues one another.
        system_instructions: parts of the system prompt.
        messages: what was sent to the model, in order.
        output_messages: what came back, one for each choice.
        tool_definitions: tools offered, as sent.
        tool_calls: what the answer asks for: `{"id", "name", "arguments"}`, arguments decoded where they are
            JSON.
        finish_reasons: one for each choice, as the provider names them.
        input_tokens: all tokens of the prompt, those from and into a cache included.
        cache_read_input_tokens, cache_creation_input_tokens: of these, read from or written into a cache.
        output_tokens: all that were made, reasoning included.
        reasoning_output_tokens: of these, for reasoning.
        temperature … embedding_dimensions: as asked.
        server_address, server_port: who was asked.
        error_type: the provider's type or code of an error, or the HTTP status; null if there was none.
        error_message: its words.
        status: of HTTP.
        rate_limit: headers that tell of limits (names in small letters), and retry-after.
        streaming: the answer came as a stream.
        time_to_first_token_ms: from the request's last byte to the first content of the answer; null if the
            answer was not streamed.
        duration_ms: from the request's first byte to the answer's last one.
        tokens_per_second: `output_tokens` over the time from the first content to the end of a stream.
        http_request_id, http_response_id, http_exchange_id: where it came from.
        incomplete: something is missing; `reason` says what, as in `HttpMessage`; also "no_end" (the stream
            did not say that it is over), "bad_json".
    """

    provider_name: str
    operation_name: str
    api: str
    request_model: str | None = None
    response_model: str | None = None
    llm_response_id: str | None = None
    conversation_id: str | None = None
    system_instructions: list[dict[str, Any]] = msgspec.field(default_factory=list)
    messages: list[Message] = msgspec.field(default_factory=list)
    output_messages: list[Message] = msgspec.field(default_factory=list)
    tool_definitions: list[Any] = msgspec.field(default_factory=list)
    tool_calls: list[dict[str, Any]] = msgspec.field(default_factory=list)
    finish_reasons: list[str] = msgspec.field(default_factory=list)
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
    stop_sequences: list[str] = msgspec.field(default_factory=list)
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    choice_count: int | None = None
    output_type: str | None = None
    embedding_dimensions: int | None = None
    server_address: str | None = None
    server_port: int | None = None
    error_type: str | None = None
    error_message: str | None = None
    status: int | None = None
    rate_limit: dict[str, str] = msgspec.field(default_factory=dict)
    streaming: bool = False
    time_to_first_token_ms: float | None = None
    duration_ms: float | None = None
    tokens_per_second: float | None = None
    http_request_id: str | None = None
    http_response_id: str | None = None
    http_exchange_id: str | None = None
    incomplete: bool = False
    reason: str | None = None
