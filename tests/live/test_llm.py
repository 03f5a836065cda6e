"""Real SDKs and a server that knows the truth: what the SDKs say, and what the tracer says, is that truth."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from libagenttracer.events import HttpResponse, LlmCall

from . import llm_support
from .llm_support import Client, LlmServer

CLIENTS = {
    "openai": ("openai", []),
    "openai-http2": ("openai", ["--http2"]),
    "openai-async": ("openai", ["--asynchronous"]),
    "openai-async-http2": ("openai", ["--asynchronous", "--http2"]),
    "openai-responses": ("openai_responses", []),
    "openai-responses-http2": ("openai_responses", ["--http2"]),
    "openai-websocket": ("openai_websocket", []),
    "anthropic": ("anthropic", []),
    "anthropic-http2": ("anthropic", ["--http2"]),
    "anthropic-async": ("anthropic", ["--asynchronous"]),
    "anthropic-async-http2": ("anthropic", ["--asynchronous", "--http2"]),
    "gemini": ("gemini", []),
    "gemini-http2": ("gemini", ["--http2"]),
    "ollama": ("ollama", []),
    "ollama-http2": ("ollama", ["--http2"]),
    "mistral": ("mistral", []),
    "mistral-http2": ("mistral", ["--http2"]),
    "cohere": ("cohere", []),
    "cohere-http2": ("cohere", ["--http2"]),
    "bedrock": ("bedrock", []),
    "node-openai": ("openai", None),
    "node-anthropic": ("anthropic", None),
}


# Node is no part of what the tests install
THERE = [name for name in CLIENTS if llm_support.has_node() or not name.startswith("node")]


@pytest.fixture
def llm_server(tmp_path: Path) -> Iterator[LlmServer]:
    with llm_support.llm_server(tmp_path) as running:
        yield running


def client_of(name: str, server: LlmServer) -> Client:
    sdk, options = CLIENTS[name]
    return llm_support.node(server, sdk) if options is None else llm_support.python(server, sdk, *options)


@pytest.mark.parametrize("name", THERE)
def test_calls_are_the_truth(name: str, llm_server: LlmServer, tmp_path: Path) -> None:
    views, events = llm_support.traced(client_of(name, llm_server), tmp_path / "trace.jsonl")
    truth = llm_server.calls()
    llm_support.check_client(views, truth)
    for sse in (False, True):
        found = llm_support.decoded(events, sse=sse)
        calls = [event for event in found if isinstance(event, LlmCall)]
        llm_support.check_events(calls, truth)
    check_conversations(calls)
    versions = {event.version for event in found if isinstance(event, HttpResponse)}
    assert versions == ({"2"} if name.endswith("http2") else {"1.1"})


def check_conversations(calls: list[LlmCall]) -> None:
    """A call that sends results of tools continues the one that asked for them, and nothing else does."""
    markers = defaultdict(list)
    for call in calls:
        if call.error_type is None and call.conversation_id is not None:  # some APIs have no history
            markers[call.conversation_id].append(llm_support.key_of(call)[0])
    assert all(len(set(found)) == 1 for found in markers.values())
    assert sorted(map(len, markers.values()))[-6:] == [2] * 6  # each scenario with tools, whole and streamed
    assert len({found[0] for found in markers.values()}) == len(markers)
