"""Connections chosen by where they go."""

from __future__ import annotations

from typing import Any

import pytest

from libagenttracer.analyzers import EndpointFilter, endpoints
from libagenttracer.analyzers.endpoints import HOLD_NS, MAX_HELD_BYTES, MAX_HELD_EVENTS
from libagenttracer.events import Loss, SslClose, SslConnection, SslData, SslUnseen

WHO: dict[str, Any] = {"pid": 1, "tid": 1, "ppid": 0, "uid": 0, "comm": "c", "exe": "/c"}


def said(connection_id: str, payload: bytes = b"x", timestamp_ns: int = 0) -> SslData:
    return SslData(
        "id", timestamp_ns, "ssl", **WHO, direction="write", data_len=len(payload), offset=0,
        connection_id=connection_id, function="SSL_write", latency_ns=1, library="", payload=payload,
    )  # fmt: skip


def connected(
    connection_id: str,
    name: str | None = "api.example.com",
    address: str | None = "10.0.0.2",
    port: int = 443,
) -> SslConnection:
    return SslConnection(
        "id", 0, "ssl", **WHO, connection_id=connection_id, fd=5, local_address="10.0.0.1", local_port=40000,
        remote_address=address, remote_port=port, server_name=name, alpn=None, binding="inside_call",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("ports", "hosts", "wanted"),
    [
        ([443], [], True), ([8443, 443], [], True), ([8443], [], False), ([40000], [], True),
        ([], ["api.example.com"], True), ([], ["API.Example.com."], True), ([], ["*.example.com"], True),
        ([], ["example.com"], False), ([], ["10.0.0.2"], True), ([], ["10.0.0.*"], True),
        ([443], ["other"], False), ([8443], ["api.example.com"], False), ([443], ["api.*", "x"], True),
    ],
)  # fmt: skip
def test_ports_and_hosts(ports: list[int], hosts: list[str], wanted: bool) -> None:
    chosen = EndpointFilter(ports, hosts)
    given = [*chosen.feed(connected("a")), *chosen.feed(said("a"))]
    assert len(given) == (2 if wanted else 0)
    assert chosen.filtered == (0 if wanted else 2)


def test_a_name_that_is_not_known_matches_no_name() -> None:
    chosen = EndpointFilter(hosts=["*"])
    assert list(chosen.feed(connected("a", name=None, address=None))) == []
    assert len(list(chosen.feed(connected("a", name=None)))) == 1


def test_what_comes_before_it_is_known_waits() -> None:
    chosen = EndpointFilter([443])
    assert list(chosen.feed(said("a", b"1"))) == []
    assert list(chosen.feed(said("b", b"2"))) == []
    assert list(chosen.tick(HOLD_NS)) == []
    first, second = chosen.feed(connected("a"))
    assert isinstance(first, SslConnection)
    assert isinstance(second, SslData)
    assert second.payload == b"1"
    assert list(chosen.tick(HOLD_NS + 1)) == []
    assert (chosen.filtered, chosen.unknown) == (1, 1)
    assert list(chosen.feed(connected("b", port=80))) == []
    assert (chosen.filtered, chosen.unknown) == (2, 1)


def test_a_connection_may_turn_out_to_go_elsewhere() -> None:
    chosen = EndpointFilter([443])
    assert list(chosen.feed(connected("a", port=80))) == []
    assert list(chosen.feed(said("a"))) == []
    assert len(list(chosen.feed(connected("a")))) == 1
    assert len(list(chosen.feed(said("a")))) == 1


def test_what_waits_is_bounded() -> None:
    chosen = EndpointFilter([443])
    for number in range(2 * MAX_HELD_EVENTS):
        assert list(chosen.feed(said(str(number)))) == []
    assert chosen.unknown == MAX_HELD_EVENTS
    for number in range(40):
        chosen.feed(said(f"large {number}", bytes(MAX_HELD_BYTES // 10)))
    assert chosen._held_bytes <= MAX_HELD_BYTES
    assert list(chosen.flush()) == []
    assert chosen.unknown == 2 * MAX_HELD_EVENTS + 40
    assert (chosen._held_events, chosen._held_bytes) == (0, 0)


def test_losses_and_what_has_no_connection_pass() -> None:
    chosen = EndpointFilter([443])
    chosen.feed(connected("a", port=80))
    lost = Loss("id", 0, "ssl", "ring_full", 1, 5, connection_id="a")
    assert list(chosen.feed(lost)) == [lost]
    general = Loss("id", 0, "ssl", "ring_full", 1, 5)
    assert list(chosen.feed(general)) == [general]
    unseen = SslUnseen(
        "id", 0, "ssl", **WHO, protocol="quic", fd=None, local_address=None, local_port=None,
        remote_address="10.0.0.2", remote_port=443, server_name=None, alpn=None,
    )  # fmt: skip
    assert list(chosen.feed(unseen)) == [unseen]
    assert list(EndpointFilter([80]).feed(unseen)) == []


def test_losses_that_waited_pass_although_their_connection_is_left_out() -> None:
    chosen = EndpointFilter([443])
    lost = [Loss("id", 0, "ssl", "ring_full", 1, 5, connection_id=name) for name in "abc"]
    for loss in lost:
        assert list(chosen.feed(said(loss.connection_id or ""))) == []
        assert list(chosen.feed(loss)) == []
    assert list(chosen.feed(connected("a", port=80))) == [lost[0]]
    assert list(chosen.tick(HOLD_NS + 1)) == lost[1:]
    assert (chosen.filtered, chosen.unknown) == (4, 2)
    assert list(chosen.feed(lost[0])) == [lost[0]]


def test_a_connection_that_lasts_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(endpoints, "MAX_CONNECTIONS", 4)
    chosen = EndpointFilter([443])
    chosen.feed(connected("long"))
    for number in range(10):
        chosen.feed(connected(str(number)))
        assert len(list(chosen.feed(said("long")))) == 1
    closed = SslClose("id", 0, "ssl", **WHO, connection_id="long", read_bytes=0, written_bytes=0, library="")
    assert list(chosen.feed(closed)) == [closed]
    assert "long" not in chosen._decided
