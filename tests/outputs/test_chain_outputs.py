"""Outputs in a chain: everything is written, in batches, and passes on whatever happens."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from libagenttracer.analyzers.base import Chain
from libagenttracer.analyzers.http.analyzer import HttpAnalyzer
from libagenttracer.analyzers.llm.analyzer import LlmAnalyzer
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.errors import OutputError
from libagenttracer.events import Event, StreamData, from_json, to_json
from libagenttracer.outputs import FileLogger, Har, JsonLines, OutputAnalyzer, Text
from libagenttracer.runners.replay import replay

from ..events.strategies import ssl_data
from ..support import ROOT
from .build import START_NS, exchange, request, response

EVENTS = [ssl_data(id=f"event-{number}") for number in range(1000)]


class Recorder:
    """An output that keeps what it is given."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self.closed = 0

    def write(self, events: Sequence[Event]) -> None:
        self.batches.append([*events])

    def close(self) -> None:
        self.closed += 1


def test_events_pass_and_are_written_in_batches() -> None:
    output = Recorder()
    chain = Chain([OutputAnalyzer(output)])
    passed = [given for event in EVENTS for given in chain.feed(event)]
    assert passed == EVENTS
    assert [len(batch) for batch in output.batches] == [256, 256, 256]
    assert list(chain.tick(0)) == []
    assert [len(batch) for batch in output.batches] == [256, 256, 256, 232]
    assert list(chain.tick(1)) == []
    assert len(output.batches) == 4, "nothing is written where there is nothing"
    assert list(chain.flush()) == []
    assert output.closed == 1
    assert [event for batch in output.batches for event in batch] == EVENTS


def test_two_of_them_in_a_row(tmp_path: Path) -> None:
    chain = Chain([FileLogger(tmp_path / "all.jsonl"), OutputAnalyzer(Har(tmp_path / "trace.har"))])
    events = exchange(request(), response())
    for event in events:
        assert list(chain.feed(event)) == [event]
    chain.flush()
    assert list(replay(tmp_path / "all.jsonl")) == events
    assert b"api.example.com" in (tmp_path / "trace.har").read_bytes()


def test_an_error_comes_at_the_tick_and_keeps_no_event_from_the_others() -> None:
    after = Recorder()
    broken = OutputAnalyzer(JsonLines("/dev/full"), batch=10)
    chain = Chain([broken, OutputAnalyzer(after, batch=1)])
    for event in EVENTS[:25]:
        chain.feed(event)
    with pytest.raises(OutputError, match="cannot write /dev/full: No space left"):
        chain.tick(0)
    assert broken.lost == 25
    assert [event for batch in after.batches for event in batch] == EVENTS[:25]
    assert list(broken.tick(1)) == [], "it is told once"
    broken.feed(EVENTS[0])
    with pytest.raises(OutputError):
        broken.flush()
    assert broken.lost == 26


def test_after_a_failure_it_is_tried_again(tmp_path: Path) -> None:
    output = FileLogger(tmp_path / "trace.jsonl", batch=1)
    output.feed(EVENTS[0])
    with pytest.raises(ValueError, match="batch must be positive"):
        OutputAnalyzer(batch=0)
    output.feed(EVENTS[1])
    output.flush()
    assert list(replay(tmp_path / "trace.jsonl")) == EVENTS[:2]


def test_a_file_that_rotates(tmp_path: Path) -> None:
    path = tmp_path / "trace.jsonl"
    logger = FileLogger(path, max_bytes=50_000, compress="gzip", batch=10)
    for event in EVENTS:
        logger.feed(event)
    logger.flush()
    files = sorted(tmp_path.glob("trace.jsonl.*"))
    assert len(files) > 5
    data = b"".join(gzip.decompress(f.read_bytes()) if f.suffix == ".gz" else f.read_bytes() for f in files)
    assert data + path.read_bytes() == b"".join(to_json(event) + b"\n" for event in EVENTS)
    with pytest.raises(ValueError, match="only a file that rotates is compressed"):
        FileLogger(path, compress="gzip")


def test_from_bytes_to_har_and_conversation(tmp_path: Path) -> None:
    """The whole way: what two processes said, as a file for a browser and as text."""
    question = {"model": "gpt-test", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    body = json.dumps(question).encode()
    asked = b"POST /v1/chat/completions HTTP/1.1\r\nHost: example.com\r\nContent-Type: application/json\r\n"
    asked += b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    choices: list[dict[str, object]] = [
        {"index": 0, "delta": {"role": "assistant", "content": "Hel"}},
        {"index": 0, "delta": {"content": "lo"}},
        {"index": 0, "delta": {}, "finish_reason": "stop"},
    ]
    stream = b"".join(
        b"data: %b\n\n"
        % json.dumps(
            {"id": "1", "object": "chat.completion.chunk", "model": "gpt-test", "choices": [choice]}
        ).encode()
        for choice in choices
    )
    stream += b"data: [DONE]\n\n"
    answered = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
    answered += b"Content-Length: %d\r\n\r\n%b" % (len(stream), stream)
    chain = Chain(
        [
            HttpAnalyzer(),
            SseMerger(),
            LlmAnalyzer(),
            OutputAnalyzer(Har(tmp_path / "trace.har")),
            OutputAnalyzer(Text(tmp_path / "trace.txt", width=80)),
        ]
    )
    whose = ("ssl", 7, "agent", "", "c")
    chain.feed(StreamData("a", START_NS, *whose, "write", 0, asked))
    for at in range(0, len(answered), 100):
        now_ns = START_NS + (100 + at) * 1_000_000
        chain.feed(StreamData(f"b{at}", now_ns, *whose, "read", at, answered[at : at + 100]))
    chain.flush()
    [entry] = json.loads((tmp_path / "trace.har").read_bytes())["log"]["entries"]
    assert entry["response"]["content"]["text"] == stream.decode()
    assert len(entry["_eventSourceMessages"]) == 4
    assert "comment" not in entry
    text = (tmp_path / "trace.txt").read_text(encoding="utf-8")
    assert f"→ POST https://example.com/v1/chat/completions {len(body)} B ← 200 text/event-stream" in text
    assert "\n  user       Hi\n  assistant  Hello\n  done       stop; " in text


PROGRAM = """
from libagenttracer.outputs import OutputAnalyzer
from tests.events.strategies import ssl_data
output = OutputAnalyzer()
output.feed(ssl_data())
output.flush()
"""


def test_by_default_a_pipe_gets_json_lines() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    assert from_json(done.stdout) == ssl_data()


def test_by_default_a_terminal_gets_text_at_once() -> None:
    ours, theirs = os.openpty()
    program = PROGRAM.replace("output.flush()", "")
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, stdout=theirs) as process:
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 4096):
                text += part
        except OSError:  # how a terminal ends
            pass
        process.wait()
    os.close(ours)
    assert b" python[1234] -> 5 bytes" in text
    assert text.startswith(b"\x1b[36m")


def test_standard_output_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputError, match="standard output is closed"):
        OutputAnalyzer()


def test_text_in_a_chain(tmp_path: Path) -> None:
    output = OutputAnalyzer(Text(tmp_path / "trace.txt"))
    for event in exchange(request(), response()):
        output.feed(event)
    output.flush()
    with io.open(tmp_path / "trace.txt", encoding="utf-8") as file:  # noqa: UP020
        assert file.read().count("\n") == 1
