"""Events as JSON: every event comes back as it was, and garbage raises one error only."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.errors import RecordingError
from libagenttracer.events import (
    Event,
    Loss,
    SslData,
    SslHandshake,
    SslSendfile,
    UnknownEvent,
    event_type,
    event_types,
    from_json,
    to_json,
)

from .strategies import EVENTS, SSL_DATA, TEXTS, ssl_data


@given(EVENTS)
def test_what_is_written_is_read_back(event: Event) -> None:
    line = to_json(event)
    assert b"\n" not in line
    again = from_json(line)
    assert again == event
    assert type(again) is type(event)
    assert from_json(line.decode()) == event
    assert to_json(again) == line


@given(SSL_DATA)
def test_payload_is_text_where_it_is_utf8_and_base64_elsewhere(event: SslData) -> None:
    data = json.loads(to_json(event))["data"]
    try:
        text = event.payload.decode()
    except UnicodeDecodeError:
        assert data["encoding"] == "base64"
        assert base64.b64decode(data["payload"], validate=True) == event.payload
    else:
        assert data.get("payload", "") == text
        assert "encoding" not in data


def test_the_envelope_is_as_documented() -> None:
    line = json.loads(to_json(ssl_data()))
    assert list(line) == ["id", "timestamp", "timestamp_ns", "source", "event_type", "data"]
    data = line.pop("data")
    assert line == {
        "id": "00000000-0000-0000-0000-000000000001",
        "timestamp": 1_640_995_200_123,
        "timestamp_ns": 1_640_995_200_123_456_789,
        "source": "ssl",
        "event_type": "ssl_data",
    }
    assert data == {
        "pid": 1234, "tid": 1235, "ppid": 1, "uid": 1000, "comm": "python", "exe": "/usr/bin/python3",
        "direction": "write", "data_len": 5, "offset": 10, "connection_id": "1234-7f00-1",
        "function": "SSL_write", "latency_ns": 2500, "library": "/usr/lib/libssl.so.3", "payload": "hello",
    }  # fmt: skip


def test_optional_fields_appear_where_they_say_something() -> None:
    event = ssl_data(call_len=9, call_offset=4, joined_late=True, incomplete=True, reason="read_fault")
    data = json.loads(to_json(event))["data"]
    assert (data["call_len"], data["call_offset"], data["joined_late"]) == (9, 4, True)
    assert (data["incomplete"], data["reason"]) == (True, "read_fault")


def test_a_loss_has_a_cause_and_a_count() -> None:
    line = json.loads(to_json(Loss("i", 5_000_000, "ssl", "ring_full", 3, 42, offset=0)))
    assert (line["event_type"], line["timestamp"]) == ("loss", 5)
    assert line["data"] == {"cause": "ring_full", "count": 3, "lost_bytes": 42, "offset": 0}


def test_the_registered_types() -> None:
    ours = {"ssl_data": SslData, "ssl_handshake": SslHandshake, "ssl_sendfile": SslSendfile, "loss": Loss}
    assert ours.items() <= event_types().items()
    assert SslData.event_type == "ssl_data"


def test_events_are_immutable() -> None:
    with pytest.raises(AttributeError):
        ssl_data().pid = 2  # type: ignore[misc]


def test_the_milliseconds_are_those_of_the_nanoseconds() -> None:
    assert ssl_data(timestamp_ns=1_999_999).timestamp == 1


@pytest.mark.parametrize(
    "payload", [b"\xff\xfe", b"a\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80"]
)
def test_bytes_that_are_no_utf8(payload: bytes) -> None:
    event = ssl_data(payload=payload)
    assert json.loads(to_json(event))["data"]["encoding"] == "base64"
    assert from_json(to_json(event)) == event


def test_an_empty_payload() -> None:
    event = ssl_data(payload=b"", incomplete=True, reason="read_fault")
    assert from_json(to_json(event)) == event


# types that this version does not know


@given(
    st.dictionaries(TEXTS, st.one_of(TEXTS, st.integers(0, 2**53), st.none(), st.booleans(), st.lists(TEXTS)))
)
def test_an_unknown_type_is_kept(data: dict[str, Any]) -> None:
    envelope = {"id": "x", "timestamp": 2, "timestamp_ns": 2_500_000, "source": "new", "event_type": "newer"}
    event = from_json(json.dumps({**envelope, "data": data}))
    assert isinstance(event, UnknownEvent)
    assert (event.type_name, event.timestamp, event.source) == ("newer", 2, "new")
    assert json.loads(bytes(event.data)) == data
    assert json.loads(to_json(event)) == {**envelope, "data": data}
    assert from_json(to_json(event)) == event


def test_an_unknown_event_outlives_its_line() -> None:
    line = bytearray(b'{"id":"x","timestamp_ns":1,"source":"s","event_type":"newer","data":{"a":12345}}')
    event = from_json(line)  # type: ignore[arg-type]
    line[:] = b"x" * len(line)
    assert isinstance(event, UnknownEvent)
    assert bytes(event.data) == b'{"a":12345}'


def test_an_unknown_event_is_still_one_line() -> None:
    pretty = '{"id":"x","timestamp_ns":1,"source":"s","event_type":"newer",\n"data":{\n "a": 1\n}\n}'
    assert b"\n" not in to_json(from_json(pretty))


def test_fields_of_a_later_version_are_left_out() -> None:
    line = json.loads(to_json(ssl_data()))
    line["colour"] = "blue"
    line["data"]["mood"] = {"good": True}
    assert from_json(json.dumps(line)) == ssl_data()


# garbage


@given(st.binary() | st.text())
def test_garbage_raises_one_error(line: bytes | str) -> None:
    with pytest.raises(RecordingError, match="not an event"):
        from_json(line)


@given(EVENTS, st.data())
def test_a_damaged_line_parses_or_raises_one_error(event: Event, data: st.DataObject) -> None:
    line = bytearray(to_json(event))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(line) - 1))
        if data.draw(st.booleans()):
            line[at] = data.draw(st.integers(0, 255))
        else:
            del line[at : at + data.draw(st.integers(1, 20))]
        if not line:
            return
    try:
        again = from_json(bytes(line))
    except RecordingError:
        return
    assert isinstance(again, Event)
    assert from_json(to_json(again)) == again


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(EVENTS, st.data())
def test_any_value_in_any_field_parses_or_raises_one_error(event: Event, data: st.DataObject) -> None:
    line = json.loads(to_json(event))
    part = data.draw(st.sampled_from([line, line["data"]]))
    part[data.draw(st.sampled_from(sorted(part)))] = data.draw(JSON)
    try:
        again = from_json(json.dumps(line))
    except RecordingError:
        return
    assert from_json(to_json(again)) == again


@pytest.mark.parametrize(
    "line",
    [
        b"null",
        b"[]",
        b"{}",
        b'{"id":"x","timestamp_ns":1,"source":"s","event_type":"loss","data":null}',
        b'{"id":"x","timestamp_ns":1,"source":"s","event_type":"loss"}',
        b'{"id":"x","timestamp_ns":1.5,"source":"s","event_type":"new","data":{}}',
        b'{"id":"\\ud800","timestamp_ns":1,"source":"s","event_type":"new","data":{}}',
        '{"id":"\udcff","timestamp_ns":1,"source":"s","event_type":"new","data":{}}',
        to_json(ssl_data()).replace(b'"hello"', b'"hello","encoding":"base64"'),
        to_json(ssl_data()).replace(b'"hello"', b'"hello","encoding":"rot13"'),
        to_json(ssl_data()).replace(b'"write"', b'"sideways"'),
        to_json(ssl_data())[:-1],
        to_json(ssl_data()) + b"x",
    ],
)
def test_what_is_no_event(line: bytes | str) -> None:
    with pytest.raises(RecordingError, match="not an event"):
        from_json(line)


@pytest.mark.parametrize("opening", [b"[", b'{"a":'])
def test_deep_nesting_raises_one_error(opening: bytes) -> None:
    line = b'{"id":"x","timestamp_ns":1,"source":"s","event_type":"new","data":' + opening * 100_000
    with pytest.raises(RecordingError, match="not an event"):
        from_json(line)


def refused(line: str) -> bool:
    try:
        from_json(line)
    except RecordingError:
        return True
    return False


@pytest.mark.parametrize("field", ["timestamp_ns", "latency_ns", "call_len"])
def test_numbers_that_no_kernel_writes_are_refused(field: str) -> None:
    """Whoever handles an event should not have to think of numbers that fit into no clock and no float."""
    line = json.loads(to_json(ssl_data()))
    accepted = []
    for number in (2**63, -(2**63) - 1, 10**30, 10**400):
        (line if field in line else line["data"])[field] = number
        if not refused(json.dumps(line)):
            accepted.append(number)
    assert accepted == []


# types of others


@event_type("test_plain")
class Plain(Event, frozen=True):
    name: str
    tags: list[str] = []  # noqa: RUF012  (msgspec makes a new one for each event)
    note: str | None = None


@event_type("test_blob")
class Blob(Event, frozen=True):
    blob: bytes
    number: int = 0


@event_type("test_empty")
class Empty(Event, frozen=True):
    pass


@event_type("test_two_blobs")
class TwoBlobs(Event, frozen=True):
    first: bytes
    second: bytes


@pytest.mark.parametrize(
    "event",
    [
        Plain("i", 1, "s", "n"),
        Plain("i", 1, "s", "n", ["a", "b"], "note"),
        Blob("i", 1, "s", b"\xff\0"),
        Blob("i", 1, "s", b"text", 5),
        Blob("i", 1, "s", b""),
        Empty("i", 1, "s"),
        TwoBlobs("i", 1, "s", b"\xff", b"\xfe"),
        TwoBlobs("i", 1, "s", b"text", b"more"),
    ],
    ids=lambda event: repr(event)[:30],
)
def test_a_type_of_somebody_else(event: Event) -> None:
    line = json.loads(to_json(event))
    assert line["event_type"] == type(event).event_type
    assert line["event_type"].startswith("test_")
    assert from_json(to_json(event)) == event


def test_a_name_can_be_registered_once() -> None:
    with pytest.raises(ValueError, match="'ssl_data' is registered for SslData"):

        @event_type("ssl_data")
        class Other(Event, frozen=True):
            a: int

    assert event_types()["ssl_data"] is SslData


def test_an_unregistered_type_cannot_be_written() -> None:
    class Private(Event, frozen=True):
        a: int

    with pytest.raises(TypeError, match="Private is not registered"):
        to_json(Private("i", 1, "s", 2))
