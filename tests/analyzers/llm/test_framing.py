"""Bodies of answers taken apart; what is broken is never taken for whole."""

from __future__ import annotations

import json
from binascii import crc32
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.llm.framing import DONE, Answer, decode_json, read_answer
from libagenttracer.events import HttpResponse, SseItem, SseStream

from .exchanges import ndjson, sse

AWS = "application/vnd.amazon.eventstream"
VALUES: list[Any] = [{"a": 1}, {"b": ["é\n", None]}, {"c": {}}]


def response(body: bytes, content_type: str, times: list[tuple[int, int]] | None = None) -> HttpResponse:
    return HttpResponse(
        *("r", 1, "ssl", 7, "agent", "/bin/agent", "c", "read", "1.1", [("content-type", content_type)]),
        *(body, 99),
        status=200,
        body_times=times or [],
    )


def read(body: bytes, content_type: str, times: list[tuple[int, int]] | None = None) -> Answer:
    return read_answer(response(body, content_type, times))


def aws(value: Any, **headers: str) -> bytes:
    """A message of an AWS event stream, all of whose headers are strings."""
    raw = b"".join(
        bytes([len(name) + 1]) + b":" + name.replace("_", "-").encode() + b"\7" + _sized(text.encode())
        for name, text in headers.items()
    )
    raw += b"\4flag\0" + b"\4size\4\0\0\0\1" + b"\3bin\6" + _sized(b"\xff") + b"\4time\x08" + bytes(8)
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    head = (16 + len(raw) + len(payload)).to_bytes(4, "big") + len(raw).to_bytes(4, "big")
    message = head + crc32(head).to_bytes(4, "big") + raw + payload
    return message + crc32(message).to_bytes(4, "big")


def _sized(text: bytes) -> bytes:
    return len(text).to_bytes(2, "big") + text


AWS_BODY = b"".join(aws(value, event_type=f"e{n}") for n, value in enumerate(VALUES))
ARRAY = b"[" + b",\r\n".join(json.dumps(value).encode() for value in VALUES) + b"]"
FORMS = {
    "sse": (sse(VALUES, done=False), "text/event-stream"),
    "sse without its type": (sse(VALUES, done=False), "application/octet-stream"),
    "lines": (ndjson(VALUES), "application/x-ndjson"),
    "lines without their type": (ndjson(VALUES), "text/plain"),
    "one line": (ndjson(VALUES[:1]), "application/x-ndjson"),
    "lines without an end": (ndjson(VALUES).rstrip(), "application/x-ndjson"),
    "array": (ARRAY, "application/json; charset=utf-8"),
    "aws": (AWS_BODY, AWS),
}


@pytest.mark.parametrize("form", FORMS)
def test_streams(form: str) -> None:
    answer = read(*FORMS[form])
    assert answer.items is not None
    assert [item.data for item in answer.items] == VALUES[: len(answer.items)]
    assert len(answer.items) == (1 if form == "one line" else 3)
    assert {item.at_ns for item in answer.items} == {99}
    assert (answer.reasons, answer.timed) == (set(), False)


def test_a_single_value() -> None:
    for content_type in ("application/json", "", "text/event-stream"):
        answer = read(b' {"a": 1}\n', content_type)
        assert (answer.items, answer.value, answer.reasons) == (None, {"a": 1}, set())


def test_the_types_of_events_and_the_mark_of_the_end() -> None:
    answer = read(b'event: ping\ndata: {}\n\n: hello\n\ndata: [DONE]\n\ndata: {"a"\n\n', "text/event-stream")
    assert answer.items == [(99, "ping", {}), (99, DONE, None)]
    assert answer.reasons == {"bad_json"}
    errors = aws(b"", message_type="error", error_code="Oops", error_message="Wait")
    errors += aws({"message": "No"}, message_type="exception", exception_type="throttlingException")
    answer = read(errors, AWS)
    assert answer.items == [(99, "Oops", {"message": "Wait"}), (99, "throttlingException", {"message": "No"})]


def test_events_that_were_merged_before() -> None:
    items = [SseItem(5, "message", '{"a": 1}'), SseItem(6, "message", DONE)]
    stream = SseStream(
        "s", 5, "ssl", 7, "agent", "/bin/agent", "c", "r", None, items, 9, reason="gap,aborted"
    )
    answer = read_answer(response(b"", "text/event-stream"), [stream])
    assert answer.items == [(5, "message", {"a": 1}), (6, DONE, None)]
    assert (answer.reasons, answer.timed) == ({"gap", "aborted"}, True)
    empty = msgspec.structs.replace(stream, events=[])
    assert read_answer(response(b'{"a": 1}', "text/event-stream"), [empty]).value == {"a": 1}
    assert read_answer(response(b"", "text/event-stream"), [empty]).items == []


@pytest.mark.parametrize("form", ["sse", "lines", "aws"])
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_each_item_has_the_time_of_its_last_byte(form: str, data: st.DataObject) -> None:
    body, content_type = FORMS[form]
    cuts = sorted(data.draw(st.sets(st.integers(1, len(body) - 1))))
    times = [(cut, 100 + number) for number, cut in enumerate([0, *cuts])]
    answer = read(body, content_type, times)
    assert answer.items is not None
    assert [item.data for item in answer.items] == VALUES
    assert answer.timed
    ends = [read_end(form, body, number) for number in range(3)]
    assert [item.at_ns for item in answer.items] == [
        max(at_ns for offset, at_ns in times if offset < end) for end in ends
    ]


def read_end(form: str, body: bytes, number: int) -> int:
    """Where an item ends."""
    mark = {"sse": b"\n\n", "lines": b"\n"}.get(form)
    if mark is None:
        return sum(len(aws(value, event_type=f"e{n}")) for n, value in enumerate(VALUES[: number + 1]))
    end = 0
    for _ in range(number + 1):
        end = body.index(mark, end) + len(mark)
    return end


@pytest.mark.parametrize("form", ["sse", "lines", "array", "aws"])
def test_bodies_that_break_off(form: str) -> None:
    """What is there is right, and something says that it is not all; at an item's end the reader knows."""
    body, content_type = FORMS[form]
    ends = set() if form == "array" else {read_end(form, body, number) for number in range(3)}
    for cut in range(1, len(body) - 1):
        answer = read(body[:cut], content_type)
        items = [item.data for item in answer.items or []]
        assert items == VALUES[: len(items)]
        fits = cut in ends or (form == "lines" and cut + 1 in ends) or (form == "sse" and cut + 1 in ends)
        assert fits or answer.reasons, cut


def test_a_broken_aws_stream_is_read_up_to_there() -> None:
    first = len(aws(VALUES[0], event_type="e0"))
    for at in range(len(AWS_BODY)):
        body = bytearray(AWS_BODY)
        body[at] ^= 0x10
        answer = read(bytes(body), AWS)
        assert answer.reasons & {"malformed", "aborted"}
        items = [item.data for item in answer.items or []]
        assert items == VALUES[: len(items)]
        assert len(items) >= (at >= first)


def test_depth_is_bounded() -> None:
    assert decode_json("[" * 100 + "]" * 100)
    assert decode_json(b'"' + b"[{" * 10_000 + b'"')
    assert decode_json(json.dumps([[[]]] * 1000))
    for deep in ("[" * 101 + "]" * 101, '{"a":' * 5000 + "1" + "}" * 5000, "", "nope", '"\ud800"'):
        with pytest.raises(ValueError, match=r"JSON|surrogates"):
            decode_json(deep)


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from(["text/event-stream", AWS, "application/json", "application/x-ndjson", "x"]),
    st.one_of(
        st.binary(max_size=200),
        st.tuples(
            st.sampled_from([form[0] for form in FORMS.values()]), st.binary(max_size=9), st.integers(0, 99)
        ).map(lambda t: t[0][: t[2]] + t[1] + t[0][t[2] :]),
    ),
)
def test_any_bytes(content_type: str, body: bytes) -> None:
    answer = read(body, content_type)
    assert answer.items is not None or answer.reasons or answer.value is not None or body.strip() == b"null"
