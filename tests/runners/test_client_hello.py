"""The server's name and protocols in a client's first bytes: of real, built and hostile ones."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.runners.client_hello import ClientHello, parse_client_hello

from ..support import time_limit
from .client_hellos import RECORDED

OLD = ("1.3", "1.2", "1.1", "1.0")
NEW = ("1.3", "1.2")
TOLD = {
    "bun": ClientHello("localhost", ("http/1.1",), NEW, False),
    "chrome_by_curl_cffi": ClientHello("localhost", ("h2", "http/1.1"), NEW, False),
    "curl": ClientHello("api.example.com", ("h2", "http/1.1"), OLD, False),
    "curl_by_address": ClientHello("", ("h2", "http/1.1"), OLD, False),
    "deno": ClientHello("localhost", ("h2", "http/1.1"), NEW, False),
    "gnutls": ClientHello("api.example.com", ("h2",), OLD, False),
    "go": ClientHello("api.example.com", ("h2", "http/1.1"), NEW, False),
    "java": ClientHello("api.example.com", (), NEW, False),
    "node": ClientHello("api.example.com", ("h2", "http/1.1"), NEW, False),
    "nss": ClientHello("api.example.com", (), OLD, False),
    "openssl_tls12": ClientHello("api.example.com", (), ("1.2",), False),
    "python": ClientHello("api.example.com", ("http/1.1",), NEW, False),
    "wget": ClientHello("localhost", (), OLD, False),
}


def vector(content: bytes, length_bytes: int) -> bytes:
    return len(content).to_bytes(length_bytes, "big") + content


def extension(kind: int, content: bytes) -> bytes:
    return struct.pack(">H", kind) + vector(content, 2)


def server_name(name: bytes, kind: int = 0) -> bytes:
    return extension(0, vector(bytes([kind]) + vector(name, 2), 2))


def alpn(*names: bytes) -> bytes:
    return extension(16, vector(b"".join(vector(name, 1) for name in names), 2))


def hello(extensions: bytes | None = b"", *, version: int = 0x0303, session: bytes = bytes(32)) -> bytes:
    """A handshake message."""
    body = struct.pack(">H", version) + bytes(32) + vector(session, 1) + vector(b"\x13\x01\x13\x02", 2)
    body += vector(b"\0", 1)
    if extensions is not None:
        body += vector(extensions, 2)
    return b"\1" + vector(body, 3)


def records(message: bytes, size: int = 1 << 14) -> bytes:
    parts = [message[at : at + size] for at in range(0, len(message), size)]
    return b"".join(b"\x16\3\1" + vector(part, 2) for part in parts)


def told(extensions: bytes | None) -> ClientHello:
    found = parse_client_hello(records(hello(extensions)))
    assert found is not None
    return found


@pytest.mark.parametrize("client", sorted(RECORDED))
def test_real_clients(client: str) -> None:
    assert parse_client_hello(RECORDED[client]) == TOLD[client]
    assert parse_client_hello(RECORDED[client] + b"\x17\3\3\0\1x") == TOLD[client], "and what comes after"


@pytest.mark.parametrize("client", sorted(RECORDED))
def test_real_clients_cut_off(client: str) -> None:
    """What is told of a part is never wrong, only less."""
    whole = TOLD[client]
    names = set()
    for length in range(len(RECORDED[client])):
        found = parse_client_hello(RECORDED[client][:length])
        if length < 11:
            assert found is None
            continue
        assert found is not None
        assert found.truncated
        assert found.server_name in ("", whole.server_name)
        assert found.alpn == whole.alpn[: len(found.alpn)]
        assert found.versions == whole.versions[: len(found.versions)] or found.versions == ("1.2",)
        names.add(found.server_name)
    assert whole.server_name in names


def test_a_message_in_several_records() -> None:
    message = hello(server_name(b"a.example") + alpn(b"h2"))
    for size in (1, 2, 7, 50):
        assert parse_client_hello(records(message, size)) == ("a.example", ("h2",), ("1.2",), False)
    assert parse_client_hello(records(message, 50)[:60]) == ("", (), (), True)


def test_extensions_are_optional() -> None:
    assert told(None) == told(b"") == ("", (), ("1.2",), False)
    found = parse_client_hello(records(hello(None, version=0x0300, session=b"")))
    assert found == ("", (), ("SSL 3.0",), False)


def test_the_first_of_each_counts_and_unknown_ones_are_passed_over() -> None:
    unknown = extension(0xFE0D, b"\0" * 40) + extension(0x2A2A, b"")
    twice = server_name(b"first.example") + server_name(b"second.example") + alpn(b"h2") + alpn(b"h3")
    assert told(unknown + twice)[:2] == ("first.example", ("h2",))


def test_reserved_values_mean_nothing() -> None:
    versions = extension(43, vector(b"\x3a\x3a\3\4\x7f\x17", 1))
    assert told(alpn(b"\xaa\xaa", b"h2", b"\x0a\x0a") + versions) == ("", ("h2",), ("1.3",), False)


@pytest.mark.parametrize(
    "name",
    [b"a", b"A.Example.COM", b"xn--bcher-kva.example", b"_srv._tcp.example.org", b"127.0.0.1", b"a.example."],
)
def test_names(name: bytes) -> None:
    assert told(server_name(name)).server_name == name.decode()


@pytest.mark.parametrize(
    "name",
    [
        b"", b".", b"a..b", b".a", b"-a.example", b"a b", b"a\0b", b"a\nb", b"\x1b[31mred", b"b\xc3\xbccher",
        b"a" * 64 + b".example", b"a." * 127 + b"ab", b"a/b", b"a:443", b"[::1]", b"<script>",
        b"a\r\nHost: b",
    ],
)  # fmt: skip
def test_what_is_no_name(name: bytes) -> None:
    assert told(server_name(name)).server_name == ""


def test_names_of_another_kind_are_passed_over() -> None:
    entries = b"\1" + vector(b"other", 2) + b"\0" + vector(b"a.example", 2)
    assert told(extension(0, vector(entries, 2))).server_name == "a.example"
    assert told(server_name(b"a.example", kind=1)).server_name == ""


def test_protocols_that_are_no_text() -> None:
    assert told(alpn(b"h2", b"\x1b]0;x", b"\xff a")).alpn == ("h2", "\\x1b]0;x", "\\xff\\x20a")


def test_there_can_be_many_protocols() -> None:
    assert len(told(alpn(*[b"h2"] * 1000)).alpn) == 64


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\3\1\0\0" + bytes(100),  # an empty record
        b"\x16\3\1\xff\xff" + bytes(100),  # longer than a record can be
        b"\x16\2\0\0\x50" + hello(),
        b"\x17\3\3" + vector(hello(), 2),
        records(b"\2" + hello()[1:]),  # a ServerHello
        records(hello(version=0x0505)),
        records(b"\1" + vector(bytes(10), 3)),
        records(hello(session=bytes(33))),
        bytes(4096),
        b"\xff" * 4096,
    ],
)
def test_what_is_no_client_hello(data: bytes) -> None:
    assert parse_client_hello(data) is None


@pytest.mark.parametrize(
    "extensions",
    [
        b"\0",
        b"\0\0\0",
        struct.pack(">HH", 0, 100),
        extension(0, struct.pack(">H", 50) + b"\0\0\1a"),
        extension(0, vector(b"\0" + struct.pack(">H", 9) + b"a", 2)),
        extension(16, vector(b"\5h2", 2)),
        alpn(b""),
        extension(43, b"\4\3\4"),
        extension(43, b"\3\3\4\3"),
    ],
)
def test_lengths_that_lead_beyond_their_place(extensions: bytes) -> None:
    assert parse_client_hello(records(hello(extensions))) is None


def test_what_is_long_takes_no_time() -> None:
    with time_limit(1):
        many = b"".join(extension(n & 0xFFFF, b"") for n in range(100, 16_100))
        assert parse_client_hello(records(hello(many))) is not None
        parse_client_hello(b"\x16\3\1\0\1\1" * 1_000_000)
        parse_client_hello(records(b"\1\xff\xff\xff" + bytes(1 << 20)))


@given(st.binary(max_size=300))
def test_any_bytes(data: bytes) -> None:
    for given_bytes in (data, records(data), records(hello(data)), records(b"\1\0\4\0\3\3" + data)):
        found = parse_client_hello(given_bytes)
        assert found is None or isinstance(found, ClientHello)


@given(st.sampled_from(sorted(RECORDED)), st.data())
def test_real_ones_with_changed_bytes(client: str, data: st.DataObject) -> None:
    changed = bytearray(RECORDED[client])
    for at in data.draw(st.lists(st.integers(0, len(changed) - 1), min_size=1, max_size=5)):
        changed[at] = data.draw(st.integers(0, 255))
    found = parse_client_hello(bytes(changed))
    if found is not None:
        assert found.server_name.isascii()
        assert all(name.isprintable() for name in (found.server_name, *found.alpn))
