"""Less common uses of OpenSSL: see features.c."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libagenttracer import Event, Loss, SslData, SslHandshake, SslRunner

from ..workloads.server import LocalServer
from .tracing import streams


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    program = tmp_path_factory.mktemp("features") / "features"
    source = Path(__file__).with_name("features.c")
    command = [
        "gcc",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-o",
        str(program),
        str(source),
        "-lssl",
        "-lcrypto",
    ]
    subprocess.run(command, check=True)
    return program


def traced(features: Path, case: str, **options: bool) -> list[Event]:
    runner = SslRunner(command=[str(features), case], **options)  # type: ignore[arg-type]
    events = list(runner)
    assert runner.exit_status == 0
    assert not any(isinstance(event, Loss) for event in events)
    return events


def test_an_object_used_again_is_another_connection(features: Path) -> None:
    events = traced(features, "reuse")
    found = {name: bytes(stream.content) for name, stream in streams(events).items()}
    assert sorted(found.values()) == [b"first"] * 2 + [b"second"] * 2 + [b"third"] * 2
    assert len({name for name, _ in found}) == 6
    assert all(event.offset == 0 and not event.joined_late for event in events if isinstance(event, SslData))


def test_tls_in_tls_shows_both_layers(features: Path) -> None:
    found = {name: bytes(stream.content) for name, stream in streams(traced(features, "nested")).items()}
    assert sorted(found.values()).count(b"inner words") == 2
    outer = [content for content in found.values() if content != b"inner words"]
    # what one end of the outer connection wrote, the other read; it is TLS records
    assert len(outer) == 4
    assert sorted(outer)[0] == sorted(outer)[1]
    assert sorted(outer)[2] == sorted(outer)[3]
    assert all(content[:2] in (b"\x16\x03", b"\x17\x03", b"\x14\x03") for content in outer)


def test_failing_calls_move_nothing(features: Path) -> None:
    events = traced(features, "failing")
    assert [bytes(stream.content) for stream in streams(events).values()] == [b"good", b"good"]


def test_sendfile_is_noted(features: Path) -> None:
    """Where the kernel has TLS, the transfer is an event; in any case what is around it is whole."""
    events = traced(features, "sendfile")
    said = [event for event in events if isinstance(event, SslData) and event.direction == "write"]
    assert [event.payload for event in said] == [b"before", b"after"]
    sent = [event for event in events if event.event_type == "ssl_sendfile"]
    if sent:
        assert [(event.data_len, event.offset, event.file_offset) for event in sent] == [(5, 6, 2)]  # type: ignore[attr-defined]
        assert said[1].offset == 11
    else:
        assert said[1].offset == 6


def test_handshakes(features: Path, server: LocalServer) -> None:
    command = ["curl", "-s", "--cacert", str(server.ca_path), server.url + "/bytes/5", "-o", "/dev/null"]
    events = list(SslRunner(command=command, handshake=True))
    shakes = [event for event in events if isinstance(event, SslHandshake)]
    assert shakes[-1].result == "ok"
    assert [event.calls for event in shakes] == list(range(1, len(shakes) + 1))
    assert shakes[-1].handshake_ns >= sum(event.latency_ns for event in shakes)
    assert {event.function for event in shakes} == {"SSL_connect"}, "SSL_do_handshake is inside it"
    data = next(event for event in events if isinstance(event, SslData))
    assert data.connection_id == shakes[0].connection_id
    assert data.timestamp_ns > shakes[-1].timestamp_ns
    assert not [e for e in SslRunner(command=[str(features), "reuse"]) if isinstance(e, SslHandshake)]
