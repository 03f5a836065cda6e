"""Strings that are no UTF-8: file names and arguments may hold any bytes, and all of them come back."""

from __future__ import annotations

import base64
import json
import re

import pytest
from hypothesis import given

from libagenttracer.errors import RecordingError
from libagenttracer.events import (
    Event,
    FileOpen,
    Loss,
    ProcessEvent,
    ProcessExec,
    event_type,
    from_json,
    to_json,
)

from .strategies import KERNEL_TEXTS, PROCESS_EVENTS, process_event, ssl_data


def exec_of(*args: bytes, **changes: object) -> ProcessEvent:
    return process_event(ProcessExec, args=[arg.decode(errors="surrogateescape") for arg in args], **changes)


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def test_readable_text_and_the_exact_bytes_are_both_written() -> None:
    event = exec_of(b"ls", b"\xff\n", "ü".encode(), filename="/tmp/\udcc3x", cwd="/ü")
    data = json.loads(to_json(event))["data"]
    assert (data["filename"], data["args"], data["cwd"]) == ("/tmp/\ufffdx", ["ls", "\ufffd\n", "ü"], "/ü")
    assert data["raw"] == {
        "filename": encoded(b"/tmp/\xc3x"),
        "args": [encoded(b"ls"), encoded(b"\xff\n"), encoded("ü".encode())],
    }
    assert from_json(to_json(event)) == event


@given(PROCESS_EVENTS)
def test_raw_is_there_where_text_does_not_say_all(event: ProcessEvent) -> None:
    data = json.loads(to_json(event))["data"]
    inexact = set()
    for field in ("comm", "path", "new_path", "filename", "cwd", "exe", "line", "name", "args",
                  "local_address", "remote_address"):  # fmt: skip
        value = getattr(event, field, None)
        if re.search("[\udc80-\udcff]", "".join(value or "")):
            inexact.add(field)
    assert set(data.get("raw", {})) == inexact


@given(KERNEL_TEXTS)
def test_a_library_of_any_name(library: str) -> None:
    """A payload in base64 and a name in base64 do not get into each other's way."""
    for payload in (b"\xff", b"text"):
        event = ssl_data(library=library, payload=payload)
        assert from_json(to_json(event)) == event


@pytest.mark.parametrize(
    "raw",
    [
        {"unheard_of": "/w=="},
        {"pid": "MQ=="},
        {"id": "MQ=="},
        {"args_truncated": "MQ=="},
        {"filename": "/w="},
        {"filename": "ü"},
        {"filename": "-_8="},
        {"filename": ["/w=="]},
        {"filename": 5},
        {"filename": None},
        {"args": "/w=="},
        {"args": ["/w=="]},
        {"args": ["/w=="] * 5},
        {"args": ["/w==", "/w==", "/w==", "!"]},
        {"args": [1, 2, 3, 4]},
        ["filename"],
        None,
        "/w==",
    ],
    ids=repr,
)
def test_a_raw_that_does_not_fit_is_refused(raw: object) -> None:
    line = json.loads(to_json(process_event(ProcessExec)))
    line["data"]["raw"] = {"filename": "/w==", "args": ["/w=="] * 4}
    restored = from_json(json.dumps(line))
    assert isinstance(restored, ProcessExec)
    assert (restored.filename, restored.args) == ("\udcff", ["\udcff"] * 4)
    line["data"]["raw"] = raw
    with pytest.raises(RecordingError, match="not an event"):
        from_json(json.dumps(line))


def test_raw_cannot_get_round_what_a_field_may_be() -> None:
    line = json.loads(to_json(process_event(FileOpen)))
    line["data"]["raw"] = {"access": encoded(b"everything")}
    with pytest.raises(RecordingError, match="'access'"):
        from_json(json.dumps(line))
    blob = json.loads(to_json(ssl_data()))
    blob["data"]["raw"] = {"payload": encoded(b"\xff")}
    with pytest.raises(RecordingError, match="'payload'"):
        from_json(json.dumps(blob))
    loss = json.loads(to_json(Loss("i", 0, "process", "ring_full", 1, 0)))
    loss["data"]["raw"] = {"comm": encoded(b"\xff")}
    with pytest.raises(RecordingError, match="comm"):
        from_json(json.dumps(loss))


# types of others


@event_type("test_words")
class Words(Event, frozen=True):
    name: str
    tags: list[str] = []  # noqa: RUF012  (msgspec makes a new one for each event)
    note: str | None = None


@event_type("test_words_nested")
class Nested(Event, frozen=True):
    names: dict[str, tuple[str, ...]]
    words: Words


@event_type("test_raw")
class HasRaw(Event, frozen=True):
    raw: str


@pytest.mark.parametrize("name", ["a\ud800b", "a\ud800\udcff", "\udbff\udfff"])
def test_surrogates_that_stand_for_no_byte_are_replaced(name: str) -> None:
    event = Words("i\ud800", 1, "s\udfff", name, [name, "x"], name)
    line = json.loads(to_json(event))
    shown = "".join("\ufffd" if "\ud800" <= letter <= "\udfff" else letter for letter in name)
    assert (line["id"], line["source"]) == ("i\ufffd", "s\ufffd")
    assert line["data"] == {"name": shown, "tags": [shown, "x"], "note": shown}
    assert from_json(to_json(event)) == Words("i\ufffd", 1, "s\ufffd", shown, [shown, "x"], shown)


def test_bytes_of_a_type_of_somebody_else_come_back() -> None:
    event = Words("i", 1, "s", "\udcff", ["a", "\udc80"], "\udcc3")
    assert set(json.loads(to_json(event))["data"]["raw"]) == {"name", "tags", "note"}
    assert from_json(to_json(event)) == event


def test_bytes_in_parts_are_read_as_the_characters_that_they_make() -> None:
    """A character that was cut in two, and put together again."""
    event = Words("i", 1, "s", "\udcc3" + "\udca9")
    data = json.loads(to_json(event))["data"]
    assert data["name"] == "é"
    assert "raw" not in data


def test_surrogates_in_other_containers_are_replaced() -> None:
    event = Nested("i", 1, "s", {"\udcff": ("\ud800", "x")}, Words("i", 1, "s", "\udcff"))
    data = json.loads(to_json(event))["data"]
    assert data["names"] == {"\ufffd": ["\ufffd", "x"]}
    assert data["words"]["name"] == "\ufffd"
    assert "raw" not in data


def test_a_field_that_is_called_raw_stays_what_it_is() -> None:
    assert from_json(to_json(HasRaw("i", 1, "s", "text"))) == HasRaw("i", 1, "s", "text")
    assert json.loads(to_json(HasRaw("i", 1, "s", "\udcff")))["data"] == {"raw": "\ufffd"}
