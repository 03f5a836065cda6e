"""Runs the server of `llm_server` and the SDKs of `llm_clients`; compares what is said of the calls.

Three tell of the same calls: the server's log of truth, the SDK, and the tracer's `llm_call` events. All are
brought into the form of the truth here, with a key that is the same for one call.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from libagenttracer import Chain, Event
from libagenttracer.analyzers.decoding import decoders
from libagenttracer.events import LlmCall

from ..support import ROOT
from .tracing import read, run_tracer

__all__ = [
    "Calls",
    "Client",
    "LlmServer",
    "check_client",
    "check_events",
    "decoded",
    "has_node",
    "key_of",
    "llm_server",
    "many_calls",
    "node",
    "python",
    "run",
    "traced",
]

_CLIENTS = ROOT / "tests" / "workloads" / "llm_clients"
_NPM_PACKAGES = ["openai", "@anthropic-ai/sdk"]
Key = tuple[str, int]
Calls = dict[Key, dict[str, Any]]


@dataclass(frozen=True)
class LlmServer:
    """A running server."""

    url: str
    ca: str
    truth: Path

    def calls(self) -> Calls:
        """The truth so far."""
        found: Calls = {}
        for call in _lines(self.truth.read_text(encoding="utf-8")):  # written as soon as a call is over
            key = _key(call["messages"])
            assert key not in found, key
            found[key] = call
        return found


@contextlib.contextmanager
def llm_server(directory: Path) -> Iterator[LlmServer]:
    """The server, in a process of its own."""
    command = [sys.executable, "-m", "tests.workloads.llm_server", "--directory", str(directory)]
    errors = directory / "server.err"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        assert process.stdout is not None
        with process:
            line = process.stdout.readline()
            assert line, errors.read_text()
            told = json.loads(line)
            yield LlmServer(told["url"], told["ca"], Path(told["truth"]))
            process.communicate(timeout=30)  # its standard input ends


@dataclass(frozen=True)
class Client:
    """A command line that asks a server and prints lines of JSON; `library` is its TLS library, if the
    tracer would not find it by itself."""

    argv: list[str]
    env: dict[str, str]
    library: str | None = None


def _environment(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", **more}


def python(server: LlmServer, sdk: str, *options: str) -> Client:
    """A script of Python: a module of `llm_clients`."""
    argv = [sys.executable, "-m", "tests.workloads.llm_clients", f"sdk_{sdk}"]
    argv += ["--url", server.url, "--ca", server.ca, *options]
    return Client(argv, _environment())


def many_calls(server: LlmServer, mode: str) -> Client:
    """`many_calls.py`, or `node_many_calls.mjs`."""
    if mode == "http2-node":
        return _node(server, "many_calls")
    argv = [sys.executable, str(_CLIENTS / "many_calls.py"), mode, "--url", server.url, "--ca", server.ca]
    return Client(argv, _environment())


def node(server: LlmServer, sdk: str) -> Client:
    """A script of Node that uses a package of npm."""
    return _node(server, sdk, str(_npm_folder()))


def _node(server: LlmServer, name: str, *more: str) -> Client:
    program = os.path.realpath(shutil.which("node") or "")  # its TLS library is in it
    argv = [program, str(_CLIENTS / f"node_{name}.mjs"), server.url, *more]
    return Client(argv, _environment(NODE_EXTRA_CA_CERTS=server.ca), program)


def has_node() -> bool:
    """Whether there is a Node that the SDKs run on (20 or later), and npm."""
    if not shutil.which("node") or not shutil.which("npm"):
        return False
    version = subprocess.run(["node", "--version"], check=True, capture_output=True, text=True, timeout=20)
    return int(version.stdout.removeprefix("v").partition(".")[0]) >= 20


def _npm_folder() -> Path:
    """Where npm has installed the SDKs; it does so the first time."""
    folder = ROOT / "build" / "npm"
    if not all((folder / "node_modules" / name).exists() for name in _NPM_PACKAGES):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "package.json").write_text("{}")
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", *_NPM_PACKAGES]
        done = subprocess.run(command, cwd=folder, check=False, capture_output=True, text=True, timeout=300)
        if done.returncode:
            pytest.skip(f"npm cannot install the SDKs: {done.stderr[-500:]}")
    return folder


def run(client: Client) -> list[dict[str, Any]]:
    """Runs a client that nobody watches; what it says."""
    done = subprocess.run(
        client.argv, env=client.env, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return _lines(done.stdout)


def traced(client: Client, output: Path) -> tuple[list[Any], list[Event]]:
    """Runs a client under the tracer; what it says, and what the tracer recorded."""
    library = ["--lib", client.library] if client.library else []
    done = run_tracer(
        ["ssl", "-o", str(output), *library, "--", *client.argv],
        env={**os.environ, **client.env},
        cwd=ROOT,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return _lines(done.stdout), read(output)


def decoded(events: Iterable[Event], *, sse: bool = False) -> list[Event]:
    """What the analyzers make of the tracer's events: HTTP and calls; with `sse` merged streams too."""
    chain = Chain(decoders(http=True, llm=True, sse=sse))
    given = [found for event in events for found in chain.feed(event)]
    return [*given, *chain.flush()]


def _lines(output: str) -> list[Any]:
    return [json.loads(line) for line in output.split("\n") if line]  # splitlines() ends a line at U+2028


def _key(items: Iterable[Sequence[Any]]) -> Key:
    """The marker in the prompt, and how many times results of tools were sent."""
    texts = [content for _, kind, content in items if kind == "text"]
    markers = re.findall("#[a-z0-9-]+#", " ".join(texts))
    assert markers, items
    ended = [kind == "tool_call_response" for _, kind, _ in items]
    runs = sum(now and not before for before, now in zip([False, *ended], ended, strict=False))
    return markers[-1], runs


def check_client(views: Iterable[dict[str, Any]], truth: Calls) -> None:
    """An SDK's view of each call is the truth."""
    found = {(view["marker"], view["turn"]): view for view in views}
    assert found.keys() == truth.keys()
    for key, view in found.items():
        call = truth[key]
        assert view["status"] == call["status"], key
        if call["error_message"] is None:
            for name in ("text", "reasoning", "tool_calls", "finish_reasons", "response_id"):
                assert view[name] == call[name], (key, name)
            assert view["model"] == call["response_model"], key
            assert view["usage"].items() <= call["usage"].items(), key


def check_events(events: Iterable[LlmCall], truth: Calls) -> None:
    """The tracer's view of each call is the truth, and there are no others."""
    found: dict[Key, LlmCall] = {}
    for event in events:
        key = key_of(event)
        assert key not in found, key
        found[key] = event
    assert found.keys() == truth.keys()
    for key, event in found.items():
        call, told = truth[key], _told(event)
        if call["websocket"]:
            told["status"] = call["status"]  # it has none of its own
        if call["error_message"] is not None:
            assert event.error_type in call["error_types"], key
        else:
            assert event.error_type is None, key
            assert not event.incomplete, (key, event.reason)
            assert event.duration_ms
            assert (event.time_to_first_token_ms is not None) == event.streaming
            counts = {name: count for name, count in call["usage"].items() if count}
            assert counts.items() <= _usage(event).items(), key
        for name in told.keys() & call.keys():
            assert told[name] == call[name], (key, name)


def key_of(event: LlmCall) -> Key:
    """As in the truth."""
    return _key(_items(event.messages))


def _told(event: LlmCall) -> dict[str, Any]:
    """An event in the form of the truth."""
    answer = _items(event.output_messages)
    return {
        "api": event.api,
        "request_model": event.request_model,
        "streaming": event.streaming,
        "system": [part["content"] for part in event.system_instructions],
        "messages": _items(event.messages),
        "tools": [name for tool in event.tool_definitions for name in _tool_names(tool)],
        "status": event.status,
        "error_message": event.error_message,
        "response_model": event.response_model,
        "response_id": event.llm_response_id,
        "text": "".join(content for _, kind, content in answer if kind == "text"),
        "reasoning": "".join(content for _, kind, content in answer if kind == "reasoning"),
        "tool_calls": [_without_null_id(call) for call in event.tool_calls],
        "finish_reasons": event.finish_reasons,
    }


def _usage(event: LlmCall) -> dict[str, int | None]:
    return {
        "input": event.input_tokens,
        "output": event.output_tokens,
        "cache_read": event.cache_read_input_tokens,
        "cache_creation": event.cache_creation_input_tokens,
        "reasoning": event.reasoning_output_tokens,
    }


def _items(messages: Iterable[dict[str, Any]]) -> list[list[Any]]:
    items: list[list[Any]] = []
    for message in messages:
        for part in message["parts"]:
            kind = part["type"]
            if kind in {"text", "reasoning"}:
                items.append([message["role"], kind, part["content"]])
            else:
                content = {name: value for name, value in part.items() if name != "type"}
                if kind == "tool_call_response":  # without the tool's name, which few APIs have
                    content = {"id": part["id"], "response": _plain(part["response"])}
                items.append([message["role"], kind, _without_null_id(content)])
    return items


def _plain(response: Any) -> Any:
    """A tool's result that was sent as parts of text, as text."""
    return "".join(part["content"] for part in response) if isinstance(response, list) else response


def _without_null_id(call: dict[str, Any]) -> dict[str, Any]:
    """Some APIs have no ids for calls of tools."""
    return {name: value for name, value in call.items() if name != "id" or value is not None}


def _tool_names(tool: dict[str, Any]) -> list[str]:
    """As every API has them."""
    if functions := tool.get("functionDeclarations"):
        return [function["name"] for function in functions]
    for name in ("function", "toolSpec"):
        tool = tool.get(name, tool)
    return [tool["name"]]
