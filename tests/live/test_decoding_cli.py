"""The command line decodes what a real client says: what is shown, what is hidden, and a replay of it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from libagenttracer.events import Event, HttpExchange, LlmCall, SslData

from ..support import ROOT
from . import llm_support
from .tracing import read, run_tracer

KEY = "sk-" + "test" + "0123456789abcdef" * 2  # no real one


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A client's calls, with everything that can be shown of them, unredacted."""
    folder = tmp_path_factory.mktemp("recording")
    trace(folder, "--http", "--sse-merge", "--llm", "--raw", "--no-redact")
    return folder / "trace.jsonl"


def trace(folder: Path, *options: str) -> str:
    """Traces an SDK; returns what the tracer said."""
    with llm_support.llm_server(folder) as server:
        client = llm_support.python(server, "openai")
        environment = {**os.environ, **client.env, "OPENAI_API_KEY": KEY}
        done = run_tracer(
            ["ssl", "-o", str(folder / "trace.jsonl"), *options, "--", *client.argv],
            env=environment, cwd=ROOT, timeout=120,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def replayed(recording: Path, *options: str) -> list[Event]:
    output = recording.with_suffix(".replayed")
    done = run_tracer(["replay", str(recording), *options, "-o", str(output)])
    assert done.returncode == 0, done.stderr
    return read(output)


def test_only_what_was_asked_for_is_shown(tmp_path: Path) -> None:
    said = trace(tmp_path, "--llm", "--filter", "llm.output_tokens > 0")
    events = read(tmp_path / "trace.jsonl")
    assert {type(event) for event in events} == {LlmCall}
    assert "events were left out by the filter" in said
    assert "lost: nothing" in said
    assert stat.S_IMODE((tmp_path / "trace.jsonl").stat().st_mode) == 0o600


def test_a_replay_gives_what_the_live_run_gave(recording: Path) -> None:
    """Event by event, ids included, and none of them twice although they are in the recording already."""
    live = read(recording)
    assert all(event.unredacted for event in live if isinstance(event, SslData))
    found = replayed(recording, "--llm", "--http", "--sse-merge", "--no-redact")
    made = [event for event in live if event.event_type not in ("ssl_data", "ssl_close")]
    assert len(made) > 50
    assert [event.id for event in found] == [event.id for event in made]
    assert found == made


def test_raw_events_say_where_messages_begin(recording: Path) -> None:
    begun = [
        head for event in read(recording) if isinstance(event, SslData) for head in event.parsed_http or ()
    ]
    exchanges = [event for event in read(recording) if isinstance(event, HttpExchange)]
    assert {head["id"] for head in begun} >= {event.request_id for event in exchanges}
    assert {head["type"] for head in begun} == {"request", "response"}


def test_secrets_are_left_out_unless_asked_for(recording: Path, tmp_path: Path) -> None:
    assert KEY in recording.read_text()
    trace(tmp_path, "--http", "--llm")
    text = (tmp_path / "trace.jsonl").read_text()
    assert KEY not in text
    assert "Bearer [redacted:" in text
    shown = replayed(recording, "--http", "--llm", "--exclude", "event_type == 'ssl_data'")
    assert shown
    assert not [event for event in shown if KEY in repr(event)]


def test_no_redact_says_so(tmp_path: Path) -> None:
    assert "secrets are shown as they are" in trace(tmp_path, "--llm", "--no-redact")


def test_har(recording: Path, tmp_path: Path) -> None:
    har = tmp_path / "out.har"
    plain = tmp_path / "plain.jsonl"  # as if nothing had been decoded
    lines = recording.read_bytes().splitlines(keepends=True)
    plain.write_bytes(b"".join(line for line in lines if b'"event_type":"ssl_' in line))
    done = run_tracer(["replay", str(plain), "--http", "--har", str(har), "-o", str(tmp_path / "x")])
    assert done.returncode == 0, done.stderr
    entries = json.loads(har.read_text())["log"]["entries"]
    assert len(entries) == len([event for event in read(recording) if isinstance(event, HttpExchange)])
    assert all(entry["request"]["url"].startswith("https://127.0.0.1:") for entry in entries)
    assert KEY not in har.read_text()


def test_a_conversation_is_shown_as_text(recording: Path) -> None:
    done = run_tracer(
        ["replay", str(recording), "--llm", "--exclude", "event_type != 'llm_call'", "--format", "text"]
    )
    assert done.returncode == 0, done.stderr
    for word in ("gpt-5", "user ", "assistant ", "call ", "done ", "tokens"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--filter", "llm.model ~"], "llm.model ~\n"),
        (["--filter", "http.sttus == 200"], "http.status"),
        (["--raw"], "--raw goes with"),
        (["--har", "x.har"], "--har goes with --http"),
        (["--analyzer", "nobody"], "there is no analyzer 'nobody'"),
        (["--rotate-size", "1M"], "go with -o FILE"),
    ],
)
def test_wrong_usage_is_explained(options: list[str], complaint: str) -> None:
    done = run_tracer(["replay", "/dev/null", *options])
    assert done.returncode == 2
    assert complaint in done.stderr


def test_files_rotate(recording: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jsonl"
    done = run_tracer(
        ["replay", str(recording), "-o", str(output), "--rotate-size", "100K", "--compress", "none",
         "--rotate-files", "1000", "--no-redact"]
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    parts = sorted(tmp_path.glob("out.jsonl.*"))
    assert len(parts) > 2
    lines = b"".join(part.read_bytes() for part in [*parts, output]).splitlines()
    assert len(lines) == len(read(recording))
