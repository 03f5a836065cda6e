"""What a client asks for in its first TLS message: the server's name and the protocols it would speak.

Formats: TLS 1.3 (RFC 8446, section 5.1 for records, 4 and 4.1.2 for the message; TLS 1.2 is the same),
server name (RFC 6066, section 3), application protocols (RFC 7301, section 3.1), versions (RFC 8446,
section 4.2.1), and reserved values, which mean nothing on purpose (RFC 8701).

With an encrypted client hello (ECH) the name is the public one of the front server: the true one cannot be
seen here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

__all__ = ["ClientHello", "parse_client_hello"]

_HANDSHAKE, _CLIENT_HELLO = 22, 1
_SERVER_NAME, _ALPN, _SUPPORTED_VERSIONS = 0, 16, 43
_HOST_NAME = 0
_MAX_RECORD_BYTES = 1 << 14
_MAX_BYTES = 1 << 16  # looked at; what comes after counts as cut off
_MAX_EXTENSIONS = 256
_MAX_PROTOCOLS = 64
_VERSIONS = {0x0300: "SSL 3.0", 0x0301: "1.0", 0x0302: "1.1", 0x0303: "1.2", 0x0304: "1.3"}
# RFC 1123, with the underscore, which is seen in names of services
_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_DNS_NAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?", re.ASCII)


class ClientHello(NamedTuple):
    """What can be told from a ClientHello.

    Attributes:
        server_name: the host asked for, as it was sent; "" if there is none (a connection to an address), if
            it is no DNS name, or if it was cut off.
        alpn: the protocols offered, best first ("h2", "http/1.1"); bytes that are no visible ASCII are
            written \\xNN.
        versions: the versions of TLS offered, in the client's order ("1.3", "1.2").
        truncated: the message is longer than what was given, so that what is missing may have been sent.
    """

    server_name: str
    alpn: tuple[str, ...]
    versions: tuple[str, ...]
    truncated: bool


class _Cut(Exception):
    """The data end before the message does."""


class _Malformed(Exception):
    """A length leads beyond what contains it."""


class _Reader:
    """Reads a part of a message of which the end may be missing.

    Args:
        data: the message, as much as there is.
        at: where to begin.
        end: where the part ends, which may be beyond the data.
    """

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data = data
        self._at = at
        self._end = end

    def __bool__(self) -> bool:
        return self._at < self._end

    def number(self, size: int) -> int:
        return int.from_bytes(self.take(size), "big")

    def take(self, size: int) -> bytes:
        at = self._advance(size)
        if self._at > len(self._data):
            raise _Cut
        return self._data[at : self._at]

    def vector(self, length_bytes: int) -> _Reader:
        """The part with its length in front of it; this reader goes on behind it."""
        size = self.number(length_bytes)
        at = self._advance(size)
        return _Reader(self._data, at, self._at)

    def _advance(self, size: int) -> int:
        at = self._at
        if size > self._end - at:
            raise _Malformed
        self._at += size
        return at


def parse_client_hello(data: bytes) -> ClientHello | None:
    """Reads the first bytes that a client sent.

    Args:
        data: what was sent on a connection, from its start; it may end anywhere.

    Returns:
        What is in the ClientHello, or None if the bytes are none, or too few (11) to tell.
    """
    message = b"".join(_handshake(data[:_MAX_BYTES]))
    if len(message) < 6 or message[0] != _CLIENT_HELLO or message[4] != 3 or message[5] > 3:
        return None
    size = 4 + int.from_bytes(message[1:4], "big")
    if size < 4 + 2 + 32 + 1 + 4 + 2:  # the smallest: one cipher suite and one compression method
        return None
    found = _Found(_VERSIONS[0x300 | message[5]])
    try:
        _read(_Reader(message, 6, size), found)
    except _Malformed:
        return None
    except _Cut:
        pass
    return found.told(truncated=len(message) < size)


def _handshake(data: bytes) -> Iterator[bytes]:
    """The content of the handshake records at the start: a message may be spread over several."""
    at = 0
    while at + 5 <= len(data):
        kind, major, minor = data[at : at + 3]
        size = int.from_bytes(data[at + 3 : at + 5], "big")
        if kind != _HANDSHAKE or major != 3 or minor > 4 or not 0 < size <= _MAX_RECORD_BYTES:
            return
        yield data[at + 5 : at + 5 + size]
        at += 5 + size


class _Found:
    """What was read so far; it is kept when the rest is missing."""

    def __init__(self, legacy_version: str) -> None:
        self.server_name = ""
        self.alpn: list[str] = []
        self.versions: list[str] = []
        self.legacy_version = legacy_version

    def told(self, *, truncated: bool) -> ClientHello:
        # TLS 1.3 is in the extension only: without it and with an end missing, nothing is known
        versions = self.versions or ([] if truncated else [self.legacy_version])
        return ClientHello(self.server_name, tuple(self.alpn), tuple(versions), truncated)


def _read(message: _Reader, found: _Found) -> None:
    """Reads on behind the version.

    Raises:
        _Cut: the end is missing.
        _Malformed: it is no ClientHello.
    """
    message.take(32)  # random
    if len(message.take(message.number(1))) > 32:  # session id
        raise _Malformed
    suites = message.take(message.number(2))
    if not suites or len(suites) % 2 or not message.take(message.number(1)):  # compression methods
        raise _Malformed
    if not message:
        return
    extensions = message.vector(2)
    for _ in range(_MAX_EXTENSIONS):
        if not extensions:
            return
        kind = extensions.number(2)
        value = extensions.vector(2)
        if kind == _SERVER_NAME and not found.server_name:
            found.server_name = _server_name(value.vector(2))
        elif kind == _ALPN and not found.alpn:
            _protocols(value.vector(2), found.alpn)
        elif kind == _SUPPORTED_VERSIONS and not found.versions:
            versions = value.vector(1)
            while versions:
                version = _VERSIONS.get(versions.number(2))
                if version:
                    found.versions.append(version)


def _server_name(names: _Reader) -> str:
    while names:
        kind = names.number(1)
        name = names.take(names.number(2))
        text = name.decode("latin-1")
        if kind == _HOST_NAME:
            return text if len(text) <= 254 and _DNS_NAME.fullmatch(text) else ""
    return ""


def _protocols(names: _Reader, protocols: list[str]) -> None:
    while names and len(protocols) < _MAX_PROTOCOLS:
        name = names.take(names.number(1))
        if not name:
            raise _Malformed
        if len(name) == 2 and name[0] == name[1] and name[0] & 0xF == 0xA:
            continue  # reserved
        protocols.append("".join(chr(byte) if 0x20 < byte < 0x7F else f"\\x{byte:02x}" for byte in name))
