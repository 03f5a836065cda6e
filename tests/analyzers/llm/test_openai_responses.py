"""OpenAI's Responses over HTTP and WebSocket; the examples are valid by OpenAI's own types."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai.types.responses import Response, ResponseStreamEvent
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from pydantic import TypeAdapter

from libagenttracer.analyzers.llm import LlmAnalyzer
from libagenttracer.analyzers.llm.openai_responses import APIS
from libagenttracer.events import Event, LlmCall, StreamEnd, WebSocketMessage, to_json

from .exchanges import MS, call_of, sse
from .hostile import assert_stands, words_of

PATH = "/v1/responses"
TOOL = {"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "weather",
    "arguments": '{"city":"Paris"}',
    "status": "completed",
}
REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "A tool"}, {"type": "summary_text", "text": "has it."}],
    "encrypted_content": "b3BhcXVl",
}
ANSWER = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
}
REQUEST: dict[str, Any] = {
    "model": "gpt-5",
    "instructions": "Be brief.",
    "max_output_tokens": 500,
    "temperature": 0.5,
    "top_p": 0.9,
    "tools": [TOOL],
    "text": {"format": {"type": "text"}},
    "input": [
        {"role": "developer", "content": "In French."},
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Weather?"},
                {"type": "input_image", "detail": "auto", "image_url": "https://example.com/a.png"},
                {"type": "input_file", "file_id": "file-1"},
            ],
        },
        REASONING,
        ANSWER,
        CALL,
        {"type": "function_call_output", "call_id": "call_1", "output": "Rain"},
        {"type": "item_reference", "id": "msg_9"},
    ],
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1.0,
    "model": "gpt-5-2025-08-07",
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "instructions": "Be brief.",
    "metadata": {},
    "parallel_tool_calls": True,
    "temperature": 0.5,
    "tool_choice": "auto",
    "tools": [TOOL],
    "top_p": 0.9,
    "output": [REASONING, ANSWER, CALL],
    "usage": {
        "input_tokens": 90,
        "input_tokens_details": {"cached_tokens": 64, "cache_write_tokens": 0},
        "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 12},
        "total_tokens": 120,
    },
}
PARSED_CALL = {"id": "call_1", "name": "weather", "arguments": {"city": "Paris"}}
PARTS: list[dict[str, Any]] = [
    {"type": "reasoning", "content": "A tool\n\nhas it."},
    {"type": "text", "content": "Let me look."},
    {"type": "tool_call", **PARSED_CALL},
]


def _stream() -> list[dict[str, Any]]:
    running = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    events: list[dict[str, Any]] = [
        {"type": "response.created", "response": running},
        {"type": "response.in_progress", "response": running},
    ]
    for index, item in enumerate(RESPONSE["output"]):
        kind = item["type"]
        emptied = {"reasoning": "summary", "message": "content", "function_call": "arguments"}[kind]
        start = {**item, emptied: type(item[emptied])()}
        at = {"output_index": index, "item_id": item["id"]}
        events.append({"type": "response.output_item.added", "output_index": index, "item": start})
        if kind == "reasoning":
            for number, piece in enumerate(item["summary"]):
                for half in (piece["text"][:3], piece["text"][3:]):
                    delta = {"type": "response.reasoning_summary_text.delta", "delta": half}
                    events.append({**delta, **at, "summary_index": number})
        elif kind == "message":
            for half in ("Let me ", "look."):
                delta = {"type": "response.output_text.delta", "delta": half, "logprobs": []}
                events.append({**delta, **at, "content_index": 0})
        else:
            for half in ('{"city":', '"Paris"}'):
                events.append({"type": "response.function_call_arguments.delta", "delta": half, **at})
        events.append({"type": "response.output_item.done", "output_index": index, "item": item})
    events.append({"type": "response.completed", "response": RESPONSE})
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


STREAM = _stream()


def assert_answered(call: LlmCall) -> None:
    assert call.output_messages == [{"role": "assistant", "parts": PARTS, "finish_reason": "completed"}]
    assert call.tool_calls == [PARSED_CALL]
    assert call.finish_reasons == ["completed"]
    assert (call.llm_response_id, call.response_model) == ("resp_1", "gpt-5-2025-08-07")
    assert (call.input_tokens, call.cache_read_input_tokens) == (90, 64)
    assert (call.output_tokens, call.reasoning_output_tokens) == (30, 12)
    assert (call.error_type, call.incomplete, call.reason) == (None, False, None)


def test_the_examples_are_what_the_sdk_says() -> None:
    TypeAdapter(ResponseCreateParamsNonStreaming).validate_python(REQUEST)
    Response.model_validate(RESPONSE, strict=True)
    events: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    for event in STREAM:
        events.validate_python(event, strict=True)


def test_what_a_request_says() -> None:
    call = call_of(PATH, REQUEST, RESPONSE)
    assert (call.api, call.operation_name, call.request_model) == ("openai.responses", "chat", "gpt-5")
    assert (call.temperature, call.top_p, call.max_tokens, call.output_type) == (0.5, 0.9, 500, "text")
    assert call.tool_definitions == [TOOL]
    assert [part["content"] for part in call.system_instructions] == ["Be brief.", "In French."]
    user, assistant, tool, reference = call.messages
    assert user == {
        "role": "user",
        "parts": [
            {"type": "text", "content": "Weather?"},
            {"type": "uri", "modality": "image", "mime_type": None, "uri": "https://example.com/a.png"},
            {"type": "file", "modality": "document", "mime_type": None, "file_id": "file-1"},
        ],
    }
    assert assistant == {"role": "assistant", "parts": PARTS}
    assert tool == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "call_1", "response": "Rain"}],
    }
    assert reference["parts"] == [{"type": "item_reference", "id": "msg_9"}]


def test_a_prompt_that_is_a_string() -> None:
    call = call_of(PATH, {"model": "gpt-5", "input": "Hi", "conversation": {"id": "conv_1"}}, RESPONSE)
    assert call.messages == [{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}]
    assert call.conversation_id == "conv_1"


def test_what_an_answer_says() -> None:
    call = call_of(PATH, REQUEST, RESPONSE)
    assert_answered(call)
    assert not call.streaming


@pytest.mark.parametrize("end", ["with output", "without output", "deltas only"])
def test_what_a_stream_says(end: str) -> None:
    """The end has everything; where it has not, the items have, and else their pieces."""
    stream = [*STREAM]
    if end != "with output":
        stream[-1] = {**stream[-1], "response": {**RESPONSE, "output": []}}
    if end == "deltas only":
        stream = [event for event in stream if event["type"] != "response.output_item.done"]
    body = sse(stream, done=False, typed=True)
    call = call_of(PATH, REQUEST, body, content_type="text/event-stream")
    assert_answered(call)
    assert call.streaming


@pytest.mark.parametrize("cut", range(1, len(STREAM)))
def test_a_stream_that_breaks_off_is_incomplete(cut: int) -> None:
    body = sse(STREAM[:cut], done=False, typed=True)
    call = call_of(PATH, REQUEST, body, content_type="text/event-stream")
    assert call.reason == "no_end"
    assert (call.input_tokens, call.output_tokens) == (None, None)
    parts = [part for message in call.output_messages for part in message["parts"]]
    for part, whole in zip(parts, PARTS, strict=False):
        assert part["type"] == whole["type"]
        assert str(whole.get("content", "")).startswith(part.get("content", ""))


def test_an_answer_that_was_cut_short() -> None:
    short = {**RESPONSE, "status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}}
    stream = [*STREAM[:-1], {"type": "response.incomplete", "response": short, "sequence_number": 99}]
    streamed = call_of(PATH, REQUEST, sse(stream, done=False, typed=True), content_type="text/event-stream")
    for call in (call_of(PATH, REQUEST, short), streamed):
        assert (call.finish_reasons, call.reason, call.output_tokens) == (["max_output_tokens"], None, 30)


def test_errors() -> None:
    said = {"code": "server_error", "message": "Oops"}
    failed = {**RESPONSE, "status": "failed", "error": said, "output": []}
    bodies = [
        [*STREAM[:2], {"type": "response.failed", "response": failed}],
        [*STREAM[:2], {"type": "error", **said, "param": None, "sequence_number": 3}],
        [*STREAM[:2], {"type": "error", "status": 500, "error": {"type": "server_error", "message": "Oops"}}],
    ]
    calls = [
        call_of(PATH, REQUEST, sse(body, done=False, typed=True), content_type="text/event-stream")
        for body in bodies
    ]
    calls += [call_of(PATH, REQUEST, failed), call_of(PATH, REQUEST, {"error": said}, status=500)]
    for call in calls:
        assert (call.error_type, call.error_message) == ("server_error", "Oops")
        assert (call.output_messages, call.incomplete) == ([], False)


def test_an_answer_that_is_yet_to_come() -> None:
    waiting = {**RESPONSE, "status": "queued", "output": [], "usage": None}
    assert call_of(PATH, {**REQUEST, "background": True}, waiting).reason == "no_end"


def test_calls_that_the_client_runs() -> None:
    action = {"type": "exec", "command": ["ls"], "env": {}}
    output = [
        {"type": "local_shell_call", "id": "l", "call_id": "c1", "action": action, "status": "completed"},
        {"type": "custom_tool_call", "id": "t", "call_id": "c2", "name": "patch", "input": "*** Begin"},
        {"type": "web_search_call", "id": "w", "status": "completed", "action": {"type": "search"}},
    ]
    call = call_of(PATH, REQUEST, {**RESPONSE, "output": output})
    assert call.tool_calls == [
        {"id": "c1", "name": "local_shell", "arguments": action},
        {"id": "c2", "name": "patch", "arguments": "*** Begin"},
    ]
    assert call.output_messages[0]["parts"][2] == output[2]


def test_any_json_anywhere() -> None:
    words = words_of([REQUEST, RESPONSE, STREAM], "error", "refusal", "response.incomplete", "image_url")
    (api,) = APIS
    assert_stands(api, [PATH], words)


def message(at: int, said: Any, direction: str, **changes: Any) -> WebSocketMessage:
    fields: dict[str, Any] = {
        "id": f"message{at}",
        "timestamp_ns": at * MS,
        "source": "ssl",
        "pid": 7,
        "comm": "codex",
        "exe": "/bin/codex",
        "connection_id": "c",
        "direction": direction,
        "opcode": "text",
        "target": PATH,
        "authority": "api.openai.com",
        "request_id": "request1",
        "stream_id": None,
        "payload": said if isinstance(said, bytes) else json.dumps(said).encode(),
        "last_byte_ns": at * MS,
    }
    return WebSocketMessage(**{**fields, **changes})


def turn(at: int, request: dict[str, Any] = REQUEST, **changes: Any) -> list[Event]:
    asked = message(at, {"type": "response.create", **request}, "write", **changes)
    return [asked, *(message(at + n, event, "read", **changes) for n, event in enumerate(STREAM, 1))]


def fed(analyzer: LlmAnalyzer, events: list[Event]) -> list[LlmCall]:
    given = [made for event in events for made in analyzer.feed(event)]
    assert [event for event in given if not isinstance(event, LlmCall)] == events
    return [event for event in given if isinstance(event, LlmCall)]


def test_calls_over_websocket() -> None:
    analyzer = LlmAnalyzer()
    follow = {"model": "gpt-5", "previous_response_id": "resp_1", "input": "And now?"}
    first, second = fed(analyzer, [*turn(100), *turn(200, follow)])
    for call in (first, second):
        assert_answered(call)
        assert call.streaming
        assert (call.provider_name, call.server_address, call.server_port) == (
            "openai",
            "api.openai.com",
            443,
        )
    assert first.timestamp_ns == 100 * MS
    assert first.duration_ms == len(STREAM)
    assert first.time_to_first_token_ms == 4.0
    assert first.http_request_id == "request1"
    assert first.conversation_id == second.conversation_id is not None
    assert second.messages == [{"role": "user", "parts": [{"type": "text", "content": "And now?"}]}]
    assert not [*analyzer.flush()]


def test_websockets_that_end_in_the_middle() -> None:
    end = StreamEnd("end", 10**9, "ssl", 7, "codex", "/bin/codex", "c", "process_exit")
    close = message(900, b"", "read", opcode="close")
    for ending in ([close], [end], turn(300), []):
        analyzer = LlmAnalyzer()
        calls = [*fed(analyzer, [*turn(100)[:-3], *ending]), *analyzer.flush()]
        assert isinstance(calls[0], LlmCall)
        assert (calls[0].reason, calls[0].output_tokens) == ("no_end", None)
        assert len(calls) == 1 + (len(ending) > 1)
    (call,) = fed(LlmAnalyzer(), [turn(100)[0], close])
    assert call.reason == "no_end,no_response"


def test_websocket_messages_that_are_none_of_it() -> None:
    analyzer = LlmAnalyzer()
    others = [
        message(1, {"type": "response.create", "response": {}}, "write", target="/v1/realtime?model=x"),
        message(2, {"type": "response.create", "response": {}}, "write", target=""),
        message(3, b'"response.create"', "write"),
        message(4, b'{"type": "response.create"', "write"),
        message(5, b"\xff\x00", "write", opcode="binary"),
        *turn(10)[1:],
    ]
    assert not fed(analyzer, others)
    assert not [*analyzer.flush()]


def test_broken_and_endless_answers_over_websocket() -> None:
    events = turn(100)
    broken = message(150, b"{", "read", incomplete=True, reason="gap")
    (call,) = fed(LlmAnalyzer(), [*events[:5], broken, *events[5:]])
    assert call.reason == "bad_json,gap"
    (call,) = fed(LlmAnalyzer(max_socket_bytes=1000), events)
    assert call.reason == "too_long"
    assert call.output_tokens == 30  # the end has it all
    analyzer = LlmAnalyzer(max_held_bytes=4000)
    (call,) = fed(analyzer, events)
    assert call.reason == "no_end"
    assert not [*analyzer.flush()]
    assert to_json(call)
