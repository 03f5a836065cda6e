"""Cohere's API; the examples are valid by the types of Cohere's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from cohere import EmbedByTypeResponse
from cohere.core.unchecked_base_model import construct_type
from cohere.types import AssistantMessageResponse, NonStreamedChatResponse, ToolV2, UserChatMessageV2
from cohere.v2.types import V2ChatResponse, V2ChatStreamResponse
from pydantic import TypeAdapter

from libagenttracer.analyzers.llm.base import Draft
from libagenttracer.analyzers.llm.cohere import APIS

from .hostile import as_event, assert_stands, words_of

CHAT, CHAT_V1, EMBED = APIS
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
REQUEST: dict[str, Any] = {
    "model": "command-a-03-2025",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Weather?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,aWk="}},
            ],
        },
        {
            "role": "assistant",
            "tool_plan": "A tool has it.",
            "tool_calls": [
                {
                    "id": "weather_1",
                    "type": "function",
                    "function": {"name": "weather", "arguments": '{"city":"Paris"}'},
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "weather_1",
            "content": [{"type": "document", "document": {"data": {"weather": "Rain"}}}],
        },
    ],
    "tools": [TOOL],
    "max_tokens": 100,
    "temperature": 0.5,
    "p": 0.9,
    "k": 40,
    "seed": 7,
    "frequency_penalty": 0.25,
    "presence_penalty": 0.5,
    "stop_sequences": ["END"],
    "response_format": {"type": "json_object"},
    "stream": True,
}
USAGE = {
    "billed_units": {"input_tokens": 20.0, "output_tokens": 30.0},
    "tokens": {"input_tokens": 120.0, "output_tokens": 33.0},
    "cached_tokens": 64.0,
}


def call(number: int, name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"{name}_{number}", "type": "function", "function": {"name": name, "arguments": arguments}}


RESPONSE: dict[str, Any] = {
    "id": "resp-1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "tool_plan": "I will look … twice.",
        "tool_calls": [call(1, "weather", '{"city": "Zürich"}'), call(2, "now", "{}")],
        "content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Let me look."}],
    },
    "usage": USAGE,
}
CALLS = [
    {"id": "weather_1", "name": "weather", "arguments": {"city": "Zürich"}},
    {"id": "now_2", "name": "now", "arguments": {}},
]
Events = list[dict[str, Any]]


def event(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    place = {} if index is None else {"index": index}
    return {"type": kind, **place, "delta": {"message": message}}


def argument(piece: str, index: int) -> dict[str, Any]:
    return event("tool-call-delta", index, tool_calls={"function": {"arguments": piece}})


EVENTS: Events = [
    {"type": "message-start", "id": "resp-1", "delta": {"message": {"role": "assistant"}}},
    event("tool-plan-delta", tool_plan="I will"),
    event("tool-plan-delta", tool_plan=" look … twice."),
    event("content-start", 0, content={"type": "thinking", "thinking": ""}),
    event("content-delta", 0, content={"thinking": "Hm."}),
    {"type": "content-end", "index": 0},
    event("content-start", 1, content={"type": "text", "text": ""}),
    event("content-delta", 1, content={"text": "Let me"}),
    event("content-delta", 1, content={"text": " look."}),
    {"type": "content-end", "index": 1},
    event("tool-call-start", 0, tool_calls=call(1, "weather", "")),
    argument('{"ci', 0),
    argument('ty": "Zürich"}', 0),
    {"type": "tool-call-end", "index": 0},
    event("tool-call-start", 1, tool_calls=call(2, "now", "")),
    argument("{}", 1),
    {"type": "tool-call-end", "index": 1},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": USAGE}},
]


def streamed(events: Events, api: Any = CHAT) -> Draft:
    draft = Draft()
    reader = api.stream(draft)
    for at_ns, value in enumerate(events, 1):
        reader.item(at_ns, value.get("type", ""), value)
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
    api.read_request("/v2/x", request, draft)
    as_event(draft)
    return draft


def test_the_examples_are_what_the_sdk_knows() -> None:
    V2ChatResponse.model_validate(RESPONSE)
    AssistantMessageResponse.model_validate(RESPONSE["message"])
    UserChatMessageV2.model_validate(REQUEST["messages"][1])
    ToolV2.model_validate(TOOL)
    union: Any = V2ChatStreamResponse
    for value in EVENTS:
        found = construct_type(type_=union, object_=value)
        TypeAdapter(type(found)).validate_python(value)
        assert found.type == value["type"]


def test_recognises() -> None:
    assert CHAT.recognises("/v2/chat", REQUEST)
    assert CHAT.recognises("/cohere/v2/chat", {})
    assert not CHAT.recognises("/v2/chat", {"message": "x"})
    assert CHAT_V1.recognises("/v1/chat", {"message": "x"})
    assert not CHAT_V1.recognises("/v1/chat", REQUEST)
    assert not CHAT.recognises("/v2/chat/completions", REQUEST)
    assert EMBED.recognises("/v2/embed", {"texts": []})
    assert not EMBED.recognises("/v2/embed", {"url": "x"})


def test_request() -> None:
    draft = asked(REQUEST)
    assert (draft.provider_name, draft.operation_name) == ("cohere", "chat")
    assert draft.request_model == "command-a-03-2025"
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert draft.messages == [
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
                {"type": "tool_call", "id": "weather_1", "name": "weather", "arguments": {"city": "Paris"}},
            ],
        },
        {
            "role": "tool",
            "parts": [
                {
                    "type": "tool_call_response",
                    "id": "weather_1",
                    "response": [{"type": "document", "content": {"data": {"weather": "Rain"}}}],
                }
            ],
        },
    ]
    assert draft.tool_definitions == [TOOL]
    assert (draft.temperature, draft.top_p, draft.top_k, draft.max_tokens) == (0.5, 0.9, 40, 100)
    assert (draft.seed, draft.stop_sequences, draft.output_type) == (7, ["END"], "json")
    assert (draft.frequency_penalty, draft.presence_penalty) == (0.25, 0.5)


def test_response() -> None:
    draft = answered(RESPONSE)
    assert draft.llm_response_id == "resp-1"
    assert draft.tool_calls == CALLS
    assert draft.finish_reasons == ["TOOL_CALL"]
    (message,) = draft.output_messages
    assert message["parts"][:3] == [
        {"type": "reasoning", "content": "I will look … twice."},
        {"type": "reasoning", "content": "Hm."},
        {"type": "text", "content": "Let me look."},
    ]
    assert (draft.input_tokens, draft.output_tokens, draft.cache_read_input_tokens) == (120, 33, 64)
    assert (draft.streaming, draft.reasons) == (False, set())


def test_billed_units_are_better_than_nothing() -> None:
    draft = answered({**RESPONSE, "usage": {"billed_units": USAGE["billed_units"]}})
    assert (draft.input_tokens, draft.output_tokens) == (20, 30)


def test_a_stream_says_the_same() -> None:
    draft = streamed(EVENTS)
    assert (draft.streaming, draft.first_content_ns) == (True, 2)
    draft.streaming, draft.first_content_ns = False, None
    assert draft == answered(RESPONSE)


@pytest.mark.parametrize("kept", range(len(EVENTS)))
def test_a_stream_that_breaks_off_is_incomplete(kept: int) -> None:
    draft = streamed(EVENTS[:kept])
    assert draft.reasons == {"no_end"}
    assert (draft.input_tokens, draft.finish_reasons) == (None, [])


def test_what_was_not_begun_is_incomplete() -> None:
    assert streamed(EVENTS[1:]).reasons == {"malformed"}
    draft = streamed([EVENTS[0], argument("{}", 0), EVENTS[-1]])
    assert (draft.reasons, draft.tool_calls) == ({"malformed"}, [])


@pytest.mark.parametrize("index", [-1, 10_000, 2**70, None, "0", [0], True])
def test_bad_indexes(index: Any) -> None:
    events = [dict(event("content-delta", 0, content={"text": "x"}), index=index), argument("x", index)]
    draft = streamed([EVENTS[0], *events, EVENTS[-1]])
    assert draft.reasons == {"malformed"}
    assert draft.output_messages[0]["parts"] == []


def test_errors() -> None:
    draft = answered({"id": "e-1", "message": "invalid request"})
    assert (draft.error_message, draft.error_type, draft.output_messages) == ("invalid request", "error", [])
    for api in APIS:
        assert answered({}, api).reasons == answered(None, api).reasons == {"malformed"}
    end = {"type": "message-end", "delta": {"finish_reason": "ERROR", "error": "it broke"}}
    draft = streamed([*EVENTS[:5], end])
    assert (draft.error_type, draft.error_message, draft.reasons) == ("ERROR", "it broke", set())


def test_version_1() -> None:
    request = {
        "model": "command-r",
        "message": "And now?",
        "preamble": "Be brief.",
        "chat_history": [{"role": "USER", "message": "Hi"}, {"role": "CHATBOT", "message": "Hello"}],
    }
    draft = asked(request, CHAT_V1)
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert [message["role"] for message in draft.messages] == ["user", "assistant", "user"]
    assert draft.messages[2]["parts"] == [{"type": "text", "content": "And now?"}]
    response = {
        "text": "It rains.",
        "generation_id": "g-1",
        "finish_reason": "COMPLETE",
        "tool_calls": [{"name": "weather", "parameters": {"city": "Paris"}}],
        "meta": {"tokens": USAGE["tokens"]},
    }
    NonStreamedChatResponse.model_validate(response)
    whole = answered(response, CHAT_V1)
    assert whole.tool_calls == [{"id": None, "name": "weather", "arguments": {"city": "Paris"}}]
    assert (whole.llm_response_id, whole.input_tokens, whole.finish_reasons) == ("g-1", 120, ["COMPLETE"])
    events: Events = [
        {"event_type": "stream-start", "generation_id": "g-1"},
        {"event_type": "text-generation", "text": "It "},
        {"event_type": "text-generation", "text": "rains."},
        {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": response},
    ]
    draft = streamed(events, CHAT_V1)
    assert draft.first_content_ns == 2
    draft.streaming, draft.first_content_ns = False, None
    assert draft == whole
    draft = streamed(events[:-1], CHAT_V1)
    assert draft.reasons == {"no_end"}
    assert draft.output_messages == [
        {"role": "assistant", "parts": [{"type": "text", "content": "It rains."}]}
    ]


def test_embeddings() -> None:
    request: dict[str, Any] = {
        "model": "embed-v4.0",
        "input_type": "search_query",
        "texts": ["a"],
        "images": ["data:image/png;base64,aWk="],
        "inputs": [{"content": [{"type": "text", "text": "b"}]}],
        "output_dimension": 256,
    }
    draft = asked(request, EMBED)
    assert (draft.operation_name, draft.embedding_dimensions) == ("embeddings", 256)
    assert [message["parts"][0]["type"] for message in draft.messages] == ["text", "blob", "text"]
    response = {
        "id": "e-1",
        "embeddings": {"float": [[0.5]]},
        "meta": {"billed_units": {"input_tokens": 3.0}},
    }
    EmbedByTypeResponse.model_validate(response)
    draft = answered(response, EMBED)
    assert (draft.llm_response_id, draft.input_tokens, draft.output_messages) == ("e-1", 3, [])


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_hostile(api: Any) -> None:
    assert_stands(
        api, ["/v2/chat", "/v1/embed", ""], words_of([REQUEST, RESPONSE, EVENTS], "event_type", "stream-end")
    )
