"""The sockets under TLS connections: where they go, what their first message asked for, who uses them.

Pure, like the decoder that it is a part of.
"""

from __future__ import annotations

import ipaddress
import socket
from collections import OrderedDict
from typing import Any, Literal

from .client_hello import parse_client_hello

__all__ = ["Socket", "SocketTable"]

MAX_SOCKETS = 65536
MAX_BOUND = 64  # connections inside another one share its socket
_UDP = socket.IPPROTO_UDP


class Socket:
    """A socket that may carry TLS.

    Attributes:
        tgid, start_ns, tid: who used it first.
        seen_ns: when, nanoseconds since the boot.
        protocol: "tls" if a ClientHello was sent through it, "quic", or "https": TCP whose beginning was
            missed.
        fd: its descriptor, None if it is not known.
        local_address, local_port, remote_address, remote_port: what it connects.
        server_name, alpn: what the ClientHello asked for; None if there was none, or nothing in it.
        bound: connections that go through it, those aside that are seen as two; the first ones.
        stream: what joins the two directions of a connection that is seen as two (see `ssl_joining`).
    """

    __slots__ = (
        "alpn", "bound", "fd", "local_address", "local_port", "protocol", "remote_address", "remote_port",
        "seen_ns", "server_name", "start_ns", "stream", "tgid", "tid",
    )  # fmt: skip

    def __init__(self, record: Any) -> None:
        hello = parse_client_hello(record.payload.tobytes()) if record.data_bytes else None
        self.tgid: int = record.tgid
        self.start_ns: int = record.start_ns
        self.tid: int = record.tid
        self.seen_ns: int = record.time_ns
        self.protocol: Literal["tls", "quic", "https"] = (
            "quic" if record.protocol == _UDP else "tls" if hello else "https"
        )
        self.fd = record.fd if record.fd >= 0 else None
        self.local_address = _address(record.family, record.local_address)
        self.local_port: int | None = record.local_port
        self.remote_address = _address(record.family, record.remote_address)
        self.remote_port: int | None = record.remote_port
        self.server_name = (hello.server_name or None) if hello else None
        self.alpn = (list(hello.alpn) or None) if hello else None
        self.bound: list[Any] = []
        self.stream: Any = None

    def bind(self, connection: Any) -> None:
        """A connection goes through it."""
        if len(self.bound) < MAX_BOUND and connection not in self.bound:
            self.bound.append(connection)

    def fields(self) -> tuple[Any, ...]:
        """What events tell of it, in the order of their fields."""
        return (
            self.fd, self.local_address, self.local_port, self.remote_address, self.remote_port,
            self.server_name, self.alpn,
        )  # fmt: skip


class SocketTable:
    """The sockets that the kernel has told of, by address and time; when there are too many the oldest go."""

    def __init__(self, max_sockets: int = MAX_SOCKETS) -> None:
        self._max = max_sockets
        self._sockets: OrderedDict[tuple[int, int], Socket] = OrderedDict()
        self._unasked: OrderedDict[tuple[int, int], Socket] = OrderedDict()

    def on_socket(self, record: Any) -> Socket:
        """Takes note of a `TlsSocketRecord`."""
        key = record.socket, record.socket_ns
        item = self._sockets[key] = Socket(record)
        if len(self._sockets) > self._max:
            self._sockets.popitem(last=False)
        if item.protocol != "tls":  # it began before, or its handshake cannot be told from the rest
            self.talks(*key)
        return item

    def talks(self, address: int, seen_ns: int) -> None:
        """More than a handshake has gone through a socket: it can be asked for."""
        item = self._sockets.get((address, seen_ns))
        if item is None:
            return
        self._unasked[address, seen_ns] = item
        if len(self._unasked) > self._max:
            self._unasked.popitem(last=False)

    def get(self, address: int, seen_ns: int) -> Socket | None:
        """A socket; None if nothing is known of it."""
        return self._sockets.get((address, seen_ns))

    def pop(self, address: int, seen_ns: int) -> Socket | None:
        """Takes out a socket that is closed."""
        return self._sockets.pop((address, seen_ns), None)

    def unasked(self, before_ns: int) -> list[Socket]:
        """The sockets that talk, seen before this time and not asked for yet; closed ones too."""
        found = []
        while self._unasked:
            key, item = next(iter(self._unasked.items()))
            if item.seen_ns >= before_ns:
                break
            del self._unasked[key]
            found.append(item)
        return found


def _address(family: int, raw: bytes) -> str | None:
    if family == socket.AF_INET:
        return socket.inet_ntop(socket.AF_INET, raw[:4])
    if family != socket.AF_INET6:
        return None
    address = ipaddress.IPv6Address(bytes(raw[:16]))
    return str(address.ipv4_mapped or address)
