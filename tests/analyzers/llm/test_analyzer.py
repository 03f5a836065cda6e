"""Calls out of exchanges: which are found, when they are given, what they keep, and what is missing."""

from __future__ import annotations

import itertools
import json
from typing import Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers import Chain
from libagenttracer.analyzers.http import HttpAnalyzer
from libagenttracer.analyzers.llm import LlmAnalyzer
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.events import Event, HttpExchange, HttpRequest, LlmCall, StreamData, StreamEnd, derived_id

from .exchanges import MS, SENT_NS, call_of, calls_of, exchange, ndjson, sse
from .test_openai_chat import OUTPUT, REQUEST, RESPONSE, STREAM, chunk

CHAT = "/v1/chat/completions"
SSE = "text/event-stream"
HI = [{"role": "user", "content": "Hi"}]
ASKED = {"model": "m", "messages": HI}


@pytest.mark.parametrize(
    ("path", "request_", "api", "provider"),
    [
        (CHAT, ASKED, "openai.chat", "unknown"),
        ("/api/v1/chat/completions", ASKED, "openai.chat", "unknown"),
        ("/gateway/openai/chat/completions/?x=1", ASKED, "openai.chat", "unknown"),
        ("/openai/deployments/gpt/chat/completions?api-version=1", ASKED, "openai.chat", "azure.ai.openai"),
        ("https://llm.example.com/v1/chat/completions", ASKED, "openai.chat", "unknown"),
        ("/ml/v1/text/chat?version=1", {"model_id": "granite", "messages": HI}, "openai.chat", "unknown"),
        ("/v1/completions", {"prompt": "Hi"}, "openai.completions", "unknown"),
        ("/v1/fim/completions", {"prompt": "Hi"}, "openai.completions", "unknown"),
        ("/v1/embeddings", {"input": "Hi"}, "openai.embeddings", "unknown"),
        ("/openai/v1/responses", {"model": "m", "input": "Hi"}, "openai.responses", "unknown"),
        ("/v1/messages?beta=true", ASKED, "anthropic.messages", "anthropic"),
        ("/v1beta/models/m:generateContent", {"contents": []}, "gemini", "gcp.gemini"),
        ("/api/chat", ASKED, "ollama.chat", "ollama"),
        ("/api/generate", {"model": "m", "prompt": "Hi"}, "ollama.generate", "ollama"),
        ("/v2/chat", ASKED, "cohere.chat", "cohere"),
        ("/model/anthropic.claude/converse", {"messages": []}, "bedrock.converse", "aws.bedrock"),
    ],
)
def test_calls_are_found_by_path_and_body(path: str, request_: Any, api: str, provider: str) -> None:
    call = call_of(path, request_, {})
    assert (call.api, call.provider_name) == (api, provider)
    assert (call.server_address, call.server_port) == ("llm.example.com", 443)


@pytest.mark.parametrize(
    ("path", "request_"),
    [
        ("/", ASKED),
        ("/v1/chat/completions/messages", ASKED),
        ("/v1/models", ASKED),
        ("/v1/messages/count_tokens", ASKED),
        (CHAT, {"model": "m", "prompt": "Hi"}),
        (CHAT, []),
        (CHAT, 5),
        ("/v1/messages", {"to": "+1", "text": "Hi"}),
        ("/survey/responses", {"answers": []}),
        ("x" * 5000 + CHAT, ASKED),
    ],
)
def test_other_requests_are_none(path: str, request_: Any) -> None:
    assert not calls_of(exchange(path, request_, RESPONSE))


def test_what_has_a_path_but_no_json() -> None:
    assert not calls_of(exchange("/v1/messages", b"to=1&text=Hi", {}, request_type="x-www-form-urlencoded"))
    call = call_of("/v1/messages", b'{"model": ', {"type": "error", "error": {"type": "bad"}}, status=400)
    assert (call.reason, call.error_type, call.messages) == ("bad_json", "bad", [])


def test_only_posts_count() -> None:
    asked, *others = exchange(CHAT, ASKED, RESPONSE)
    assert not calls_of([msgspec.structs.replace(asked, method="PUT"), *others])


def test_when_and_from_where_it_is_given() -> None:
    events = exchange(CHAT, ASKED, RESPONSE, host="api.openai.com")
    analyzer = LlmAnalyzer()
    assert [[*analyzer.feed(event)] for event in events[:2]] == [[events[0]], [events[1]]]
    paired, call = analyzer.feed(events[2])
    assert paired is events[2]
    assert isinstance(call, LlmCall)
    assert call.id == derived_id("exchange1", "llm_call")
    assert (call.http_request_id, call.http_response_id) == ("request1", "response1")
    assert (call.timestamp_ns, call.source, call.pid, call.comm) == (10**18, "ssl", 7, "agent")
    assert (call.exe, call.connection_id, call.provider_name) == ("/bin/agent", "c", "openai")
    assert call.conversation_id == derived_id(call.id, "conversation")
    assert (call.duration_ms, call.status) == (1100.0, 200)
    assert not [*analyzer.flush()]


def test_times_of_a_stream() -> None:
    body = sse(STREAM)
    first, end = body.index(b"Let me "), body.index(b"look.")
    times = [(0, 0), (first, 10), (end, 500)]
    call = call_of(CHAT, REQUEST, body, content_type=SSE, times=times)
    at_ns = 10**18 + 110 * MS
    assert call.time_to_first_token_ms == (at_ns - SENT_NS) / MS
    assert call.tokens_per_second == pytest.approx(20 / 0.99)
    untimed = call_of(CHAT, REQUEST, body, content_type=SSE)
    assert (untimed.streaming, untimed.time_to_first_token_ms, untimed.tokens_per_second) == (
        True,
        None,
        None,
    )


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_the_merger_of_events_changes_nothing(data: st.DataObject) -> None:
    body = sse(STREAM)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1), max_size=20)))
    times = [(cut, number) for number, cut in enumerate([0, *cuts])]
    events = exchange(CHAT, REQUEST, body, content_type=SSE, times=times)
    (without,), (merged,) = calls_of(events), calls_of(events, merged=True)
    assert without == merged
    assert without.output_messages == OUTPUT


def test_a_gap_is_told() -> None:
    body = sse(STREAM)
    cut = body.index(b"look.")
    for merged in (False, True):
        events = exchange(CHAT, REQUEST, body[:cut], content_type=SSE, times=[(0, 0)], reason="gap")
        (call,) = calls_of(events, merged=merged)
        assert call.reason == "gap,no_end"
        assert call.output_messages[0]["parts"] == [{"type": "text", "content": "Let me "}]


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"", "application/json", "bad_json"),
        (b"<html>", "text/html", "bad_json"),
        (json.dumps(RESPONSE).encode()[:-5], "application/json", "bad_json"),
        (b"{}", "application/json", "malformed"),
        (b"[]", "application/json", "malformed,no_end"),
        (b"data: {\n\n", SSE, "bad_json,malformed,no_end"),
        (b"", SSE, "malformed,no_end"),
        (b"[" * 5000, "application/json", "bad_json,malformed,no_end"),
    ],
)
def test_answers_that_are_none(body: bytes, content_type: str, reason: str) -> None:
    call = call_of(CHAT, ASKED, body, content_type=content_type)
    assert (call.incomplete, call.reason) == (True, reason)
    assert call.output_tokens is None


def test_a_request_without_an_answer() -> None:
    call = call_of(CHAT, ASKED, None, reason="aborted,no_response")
    assert call.reason == "aborted,no_response"
    assert (call.messages[0]["role"], call.output_messages, call.duration_ms) == ("user", [], None)


def test_what_is_open_at_the_end() -> None:
    asked, *_ = exchange(CHAT, ASKED, None)
    end = StreamEnd("end", 10**9, "ssl", 7, "agent", "/bin/agent", "c", "process_exit")
    analyzer = LlmAnalyzer()
    assert [*analyzer.feed(asked)] == [asked]
    call, passed = analyzer.feed(end)
    assert passed is end
    assert isinstance(call, LlmCall)
    assert (call.reason, call.http_exchange_id) == ("no_response", None)
    assert [*analyzer.feed(asked)] == [asked]
    (flushed,) = analyzer.flush()
    assert flushed == call
    assert not [*analyzer.flush()]


def test_many_at_once() -> None:
    """As on HTTP/2: each gets its own answer."""
    apart = [
        exchange(CHAT, {"model": f"m{n}", "messages": HI}, {**RESPONSE, "id": f"r{n}"}, number=n)
        for n in range(50)
    ]
    mixed = [each[step] for step in range(2) for each in apart] + [each[2] for each in reversed(apart)]
    calls = calls_of(mixed)
    assert len(calls) == 50
    assert all(call.request_model == (call.llm_response_id or "").replace("r", "m") for call in calls)
    assert len({call.conversation_id for call in calls}) == 50


def test_interim_responses_and_other_exchanges_leave_nothing() -> None:
    asked, answer, paired = exchange(CHAT, ASKED, RESPONSE)
    other = exchange("/index.html", {}, {}, number=2)
    interim = msgspec.structs.replace(answer, id="interim", status=100)
    analyzer = LlmAnalyzer()
    for event in (asked, *other, interim, answer, paired, *other, interim):
        assert next(iter(analyzer.feed(event))) is event
    assert not analyzer._connections
    assert analyzer._held_bytes == 0


def test_memory_is_bounded() -> None:
    large = {**ASKED, "messages": [{"role": "user", "content": "x" * 1000}]}
    asked = [exchange(CHAT, large, None, number=n, connection=f"c{n}")[0] for n in range(100)]
    analyzer = LlmAnalyzer(max_held_bytes=10_000)
    calls = [e for event in asked for e in analyzer.feed(event) if isinstance(e, LlmCall)]
    assert all(call.reason == "no_response" for call in calls)
    assert [call.http_request_id for call in calls] == [f"request{n}" for n in range(len(calls))]
    assert 90 <= len(calls) < 100
    assert analyzer._held_bytes <= 10_000
    analyzer = LlmAnalyzer(max_connections=3)
    calls = [e for event in asked for e in analyzer.feed(event) if isinstance(e, LlmCall)]
    assert len(calls) == 97
    analyzer = LlmAnalyzer(max_held_bytes=10)  # one alone is too much
    _, call = analyzer.feed(asked[0])
    assert isinstance(call, LlmCall)
    assert not analyzer._connections
    with pytest.raises(ValueError, match="max_connections"):
        LlmAnalyzer(max_connections=0)


def test_conversations_over_http() -> None:
    answer = {**RESPONSE, "choices": [RESPONSE["choices"][0]]}
    told = [
        *HI,
        RESPONSE["choices"][0]["message"],
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    ]
    first = exchange(CHAT, ASKED, answer)
    second = exchange(CHAT, {**ASKED, "messages": told}, answer, number=2)
    other = exchange(CHAT, ASKED, answer, number=3)
    one, two, three = calls_of(first, second, other)
    assert one.conversation_id == two.conversation_id != three.conversation_id


def test_other_framings() -> None:
    lines = [
        {"model": "m", "message": {"role": "assistant", "content": "Hel"}, "done": False},
        {
            "model": "m",
            "message": {"role": "assistant", "content": "lo"},
            "done": True,
            "done_reason": "stop",
        },
    ]
    ollama = call_of("/api/chat", ASKED, ndjson(lines), content_type="application/x-ndjson", times=[(0, 1)])
    parts = [{"content": {"role": "model", "parts": [{"text": text}]}, "index": 0} for text in ("Hel", "lo")]
    answers: list[Any] = [{"candidates": [part]} for part in parts]
    parts[1]["finishReason"] = "STOP"
    gemini = call_of(
        "/v1beta/models/m:streamGenerateContent", {"contents": [{"parts": [{"text": "Hi"}]}]}, answers
    )
    for call in (ollama, gemini):
        assert call.output_messages[0]["parts"] == [{"type": "text", "content": "Hello"}]
        assert (call.streaming, call.reason) == (True, None)
    assert ollama.time_to_first_token_ms is not None
    assert gemini.time_to_first_token_ms is None


def http1(stream: bool) -> tuple[bytes, bytes]:
    """A request and its response as they are on the wire."""
    asked, body = json.dumps(REQUEST).encode(), sse(STREAM) if stream else json.dumps(RESPONSE).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: api.openai.com\r\nContent-Type: application/json\r\n"
    request = head.encode() + b"Content-Length: %d\r\n\r\n" % len(asked) + asked
    kind = SSE if stream else "application/json"
    chunks = [body[at : at + 700] for at in range(0, len(body), 700)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in [*chunks, b""])
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return request, answer.encode() + chunked


def from_bytes(stream: bool, cuts: list[int]) -> list[LlmCall]:
    chain = Chain([HttpAnalyzer(), SseMerger(), LlmAnalyzer()])
    given: list[Event] = []
    number = 0
    sides: tuple[Literal["write", "read"], ...] = ("write", "read")
    for direction, raw in zip(sides, http1(stream), strict=True):
        ends = sorted({*(cut % len(raw) for cut in cuts), 0, len(raw)})
        for begin, end in itertools.pairwise(ends):
            number += 1
            who = (f"piece{number}", 10**18, "ssl", 7, "agent", "/bin/agent", "c")
            given += chain.feed(StreamData(*who, direction, begin, raw[begin:end], starts_call=begin == 0))
    given += chain.flush()
    kinds = [type(event) for event in given]
    assert kinds.index(HttpRequest) < kinds.index(HttpExchange) < kinds.index(LlmCall)
    return [event for event in given if isinstance(event, LlmCall)]


def alike(call: LlmCall) -> LlmCall:
    """Without ids, which follow from those of the pieces, and times."""
    names = ("id", "conversation_id", "http_request_id", "http_response_id", "http_exchange_id")
    return msgspec.structs.replace(call, **dict.fromkeys(names, ""))


@pytest.mark.parametrize("stream", [False, True])
def test_from_the_bytes_of_a_connection(stream: bool) -> None:
    (whole,) = from_bytes(stream, [])
    assert whole.output_messages == OUTPUT
    assert (whole.provider_name, whole.reason, whole.streaming) == ("openai", None, stream)
    (single,) = from_bytes(stream, [*range(10_000)])
    assert alike(single) == alike(whole)

    @settings(max_examples=15, deadline=None)
    @given(st.lists(st.integers(0, 10_000), max_size=30))
    def split(cuts: list[int]) -> None:
        (call,) = from_bytes(stream, cuts)
        assert alike(call) == alike(whole)

    split()


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["choices", "messages", "error", "type", "usage", "delta"]), inner, max_size=3
        ),
    ),
    max_leaves=10,
)
PATHS = [
    "/v1/completions",
    "/v1/embeddings",
    CHAT,
    "/v1/messages",
    "/api/chat",
    "/v2/chat",
    "/v1/responses",
    "/m:generateContent",
    "/model/m/converse",
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(PATHS),
    st.one_of(
        st.binary(max_size=20), JSON, st.builds(lambda value: {"messages": [value], "input": value}, JSON)
    ),
    st.one_of(
        st.binary(max_size=20),
        JSON,
        st.lists(JSON, max_size=3).map(sse),
        st.lists(JSON, max_size=3).map(ndjson),
    ),
    st.sampled_from(["application/json", SSE, "application/x-ndjson", "application/vnd.amazon.eventstream"]),
    st.sampled_from([0, 200, 307, 429]),
    st.booleans(),
)
def test_anything(path: str, asked: Any, answer: Any, content_type: str, status: int, merged: bool) -> None:
    response = b"" if answer is None else answer
    events = exchange(path, asked, response, content_type=content_type, status=status)
    calls = calls_of(events, merged=merged)
    assert len(calls) <= 1


def test_a_deep_request_is_no_call() -> None:
    deep = b'{"messages": ' + b"[" * 3000 + b"]" * 3000 + b"}"
    assert call_of(CHAT, deep, RESPONSE).reason == "bad_json"
    assert call_of(CHAT, ASKED, sse([chunk({"content": "a"}, 0, "stop")]), content_type=SSE).reason is None
