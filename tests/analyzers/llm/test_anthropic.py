"""Anthropic's Messages API; the examples are valid by the types of Anthropic's own SDK."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from libagenttracer.analyzers.llm.anthropic import APIS
from libagenttracer.analyzers.llm.base import Draft

from .hostile import as_event, assert_stands, words_of

(API,) = APIS
PATH = "/v1/messages"
WEATHER = {"name": "weather", "description": "Tells it.", "input_schema": {"type": "object"}}
REQUEST: dict[str, Any] = {
    "model": "claude-sonnet-4-5",
    "max_tokens": 2048,
    "temperature": 0.5,
    "top_p": 0.9,
    "top_k": 40,
    "stop_sequences": ["END"],
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
    "tools": [WEATHER],
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "messages": [
        {"role": "user", "content": "Weather in Paris?"},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "A tool has it.", "signature": "c2ln"},
                {"type": "redacted_thinking", "data": "b3BhcXVl"},
                {"type": "text", "text": "Let me look."},
                {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Paris"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "Rain"}],
                },
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="},
                },
                {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
                {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "notes"}},
            ],
        },
    ],
}
MESSAGES = [
    {"role": "user", "parts": [{"type": "text", "content": "Weather in Paris?"}]},
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "A tool has it."},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
            {"type": "text", "content": "Let me look."},
            {"type": "tool_call", "id": "toolu_1", "name": "weather", "arguments": {"city": "Paris"}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {
                "type": "tool_call_response",
                "id": "toolu_1",
                "response": [{"type": "text", "content": "Rain"}],
            },
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "iVBORw0KGgo="},
            {"type": "uri", "modality": "document", "mime_type": None, "uri": "https://example.com/a.pdf"},
            {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.com/a.png"},
            {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "notes"}},
        ],
    },
]
USAGE = {
    "input_tokens": 10,
    "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 1000,
    "output_tokens": 77,
    "output_tokens_details": {"thinking_tokens": 33},
}
RESPONSE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "content": [
        {"type": "thinking", "thinking": "Two cities, two calls.", "signature": "c2ln"},
        {"type": "text", "text": "I will look at both … Zürich too."},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "weather"}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "tool_use", "id": "toolu_2", "name": "weather", "input": {"city": "Zürich", "days": [1, 2]}},
        {"type": "tool_use", "id": "toolu_3", "name": "now", "input": {}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": USAGE,
}
CALLS = [
    {"id": "toolu_2", "name": "weather", "arguments": {"city": "Zürich", "days": [1, 2]}},
    {"id": "toolu_3", "name": "now", "arguments": {}},
]
_PIECES = {
    "text": ("text", "text_delta", "text"),
    "thinking": ("thinking", "thinking_delta", "thinking"),
}
Events = list[dict[str, Any]]


def block_events(index: int, block: dict[str, Any], sizes: list[int]) -> Events:
    """What the server sends for a block, cut into pieces of these sizes (the last one again and again)."""
    kind = block["type"]
    pieces: list[str] = []
    if kind in _PIECES:
        field, delta, name = _PIECES[kind]
        start, content = {**block, field: ""}, block[field]
    elif kind in ("tool_use", "server_tool_use"):
        delta, name = "input_json_delta", "partial_json"
        start = {**block, "input": {}}
        content = TypeAdapter(Any).dump_json(block["input"]).decode() if block["input"] else ""
    else:
        delta, name, start, content = "", "", block, ""
    sizes = [*sizes]
    while content:
        size = sizes.pop(0) if len(sizes) > 1 else sizes[0]
        pieces.append(content[:size])
        content = content[size:]
    events: Events = [{"type": "content_block_start", "index": index, "content_block": start}]
    for piece in pieces:
        events.append(
            {"type": "content_block_delta", "index": index, "delta": {"type": delta, name: piece}},
        )
    if kind == "thinking":
        delta_ = {"type": "signature_delta", "signature": block["signature"]}
        events.append({"type": "content_block_delta", "index": index, "delta": delta_})
    return [*events, {"type": "content_block_stop", "index": index}]


def stream_events(message: dict[str, Any], sizes: list[int]) -> Events:
    usage = message["usage"]
    begin = {**message, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": 1}}
    blocks = [block_events(index, block, sizes) for index, block in enumerate(message["content"])]
    return [
        {"type": "message_start", "message": begin},
        {"type": "ping"},
        *[event for events in blocks for event in events],
        {
            "type": "message_delta",
            "delta": {"stop_reason": message["stop_reason"], "stop_sequence": None},
            "usage": {"output_tokens": usage["output_tokens"]},
        },
        {"type": "message_stop"},
    ]


def streamed(events: Events) -> Draft:
    draft = Draft()
    reader = API.stream(draft)
    for at_ns, event in enumerate(events, 1):
        reader.item(at_ns, event["type"], event)
    reader.end()
    as_event(draft)
    return draft


def answered(response: Any) -> Draft:
    draft = Draft()
    API.read_response(response, draft)
    as_event(draft)
    return draft


def test_the_examples_are_what_the_sdk_knows() -> None:
    TypeAdapter(MessageCreateParamsNonStreaming).validate_python(REQUEST)
    Message.model_validate(RESPONSE)
    for event in stream_events(RESPONSE, [5]):
        if event["type"] != "ping":
            TypeAdapter(RawMessageStreamEvent).validate_python(event)


@pytest.mark.parametrize(
    ("path", "request_", "expected"),
    [
        (PATH, REQUEST, True),
        ("/anthropic/v1/messages", REQUEST, True),
        (PATH, {}, True),
        (PATH, {"message": "a chat service's own"}, False),
        ("/v1/messages/batches", REQUEST, False),
        ("/v1/messages/count_tokens", REQUEST, False),
        ("/v1/chat/completions", REQUEST, False),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict", {}, True),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/count-tokens:rawPredict", {}, False),
        ("/v1/projects/p/locations/l/publishers/mistralai/models/m:rawPredict", {"messages": []}, False),
    ],
)
def test_recognises(path: str, request_: dict[str, Any], expected: bool) -> None:
    assert API.recognises(path, request_) is expected


def test_request() -> None:
    draft = Draft()
    API.read_request(PATH, REQUEST, draft)
    as_event(draft)
    assert (draft.provider_name, draft.operation_name) == ("anthropic", "chat")
    assert draft.request_model == "claude-sonnet-4-5"
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert draft.messages == MESSAGES
    assert draft.tool_definitions == [WEATHER]
    assert (draft.max_tokens, draft.temperature, draft.top_p, draft.top_k) == (2048, 0.5, 0.9, 40)
    assert draft.stop_sequences == ["END"]
    assert draft.reasons == set()


def test_vertex_has_the_model_in_the_path() -> None:
    path = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4@20250514:streamRawPredict"
    draft = Draft()
    API.read_request(path, {"anthropic_version": "vertex-2023-10-16", "messages": [], "system": "Hi"}, draft)
    assert (draft.provider_name, draft.request_model) == ("gcp.vertex_ai", "claude-sonnet-4@20250514")
    assert draft.system_instructions == [{"type": "text", "content": "Hi"}]


def test_response() -> None:
    draft = answered(RESPONSE)
    assert (draft.llm_response_id, draft.response_model) == ("msg_1", "claude-sonnet-4-5-20250929")
    assert draft.tool_calls == CALLS
    assert draft.finish_reasons == ["tool_use"]
    (message,) = draft.output_messages
    assert (message["role"], message["finish_reason"]) == ("assistant", "tool_use")
    assert message["parts"][:2] == [
        {"type": "reasoning", "content": "Two cities, two calls."},
        {"type": "text", "content": "I will look at both … Zürich too."},
    ]
    assert message["parts"][2] == RESPONSE["content"][2]
    assert (draft.input_tokens, draft.output_tokens) == (1110, 77)
    assert (draft.cache_read_input_tokens, draft.cache_creation_input_tokens) == (100, 1000)
    assert draft.reasoning_output_tokens == 33
    assert draft.reasons == set()


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30))
def test_a_stream_says_the_same(sizes: list[int]) -> None:
    draft, whole = streamed(stream_events(RESPONSE, sizes)), answered(RESPONSE)
    assert draft.streaming
    assert draft.first_content_ns == 4  # message_start, ping and the start of a block have nothing in them
    draft.streaming, draft.first_content_ns = False, None
    assert draft == whole


def test_blocks_may_be_interleaved() -> None:
    events = stream_events({**RESPONSE, "content": []}, [1])
    first, second = (block_events(index, RESPONSE["content"][index], [4]) for index in (0, 1))
    mixed: Events = []
    while first or second:
        mixed += [events.pop(0) for events in (second, first) if events]
    draft = streamed([*events[:2], *mixed, *events[2:]])
    assert [part["content"] for part in draft.output_messages[0]["parts"]] == [
        "Two cities, two calls.",
        "I will look at both … Zürich too.",
    ]
    assert draft.reasons == set()


def test_the_last_count_is_the_one() -> None:
    """Of web searches the input grows, too; and some gateways leave the input out at first, or at last."""
    events = stream_events(RESPONSE, [9])
    events[-2]["usage"] = {"input_tokens": 50, "cache_read_input_tokens": 0, "output_tokens": 80}
    draft = streamed(events)
    assert (draft.input_tokens, draft.cache_read_input_tokens, draft.output_tokens) == (1150, 100, 80)


def test_arguments_that_break_off_stay_text() -> None:
    events = stream_events({**RESPONSE, "content": RESPONSE["content"][4:5]}, [7])
    del events[4:-3]
    events[-2]["delta"]["stop_reason"] = "max_tokens"
    draft = streamed(events)
    assert draft.tool_calls == [{"id": "toolu_2", "name": "weather", "arguments": '{"city"'}]
    assert (draft.finish_reasons, draft.reasons) == (["max_tokens"], set())


@pytest.mark.parametrize("kept", range(24))
def test_a_stream_that_breaks_off_is_incomplete(kept: int) -> None:
    events = stream_events(RESPONSE, [8])
    assert len(events) > kept
    assert "no_end" in streamed(events[:kept]).reasons


def test_a_stream_without_its_start_is_incomplete() -> None:
    draft = streamed(stream_events(RESPONSE, [8])[3:])
    assert draft.reasons == {"malformed"}
    assert draft.tool_calls == CALLS


@pytest.mark.parametrize("index", [-1, 10_000, 2**70, None, "0", [0], True])
def test_bad_indexes(index: Any) -> None:
    block = {"type": "text", "text": ""}
    begin, *_, end = stream_events(RESPONSE, [8])
    start = {"type": "content_block_start", "index": index, "content_block": block}
    delta = {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": "x"}}
    draft = streamed([begin, start, delta, end])
    assert draft.output_messages == [{"role": "assistant", "parts": []}]
    assert draft.reasons == {"malformed"}


def test_errors() -> None:
    error = {
        "type": "error",
        "error": {"type": "overloaded_error", "message": "Overloaded"},
        "request_id": "r",
    }
    draft = answered(error)
    assert (draft.error_type, draft.error_message) == ("overloaded_error", "Overloaded")
    assert (draft.output_messages, draft.reasons) == ([], set())
    draft = streamed([*stream_events(RESPONSE, [40])[:6], error])
    assert (draft.error_type, draft.error_message) == ("overloaded_error", "Overloaded")
    assert draft.reasons == set()
    assert draft.output_messages[0]["parts"] == [{"type": "reasoning", "content": "Two cities, two calls."}]
    assert streamed([error]).output_messages == []
    draft = Draft(error_type="529")
    API.read_response({"error": {}}, draft)
    assert draft.error_type == "529"
    assert answered({}).reasons == answered(None).reasons == {"malformed"}


def test_hostile() -> None:
    words = words_of([REQUEST, stream_events(RESPONSE, [50])], "error", "compaction_delta")
    assert_stands(API, [PATH, "/a/anthropic/models/x:rawPredict", ""], words)
