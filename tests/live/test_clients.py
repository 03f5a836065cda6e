"""Unmodified clients against a server that logs the truth: byte for byte, each once, the right way."""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import pytest

from libagenttracer import Event, SslData, trace_ssl

from ..workloads import clients
from ..workloads.server import LocalServer, pseudo_random
from .tracing import read, run_tracer, streams

BODY = b'{"model": "test", "stream": true, "messages": [{"role": "user", "content": "hello \xc3\xa9"}]}'
NAMES = ["curl", "s_client", "http", "httpx", "asyncio", "nonblocking"]


def traced(client: clients.Client, folder: Path) -> list[Event]:
    output = folder / "trace.jsonl"
    done = run_tracer(
        ["ssl", "-o", str(output), "--", *client.argv],
        env={**os.environ, **client.env},
        input=client.stdin,
        text=False,
    )
    assert done.returncode == 0, done.stderr
    return read(output)


def check(events: list[Event], server: LocalServer, connections: int = 1) -> None:
    assert server.wait_closed(10)
    found = streams(events)
    names = {name for name, _ in found}
    assert len(names) == connections
    said = {(bytes(found[name, "write"].content), bytes(found[name, "read"].content)) for name in names}
    assert said == {(item.received, item.sent) for item in server.log}
    assert not any(stream.lost_records for stream in found.values())
    assert len({event.id for event in events}) == len(events)


def by_name(name: str, url: str, ca: str | Path, body: bytes) -> clients.Client:
    found = {client.name: client for client in clients.every(url, ca, body, python=sys.executable)}
    assert name in found, f"client {name} is missing: make setup installs it"
    return found[name]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/chat/completions", BODY), ("/bytes/200000", b""), ("/echo", pseudo_random(3_000_000))],
    ids=["stream", "download", "upload"],
)
def test_client(name: str, path: str, body: bytes, server: LocalServer, tmp_path: Path) -> None:
    events = traced(by_name(name, server.url + path, server.ca_path, body), tmp_path)
    check(events, server)
    first = next(event for event in events if isinstance(event, SslData))
    assert first.direction == "write"
    assert first.exe
    assert first.comm
    assert first.uid == os.getuid()
    assert "libssl" in first.library
    assert not first.joined_late
    assert len({event.pid for event in events if isinstance(event, SslData)}) == 1


def test_ex_functions_are_shown_once(server: LocalServer, tmp_path: Path) -> None:
    events = traced(by_name("http", server.url + "/echo", server.ca_path, BODY), tmp_path)
    assert {event.function for event in events if isinstance(event, SslData)} == {
        "SSL_write_ex",
        "SSL_read_ex",
    }


def test_keep_alive_is_one_connection(server: LocalServer, tmp_path: Path) -> None:
    client = clients.curl(server.url + "/echo", server.ca_path, BODY, repeat=3)
    events = traced(client, tmp_path)
    check(events, server)


def test_client_that_ran_before(server: LocalServer) -> None:
    """A client that is traced by pid, from the library, once it waits for its input."""
    import subprocess

    client = by_name("http", server.url + "/v1/chat/completions", server.ca_path, BODY)
    process = subprocess.Popen(
        client.argv, env=client.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    with contextlib.ExitStack() as stack:
        stack.callback(process.communicate)
        trace = stack.enter_context(trace_ssl(pid=process.pid))
        assert process.stdin is not None
        process.stdin.write(BODY)
        process.stdin.close()
        events = list(trace)  # ends by itself when the client has ended
        process.stdin = None
    assert process.returncode == 0
    check(events, server)
