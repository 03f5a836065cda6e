"""Records of sockets, and the questions in DNS messages."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Collection

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from libagenttracer.events import (
    DnsQuery,
    Event,
    NetAccept,
    NetBind,
    NetClose,
    NetConnect,
    NetListen,
    NetSend,
)
from libagenttracer.runners.net_decoder import dns_questions
from libagenttracer.runners.record_kinds import Call, NetFlag

from .process_bench import A_QUERY, INET, INET6, UNIX, Bench
from .records import net

TCP, UDP = socket.IPPROTO_TCP, socket.IPPROTO_UDP
HERE = bytes([127, 0, 0, 1])


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (Call.connect, NetConnect),
        (Call.accept, NetAccept),
        (Call.accept4, NetAccept),
        (Call.bind, NetBind),
        (Call.listen, NetListen),
        (Call.close, NetClose),
        (Call.sendto, NetSend),
        (Call.sendmsg, NetSend),
        (Call.sendmmsg, NetSend),
        (Call.write, NetSend),
    ],
)
def test_each_call_on_a_socket_has_its_event(bench: Bench, call: Call, kind: type[Event]) -> None:
    event = bench.one(
        net(call, INET, local=HERE, remote=bytes(4), local_port=80, remote_port=53, protocol=TCP, result=-9)
    )
    assert (event.family, event.protocol, event.fd, event.result) == ("inet", "tcp", 7, -9)
    assert (event.local_address, event.local_port) == ("127.0.0.1", 80)
    assert (event.remote_address, event.remote_port) == ("0.0.0.0", 53)
    assert type(event) is kind


@pytest.mark.parametrize(
    ("family", "type_", "protocol", "names"),
    [
        (INET, 1, TCP, ("inet", "tcp")),
        (INET6, 2, UDP, ("inet6", "udp")),
        (INET, 3, 1, ("inet", "raw")),
        (INET, 1, 262, ("inet", "stream")),  # MPTCP
        (UNIX, 1, 0, ("unix", "stream")),
        (UNIX, 5, 6, ("unix", "seqpacket")),
        (UNIX, 2, 17, ("unix", "dgram")),
        (38, 4, 6, ("38", "4")),
    ],
)
def test_families_and_protocols(
    bench: Bench, family: int, type_: int, protocol: int, names: tuple[str, str]
) -> None:
    event = bench.one(net(Call.listen, family, type=type_, protocol=protocol))
    assert (event.family, event.protocol) == names
    assert (event.local_address, event.local_port, event.remote_address, event.remote_port) == (None,) * 4


@pytest.mark.parametrize(
    ("family", "raw", "address", "port"),
    [
        (INET, bytes([10, 0, 0, 255]), "10.0.0.255", 9),
        (INET6, bytes(15) + b"\1", "::1", 9),
        (INET6, bytes(10) + b"\xff\xff" + HERE, "::ffff:127.0.0.1", 9),
        (UNIX, b"/run/socket", "/run/socket", None),
        (UNIX, b"/run/socket\0rest", "/run/socket", None),
        (UNIX, b"x" * 108, "x" * 108, None),
        (UNIX, b"\0abstract", "@abstract", None),
        (UNIX, b"\0with\0nul\0", "@with\0nul\0", None),
        (UNIX, b"\0\xff", "@\udcff", None),
        (UNIX, b"\0", None, None),
        (UNIX, b"", None, None),
    ],
)
def test_addresses(bench: Bench, family: int, raw: bytes, address: str | None, port: int | None) -> None:
    event = bench.one(net(Call.connect, family, local=raw, remote=raw, local_port=9, remote_port=9))
    assert (event.local_address, event.remote_address) == (address, address)
    assert (event.local_port, event.remote_port) == (port, port)


def test_the_outcome_of_a_connect(bench: Bench) -> None:
    assert not bench.one(net(Call.connect, INET, result=-errno.EINPROGRESS)).late
    late = bench.one(net(Call.connect, INET, result=-errno.ECONNREFUSED, flags=NetFlag.LATE, fd=-1))
    assert (late.late, late.result, late.fd) == (True, -errno.ECONNREFUSED, None)


def test_bytes_of_a_socket(bench: Bench) -> None:
    known = bench.one(net(Call.close, INET, flags=NetFlag.BYTES_KNOWN, bytes_sent=5, bytes_received=0))
    assert (known.bytes_sent, known.bytes_received) == (5, 0)
    unknown = bench.one(net(Call.close, INET, bytes_sent=5, bytes_received=6))
    assert (unknown.bytes_sent, unknown.bytes_received) == (None, None)


def asked(payload: bytes, categories: Collection[str]) -> list[Event]:
    raw = net(Call.sendto, INET, remote=HERE, remote_port=53, payload=payload, data_bytes=33, protocol=UDP)
    return Bench(categories).feed(raw)


def test_a_question_is_a_datagram_too() -> None:
    sent, query = asked(A_QUERY, ["net", "dns"])
    assert isinstance(sent, NetSend)
    assert isinstance(query, DnsQuery)
    assert sent.data_len == 33
    assert (query.name, query.query_type) == ("example.org", "A")
    assert (query.remote_address, query.remote_port) == ("127.0.0.1", 53)
    assert sent.id != query.id
    (alone,) = asked(A_QUERY, ["dns"])
    assert isinstance(alone, DnsQuery)
    assert alone.id == sent.id
    assert alone.name == "example.org"


def test_several_questions_have_ids_of_their_own() -> None:
    payload = struct.pack(">6H", 7, 0, 2, 0, 0, 0) + A_QUERY[12:] + b"\1b\xc0\x14" + struct.pack(">2H", 28, 1)
    for categories, count in ((["dns"], 2), (["net", "dns"], 3)):
        events = asked(payload, categories)
        assert len({event.id for event in events}) == count
        questions = [(event.name, event.query_type) for event in events if isinstance(event, DnsQuery)]
        assert questions == [("example.org", "A"), ("b.org", "AAAA")]


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"x",
        bytes(12),  # no question
        A_QUERY[:20],
        struct.pack(">6H", 7, 0x8180, 1, 0, 0, 0) + A_QUERY[12:],  # an answer
        struct.pack(">6H", 7, 0, 1, 0, 0, 0) + b"\xc0\x0c" + struct.pack(">2H", 1, 1),  # points at itself
        struct.pack(">6H", 7, 0, 65535, 0, 0, 0) + A_QUERY[12:],
        b"\xff" * 512,
    ],
)
def test_what_is_no_question(payload: bytes) -> None:
    assert [event.event_type for event in asked(payload, ["net", "dns"])] == ["net_send"]
    assert asked(payload, ["dns"]) == []


@pytest.mark.parametrize(
    ("labels", "type_", "expected"),
    [
        (b"\0", 2, (".", "NS")),
        (b"\3a.b\1c\0", 65, ("a\\.b.c", "HTTPS")),
        (b"\2\xc3\xa4\0", 65280, ("\\195\\164", "TYPE65280")),
    ],
)
def test_unusual_questions(labels: bytes, type_: int, expected: tuple[str, str]) -> None:
    payload = struct.pack(">6H", 7, 0x0100, 1, 0, 0, 1) + labels + struct.pack(">2H", type_, 1)
    assert dns_questions(payload + b"rest that is not looked at") == [expected]


QUERY_LIKE = st.tuples(
    st.binary(min_size=4, max_size=4),
    st.integers(0, 3),
    st.binary(min_size=6, max_size=6),
    st.binary(max_size=80),
).map(lambda parts: parts[0] + struct.pack(">H", parts[1]) + parts[2] + parts[3])


@given(st.one_of(st.binary(max_size=512), QUERY_LIKE))
@example(A_QUERY)
def test_arbitrary_questions(payload: bytes) -> None:
    for name, type_ in dns_questions(payload):
        assert name.isascii()
        assert type_
