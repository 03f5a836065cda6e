"""Google's Gemini API; the examples are valid by the types of Google's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from google.genai import types

from libagenttracer.analyzers.llm.base import Draft
from libagenttracer.analyzers.llm.gemini import APIS

from .hostile import as_event, assert_stands, words_of

GENERATE, EMBED = APIS
PATH = "/v1beta/models/gemini-2.5-flash:generateContent"
STREAM = "/v1beta/models/gemini-2.5-flash:streamGenerateContent"
VERTEX = "/v1beta1/projects/p/locations/us-central1/publishers/google/models/gemini-2.5-pro:generateContent"
TOOLS = [{"functionDeclarations": [{"name": "weather", "description": "Tells it."}]}, {"googleSearch": {}}]
CONFIG = {
    "temperature": 0.5,
    "topP": 0.9,
    "topK": 40,
    "maxOutputTokens": 100,
    "candidateCount": 2,
    "seed": -7,
    "stopSequences": ["END"],
    "frequencyPenalty": 0.25,
    "presencePenalty": -0.25,
    "responseMimeType": "application/json",
}
REQUEST: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [{"text": "Weather?"}, {"inlineData": {"mimeType": "image/png", "data": "aWk="}}],
        },
        {
            "role": "model",
            "parts": [
                {"text": "A tool has it.", "thought": True},
                {"functionCall": {"name": "weather", "args": {"city": "Paris"}}, "thoughtSignature": "c2ln"},
            ],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"name": "weather", "response": {"result": "Rain"}}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/f/1"}},
            ],
        },
    ],
    "tools": TOOLS,
    "generationConfig": CONFIG,
}
MESSAGES = [
    {
        "role": "user",
        "parts": [
            {"type": "text", "content": "Weather?"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aWk="},
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
        "role": "user",
        "parts": [
            {"type": "tool_call_response", "id": None, "name": "weather", "response": {"result": "Rain"}},
            {
                "type": "uri",
                "modality": "application",
                "mime_type": "application/pdf",
                "uri": "https://example.com/f/1",
            },
        ],
    },
]
USAGE = {
    "promptTokenCount": 120,
    "cachedContentTokenCount": 100,
    "toolUsePromptTokenCount": 5,
    "candidatesTokenCount": 30,
    "thoughtsTokenCount": 12,
    "totalTokenCount": 167,
}
HEAD = {"modelVersion": "gemini-2.5-flash-001", "responseId": "resp-1"}


def content(*parts: dict[str, Any], index: int = 0, finish: str | None = None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"role": "model", "parts": [*parts]}, "index": index}
    return candidate if finish is None else {**candidate, "finishReason": finish}


CALL = {"functionCall": {"id": "c-1", "name": "weather", "args": {"city": "Zürich"}}}
CODE = {"executableCode": {"language": "PYTHON", "code": "1+1"}}
RESULT = {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "2"}}
RESPONSE: dict[str, Any] = {
    **HEAD,
    "candidates": [
        content(
            {"text": "Hmm … yes.", "thought": True}, {"text": "Look:"}, CODE, RESULT, CALL, finish="STOP"
        ),
        content({"text": "Rain."}, index=1, finish="MAX_TOKENS"),
    ],
    "usageMetadata": USAGE,
}
CHUNKS: list[dict[str, Any]] = [
    {**HEAD, "candidates": [content({"text": ""})], "usageMetadata": {"promptTokenCount": 120}},
    {**HEAD, "candidates": [content({"text": "Hmm …", "thought": True})]},
    {**HEAD, "candidates": [content({"text": " yes.", "thought": True}), content({"text": "Ra"}, index=1)]},
    {**HEAD, "candidates": [content({"text": "Lo"}), content({"text": "in."}, index=1, finish="MAX_TOKENS")]},
    {**HEAD, "candidates": [content({"text": "ok"}, {"text": ":"}, CODE)]},
    {**HEAD, "candidates": [content(RESULT, CALL)]},
    {
        **HEAD,
        "candidates": [content({"text": "", "thoughtSignature": "c2ln"}, finish="STOP")],
        "usageMetadata": USAGE,
    },
]


def snake(value: Any) -> Any:
    """With the other names that Google's mapping of JSON allows."""
    if isinstance(value, dict):
        return {"".join(f"_{c.lower()}" if c.isupper() else c for c in k): snake(v) for k, v in value.items()}
    return [snake(item) for item in value] if isinstance(value, list) else value


def streamed(chunks: list[Any]) -> Draft:
    draft = Draft()
    reader = GENERATE.stream(draft)
    for at_ns, chunk in enumerate(chunks, 1):
        reader.item(at_ns, "message", chunk)
    reader.end()
    as_event(draft)
    return draft


def answered(response: Any, api: Any = GENERATE) -> Draft:
    draft = Draft()
    api.read_response(response, draft)
    as_event(draft)
    return draft


def asked(path: str, request: dict[str, Any], api: Any = GENERATE) -> Draft:
    draft = Draft()
    api.read_request(path, request, draft)
    as_event(draft)
    return draft


def test_the_examples_are_what_the_sdk_knows() -> None:
    for response in (RESPONSE, *CHUNKS):
        types.GenerateContentResponse.model_validate(response)
    for value in REQUEST["contents"]:
        types.Content.model_validate(value)
    types.GenerationConfig.model_validate(CONFIG)
    for tool in TOOLS:
        types.Tool.model_validate(tool)


@pytest.mark.parametrize("path", [PATH, STREAM, VERTEX, "/v1/tunedModels/my-1:generateContent"])
def test_recognises(path: str) -> None:
    assert GENERATE.recognises(path, {})
    assert not EMBED.recognises(path, {})
    assert not GENERATE.recognises(path.rpartition(":")[0] + ":countTokens", REQUEST)


@pytest.mark.parametrize("form", [REQUEST, snake(REQUEST)], ids=["camelCase", "snake_case"])
def test_request(form: dict[str, Any]) -> None:
    draft = asked(PATH, form)
    assert (draft.provider_name, draft.operation_name) == ("gcp.gemini", "generate_content")
    assert draft.request_model == "gemini-2.5-flash"
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert draft.messages == MESSAGES
    assert draft.tool_definitions == form["tools"]
    assert (draft.temperature, draft.top_p, draft.top_k, draft.max_tokens) == (0.5, 0.9, 40, 100)
    assert (draft.choice_count, draft.seed, draft.stop_sequences) == (2, -7, ["END"])
    assert (draft.frequency_penalty, draft.presence_penalty) == (0.25, -0.25)
    assert draft.output_type == "json"


def test_where_the_model_is() -> None:
    draft = asked(VERTEX, REQUEST)
    assert (draft.provider_name, draft.request_model) == ("gcp.vertex_ai", "gemini-2.5-pro")
    wrapped = {"model": "gemini-2.5-pro", "project": "p", "request": REQUEST}
    draft = asked("/v1internal:streamGenerateContent", wrapped)
    assert (draft.provider_name, draft.request_model) == ("gcp.gemini", "gemini-2.5-pro")
    assert draft.messages == MESSAGES


@pytest.mark.parametrize("form", [RESPONSE, snake(RESPONSE), {"response": RESPONSE}])
def test_response(form: dict[str, Any]) -> None:
    draft = answered(form)
    assert (draft.llm_response_id, draft.response_model) == ("resp-1", "gemini-2.5-flash-001")
    assert draft.finish_reasons == ["STOP", "MAX_TOKENS"]
    assert draft.tool_calls == [{"id": "c-1", "name": "weather", "arguments": {"city": "Zürich"}}]
    first, second = draft.output_messages
    reasoning, words, code, result, call = first["parts"]
    assert reasoning == {"type": "reasoning", "content": "Hmm … yes."}
    assert words == {"type": "text", "content": "Look:"}
    assert code["content"] == CODE["executableCode"]
    assert result["content"] == RESULT["codeExecutionResult"]
    assert call["type"] == "tool_call"
    assert (first["role"], first["finish_reason"]) == ("assistant", "STOP")
    assert second["parts"] == [{"type": "text", "content": "Rain."}]
    assert (draft.input_tokens, draft.output_tokens) == (125, 42)
    assert (draft.cache_read_input_tokens, draft.reasoning_output_tokens) == (100, 12)
    assert (draft.streaming, draft.reasons) == (False, set())


def test_a_stream_says_the_same() -> None:
    draft = streamed(CHUNKS)
    assert (draft.streaming, draft.first_content_ns) == (True, 2)
    draft.streaming, draft.first_content_ns = False, None
    assert draft == answered(RESPONSE)
    assert draft == answered(CHUNKS)


@pytest.mark.parametrize("kept", range(len(CHUNKS)))
def test_a_stream_that_breaks_off_is_incomplete(kept: int) -> None:
    assert streamed(CHUNKS[:kept]).reasons == {"no_end"}


def test_arguments_that_come_one_by_one() -> None:
    calls: list[dict[str, Any]] = [
        {"name": "weather", "id": "c-1", "willContinue": True},
        {
            "partialArgs": [{"jsonPath": "$.city", "stringValue": "Zü", "willContinue": True}],
            "willContinue": True,
        },
        {"partialArgs": [{"jsonPath": "$.city", "stringValue": "rich"}], "willContinue": True},
        {"partialArgs": [{"jsonPath": "$.days", "numberValue": 3}], "willContinue": True},
        {},
    ]
    chunks = [{"candidates": [content({"functionCall": call})]} for call in calls]
    for chunk in chunks:
        types.GenerateContentResponse.model_validate(chunk)
    end = {"candidates": [content({"text": "."}, finish="STOP")]}
    draft = streamed([*chunks, end])
    assert draft.tool_calls == [{"id": "c-1", "name": "weather", "arguments": {"city": "Zürich", "days": 3}}]
    assert [part["type"] for part in draft.output_messages[0]["parts"]] == ["tool_call", "text"]
    assert draft.reasons == set()
    calls[2]["partialArgs"][0]["jsonPath"] = "$.a.b[0]"
    assert streamed([*chunks, end]).reasons == {"malformed"}


def test_a_blocked_prompt() -> None:
    response = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 9}, **HEAD}
    types.GenerateContentResponse.model_validate(response)
    for draft in (answered(response), streamed([response])):
        assert (draft.finish_reasons, draft.output_messages) == (["SAFETY"], [])
        assert (draft.input_tokens, draft.reasons) == (9, set())


@pytest.mark.parametrize("listed", [False, True])
def test_errors(listed: bool) -> None:
    error: Any = {"error": {"code": 429, "message": "Too many.", "status": "RESOURCE_EXHAUSTED"}}
    error = [error] if listed else error
    draft = answered(error)
    assert (draft.error_type, draft.error_message) == ("RESOURCE_EXHAUSTED", "Too many.")
    assert draft.output_messages == []
    draft = streamed([*CHUNKS[:3], error])
    assert (draft.error_type, draft.reasons) == ("RESOURCE_EXHAUSTED", set())
    assert len(draft.output_messages) == 2
    assert answered({"error": {"code": 503}}).error_type == "503"
    assert streamed([{"error": "broken"}]).error_type == "error"
    assert answered({}).reasons == answered(None).reasons == {"no_end"}


def test_embeddings() -> None:
    one = {"content": {"parts": [{"text": "a"}]}, "outputDimensionality": 256}
    draft = asked("/v1beta/models/gemini-embedding-001:embedContent", one, EMBED)
    assert (draft.operation_name, draft.request_model) == ("embeddings", "gemini-embedding-001")
    assert (draft.embedding_dimensions, len(draft.messages)) == (256, 1)
    draft = asked("/v1beta/models/gemini-embedding-001:batchEmbedContents", {"requests": [one, one]}, EMBED)
    assert draft.messages == [{"role": "user", "parts": [{"type": "text", "content": "a"}]}] * 2
    draft = answered({"embedding": {"values": [0.5]}, "usageMetadata": {"promptTokenCount": 1}}, EMBED)
    assert (draft.input_tokens, draft.output_messages, draft.reasons) == (1, [], set())


@pytest.mark.parametrize("index", [-1, 10_000, 2**70, "0", [0], True])
def test_bad_indexes(index: Any) -> None:
    draft = streamed([{"candidates": [{"content": {"parts": [{"text": "x"}]}, "index": index}]}])
    assert draft.reasons == {"malformed", "no_end"}
    assert draft.output_messages == []


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_hostile(api: Any) -> None:
    words = words_of(
        [REQUEST, RESPONSE, snake(RESPONSE)], "error", "promptFeedback", "partialArgs", "jsonPath"
    )
    assert_stands(api, [PATH, VERTEX, "/v1internal:generateContent", "", "/:%3a"], words)
