"""Amazon Bedrock; the examples of Converse are valid by the service's model in botocore."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from libagenttracer.analyzers.llm.anthropic import APIS as ANTHROPIC_APIS
from libagenttracer.analyzers.llm.base import Draft
from libagenttracer.analyzers.llm.bedrock import APIS

from . import test_anthropic
from .hostile import as_event, assert_stands, words_of

CONVERSE, INVOKE = APIS
MODEL = "us.anthropic.claude-sonnet-4-20250514-v1:0"
PATH = "/model/us.anthropic.claude-sonnet-4-20250514-v1%3A0/"
TOOL = {"toolSpec": {"name": "weather", "inputSchema": {"json": {"type": "object"}}}}
REQUEST: dict[str, Any] = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "Weather?"},
                {"image": {"format": "png", "source": {"bytes": "aWk="}}},
                {
                    "document": {
                        "format": "pdf",
                        "name": "a",
                        "source": {"s3Location": {"uri": "s3://b/a.pdf"}},
                    }
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "A tool has it.", "signature": "c2ln"}}},
                {"toolUse": {"toolUseId": "tooluse_1", "name": "weather", "input": {"city": "Paris"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "tooluse_1",
                        "content": [{"json": {"sky": "grey"}}, {"text": "Rain"}],
                        "status": "success",
                    }
                },
                {"cachePoint": {"type": "default"}},
            ],
        },
    ],
    "inferenceConfig": {"maxTokens": 100, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "additionalModelRequestFields": {"top_k": 40},
    "toolConfig": {"tools": [TOOL]},
}
MESSAGES = [
    {
        "role": "user",
        "parts": [
            {"type": "text", "content": "Weather?"},
            {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aWk="},
            {"type": "uri", "modality": "document", "mime_type": "application/pdf", "uri": "s3://b/a.pdf"},
        ],
    },
    {
        "role": "assistant",
        "parts": [
            {"type": "reasoning", "content": "A tool has it."},
            {"type": "tool_call", "id": "tooluse_1", "name": "weather", "arguments": {"city": "Paris"}},
        ],
    },
    {
        "role": "user",
        "parts": [
            {
                "type": "tool_call_response",
                "id": "tooluse_1",
                "response": [
                    {"type": "json", "content": {"sky": "grey"}},
                    {"type": "text", "content": "Rain"},
                ],
            }
        ],
    },
]
USAGE = {
    "inputTokens": 10,
    "outputTokens": 30,
    "totalTokens": 1140,
    "cacheReadInputTokens": 100,
    "cacheWriteInputTokens": 1000,
}
RESPONSE: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Hm … two.", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "b3BhcXVl"}},
                {"text": "Let me look."},
                {"toolUse": {"toolUseId": "tooluse_2", "name": "weather", "input": {"city": "Zürich"}}},
                {"toolUse": {"toolUseId": "tooluse_3", "name": "now", "input": {}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 500},
}
CALLS = [
    {"id": "tooluse_2", "name": "weather", "arguments": {"city": "Zürich"}},
    {"id": "tooluse_3", "name": "now", "arguments": {}},
]
Events = list[tuple[str, dict[str, Any]]]


def delta(index: Any, **what: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": what}


def start(index: int, **what: Any) -> tuple[str, dict[str, Any]]:
    return "contentBlockStart", {"contentBlockIndex": index, "start": what}


def stop(index: int) -> tuple[str, dict[str, Any]]:
    return "contentBlockStop", {"contentBlockIndex": index}


EVENTS: Events = [
    ("messageStart", {"role": "assistant"}),
    delta(0, reasoningContent={"text": "Hm …"}),
    delta(0, reasoningContent={"text": " two."}),
    delta(0, reasoningContent={"signature": "c2ln"}),
    stop(0),
    delta(1, reasoningContent={"redactedContent": "b3BhcXVl"}),
    stop(1),
    delta(2, text="Let me"),
    delta(2, text=" look."),
    stop(2),
    start(3, toolUse={"toolUseId": "tooluse_2", "name": "weather"}),
    delta(3, toolUse={"input": ""}),
    delta(3, toolUse={"input": '{"city": "Z'}),
    delta(3, toolUse={"input": 'ürich"}'}),
    stop(3),
    start(4, toolUse={"toolUseId": "tooluse_3", "name": "now"}),
    stop(4),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 500}}),
]


def streamed(events: Events, api: Any = CONVERSE) -> Draft:
    draft = Draft()
    reader = api.stream(draft)
    for at_ns, (event, data) in enumerate(events, 1):
        reader.item(at_ns, event, data)
    reader.end()
    as_event(draft)
    return draft


def chunks(values: Sequence[Any]) -> Events:
    """The chunks of InvokeModelWithResponseStream."""
    return [
        ("chunk", {"bytes": b64encode(json.dumps(value).encode()).decode(), "p": "abc"}) for value in values
    ]


def answered(response: Any, api: Any = CONVERSE) -> Draft:
    draft = Draft()
    api.read_response(response, draft)
    as_event(draft)
    return draft


def asked(verb: str, request: dict[str, Any], path: str = PATH) -> Draft:
    draft = Draft()
    api = INVOKE if verb.startswith("invoke") else CONVERSE
    assert api.recognises(path + verb, request)
    api.read_request(path + verb, request, draft)
    as_event(draft)
    return draft


def as_whole(draft: Draft) -> Draft:
    assert draft.streaming
    draft.streaming, draft.first_content_ns = False, None
    return draft


def test_the_examples_are_what_the_sdk_knows() -> None:
    session = pytest.importorskip("botocore.session")
    validate = pytest.importorskip("botocore.validate").ParamValidator().validate
    model = session.get_session().get_service_model("bedrock-runtime")
    examples = [
        ("ConverseRequest", {"modelId": MODEL, **REQUEST}),
        ("ConverseResponse", RESPONSE),
        *(("ConverseStreamOutput", {event: data}) for event, data in EVENTS),
    ]
    for name, example in examples:
        assert not validate(example, model.shape_for(name)).has_errors(), (name, example)
    for operation in ("Converse", "ConverseStream", "InvokeModel", "InvokeModelWithResponseStream"):
        uri = model.operation_model(operation).http["requestUri"].replace("{modelId}", "x")
        assert [api.name for api in APIS if api.recognises(uri, {})] == [
            "bedrock.converse" if operation.startswith("Converse") else "bedrock.invoke"
        ]


def test_recognises() -> None:
    assert not CONVERSE.recognises("/converse", {})
    assert not CONVERSE.recognises("/model//converse", {})
    assert not CONVERSE.recognises(PATH + "count-tokens", {})
    assert not INVOKE.recognises("/api/invoke", {})


@pytest.mark.parametrize("verb", ["converse", "converse-stream"])
def test_request(verb: str) -> None:
    draft = asked(verb, REQUEST)
    assert (draft.provider_name, draft.operation_name, draft.request_model) == ("aws.bedrock", "chat", MODEL)
    assert draft.system_instructions == [{"type": "text", "content": "Be brief."}]
    assert draft.messages == MESSAGES
    assert draft.tool_definitions == [TOOL]
    assert (draft.temperature, draft.top_p, draft.top_k, draft.max_tokens) == (0.5, 0.9, 40, 100)
    assert draft.stop_sequences == ["END"]
    arn = "arn:aws:bedrock:us-east-1:1:inference-profile/x"
    draft = asked(verb, {}, "/model/arn%3Aaws%3Abedrock%3Aus-east-1%3A1%3Ainference-profile%2Fx/")
    assert draft.request_model == arn


def test_response() -> None:
    draft = answered(RESPONSE)
    assert draft.tool_calls == CALLS
    assert draft.finish_reasons == ["tool_use"]
    assert draft.output_messages[0]["parts"][:3] == [
        {"type": "reasoning", "content": "Hm … two."},
        {"type": "reasoningContent", "content": {"redactedContent": "b3BhcXVl"}},
        {"type": "text", "content": "Let me look."},
    ]
    assert (draft.input_tokens, draft.output_tokens) == (1110, 30)
    assert (draft.cache_read_input_tokens, draft.cache_creation_input_tokens) == (100, 1000)
    assert draft.reasons == set()


def test_a_stream_says_the_same() -> None:
    draft = streamed(EVENTS)
    assert draft.first_content_ns == 2
    assert as_whole(draft) == answered(RESPONSE)


@pytest.mark.parametrize("kept", range(len(EVENTS)))
def test_a_stream_that_breaks_off_is_incomplete(kept: int) -> None:
    draft = streamed(EVENTS[:kept])
    assert "no_end" in draft.reasons
    assert draft.input_tokens is None


def test_what_was_not_begun_is_incomplete() -> None:
    assert streamed(EVENTS[1:]).reasons == {"malformed"}
    assert streamed([EVENTS[0], delta(0, toolUse={"input": "{}"}), *EVENTS[-2:]]).reasons == {"malformed"}
    assert streamed([EVENTS[0], delta(0, text="a"), delta(0, image={}), *EVENTS[-2:]]).reasons == {
        "malformed"
    }


def test_what_the_server_did_itself() -> None:
    use = {"toolUseId": "srv_1", "name": "search", "type": "server_tool_use"}
    result = {"toolUseId": "srv_1", "type": "search_result", "status": "success"}
    cited: Any = {"title": "a"}
    draft = streamed(
        [
            EVENTS[0],
            start(0, toolUse=use),
            delta(0, toolUse={"input": '{"q": 1}'}),
            start(1, toolResult=result),
            delta(1, toolResult=[{"text": "found"}]),
            delta(2, text="So"),
            delta(2, citation=cited),
            start(3, image={"format": "png"}),
            delta(3, image={"source": {"bytes": "aWk="}}),
            *EVENTS[-2:],
        ]
    )
    text_ = {"type": "text", "content": "So"}
    assert draft.output_messages[0]["parts"] == [
        {"type": "toolUse", "content": {**use, "input": {"q": 1}}},
        {"type": "tool_call_response", "id": "srv_1", "response": [{"type": "text", "content": "found"}]},
        text_,
        {"type": "image", "content": {"format": "png", "deltas": [{"source": {"bytes": "aWk="}}]}},
    ]
    assert (draft.tool_calls, draft.reasons) == ([], set())
    content = [{"citationsContent": {"content": [{"text": "S"}, {"text": "o"}], "citations": [cited]}}]
    whole = answered({"output": {"message": {"content": content}}})
    assert whole.output_messages == [{"role": "assistant", "parts": [text_]}]


@pytest.mark.parametrize("index", [-1, 10_000, 2**70, None, "0", [0], True])
def test_bad_indexes(index: Any) -> None:
    draft = streamed([EVENTS[0], delta(index, text="x"), *EVENTS[-2:]])
    assert draft.reasons == {"malformed"}
    assert draft.output_messages[0]["parts"] == []


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_errors(api: Any) -> None:
    draft = answered({"message": "Too many requests", "__type": "a#ThrottlingException"}, api)
    assert (draft.error_type, draft.error_message) == ("ThrottlingException", "Too many requests")
    draft = answered({"Message": "no access"}, api)
    assert (draft.error_type, draft.error_message, draft.output_messages) == ("error", "no access", [])
    assert answered({}, api).reasons == answered(None, api).reasons == {"malformed"}
    events = EVENTS[:9] if api is CONVERSE else chunks(test_anthropic.stream_events(ANTHROPIC, [9])[:9])
    draft = streamed([*events, ("modelStreamErrorException", {"message": "it broke"})], api)
    assert (draft.error_type, draft.error_message) == ("modelStreamErrorException", "it broke")
    assert draft.reasons == set()
    assert draft.output_messages[0]["parts"]


ANTHROPIC = test_anthropic.RESPONSE
METRICS = {"amazon-bedrock-invocationMetrics": {"inputTokenCount": 26, "outputTokenCount": 3}}


def test_anthropic_within_invoke() -> None:
    request = {**test_anthropic.REQUEST, "anthropic_version": "bedrock-2023-05-31"}
    draft = asked("invoke", request)
    assert (draft.provider_name, draft.request_model) == ("aws.bedrock", MODEL)
    assert draft.messages == test_anthropic.MESSAGES
    whole = Draft()
    ANTHROPIC_APIS[0].read_response(ANTHROPIC, whole)
    assert answered(ANTHROPIC, INVOKE) == whole
    events = test_anthropic.stream_events(ANTHROPIC, [9])
    events[-1] |= METRICS
    draft = streamed(chunks(events), INVOKE)
    assert draft.first_content_ns == 4
    assert as_whole(draft) == whole
    assert "no_end" in streamed(chunks(events)[:-1], INVOKE).reasons
    assert streamed([], INVOKE).reasons == {"no_end"}


def test_nova_within_invoke() -> None:
    request = {"schemaVersion": "messages-v1", **REQUEST}
    draft = asked("invoke-with-response-stream", request, "/model/amazon.nova-pro-v1%3A0/")
    assert (draft.request_model, draft.messages) == ("amazon.nova-pro-v1:0", MESSAGES)
    assert answered(RESPONSE, INVOKE) == answered(RESPONSE)
    events = [{event: data} for event, data in EVENTS]
    events[-1] |= METRICS
    assert as_whole(streamed(chunks(events), INVOKE)) == answered(RESPONSE)


@pytest.mark.parametrize(
    ("request_", "values", "response", "reason"),
    [
        (
            {"prompt": "Why?", "max_gen_len": 100},
            [{"generation": "Be"}, {"generation": "cause.", "stop_reason": "stop"}],
            {
                "generation": "Because.",
                "stop_reason": "stop",
                "prompt_token_count": 26,
                "generation_token_count": 3,
            },
            "stop",
        ),
        (
            {"inputText": "Why?", "textGenerationConfig": {"maxTokenCount": 100}},
            [{"outputText": "Be"}, {"outputText": "cause.", "completionReason": "FINISH"}],
            {
                "inputTextTokenCount": 26,
                "results": [{"outputText": "Because.", "completionReason": "FINISH"}],
            },
            "FINISH",
        ),
        (
            {"prompt": "Why?", "max_tokens": 100},
            [{"outputs": [{"text": "Be"}]}, {"outputs": [{"text": "cause.", "stop_reason": "stop"}]}],
            {"outputs": [{"text": "Because.", "stop_reason": "stop"}]},
            "stop",
        ),
        (
            {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 100},
            [
                {"choices": [{"index": 0, "delta": {"content": "Be"}}]},
                {"choices": [{"index": 0, "delta": {"content": "cause."}, "finish_reason": "stop"}]},
            ],
            {"choices": [{"index": 0, "message": {"content": "Because."}, "finish_reason": "stop"}]},
            "stop",
        ),
        (
            {"message": "Why?", "max_tokens": 100},
            [
                {"event_type": "text-generation", "text": "Be"},
                {"event_type": "text-generation", "text": "cause."},
                {"event_type": "stream-end", "finish_reason": "COMPLETE", "response": {"text": "Because."}},
            ],
            {"text": "Because.", "generation_id": "g", "finish_reason": "COMPLETE"},
            "COMPLETE",
        ),
    ],
    ids=["llama", "titan", "mistral", "openai", "cohere"],
)
def test_other_models_within_invoke(
    request_: dict[str, Any], values: list[dict[str, Any]], response: dict[str, Any], reason: str
) -> None:
    draft = asked("invoke", request_, "/model/some.model/")
    assert draft.messages == [{"role": "user", "parts": [{"type": "text", "content": "Why?"}]}]
    assert draft.max_tokens == 100
    expected = {
        "role": "assistant",
        "parts": [{"type": "text", "content": "Because."}],
        "finish_reason": reason,
    }
    assert answered(response, INVOKE).output_messages == [expected]
    draft = streamed(chunks(values), INVOKE)
    assert (draft.output_messages, draft.first_content_ns, draft.reasons) == ([expected], 1, set())
    assert streamed(chunks(values[:1]), INVOKE).reasons == {"no_end"}
    if "event_type" not in values[0]:
        values[-1] |= METRICS
        draft = streamed(chunks(values), INVOKE)
        assert (draft.input_tokens, draft.output_tokens) == (26, 3)


def test_tool_calls_of_other_models() -> None:
    call = {"id": "c", "function": {"name": "weather", "arguments": '{"city": "Paris"}'}}
    expected = [{"id": "c", "name": "weather", "arguments": {"city": "Paris"}}]
    choice = {"message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    assert answered({"choices": [choice]}, INVOKE).tool_calls == expected
    piece = {"delta": {"tool_calls": [{**call, "index": 0}]}, "stop_reason": "tool_calls"}
    draft = streamed(chunks([{"choices": [piece]}]), INVOKE)
    assert (draft.tool_calls, draft.reasons) == (expected, set())


def test_embeddings() -> None:
    draft = asked("invoke", {"inputText": "a", "dimensions": 256}, "/model/amazon.titan-embed-text-v2%3A0/")
    assert (draft.operation_name, draft.embedding_dimensions) == ("embeddings", 256)
    draft = answered({"embedding": [0.5], "inputTextTokenCount": 2}, INVOKE)
    assert (draft.input_tokens, draft.output_messages) == (2, [])


@pytest.mark.parametrize("encoded", ["!", "aWk=", "bnVsbA", b64encode(b"[" * 5000).decode(), "\ud800"])
def test_chunks_that_are_none(encoded: str) -> None:
    assert "bad_json" in streamed([("chunk", {"bytes": encoded})], INVOKE).reasons


@pytest.mark.parametrize("api", APIS, ids=lambda api: api.name)
def test_hostile(api: Any) -> None:
    inner = [{"type": "message_start"}, {"messageStart": 1}, {"event_type": "stream-end"}, {"choices": []}]
    encoded = [data["bytes"] for _, data in chunks(inner)]
    words = words_of([REQUEST, RESPONSE, [data for _, data in EVENTS]], "bytes", "choices", "prompt", "delta")
    assert_stands(
        api, [PATH + "converse", PATH + "invoke", ""], [*words, *encoded, *(name for name, _ in EVENTS)]
    )
