"""``network.py FOLDER``: connections, refusals, datagrams and DNS questions on loopback (as root).

Client and server are one process. It prints its truth as JSON: ``{"pid": N, "events": […]}``, each with its
``event_type`` and those fields of the event that are known.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import select
import socket
import struct
import sys
from typing import Any

TRUTH: list[dict[str, Any]] = []
DNS_SERVER = ("127.0.0.9", 53)
NAMES = {socket.AF_INET: "inet", socket.AF_INET6: "inet6", socket.AF_UNIX: "unix"}
QUERY_TYPES = {"A": 1, "AAAA": 28, "TXT": 16, "MX": 15, "PTR": 12, "HTTPS": 65}


def tell(event_type: str, item: socket.socket, result: int = 0, **fields: Any) -> None:
    stream = item.type == socket.SOCK_STREAM
    protocol = (
        ("stream" if stream else "dgram") if item.family == socket.AF_UNIX else "tcp" if stream else "udp"
    )
    kind = {"event_type": event_type, "family": NAMES[item.family], "protocol": protocol}
    TRUTH.append({**kind, "result": result, "fd": item.fileno(), **fields})


def where(address: Any, end: str) -> dict[str, Any]:
    """The fields `local_…` or `remote_…`."""
    if isinstance(address, tuple):
        return {f"{end}_address": address[0], f"{end}_port": address[1]}
    text = address.decode() if isinstance(address, bytes) else address
    return {f"{end}_address": text.replace("\0", "@", 1), f"{end}_port": None}


def listener(family: int, address: Any) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM)
    made.bind(address)
    tell("net_bind", made, **where(made.getsockname(), "local"))
    made.listen(8)
    tell("net_listen", made, **where(made.getsockname(), "local"))
    return made


def connect(family: int, address: Any, kind: int = socket.SOCK_STREAM) -> socket.socket:
    """Waits; success or failure is the truth."""
    made = socket.socket(family, kind)
    result = -made.connect_ex(address)
    local = where(made.getsockname(), "local") if not result and family != socket.AF_UNIX else {}
    tell("net_connect", made, result, late=False, **where(address, "remote"), **local)
    return made


def connect_later(family: int, address: Any) -> socket.socket:
    """Does not wait for it: a second event tells what became of it."""
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setblocking(False)
    result = made.connect_ex(address)
    tell("net_connect", made, -result, late=False, **where(address, "remote"))
    if result == errno.EINPROGRESS:
        select.select([], [made], [], 5)
        outcome = made.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        tell("net_connect", made, -outcome, late=True, **where(address, "remote"))
    made.setblocking(True)
    return made


def accept(waiting: socket.socket) -> socket.socket:
    made, peer = waiting.accept()
    fields = where(made.getsockname(), "local")
    tell("net_accept", made, **fields, **(where(peer, "remote") if peer else {}))
    return made


def talk(client: socket.socket, server: socket.socket, sent: int, answered: int) -> None:
    """Some bytes each way; then both ends are closed."""
    for source, target, size in ((client, server, sent), (server, client, answered)):
        left = size
        while left:
            source.sendall(b"x" * min(left, 10_000))
            got = 0
            while got < min(left, 10_000):
                got += len(target.recv(10_000))
            left -= got
    for end, out, back in ((client, sent, answered), (server, answered, sent)):
        counts = {"bytes_sent": out, "bytes_received": back} if end.family != socket.AF_UNIX else {}
        tell("net_close", end, **counts)
        end.close()


def streams(folder: str) -> None:
    places = [
        (socket.AF_INET, ("127.0.0.1", 0)),
        (socket.AF_INET6, ("::1", 0, 0, 0)),
        (socket.AF_UNIX, f"{folder}/socket with space"),
        (socket.AF_UNIX, "\0lat-abstract-name"),
    ]
    for family, place in places:
        waiting = listener(family, place)
        address = waiting.getsockname()
        for sent, answered in ((1, 0), (100, 70_001), (250_000, 3)):
            client = connect(family, address)
            talk(client, accept(waiting), sent, answered)
        if family != socket.AF_UNIX:
            client = connect_later(family, address)
            talk(client, accept(waiting), 5, 6)
        waiting.close()
        if family == socket.AF_UNIX:
            connect(family, f"{folder}/no-such-socket").close()
        else:  # nobody listens there any more
            connect(family, address).close()
            connect_later(family, address).close()


def taken() -> None:
    """An address that is in use."""
    with listener(socket.AF_INET, ("127.0.0.1", 0)) as first, socket.socket() as second:
        try:
            second.bind(first.getsockname())
        except OSError as error:
            tell("net_bind", second, -(error.errno or 0))


def question(name: str, query_type: str, number: int = 7) -> bytes:
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".") if label)
    return (
        struct.pack(">6H", number, 0x0100, 1, 0, 0, 0)
        + labels
        + struct.pack(">BHH", 0, QUERY_TYPES[query_type], 1)
    )


def asked(client: socket.socket, name: str, query_type: str, server: Any = DNS_SERVER) -> None:
    tell("dns_query", client, name=name, query_type=query_type, **where(server, "remote"))


def dns() -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(DNS_SERVER)
    tell("net_bind", server, **where(DNS_SERVER, "local"))

    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    for name, query_type in (
        ("one.example.org", "A"),
        ("x" * 63 + "." + "y" * 63 + ".example", "AAAA"),
        ("org", "TXT"),
    ):
        client.sendto(question(name, query_type), DNS_SERVER)
        asked(client, name, query_type)
        query, peer = server.recvfrom(512)
        server.sendto(query[:2] + b"\x81\x80" + query[4:], peer)  # an answer is no question
        client.recv(512)
    client.sendto(b"\0" * 5, DNS_SERVER)  # too short to be one
    client.sendmsg(
        [question("by.sendmsg.example", "MX")[:12], question("by.sendmsg.example", "MX")[12:]],
        [],
        0,
        DNS_SERVER,
    )
    asked(client, "by.sendmsg.example", "MX")
    client.close()

    client = connect(socket.AF_INET, DNS_SERVER, socket.SOCK_DGRAM)
    client.send(question("connected.example", "HTTPS"))
    asked(client, "connected.example", "HTTPS")
    os.write(client.fileno(), question("by.write.example", "A"))
    asked(client, "by.write.example", "A")
    send_many(client, [question("both.example", "A", 1), question("both.example", "AAAA", 2)])
    asked(client, "both.example", "A")
    asked(client, "both.example", "AAAA")
    client.close()
    server.close()


class Vector(ctypes.Structure):
    _fields_ = [("base", ctypes.c_char_p), ("length", ctypes.c_size_t)]


class Header(ctypes.Structure):
    """struct msghdr."""

    _fields_ = [
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("vectors", ctypes.POINTER(Vector)),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]


class Message(ctypes.Structure):
    """struct mmsghdr."""

    _fields_ = [("header", Header), ("sent", ctypes.c_uint)]


def send_many(client: socket.socket, packets: list[bytes]) -> None:
    """As glibc's resolver asks for both kinds of address: by one sendmmsg."""
    messages = (Message * len(packets))()
    vectors = [Vector(packet, len(packet)) for packet in packets]
    for message, vector in zip(messages, vectors, strict=True):
        message.header.vectors, message.header.vector_count = ctypes.pointer(vector), 1
    sent = ctypes.CDLL(None).sendmmsg(client.fileno(), messages, len(packets), 0)
    assert sent == len(packets), sent


def datagrams() -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        server = socket.socket(family, socket.SOCK_DGRAM)
        server.bind((address, 0))
        tell("net_bind", server, **where(server.getsockname(), "local"))
        client = socket.socket(family, socket.SOCK_DGRAM)
        for size in (0, 1, 1400, 20_000):
            client.sendto(b"d" * size, server.getsockname())
        tell("net_send", client, data_len=21_401, count=4, **where(server.getsockname(), "remote"))
        client.close()
        client = connect(family, server.getsockname(), socket.SOCK_DGRAM)
        for _ in range(3):
            client.send(b"d" * 10)
        tell("net_send", client, data_len=30, count=3, **where(server.getsockname(), "remote"))
        client.close()
        server.close()


def main() -> None:
    streams(os.path.realpath(sys.argv[1]))
    taken()
    dns()
    datagrams()
    print(json.dumps({"pid": os.getpid(), "events": TRUTH}))


if __name__ == "__main__":
    main()
