"""Records that are lost at random: no call is told as complete with a word or a count that is wrong."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import RequestReceived, StreamEnded

from libagenttracer.analyzers import Chain, decoders
from libagenttracer.events import Event, LlmCall, SslData

CALLS = 30
Part = tuple[Literal["read", "write"], bytes]


def question(number: int) -> bytes:
    message = {"role": "user", "content": f"question {number} " + "q" * 300}
    return json.dumps({"model": "m", "stream": bool(number % 2), "messages": [message]}).encode()


def answer(number: int) -> bytes:
    """The odd ones are streams."""
    usage = {"prompt_tokens": 1000 + number, "completion_tokens": 2000 + number}
    head: dict[str, Any] = {"id": f"r{number}", "model": "m", "object": "chat.completion"}
    if not number % 2:
        message = {"role": "assistant", "content": text_of(number)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        return json.dumps({**head, "choices": [choice], "usage": usage}).encode()
    deltas: list[dict[str, Any]] = [
        {"choices": [{"index": 0, "delta": {"content": word + " "}}]} for word in text_of(number).split()
    ]
    end: dict[str, Any] = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": usage}
    lines = [b"data: " + json.dumps({**head, **item}).encode() for item in [*deltas, end]]
    return b"\n\n".join([*lines, b"data: [DONE]", b""])


def text_of(number: int) -> str:
    return " ".join(f"word-{number}-{n}" for n in range(100))


def http1() -> Iterator[Part]:
    for number in range(CALLS):
        asked, answered = question(number), answer(number)
        kind = "text/event-stream" if number % 2 else "application/json"
        yield (
            "write",
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%s" % (len(asked), asked),
        )
        yield (
            "read",
            f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode(),
        )
        for at in range(0, len(answered), 500):
            some = answered[at : at + 500]
            yield "read", b"%x\r\n%s\r\n" % (len(some), some)
        yield "read", b"0\r\n\r\n"


def http2() -> Iterator[Part]:
    client = H2Connection(H2Configuration(client_side=True))
    server = H2Connection(H2Configuration(client_side=False))
    client.initiate_connection()
    server.initiate_connection()
    asked: set[int] = set()
    for number in range(CALLS):
        stream = client.get_next_available_stream_id()
        headers = [(":method", "POST"), (":path", "/v1/chat/completions"), (":scheme", "https")]
        headers += [(":authority", "a"), ("content-type", "application/json"), ("x-number", str(number))]
        client.send_headers(stream, headers)
        client.send_data(stream, question(number), end_stream=True)
        while data := client.data_to_send():
            yield "write", data
            for event in server.receive_data(data):
                if isinstance(event, RequestReceived):
                    asked.add(event.stream_id)
                if isinstance(event, StreamEnded):
                    kind = "text/event-stream" if number % 2 else "application/json"
                    server.send_headers(event.stream_id, [(":status", "200"), ("content-type", kind)])
                    body = answer(number)
                    for at in range(0, len(body), 500):
                        server.send_data(event.stream_id, body[at : at + 500])
                        data = server.data_to_send()
                        yield "read", data
                        client.receive_data(data)
                        client.acknowledge_received_data(len(body[at : at + 500]), event.stream_id)
                        server.receive_data(client.data_to_send())
                    server.end_stream(event.stream_id)
            if data := server.data_to_send():
                yield "read", data
                client.receive_data(data)


PROTOCOLS = {"http1": list(http1()), "http2": list(http2())}


def calls_of(parts: list[Part], chance: random.Random, rate: float, *, late: bool) -> list[LlmCall]:
    """Runs the decoders over records of which some are lost; or over those that come late in a connection."""
    chain = Chain(decoders(llm=True))
    offsets = {"read": 0, "write": 0}
    begin = len(parts) // 3 if late else 0
    found: list[Event] = []
    for number, (direction, payload) in enumerate(parts):
        if number < begin:
            continue
        offset = offsets[direction]
        offsets[direction] += len(payload)
        if chance.random() < rate:
            continue
        record = SslData(
            f"00000000-0000-8000-8000-{number:012x}", number, "ssl", 7, 7, 1, 0, "agent", "", direction,
            len(payload), offset, "7-a-1", "SSL_write", 1, "", payload, joined_late=late,
        )  # fmt: skip
        found += chain.feed(record)
        found += chain.tick(number + 2_000_000_000)  # what is missing will not come
    found += chain.flush()
    return [event for event in found if isinstance(event, LlmCall)]


def check(call: LlmCall) -> None:
    (message,) = call.messages
    number = int(message["parts"][0]["content"].split()[1])
    (told,) = call.output_messages
    assert told["parts"][0]["content"].strip() == text_of(number)
    assert (call.input_tokens, call.output_tokens) == (1000 + number, 2000 + number)
    assert (call.request_model, call.response_model, call.finish_reasons) == ("m", "m", ["stop"])
    assert call.llm_response_id == f"r{number}"


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_without_loss_all_are_complete(protocol: str) -> None:
    calls = calls_of(PROTOCOLS[protocol], random.Random(0), 0, late=False)
    assert [call.reason for call in calls] == [None] * CALLS
    for call in calls:
        check(call)


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "joined late"])
@pytest.mark.parametrize("rate", [0.01, 0.1])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_told_as_complete_is_right(protocol: str, rate: float, late: bool) -> None:
    complete = 0
    for seed in range(12):
        for call in calls_of(PROTOCOLS[protocol], random.Random(seed), rate, late=late):
            if not call.incomplete:
                check(call)
                complete += 1
    if rate < 0.05 and protocol == "http1":  # HTTP/2 refers to headers that were lost
        assert complete > 12 * CALLS * (0.4 if late else 0.7)
