"""Ollama's own API; the examples are valid by the types of Ollama's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from ollama import ChatResponse, EmbedResponse, GenerateResponse
from ollama._types import ChatRequest, EmbedRequest, GenerateRequest

from libagenttracer.analyzers.llm.base import Draft
from libagenttracer.analyzers.llm.ollama import APIS

from .hostile import as_event, assert_stands, words_of

CHAT, GENERATE, EMBED = APIS
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tells it."}}
REQUEST: dict[str, Any] = {
    "model": "qwen3:8b",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Weather?", "images": ["aWk="]},
        {
            "role": "assistant",
            "content": "",
            "thinking": "A tool has it.",
            "tool_calls": [{"function": {"name": "weather", "arguments": {"city": "Paris"}}}],
        },
        {"role": "tool", "tool_name": "weather", "content": "Rain"},
    ],
    "tools": [TOOL],
    "options": {
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 40,
        "seed": 7,
        "num_predict": 100,
        "stop": ["END"],
        "frequency_penalty": 0.25,
        "presence_penalty": 0.5,
    },
    "format": "json",
    "stream": True,
    "think": True,
}
HEAD = {"model": "qwen3:8b", "created_at": "2025-01-01T00:00:00Z"}
DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 26, "eval_count": 30, "total_duration": 5}
CALL = {"function": {"name": "weather", "arguments": {"city": "Zürich"}}}
MESSAGE = {"role": "assistant", "content": "Let me look.", "thinking": "Two … no, one.", "tool_calls": [CALL]}
RESPONSE = {**HEAD, "message": MESSAGE, **DONE}
Chunks = list[dict[str, Any]]


def chunk(**message: Any) -> dict[str, Any]:
    return {**HEAD, "message": {"role": "assistant", "content": "", **message}, "done": False}


CHUNKS: Chunks = [
    chunk(),
    chunk(thinking="Two …"),
    chunk(thinking=" no, one."),
    chunk(content="Let me"),
    chunk(content=" look."),
    chunk(tool_calls=[CALL]),
    {**HEAD, "message": {"role": "assistant", "content": ""}, **DONE},
]
CALLS = [{"id": None, "name": "weather", "arguments": {"city": "Zürich"}}]


def streamed(chunks: Chunks, api: Any = CHAT) -> Draft:
    draft = Draft()
    reader = api.stream(draft)
    for at_ns, value in enumerate(chunks, 1):
        reader.item(at_ns, "", value)
    reader.end()
    as_event(draft)
    return draft


def answered(response: Any, api: Any = CHAT) -> Draft:
    draft = Draft()
    api.read_response(response, draft)
    as_event(draft)
    return draft


def asked(request: dict[str, Any], api: Any = CHAT) -> Draft:
    draft = Draft()
    api.read_request("/api/x", request, draft)
    as_event(draft)
    return draft


def test_the_examples_are_what_the_sdk_knows() -> None:
    ChatRequest.model_validate(REQUEST)
    for value in (RESPONSE, *CHUNKS):
        ChatResponse.model_validate(value)


def test_recognises() -> None:
    assert CHAT.recognises("/api/chat", REQUEST)
    assert CHAT.recognises("/ollama/api/chat", {})
    assert not CHAT.recognises("/api/chat", {"messages": []})
    assert not CHAT.recognises("/api/chat", {"model": "x", "prompt": "x"})
    assert not CHAT.recognises("/api/generate", REQUEST)
    assert GENERATE.recognises("/api/generate", {"model": "x"})
    assert EMBED.recognises("/api/embed", {"model": "x"})
    assert EMBED.recognises("/api/embeddings", {"model": "x"})
    assert not EMBED.recognises("/api/embeddings", {"text": "x"})


def test_request() -> None:
    draft = asked(REQUEST)
    assert (draft.provider_name, draft.operation_name, draft.request_model) == ("ollama", "chat", "qwen3:8b")
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert draft.messages == [
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Weather?"},
                {"type": "blob", "modality": "image", "mime_type": None, "content": "aWk="},
            ],
        },
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "A tool has it."},
                {"type": "tool_call", "id": None, "name": "weather", "arguments": {"city": "Paris"}},
            ],
        },
        {
            "role": "tool",
            "parts": [{"type": "tool_call_response", "id": None, "name": "weather", "response": "Rain"}],
        },
    ]
    assert draft.tool_definitions == [TOOL]
    assert (draft.temperature, draft.top_p, draft.top_k, draft.max_tokens) == (0.5, 0.9, 40, 100)
    assert (draft.seed, draft.stop_sequences, draft.output_type) == (7, ["END"], "json")
    assert (draft.frequency_penalty, draft.presence_penalty) == (0.25, 0.5)
    assert asked({"model": "x", "options": {"num_predict": -1}}).max_tokens is None  # no limit


def test_response() -> None:
    draft = answered(RESPONSE)
    assert draft.response_model == "qwen3:8b"
    assert draft.tool_calls == CALLS
    assert draft.output_messages == [
        {
            "role": "assistant",
            "parts": [
                {"type": "reasoning", "content": "Two … no, one."},
                {"type": "text", "content": "Let me look."},
                {"type": "tool_call", **CALLS[0]},
            ],
            "finish_reason": "stop",
        }
    ]
    assert (draft.input_tokens, draft.output_tokens, draft.finish_reasons) == (26, 30, ["stop"])
    assert (draft.streaming, draft.reasons) == (False, set())


def test_a_stream_says_the_same() -> None:
    draft = streamed(CHUNKS)
    assert (draft.streaming, draft.first_content_ns) == (True, 2)
    draft.streaming, draft.first_content_ns = False, None
    assert draft == answered(RESPONSE)
    assert draft == answered(CHUNKS)


@pytest.mark.parametrize("kept", range(len(CHUNKS)))
def test_a_stream_that_breaks_off_is_incomplete(kept: int) -> None:
    draft = streamed(CHUNKS[:kept])
    assert draft.reasons == {"no_end"}
    assert (draft.input_tokens, draft.output_tokens, draft.finish_reasons) == (None, None, [])


def test_errors() -> None:
    draft = answered({"error": "model not found"})
    assert (draft.error_message, draft.error_type, draft.output_messages) == ("model not found", "error", [])
    for api in APIS:
        assert answered({}, api).reasons == answered(None, api).reasons
        assert len(answered({}, api).reasons) == 1
    draft = streamed([*CHUNKS[:4], {"error": "the runner stopped"}])
    assert (draft.error_message, draft.error_type) == ("the runner stopped", "error")
    assert draft.reasons == set()
    assert draft.output_messages[0]["parts"][1] == {"type": "text", "content": "Let me"}


def test_generate() -> None:
    request = {"model": "llama3.2", "prompt": "Why?", "system": "Be brief.", "suffix": "."}
    GenerateRequest.model_validate(request)
    draft = asked({**request, "images": ["aWk="]}, GENERATE)
    assert (draft.operation_name, draft.request_model) == ("text_completion", "llama3.2")
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    (message,) = draft.messages
    assert [part["type"] for part in message["parts"]] == ["text", "blob", "suffix"]
    chunks: Chunks = [
        {**HEAD, "response": "", "thinking": "Hm.", "done": False},
        {**HEAD, "response": "Be", "done": False},
        {**HEAD, "response": "cause.", "done": False},
        {**HEAD, "response": "", **DONE, "context": [1, 2]},
    ]
    for value in chunks:
        GenerateResponse.model_validate(value)
    draft = streamed(chunks, GENERATE)
    assert draft.output_messages[0]["parts"] == [
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "Because."},
    ]
    assert (draft.first_content_ns, draft.output_tokens, draft.reasons) == (1, 30, set())
    draft.streaming, draft.first_content_ns = False, None
    assert draft == answered({**HEAD, "response": "Because.", "thinking": "Hm.", **DONE}, GENERATE)


def test_embeddings() -> None:
    request = {"model": "all-minilm", "input": ["a", "b"], "dimensions": 64}
    EmbedRequest.model_validate(request)
    draft = asked(request, EMBED)
    assert (draft.operation_name, draft.embedding_dimensions) == ("embeddings", 64)
    assert [message["parts"][0]["content"] for message in draft.messages] == ["a", "b"]
    assert len(asked({"model": "all-minilm", "prompt": "a"}, EMBED).messages) == 1
    response = {"model": "all-minilm", "embeddings": [[0.5]], "prompt_eval_count": 8}
    EmbedResponse.model_validate(response)
    draft = answered(response, EMBED)
    assert (draft.response_model, draft.input_tokens, draft.output_messages) == ("all-minilm", 8, [])


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_hostile(api: Any) -> None:
    words = words_of([REQUEST, RESPONSE], "error", "response", "prompt", "system", "suffix", "input")
    assert_stands(api, ["/api/chat", "/api/embed", ""], words)
