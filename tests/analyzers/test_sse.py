"""Server-sent events come out as the HTML Standard says, however the bytes are cut, and marked where some are
missing."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers import Analyzer
from libagenttracer.analyzers.sse import SseMerger, SseParser
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpResponse,
    SseEvent,
    SseStream,
    StreamEnd,
    from_json,
    to_json,
)

WHOSE: dict[str, Any] = {
    "source": "ssl",
    "pid": 7,
    "comm": "agent",
    "exe": "/bin/agent",
    "connection_id": "c",
}
END = StreamEnd(id="e", timestamp_ns=1, cause="reused", **WHOSE)
SSE = "text/event-stream"
Found = list[tuple[str, str, str]]


def by_the_standard(stream: bytes) -> tuple[Found, int, int | None]:
    """The parsing rules of HTML 9.2.6 word by word: events, comments, reconnection time."""
    text = stream.decode("utf-8", "replace").removeprefix("\ufeff")
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    events: Found = []
    data = event = last_id = ""
    comments = 0
    retry = None
    for line in lines:
        if line == "":
            if data:
                events.append((event or "message", data[:-1], last_id))
            data = event = ""
        elif line[0] == ":":
            comments += 1
        else:
            name, value = line, ""
            if ":" in line:
                at = line.index(":")
                name, value = line[:at], line[at + 1 :]
                if value.startswith(" "):
                    value = value[1:]
            if name == "event":
                event = value
            elif name == "data":
                data += value + "\n"
            elif name == "id" and "\0" not in value:
                last_id = value
            elif name == "retry" and value and all(c in "0123456789" for c in value):
                retry = int(value)
    return events, comments, retry


LINES = [
    *(
        "event: delta",
        'data: {"a": 1}',
        'data:{"b":"ü€😀"}',
        "data",
        "data:",
        "data: ",
        "data:  two",
        ":",
        ": ping",
    ),
    *(
        "id: 5",
        "id",
        "id: a\0b",
        "retry: 1000",
        "retry: 1x",
        "retry:",
        "event:",
        "event: ",
        "unknown: x",
        "Data: y",
    ),
    *(" data: z", "data : w", "", "", ""),
]
ENDS = ["\n", "\r\n", "\r"]
streams = st.one_of(
    st.tuples(
        st.sampled_from([b"", b"\xef\xbb\xbf", b"\xef\xbb\xbf\xef\xbb\xbf"]),
        st.lists(st.tuples(st.sampled_from(LINES), st.sampled_from(ENDS)), max_size=25),
        st.sampled_from([b"", b"data: unfinished", b"\xff\n\n", b"data: \xe2\x82\n\ndata: \xe2\n\n"]),
    ).map(lambda parts: parts[0] + "".join(line + end for line, end in parts[1]).encode() + parts[2]),
    st.lists(st.sampled_from([b"data", b":", b" ", b"x", b"\n", b"\r", b"id", b"\xef\xbb\xbf", b"\xe2"])).map(
        b"".join
    ),
)


def cut(data: bytes, cuts: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(min(at, len(data)) for at in cuts), len(data)]
    return [data[begin:end] for begin, end in itertools.pairwise(edges)]


@settings(max_examples=400, deadline=None)
@given(streams, st.lists(st.integers(0, 300), max_size=12))
@example(b"data: a\r\n\r\ndata: b\r\r\n\ndata: c\n\r", [8, 9, 10, 19])
@example(b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n", [1, 2, 11, 12])
@example(b"\n\xef\xbb\xbfdata\n\n", [])
@example(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [1])
def test_as_the_standard_says(stream: bytes, cuts: list[int]) -> None:
    expected, comments, retry = by_the_standard(stream)
    for chunks in ([stream], [bytes([byte]) for byte in stream], cut(stream, cuts)):
        parser = SseParser()
        assert [event for chunk in chunks for event in parser.feed(chunk)] == expected
        if stream.endswith((b"\n\n", b"\r\r", b"\r\n\r\n")):  # else there may be more in the unfinished event
            assert (parser.comments, parser.retry_ms) == (comments, retry)
            parser.finish()
            assert not parser.unfinished
        assert not parser.too_long


def test_the_end() -> None:
    for rest, unfinished in (
        (b"", False),
        (b"\n", False),
        (b": ping", False),
        (b": ping\n", False),
        (b"data: x", True),
        (b"data: x\n", True),
        (b": a\nevent: b\n", True),
        (b"\xef\xbb", True),
    ):
        parser = SseParser()
        assert parser.feed(b"data: a\n\n" + rest) == [("message", "a", "")]
        parser.finish()
        assert parser.unfinished is unfinished, rest


@settings(max_examples=100, deadline=None)
@given(st.lists(st.integers(0, 60), max_size=12), st.lists(st.integers(0, 400), max_size=12))
def test_events_that_are_too_long(lengths: list[int], cuts: list[int]) -> None:
    texts = ["x" * length for length in lengths]
    stream = "".join(f"data: {text}\n\n" for text in texts).encode()
    parser = SseParser(max_event_bytes=36)
    found = [event for chunk in cut(stream, cuts) for event in parser.feed(chunk)]
    assert [data for _, data, _ in found] == [text for text in texts if len(text) <= 30]
    assert parser.too_long == any(len(text) > 30 for text in texts)


def test_an_endless_line_is_not_kept() -> None:
    parser = SseParser(max_event_bytes=1000)
    for _ in range(10_000):
        assert parser.feed(b"data: " + b"x" * 94) == []
        assert len(parser._held) <= 1000
    assert parser.feed(b"\n\ndata: next\n\n") == [("message", "next", "")]
    assert parser.too_long


def test_long_ids_and_times() -> None:
    parser = SseParser()
    sent = f"retry: {'9' * 5000}\nid: {'i' * 5000}\ndata: a\n\n".encode()
    assert parser.feed(sent) == [("message", "a", "")]
    assert parser.retry_ms is None
    assert parser.too_long


def part(payload: bytes, at: int = 10, offset: int = 0, response: str = "resp", **changes: Any) -> HttpBody:
    return HttpBody(
        **{
            **{
                "id": f"b{at}-{offset}",
                "timestamp_ns": at,
                **WHOSE,
                "response_id": response,
                "request_id": "req",
            },
            **{"stream_id": None, "content_type": SSE, "offset": offset, "payload": payload, **changes},
        }
    )


def response(body: bytes = b"", **changes: Any) -> HttpResponse:
    return HttpResponse(
        **{
            **{"id": "resp", "timestamp_ns": 9, **WHOSE, "direction": "read", "version": "1.1", "body": body},
            **{
                "headers": [("Content-Type", "Text/Event-Stream; charset=utf-8")],
                "last_byte_ns": 90,
                "status": 200,
            },
            **changes,
        }
    )


def feed(analyzer: Analyzer, *events: Event) -> list[Any]:
    told: list[Any] = [given for event in events for given in analyzer.feed(event)]
    assert len({event.id for event in told}) == len(told)
    assert [from_json(to_json(event)) for event in told] == told
    return told


BODY = b'event: start\ndata: {"n": 1}\n\n: ping\n\nid: 7\nretry: 50\ndata: a\ndata: b\n\ndata: [DONE]\n\n'
ITEMS = [("start", '{"n": 1}', ""), ("message", "a\nb", "7"), ("message", "[DONE]", "7")]


def test_parts_become_events_and_a_stream() -> None:
    merger = SseMerger()
    parts = [
        part(BODY[:40], 10),
        part(BODY[40:66], 20, 40),
        part(BODY[66:], 30, 66),
        part(b"", 40, 87, last=True),
    ]
    told = [feed(merger, one) for one in parts]
    assert [len(events) for events in told] == [1, 0, 2, 0]
    events: list[SseEvent] = [event for some in told for event in some]
    assert [(e.event, e.data, e.last_event_id) for e in events] == ITEMS
    assert [(e.timestamp_ns, e.index, e.response_id, e.request_id) for e in events] == [
        (10, 0, "resp", "req"),
        (30, 1, "resp", "req"),
        (30, 2, "resp", "req"),
    ]
    sent = response(BODY)
    stream, passed = feed(merger, sent)
    assert type(stream) is SseStream
    assert [(i.event, i.data, i.last_event_id) for i in stream.events] == ITEMS
    assert [i.timestamp_ns for i in stream.events] == [10, 30, 30]
    assert (stream.timestamp_ns, stream.last_byte_ns, stream.comments, stream.retry_ms) == (10, 90, 1, 50)
    assert (stream.response_id, stream.request_id, stream.reason) == ("resp", "req", None)
    assert passed == msgspec.structs.replace(sent, body=b"", body_in=stream.id)
    assert feed(merger, passed) == [passed]  # as in a recording
    assert [*merger.flush()] == []


@settings(max_examples=60, deadline=None)
@given(streams, st.lists(st.integers(0, 300), max_size=8))
def test_splits_give_identical_events(stream: bytes, cuts: list[int]) -> None:
    given_ = []
    for chunks in ([stream], cut(stream, cuts), [bytes([byte]) for byte in stream]):
        merger = SseMerger()
        told: list[Event] = []
        for number, chunk in enumerate(chunks):
            told += merger.feed(part(chunk, 10, 0 if not number else 1))
        given_.append([*told, *feed(merger, part(b"", 10, bool(stream), last=True), response(stream))])
    assert given_[0] == given_[1] == given_[2]
    found, _, _ = by_the_standard(stream)
    *events, merged, _ = given_[0]
    assert [(e.event, e.data, e.last_event_id) for e in events] == found
    assert [(i.event, i.data, i.last_event_id) for i in merged.events] == found


def test_only_the_stream() -> None:
    merger = SseMerger(each=False)
    assert feed(merger, part(BODY)) == []
    stream, _ = feed(merger, response(BODY))
    assert len(stream.events) == 3


def test_a_body_without_parts() -> None:
    *events, stream, passed = feed(SseMerger(), response(BODY, body_times=[(0, 10), (40, 20), (66, 30)]))
    assert [(e.timestamp_ns, e.event) for e in events] == [(10, "start"), (30, "message"), (30, "message")]
    assert (len(stream.events), stream.incomplete, stream.last_byte_ns) == (3, False, 90)
    assert (passed.body, passed.body_in) == (b"", stream.id)
    *events, stream, _ = feed(SseMerger(), response(BODY))
    assert [e.timestamp_ns for e in events] == [90, 90, 90]


def test_what_passes() -> None:
    events = [
        part(b"{}\n", content_type="application/x-ndjson"),
        response(b"{}", headers=[("content-type", "application/json")]),
        response(b""),
        response(b"", body_in="x", id="other"),
        END,
    ]
    merger = SseMerger()
    assert [given for event in events for given in merger.feed(event)] == events
    assert not [*merger.tick(5)]


def test_a_body_that_is_none_stays() -> None:
    """Some servers answer an error as JSON under the same type."""
    error = b'{"error": "busy"}'
    stream, passed = feed(SseMerger(), part(error, last=True), response(error))
    assert (stream.events, stream.reason) == ([], "aborted")
    assert passed == response(error)


def test_a_gap_drops_the_event_it_is_in() -> None:
    for missing_in in (b"data: one\n\ndata: tw", b"data: one\n\n"):
        merger = SseMerger()
        after = part(b"hree\n\ndata: four\n\n", 20, 20, missing_bytes=-1)
        told = feed(merger, part(missing_in), after, part(b"", 30, 40, last=True), response())
        *events, stream, _ = told
        assert [e.data for e in events] == ["one", "four"]
        assert [i.data for i in stream.events] == ["one", "four"]
        assert (stream.incomplete, stream.reason) == (True, "gap")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.text("ab\n", max_size=9), max_size=10),
    st.integers(0, 100),
    st.integers(0, 100),
    st.booleans(),
)
def test_loss_never_gives_a_wrong_event(texts: list[str], begin: int, length: int, crlf: bool) -> None:
    end = "\r\n" if crlf else "\n"
    events = ["".join(f"data: {line}{end}" for line in text.split("\n")) + end for text in texts]
    body = "".join(events).encode()
    head, tail = body[:begin], body[begin + length :]
    sent = [part(head), part(tail, 20, begin, missing_bytes=-1, last=True)]
    *_, stream, _ = feed(SseMerger(), *sent, response())
    assert {item.data for item in stream.events} <= set(texts)
    assert stream.reason is not None
    assert "gap" in stream.reason


@pytest.mark.parametrize("how", ["flush", "end", "reused id"])
def test_a_stream_without_end(how: str) -> None:
    merger = SseMerger()
    feed(merger, part(b"data: a\n\nda"), part(b"data: b\n\n", response="o", connection_id="other"))
    if how == "flush":
        told: list[Any] = [*merger.flush()]
        assert [s.response_id for s in told] == ["resp", "o"]
    else:
        told = feed(merger, END)
        assert [e.event_type for e in told] == ["sse_stream", "stream_end"]
    assert told[0].reason == "aborted"
    assert [i.data for i in told[0].events] == ["a"]


def test_what_the_response_lacks() -> None:
    stream, _ = feed(
        SseMerger(), part(b": x\n\n", last=True), response(incomplete=True, reason="bomb,too_long")
    )
    assert (stream.incomplete, stream.reason, stream.timestamp_ns) == (True, "bomb,too_long", 10)


def test_limits() -> None:
    merger = SseMerger(max_stream_bytes=20, max_streams=2)
    told = feed(merger, part(b"data: 12345\n\n" * 3), part(b"data: more\n\n", offset=39))
    assert [e.data for e in told] == ["12345"] * 3 + ["more"]
    stream, _ = feed(merger, response())
    assert ([i.data for i in stream.events], stream.reason) == (["12345"] * 3, "too_long")
    merger = SseMerger(max_stream_events=2)
    stream = feed(merger, *(part(b"data: 1\n\n", at) for at in (1, 2, 3, 4)), response())[-2]
    assert (len(stream.events), stream.reason) == (2, "too_long")
    merger = SseMerger(max_streams=2, each=False)
    told = feed(merger, *(part(b"data: 1\n\n", response=r) for r in ("a", "b", "a", "c")))
    assert [(s.response_id, s.reason) for s in told] == [("b", "aborted")]
    # what comes of it later is another stream, which was joined late
    (a,) = feed(merger, part(b"ta: 2\n\ndata: 3\n\n", response="b", offset=9))
    assert a.response_id == "a"
    _, b = merger.flush()
    assert isinstance(b, SseStream)
    assert (b.id != told[0].id, [i.data for i in b.events], b.reason) == (True, ["3"], "aborted,joined_late")
    merger = SseMerger(max_held_bytes=300, each=False)
    told = feed(merger, *(part(b"data: 12345\n\n", response=r) for r in ("a", "b", "c")))
    assert [s.response_id for s in told] == ["a"]
    with pytest.raises(ValueError, match="max_streams"):
        SseMerger(max_streams=0)
