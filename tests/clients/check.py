"""Compares what the tracer recorded with the truth."""

from __future__ import annotations

import base64
import ipaddress
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .truth import Connection

__all__ = ["Conversation", "Verdict", "compare", "read_recording"]

_HTTP2_HEAD_BYTES = 9
_HTTP2_CONTENT = {0, 1, 9}  # DATA, HEADERS, CONTINUATION: other frames are housekeeping


@dataclass
class Conversation:
    """One connection, put together from the tracer's events."""

    pid: int
    library: str
    sent: bytearray = field(default_factory=bytearray)
    received: bytearray = field(default_factory=bytearray)
    functions: set[str] = field(default_factory=set)
    address: dict[str, Any] | None = None  # of its `ssl_connection` event


@dataclass
class Verdict:
    """What a comparison found.

    Attributes:
        problems: what is wrong; nothing if all is well.
        sent: bytes that the client sent, of all connections.
        addresses: connections whose addresses and port the tracer knew, and they were right.
    """

    problems: list[str] = field(default_factory=list)
    connections: int = 0
    sent: int = 0
    received: int = 0
    addresses: int = 0
    names: int = 0
    functions: set[str] = field(default_factory=set)
    libraries: set[str] = field(default_factory=set)


def read_recording(path: Path) -> tuple[list[Conversation], list[str]]:
    """The connections in the order in which they begin, and what is wrong with the recording."""
    found: dict[str, Conversation] = {}
    addresses: dict[str, dict[str, Any]] = {}
    problems: list[str] = []
    ids: set[str] = set()
    for line in path.read_text(encoding="utf-8").split("\n"):
        if not line:
            continue
        event = json.loads(line)
        kind, data = event["event_type"], event["data"]
        if event["id"] in ids:
            problems.append(f"two events have the id {event['id']}")
        ids.add(event["id"])
        if kind == "loss":
            problems.append(f"loss: {data}")
        elif kind == "ssl_connection":
            addresses[data["connection_id"]] = data  # a later one knows more
        elif kind == "ssl_data":
            text = data.get("payload", "")
            payload = base64.b64decode(text) if "encoding" in data else text.encode()
            one = found.setdefault(data["connection_id"], Conversation(data["pid"], data["library"]))
            stream = one.sent if data["direction"] == "write" else one.received
            if data["offset"] != len(stream) or data["data_len"] != len(payload):
                problems.append(
                    f"{data['connection_id']} {data['direction']}: after {len(stream)} bytes come"
                    f" {len(payload)} with offset {data['offset']}, length {data['data_len']}"
                )
            stream += payload
            one.functions.add(data["function"])
    for name, one in found.items():
        one.address = addresses.get(name)
    return list(found.values()), problems


def _only_housekeeping(data: bytes) -> bool:
    """Whole frames of HTTP/2, none of them with content."""
    while data:
        size = int.from_bytes(data[:3], "big")
        if len(data) < _HTTP2_HEAD_BYTES + size or data[3] in _HTTP2_CONTENT:
            return False
        data = data[_HTTP2_HEAD_BYTES + size :]
    return True


def _same(recorded: bytes | bytearray, truth: bytes, alpn: str | None) -> bool:
    """Equal, but for an end that nobody read.

    In HTTP/2 that is housekeeping; in HTTP/1.1 the end mark of a chunked body, for which a client does not
    wait that has seen the last of the server's events.
    """
    if recorded == truth:
        return True
    short, long = sorted((bytes(recorded), truth), key=len)
    if not long.startswith(short):
        return False
    rest = long[len(short) :]
    return _only_housekeeping(rest) if alpn == "h2" else rest == b"0\r\n\r\n" and long is truth


def _difference(name: str, recorded: bytes, truth: bytes) -> str:
    at = next((at for at, (a, b) in enumerate(zip(recorded, truth, strict=False)) if a != b), None)
    if at is None:
        at = min(len(recorded), len(truth))
    return f"{name}: {len(recorded)} bytes recorded, {len(truth)} in truth, the first {at} agree"


def _address(address: str) -> str:
    """An IPv4 address of an IPv6 socket as what it is."""
    parsed = ipaddress.ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _check_address(one: Conversation, truth: Connection, verdict: Verdict) -> None:
    told = one.address
    if told is None:
        return
    expected = {"local": truth.peer, "remote": truth.local}
    right = 0
    for end, (address, port) in expected.items():
        if not told.get(f"{end}_address"):
            continue
        found = (_address(told[f"{end}_address"]), told[f"{end}_port"])
        if found == (_address(address), port):
            right += 1
        else:
            verdict.problems.append(f"{end} end is {address}:{port}, not {found[0]}:{found[1]}")
    verdict.addresses += right == len(expected)
    if told.get("server_name") and told["server_name"] != truth.server_name:
        verdict.problems.append(f"the server's name is {truth.server_name}, not {told['server_name']}")
    if told.get("alpn") and truth.alpn and truth.alpn not in told["alpn"]:  # what was offered
        verdict.problems.append(f"{truth.alpn} is not in {told['alpn']}")
    verdict.names += bool(told.get("server_name"))


def compare(recording: Path, truth: Iterable[Connection]) -> Verdict:
    """Every connection of the truth is recorded once, byte for byte, and nothing else is."""
    conversations, problems = read_recording(recording)
    verdict = Verdict(problems, len(conversations))
    for one in conversations:
        verdict.sent += len(one.sent)
        verdict.received += len(one.received)
        verdict.functions |= one.functions
        verdict.libraries.add(one.library)
    missing: list[Connection] = []
    left = list(conversations)
    for connection in truth:
        for one in left:
            if _same(one.sent, connection.received, connection.alpn) and _same(
                one.received, connection.sent, connection.alpn
            ):
                left.remove(one)
                _check_address(one, connection, verdict)
                break
        else:
            missing.append(connection)
    for connection in missing:
        near = max(left, key=lambda one: one.sent[:300] == connection.received[:300], default=None)
        if near is None:
            verdict.problems.append(
                f"not recorded: {len(connection.received)} bytes sent, {len(connection.sent)} received"
            )
            continue
        left.remove(near)
        for name, recorded, said in (
            ("sent", bytes(near.sent), connection.received),
            ("received", bytes(near.received), connection.sent),
        ):
            if not _same(recorded, said, connection.alpn):
                verdict.problems.append(_difference(name, recorded, said))
    for one in left:
        verdict.problems.append(
            f"recorded, but not in truth: {len(one.sent)} bytes sent, {len(one.received)} received"
        )
    return verdict
