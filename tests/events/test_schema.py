"""The JSON Schema: the one in docs/ is the generated one, and what is written fits it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings

from libagenttracer.events import Event, to_json

from ..support import ROOT
from .strategies import EVENTS, PROCESS_EVENTS, ssl_data

SCHEMA_FILE = ROOT / "docs" / "events.schema.json"
SCHEMA: dict[str, Any] = json.loads(SCHEMA_FILE.read_text(encoding="utf-8"))
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)


def test_the_file_in_docs_is_the_generated_one() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "libagenttracer", "schema"], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stderr == b""
    assert done.stdout == SCHEMA_FILE.read_bytes(), (
        "write it anew: python -m libagenttracer schema > docs/events.schema.json"
    )


def test_the_schema_is_a_schema() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert len(SCHEMA["oneOf"]) >= 4


@given(EVENTS)
@settings(max_examples=60)
def test_events_fit_the_schema(event: Event) -> None:
    VALIDATOR.validate(json.loads(to_json(event)))


@given(PROCESS_EVENTS)
@settings(max_examples=60)
def test_events_of_processes_fit_the_schema(event: Event) -> None:
    VALIDATOR.validate(json.loads(to_json(event)))


@pytest.mark.parametrize(
    ("part", "field", "value"),
    [
        ("", "id", 5),
        ("", "timestamp_ns", "now"),
        ("", "event_type", "unheard_of"),
        ("data", "pid", "1"),
        ("data", "direction", "up"),
        ("data", "payload", 5),
        ("data", "encoding", "rot13"),
        ("data", "raw", "text"),
        ("data", "raw", {"comm": 5}),
    ],
)
def test_what_is_wrong_does_not_fit(part: str, field: str, value: object) -> None:
    line = json.loads(to_json(ssl_data()))
    (line[part] if part else line)[field] = value
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(line)


@pytest.mark.parametrize("field", ["id", "timestamp", "timestamp_ns", "source", "event_type", "data"])
def test_the_envelope_is_required(field: str) -> None:
    line = json.loads(to_json(ssl_data()))
    del line[field]
    with pytest.raises(jsonschema.ValidationError):
        VALIDATOR.validate(line)
