"""Amazon Bedrock: Converse, and InvokeModel, which carries each model's own form.

https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html. Of the forms, those of Anthropic,
Amazon Nova, Cohere and OpenAI are read in full; of others (Llama, Mistral, Titan, …) the texts, the reasons
to end and the numbers of tokens.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any

from . import openai_chat
from .anthropic import AnthropicStream, read_anthropic_request, read_anthropic_response
from .base import Api, Draft, StreamReader
from .bedrock_converse import (
    CONVERSE_EVENTS,
    Converse,
    ConverseStream,
    model_and_verb,
    read_bedrock_error,
    read_converse_request,
    read_converse_response,
)
from .cohere import CohereV1Stream, read_cohere_v1_request, read_cohere_v1_response
from .framing import decode_json
from .openai_stream import ChatStream
from .parts import (
    MAX_BLOCKS,
    add_answer,
    count,
    fields,
    items,
    number,
    strings,
    text_part,
)

__all__ = ["APIS"]

_METRICS = "amazon-bedrock-invocationMetrics"
_LISTS = ("outputs", "results", "generations")
_TEXTS = ("generation", "outputText", "completion", "text")
_REASONS = ("finish_reason", "stop_reason", "completionReason", "stopReason")
_MAX_TOKENS = ("max_tokens", "max_gen_len", "maxTokenCount")
_CHAT = openai_chat.APIS[0]
_INPUT_TOKENS = ("prompt_token_count", "inputTextTokenCount", "inputTokenCount")
_OUTPUT_TOKENS = (
    "completion_tokens",
    "generation_token_count",
    "totalOutputTextTokenCount",
    "outputTokenCount",
)


class _Invoke:
    """InvokeModel and InvokeModelWithResponseStream (see `Api`)."""

    name = "bedrock.invoke"

    def recognises(self, path: str, request: dict[str, Any]) -> bool:
        """By the path: /model/ID/invoke or …/invoke-with-response-stream."""
        model, verb = model_and_verb(path)
        return model is not None and verb in ("invoke", "invoke-with-response-stream")

    def read_request(self, path: str, request: dict[str, Any], draft: Draft) -> None:
        """Fills in what the request says; the model is in the path."""
        model, _ = model_and_verb(path)
        if "anthropic_version" in request:
            read_anthropic_request(request, draft)
        elif "inferenceConfig" in request or "schemaVersion" in request:
            read_converse_request(request, draft)
        else:
            if isinstance(request.get("messages"), list):
                _CHAT.read_request(path, request, draft)
            else:
                _read_plain_request(request, draft)
            if isinstance(request.get("message"), str):
                read_cohere_v1_request(request, draft)
            if model is not None and "embed" in model:
                draft.operation_name = "embeddings"
        draft.provider_name = "aws.bedrock"
        draft.request_model = model

    def read_response(self, response: Any, draft: Draft) -> None:
        """Fills in what an answer, or an error, says."""
        response = fields(response)
        if response.get("type") in ("message", "error"):
            read_anthropic_response(response, draft)
        elif isinstance(response.get("output"), dict):
            read_converse_response(response, draft)
        elif "generation_id" in response:
            read_cohere_v1_response(response, draft)
        elif isinstance(response.get("choices"), list):
            _CHAT.read_response(_with_reasons(response), draft)
        elif "message" in response or "Message" in response:
            read_bedrock_error(response, draft)
        else:
            plain = _PlainStream(draft)
            plain.item(0, "", response)
            draft.first_content_ns = None
            if not plain.finish() and "embedding" not in response and "embeddings" not in response:
                draft.reasons.add("malformed")

    def stream(self, draft: Draft) -> StreamReader:
        """A reader for an event stream."""
        return _InvokeStream(draft)


class _InvokeStream:
    """Takes the model's own events out of a stream (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        draft.streaming = True
        self._draft = draft
        self._inner: StreamReader | None = None
        self._failed: tuple[str, dict[str, Any]] | None = None
        self._metrics: dict[str, Any] = {}

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes a chunk, or an exception."""
        data = fields(data)
        encoded = data.get("bytes")
        if not isinstance(encoded, str):
            if "message" in data:
                self._failed = event, data
            return
        try:
            chunk = decode_json(b64decode(encoded, validate=True))
        except ValueError:  # no base64, or no JSON
            self._draft.reasons.add("bad_json")
            return
        if not isinstance(chunk, dict):
            return
        inner = self._inner
        if inner is None:
            inner = self._inner = _reader_for(chunk, self._draft)
        if type(inner) is ConverseStream:
            for name, value in chunk.items():
                if name in CONVERSE_EVENTS:
                    inner.item(at_ns, name, value)
        else:
            inner.item(at_ns, "", _with_reasons(chunk) if type(inner) is ChatStream else chunk)
        if _METRICS in chunk:
            self._metrics = fields(chunk[_METRICS])

    def end(self) -> None:
        """Puts everything together."""
        draft = self._draft
        if self._inner is not None:
            self._inner.end()
        elif self._failed is None:
            draft.reasons.add("no_end")
        if draft.input_tokens is None and draft.output_tokens is None:
            _count(draft, self._metrics)
        if self._failed is not None:
            event, data = self._failed
            draft.reasons -= {"no_end", "malformed"}  # it did not come, and that is said
            read_bedrock_error(data, draft)
            draft.error_type = event or draft.error_type


def _reader_for(chunk: dict[str, Any], draft: Draft) -> StreamReader:
    if isinstance(chunk.get("type"), str):
        return AnthropicStream(draft)
    if not CONVERSE_EVENTS.isdisjoint(chunk):
        return ConverseStream(draft)
    if "choices" in chunk:
        return ChatStream(draft)
    return CohereV1Stream(draft) if "event_type" in chunk else _PlainStream(draft)


def _with_reasons(response: dict[str, Any]) -> dict[str, Any]:
    """Mistral's choices have a `stop_reason`, otherwise they are OpenAI's."""
    choices = [fields(choice) for choice in items(response.get("choices"))]
    return {**response, "choices": [{"finish_reason": c.get("stop_reason"), **c} for c in choices]}


class _PlainStream:
    """Reads answers with a text, of one choice or several (see `StreamReader`)."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._texts: dict[int, list[str]] = {}
        self._reasons: dict[int, str] = {}

    def item(self, at_ns: int, event: str, data: Any) -> None:
        """Takes a chunk, which has the form of a whole answer."""
        data = fields(data)
        entries: list[Any] = next((data[name] for name in _LISTS if isinstance(data.get(name), list)), [data])
        for index, value in enumerate(entries[:MAX_BLOCKS]):
            entry = fields(value)
            words = next((entry[name] for name in _TEXTS if isinstance(entry.get(name), str)), None)
            reason = next((entry[name] for name in _REASONS if isinstance(entry.get(name), str)), None)
            if words is not None or reason is not None:
                self._texts.setdefault(index, []).append(words or "")
            if words:
                self._draft.content_at(at_ns)
            if reason is not None:
                self._reasons[index] = reason
        _count(self._draft, data)

    def end(self) -> None:
        """Puts everything together."""
        if not self.finish() or len(self._reasons) < len(self._texts):
            self._draft.reasons.add("no_end")

    def finish(self) -> bool:
        """Fills the draft; whether there was an answer."""
        for index in sorted(self._texts):
            words = "".join(self._texts[index])
            add_answer(self._draft, [text_part(words)] if words else [], self._reasons.get(index))
        return bool(self._texts)


def _count(draft: Draft, values: dict[str, Any]) -> None:
    for name in _INPUT_TOKENS:
        if (tokens := count(values.get(name))) is not None:
            draft.input_tokens = tokens
    for name in _OUTPUT_TOKENS:
        if (tokens := count(values.get(name))) is not None:
            draft.output_tokens = tokens


def _read_plain_request(request: dict[str, Any], draft: Draft) -> None:
    config = fields(request.get("textGenerationConfig")) or request
    limits = [count(config[name]) for name in _MAX_TOKENS if name in config]
    draft.max_tokens = limits[0] if limits else None
    draft.temperature = number(config.get("temperature"))
    draft.top_p = number(config["topP"] if "topP" in config else config.get("top_p", config.get("p")))
    draft.top_k = number(config.get("top_k", config.get("k")))
    draft.stop_sequences = strings(
        config.get("stopSequences", config.get("stop", config.get("stop_sequences")))
    )
    draft.tool_definitions = items(request.get("tools"))
    draft.embedding_dimensions = count(request.get("dimensions"))
    prompts = [words for name in ("prompt", "inputText", "texts") for words in strings(request.get(name))]
    draft.messages = [{"role": "user", "parts": [text_part(words)]} for words in prompts]
    draft.operation_name = "text_completion" if prompts else draft.operation_name


APIS: tuple[Api, ...] = (Converse(), _Invoke())
