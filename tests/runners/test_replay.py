"""Recordings read back: whole ones, cut ones, damaged ones."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.errors import RecordingError
from libagenttracer.events import Event, Loss, UnknownEvent, to_json
from libagenttracer.outputs import JsonLines
from libagenttracer.runners.replay import Replay, replay

from ..events.strategies import EVENTS, ssl_data
from ..support import ROOT

SAMPLE = [ssl_data(id="1"), Loss("2", 5, "ssl", "ring_full", 1, 2), ssl_data(id="3", payload=b"\xff\0\n")]


def lines(events: list[Event]) -> bytes:
    return b"".join(to_json(event) + b"\n" for event in events)


def test_a_recording_gives_its_events_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    output = JsonLines(path)
    output.write(SAMPLE)
    output.close()
    assert list(replay(path)) == SAMPLE
    assert list(replay(str(path), strict=True)) == SAMPLE


@given(st.lists(EVENTS, max_size=10))
def test_any_events_come_back(events: list[Event]) -> None:
    recording = Replay(io.BytesIO(lines(events)), strict=True)
    assert list(recording) == events
    assert recording.skipped == 0


def test_it_can_be_read_again(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(SAMPLE))
    recording = Replay(path)
    assert list(recording) == list(recording) == SAMPLE


def test_events_come_one_by_one(tmp_path: Path) -> None:
    """A recording may be larger than memory, or a pipe that goes on."""
    read_end, write_end = os.pipe()
    os.write(write_end, lines(SAMPLE[:1]))
    with os.fdopen(read_end, "rb", buffering=0) as file:
        events = iter(Replay(file))
        assert next(events) == SAMPLE[0]
        os.write(write_end, lines(SAMPLE[1:2]))
        assert next(events) == SAMPLE[1]
        os.close(write_end)
        assert list(events) == []


def test_a_cut_off_recording_gives_what_is_whole(caplog: pytest.LogCaptureFixture) -> None:
    whole = lines(SAMPLE)
    for length in range(len(whole)):
        recording = Replay(io.BytesIO(whole[:length]))
        got = list(recording)
        ends = whole[:length].count(b"\n")
        complete = whole[length : length + 1] == b"\n"  # only the newline is missing
        assert got == SAMPLE[: ends + complete]
        assert recording.skipped == (0 if complete or whole[:length].endswith(b"\n") or not length else 1)
    assert "cut off here" in caplog.text


def test_garbage_is_skipped_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    one, two, three = (to_json(event) for event in SAMPLE)
    content = b"\n".join([b"garbage", one, b"", b"{}", b"   ", b"\xff\xfe\0", two, b"[1,2]", three]) + b"\n"
    recording = Replay(io.BytesIO(content))
    with caplog.at_level(logging.WARNING):
        assert list(recording) == SAMPLE
    assert recording.skipped == 4
    assert [record.name for record in caplog.records] == ["libagenttracer.replay"] * 4
    assert "recording, line 1: not an event" in caplog.text
    assert "line 8" in caplog.text


def test_strict_raises_at_the_first_line_that_is_no_event(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_bytes(lines(SAMPLE[:2]) + b"garbage\n" + lines(SAMPLE[2:]))
    events = iter(Replay(path, strict=True))
    assert [next(events), next(events)] == SAMPLE[:2]
    with pytest.raises(RecordingError, match=r"trace\.jsonl, line 3: not an event"):
        next(events)


def test_events_of_unknown_types_pass(tmp_path: Path) -> None:
    line = b'{"id":"x","timestamp":0,"timestamp_ns":1,"source":"s","event_type":"newer","data":{"a":[1]}}'
    (event,) = Replay(io.BytesIO(line), strict=True)
    assert isinstance(event, UnknownEvent)
    assert to_json(event) == line


@given(st.binary(max_size=300))
def test_any_file_is_read_to_its_end(content: bytes) -> None:
    recording = Replay(io.BytesIO(content))
    got = list(recording)
    filled = [line for line in content.split(b"\n") if line.strip()]
    assert len(got) + recording.skipped == len(filled)


@pytest.mark.parametrize("name", ["missing.jsonl", "."])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    with pytest.raises(RecordingError, match="cannot read"):
        list(replay(tmp_path / name))


def test_standard_input() -> None:
    program = "from libagenttracer import replay; print([event.id for event in replay('-')])"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, input=lines(SAMPLE), capture_output=True, check=True
    )
    assert done.stdout == b"['1', '2', '3']\n"
