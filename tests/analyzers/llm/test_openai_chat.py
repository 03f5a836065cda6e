"""OpenAI's Chat Completions, Completions and Embeddings; the examples are valid by OpenAI's own types."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from pydantic import TypeAdapter

from libagenttracer.analyzers.llm import openai_chat
from libagenttracer.events import LlmCall

from .exchanges import call_of, sse
from .hostile import assert_stands, words_of

PATH = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
REQUEST: dict[str, Any] = {
    "model": "gpt-5-mini",
    "temperature": 0.5,
    "top_p": 0.9,
    "max_completion_tokens": 100,
    "seed": 11,
    "stop": ["END", "STOP"],
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "n": 2,
    "response_format": {"type": "json_object"},
    "tools": [TOOL],
    "messages": [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "Weather here?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                {"type": "file", "file": {"file_id": "file-1"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
            ],
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
        {"role": "system", "content": [{"type": "text", "text": "Say it in French."}]},
        {"role": "assistant", "refusal": "No."},
        {"role": "user", "content": "Please."},
    ],
}
USAGE = {
    "prompt_tokens": 50,
    "completion_tokens": 20,
    "total_tokens": 70,
    "prompt_tokens_details": {"cached_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 8},
}
RESPONSE: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5-mini-2025-08-07",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Let me look.",
                "refusal": None,
                "tool_calls": [CALL],
            },
            "logprobs": None,
            "finish_reason": "tool_calls",
        },
        {
            "index": 1,
            "message": {"role": "assistant", "content": None, "refusal": "I can't."},
            "logprobs": None,
            "finish_reason": "stop",
        },
    ],
    "usage": USAGE,
}
PARSED_CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Paris"}}
OUTPUT = [
    {
        "role": "assistant",
        "parts": [{"type": "text", "content": "Let me look."}, {"type": "tool_call", **PARSED_CALL}],
        "finish_reason": "tool_calls",
    },
    {
        "role": "assistant",
        "parts": [{"type": "refusal", "refusal": "I can't."}],
        "finish_reason": "stop",
    },
]


def chunk(delta: dict[str, Any], index: int = 0, reason: str | None = None, **more: Any) -> dict[str, Any]:
    """A chunk of a streamed answer."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "gpt-5-mini-2025-08-07",
        "choices": [{"index": index, "delta": delta, "finish_reason": reason}],
        **more,
    }


def call_delta(index: int, **function: str) -> dict[str, Any]:
    call_id = function.pop("id", None)
    head = {"id": call_id, "type": "function"} if call_id else {}
    return {"tool_calls": [{"index": index, **head, "function": function}]}


STREAM: list[dict[str, Any]] = [
    chunk({"role": "assistant", "content": ""}),
    chunk({"content": "Let me "}),
    chunk({"role": "assistant", "refusal": "I "}, 1),
    chunk({"content": "look."}),
    chunk(call_delta(0, id="call_1", name="weather", arguments="")),
    chunk(call_delta(0, arguments='{"city": ')),
    chunk({"refusal": "can't."}, 1),
    chunk(call_delta(0, arguments='"Paris"}')),
    chunk({}, 0, "tool_calls"),
    chunk({}, 1, "stop"),
    {**chunk({}), "choices": [], "usage": USAGE},
]


def assert_answered(call: LlmCall) -> None:
    assert call.output_messages == OUTPUT
    assert call.tool_calls == [PARSED_CALL]
    assert call.finish_reasons == ["tool_calls", "stop"]
    assert (call.llm_response_id, call.response_model) == ("chatcmpl-1", "gpt-5-mini-2025-08-07")
    assert (call.input_tokens, call.cache_read_input_tokens) == (50, 32)
    assert (call.output_tokens, call.reasoning_output_tokens) == (20, 8)
    assert call.error_type is None
    assert (call.incomplete, call.reason) == (False, None)


def test_the_examples_are_what_the_sdk_says() -> None:
    TypeAdapter(CompletionCreateParamsNonStreaming).validate_python(REQUEST)
    ChatCompletion.model_validate(RESPONSE, strict=True)
    for each in STREAM:
        ChatCompletionChunk.model_validate(each, strict=True)


def test_what_a_request_says() -> None:
    call = call_of(PATH, REQUEST, RESPONSE)
    assert (call.api, call.operation_name, call.request_model) == ("openai.chat", "chat", "gpt-5-mini")
    assert (call.temperature, call.top_p, call.max_tokens, call.seed) == (0.5, 0.9, 100, 11)
    assert (call.frequency_penalty, call.presence_penalty, call.choice_count) == (0.1, 0.2, 2)
    assert (call.stop_sequences, call.output_type) == (["END", "STOP"], "json")
    assert call.tool_definitions == [TOOL]
    assert [part["content"] for part in call.system_instructions] == ["Be brief.", "Say it in French."]
    user, assistant, tool, refused, last = call.messages
    assert user == {
        "role": "user",
        "name": "ann",
        "parts": [
            {"type": "text", "content": "Weather here?"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "iVBORw0KGgo="},
            {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.com/a.png"},
            {"type": "blob", "modality": "audio", "mime_type": "audio/wav", "content": "UklGRg=="},
            {"type": "file", "modality": "document", "mime_type": None, "file_id": "file-1"},
            {"type": "blob", "modality": "document", "mime_type": "application/pdf", "content": "JVBERi0="},
        ],
    }
    assert assistant == {"role": "assistant", "parts": [{"type": "tool_call", **PARSED_CALL}]}
    assert tool == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "call_1", "response": "Rain"}],
    }
    assert refused == {"role": "assistant", "parts": [{"type": "refusal", "refusal": "No."}]}
    assert last == {"role": "user", "parts": [{"type": "text", "content": "Please."}]}


def test_what_an_answer_says() -> None:
    call = call_of(PATH, REQUEST, RESPONSE)
    assert_answered(call)
    assert not call.streaming
    assert call.time_to_first_token_ms is None


def test_what_a_stream_says() -> None:
    call = call_of(PATH, REQUEST, sse(STREAM), content_type="text/event-stream; charset=utf-8")
    assert_answered(call)
    assert call.streaming


@pytest.mark.parametrize("cut", range(1, len(STREAM) - 1))
def test_a_stream_that_breaks_off_is_incomplete(cut: int) -> None:
    call = call_of(PATH, REQUEST, sse(STREAM[:cut], done=False), content_type="text/event-stream")
    finished = cut == len(STREAM) - 1
    assert (call.reason == "no_end") is not finished
    assert call.input_tokens is None
    assert call.output_tokens is None


def test_the_end_of_all_choices_is_enough() -> None:
    call = call_of(PATH, REQUEST, sse(STREAM, done=False), content_type="text/event-stream")
    assert_answered(call)


def test_arguments_that_are_no_json_stay_as_they_are() -> None:
    stream = [chunk(call_delta(0, id="a", name="f", arguments='{"city": ')), chunk({}, 0, "length")]
    call = call_of(PATH, {**REQUEST, "n": 1}, sse(stream), content_type="text/event-stream")
    assert call.tool_calls == [{"id": "a", "name": "f", "arguments": '{"city": '}]


def test_several_tool_calls_are_kept_apart() -> None:
    """Also where a server gives all of them the same index, or none."""
    for indexes in ((0, 1), (0, 0), (None, None)):
        first, second = (
            {"tool_calls": [{"index": i, "id": c, "function": {"name": "f", "arguments": f"[{n}]"}}]}
            for i, c, n in zip(indexes, "ab", (1, 2), strict=True)
        )
        stream = sse([chunk(first), chunk(second), chunk({}, 0, "tool_calls")])
        call = call_of(PATH, {**REQUEST, "n": 1}, stream, content_type="text/event-stream")
        assert [(c["id"], c["arguments"]) for c in call.tool_calls] == [("a", [1]), ("b", [2])], indexes


def test_the_function_call_of_old() -> None:
    request = {"model": "m", "messages": [], "functions": [{"name": "f"}]}
    asked = {"name": "f", "arguments": '{"x": 1}'}
    answer = {"role": "assistant", "content": None, "function_call": asked}
    whole = {**RESPONSE, "choices": [{"index": 0, "message": answer, "finish_reason": "function_call"}]}
    deltas = [{"name": "f", "arguments": ""}, {"arguments": '{"x": '}, {"arguments": "1}"}]
    stream = [chunk({"function_call": delta}) for delta in deltas] + [chunk({}, 0, "function_call")]
    for body, kind in ((whole, "application/json"), (sse(stream), "text/event-stream")):
        call = call_of(PATH, request, body, content_type=kind)
        assert call.tool_calls == [{"id": None, "name": "f", "arguments": {"x": 1}}]
        assert call.tool_definitions == [{"name": "f"}]


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_of_compatible_servers(name: str) -> None:
    parts = [{"type": "reasoning", "content": "Hm. So."}, {"type": "text", "content": "Yes"}]
    request = {"model": "deepseek-reasoner", "messages": [{"role": "user", "content": "?"}]}
    message = {"role": "assistant", "content": "Yes", name: "Hm. So."}
    whole = {**RESPONSE, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    stream = [
        chunk({name: "Hm. ", "content": None}),
        chunk({name: "So."}),
        chunk({"content": "Yes"}, 0, "stop"),
    ]
    for body, kind in ((whole, "application/json"), (sse(stream), "text/event-stream")):
        call = call_of(PATH, request, body, content_type=kind)
        assert call.output_messages[0]["parts"] == parts


def test_thinking_in_content() -> None:
    """As Mistral has it."""
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]}
    content = [thinking, {"type": "text", "text": "Yes"}]
    parts = [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Yes"}]
    message = {"role": "assistant", "content": content}
    whole = {**RESPONSE, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
    stream = [chunk({"content": [thinking]}), chunk({"content": "Yes"}, 0, "stop")]
    request = {"model": "magistral", "messages": []}
    for body, kind in ((whole, "application/json"), (sse(stream), "text/event-stream")):
        call = call_of(PATH, request, body, content_type=kind)
        assert call.output_messages[0]["parts"] == parts


@pytest.mark.parametrize(
    ("usage", "cached", "output"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_cache_hit_tokens": 4}, 4, 2),
        ({"prompt_tokens": 9, "completion_tokens": 2, "cached_tokens": 5}, 5, 2),
        (
            {
                "prompt_tokens": 9,
                "completion_tokens": 2,
                "total_tokens": 18,
                "completion_tokens_details": {"reasoning_tokens": 7},
            },
            None,
            9,
        ),
        ({"prompt_tokens": -1, "completion_tokens": True}, None, None),
    ],
)
def test_counts_of_compatible_servers(usage: Any, cached: int | None, output: int | None) -> None:
    call = call_of(PATH, REQUEST, {**RESPONSE, "usage": usage})
    assert (call.cache_read_input_tokens, call.output_tokens) == (cached, output)


def test_usage_in_the_words_of_groq() -> None:
    stream = [chunk({"content": "a"}), {**chunk({}, 0, "stop"), "x_groq": {"usage": USAGE}}]
    call = call_of(PATH, {**REQUEST, "n": 1}, sse(stream), content_type="text/event-stream")
    assert call.output_tokens == 20


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (
            {"error": {"message": "No", "type": "invalid_request_error", "code": None}},
            "invalid_request_error",
            "No",
        ),
        (
            {"error": {"message": "Wait", "type": "tokens", "code": "rate_limit_exceeded"}},
            "rate_limit_exceeded",
            "Wait",
        ),
        ({"error": {"message": "No", "code": 429}}, "429", "No"),
        ({"error": "model not found"}, "429", "model not found"),
        (
            {"object": "error", "message": "No", "type": "BadRequestError", "code": 400},
            "BadRequestError",
            "No",
        ),
        ({"detail": "gone"}, "429", '{"detail": "gone"}'),
        (b"<html>Too many</html>", "429", "<html>Too many</html>"),
    ],
)
def test_errors(error: Any, kind: str, words: str) -> None:
    limits = [("x-ratelimit-remaining-requests", "0"), ("Retry-After", "20"), ("x-other", "1")]
    call = call_of(PATH, REQUEST, error, status=429, headers=limits)
    assert (call.error_type, call.error_message, call.status) == (kind, words, 429)
    assert call.rate_limit == {"x-ratelimit-remaining-requests": "0", "retry-after": "20"}
    assert (call.output_messages, call.incomplete) == ([], False)


def test_an_error_within_a_stream() -> None:
    stream = [chunk({"content": "a"}), {"error": {"type": "server_error", "message": "Oops"}}]
    call = call_of(PATH, {**REQUEST, "n": 1}, sse(stream, done=False), content_type="text/event-stream")
    assert (call.error_type, call.error_message) == ("server_error", "Oops")
    assert call.output_messages[0]["parts"] == [{"type": "text", "content": "a"}]


def test_completions() -> None:
    response = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1,
        "model": "davinci-002",
        "choices": [{"index": 0, "text": " there", "finish_reason": "stop", "logprobs": None}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    Completion.model_validate(response, strict=True)
    stream: list[Any] = [{**response, "choices": [{"index": 0, "text": text}]} for text in (" the", "re")]
    stream[1]["choices"][0]["finish_reason"] = "stop"
    request = {"model": "davinci-002", "prompt": ["Hi", [1, 2]], "max_tokens": 4}
    for body, kind in ((response, "application/json"), (sse(stream), "text/event-stream")):
        call = call_of("/v1/completions", request, body, content_type=kind)
        assert (call.api, call.operation_name) == ("openai.completions", "text_completion")
        assert call.messages == [
            {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
            {"role": "user", "parts": [{"type": "tokens", "content": [1, 2]}]},
        ]
        assert call.output_messages[0]["parts"] == [{"type": "text", "content": " there"}]
        assert (call.finish_reasons, call.output_tokens, call.reason) == (["stop"], 2, None)


@pytest.mark.parametrize("vector", [[0.1, 0.2, 0.3], "zczMPc3MTD6amZk+"])
def test_embeddings(vector: Any) -> None:
    response = {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": vector}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 4, "total_tokens": 4},
    }
    if isinstance(vector, list):
        CreateEmbeddingResponse.model_validate(response, strict=True)
    call = call_of("/v1/embeddings", {"model": "text-embedding-3-small", "input": ["Hi", "you"]}, response)
    assert (call.api, call.operation_name) == ("openai.embeddings", "embeddings")
    assert (call.embedding_dimensions, call.input_tokens, call.output_tokens) == (3, 4, None)
    assert [message["parts"][0]["content"] for message in call.messages] == ["Hi", "you"]
    assert (call.output_messages, call.conversation_id, call.incomplete) == ([], None, False)


@pytest.mark.parametrize("last", ["chat/completions", "completions", "embeddings"])
def test_the_model_in_a_path(last: str) -> None:
    """As at Azure."""
    request = {"messages": [], "prompt": "", "input": ""}
    call = call_of(f"/openai/deployments/my%20gpt/{last}?api-version=2024-10-21", request, RESPONSE)
    assert (call.request_model, call.provider_name) == ("my gpt", "azure.ai.openai")


def test_any_json_anywhere() -> None:
    words = words_of([REQUEST, RESPONSE, STREAM], "function_call", "reasoning", "audio", "usage", "error")
    assert_stands(openai_chat.APIS[0], [PATH], words)
