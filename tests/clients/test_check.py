"""The comparison finds what is wrong, and nothing where all is well."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from .check import Verdict, compare
from .truth import Connection

ASKED, ANSWERED = b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n" + bytes(range(256)) * 40
SETTINGS_ACK = bytes.fromhex("000000040100000000")
DATA_FRAME = bytes.fromhex("00000100000000000161")


def connection(number: int = 1, alpn: str | None = "http/1.1", end: bytes = b"") -> Connection:
    made = Connection(("127.0.0.1", 40_000 + number), ("127.0.0.1", 443), "localhost", alpn)
    made._received.write(ASKED + b"%d" % number)
    made._sent.write(ANSWERED + b"%d" % number + end)
    return made


def recorded(number: int = 1, pieces: int = 3) -> list[dict[str, Any]]:
    """What the tracer says of `connection(number)`."""
    name = f"c{number}"
    address: dict[str, Any] = {"connection_id": name, "server_name": "localhost", "alpn": ["h2", "http/1.1"]}
    address |= {"local_address": "::ffff:127.0.0.1", "local_port": 40_000 + number}
    address |= {"remote_address": "127.0.0.1", "remote_port": 443}
    events = [{"event_type": "ssl_connection", "data": address}]
    for direction, content in (("write", ASKED + b"%d" % number), ("read", ANSWERED + b"%d" % number)):
        size = len(content) // pieces + 1
        for at in range(0, len(content), size):
            part = content[at : at + size]
            data = {"connection_id": name, "direction": direction, "offset": at, "data_len": len(part)}
            data |= {"payload": base64.b64encode(part).decode(), "encoding": "base64"}
            data |= {"pid": 1, "library": "/libssl.so.3", "function": "SSL_read"}
            events.append({"event_type": "ssl_data", "data": data})
    return events


def verdict(events: list[dict[str, Any]], truth: list[Connection], folder: Path) -> Verdict:
    lines = [json.dumps({"id": number, **event}) for number, event in enumerate(events)]
    (folder / "trace.jsonl").write_text("\n".join(lines))
    return compare(folder / "trace.jsonl", truth)


def test_all_is_well(tmp_path: Path) -> None:
    found = verdict(recorded(1) + recorded(2), [connection(2), connection(1)], tmp_path)
    assert not found.problems
    assert (found.connections, found.addresses, found.names) == (2, 2, 2)


def changed(events: list[dict[str, Any]], at: int, **fields: Any) -> list[dict[str, Any]]:
    events[at]["data"] |= fields
    return events


@pytest.mark.parametrize(
    ("events", "words"),
    [
        ([], "not recorded"),
        (recorded()[:-1], "received: 6"),
        (recorded()[:2] + recorded()[3:], "after 7 bytes come"),
        ([*recorded(), recorded()[-1]], "come"),
        (recorded() + recorded(2), "not in truth"),
        ([*recorded(), {"event_type": "loss", "data": {"count": 1}}], "loss"),
        (changed(recorded(), 1, direction="read"), "sent"),
        (changed(recorded(), 0, local_port=1), "local end is 127.0.0.1:40001, not"),
        (changed(recorded(), 0, remote_address="::1"), "remote end"),
        (changed(recorded(), 0, server_name="other"), "name"),
        (changed(recorded(), 0, alpn=["h2"]), "http/1.1 is not in"),
    ],
)
def test_something_is_wrong(events: list[dict[str, Any]], words: str, tmp_path: Path) -> None:
    problems = verdict(events, [connection()], tmp_path).problems
    assert problems
    assert words in " ".join(problems)


def test_swapped_answers(tmp_path: Path) -> None:
    events = recorded(1) + recorded(2)
    for event in events:
        data = event["data"]
        if data.get("direction") == "read":
            data["connection_id"] = {"c1": "c2", "c2": "c1"}[data["connection_id"]]
    assert verdict(events, [connection(1), connection(2)], tmp_path).problems


def test_swapped_addresses(tmp_path: Path) -> None:
    one, two = recorded(1), recorded(2)
    one[0]["data"]["local_port"], two[0]["data"]["local_port"] = 40_002, 40_001
    assert len(verdict(one + two, [connection(1), connection(2)], tmp_path).problems) == 2


def test_the_same_id_twice(tmp_path: Path) -> None:
    events = [{"id": "x", **event} for event in recorded()]
    (tmp_path / "t").write_text("\n".join(map(json.dumps, events)))
    assert "two events" in compare(tmp_path / "t", [connection()]).problems[0]


@pytest.mark.parametrize(
    ("alpn", "end", "fine"),
    [
        ("h2", SETTINGS_ACK * 2, True),
        ("h2", SETTINGS_ACK[:-1], False),
        ("h2", DATA_FRAME, False),
        ("http/1.1", SETTINGS_ACK, False),
        ("http/1.1", b"0\r\n\r\n", True),
        ("http/1.1", b"x", False),
    ],
)
def test_an_end_that_nobody_reads(alpn: str, end: bytes, fine: bool, tmp_path: Path) -> None:
    assert (not verdict(recorded(), [connection(1, alpn, end)], tmp_path).problems) == fine
