"""Sockets and questions for names, against what the program itself knows."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from libagenttracer.events import DnsQuery, NetClose, NetConnect, NetEvent, NetSend

from .process_tracing import PYTHON, WORKLOADS, Recording, record

UNUSUAL = ["by.sendmsg.example", "by.write.example"]
Found = tuple[Recording, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def traced(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """A recording of tests/workloads/network.py, and its truth."""
    folder = tmp_path_factory.mktemp("network")
    command = [*PYTHON, str(WORKLOADS / "network.py"), str(folder)]
    found = record(command, folder / "t.jsonl", "--events", "net,dns").complete()
    report = json.loads(found.stdout)
    assert {event.pid for event in found.of(NetEvent)} == {report["pid"]}
    return found, report["events"]


def unmatched(truth: list[dict[str, Any]], events: list[NetEvent]) -> tuple[list[Any], list[NetEvent]]:
    """What is expected and not there, and what is there and not expected. Both in their order."""
    missing, left = [], list(events)
    for item in truth:
        fields = {name: value for name, value in item.items() if name != "event_type"}
        for index, event in enumerate(left):
            if event.event_type == item["event_type"] and all(
                getattr(event, name) == value for name, value in fields.items()
            ):
                del left[index]
                break
        else:
            missing.append(item)
    return missing, left


@pytest.mark.parametrize("kind", ["net_bind", "net_listen", "net_connect", "net_accept", "dns_query"])
def test_each_call_is_there_once(kind: str, traced: Found) -> None:
    found, everything = traced
    truth = [item for item in everything if item["event_type"] == kind and item.get("name") not in UNUSUAL]
    events = [
        event
        for event in found.of(NetEvent)
        if event.event_type == kind and getattr(event, "name", "") not in UNUSUAL
    ]
    assert truth
    assert unmatched(truth, events) == ([], [])


@pytest.mark.parametrize("name", UNUSUAL)
def test_question_that_is_sent_in_another_way(name: str, traced: Found) -> None:
    """In two parts by sendmsg; by write, as Go's resolver does."""
    found, everything = traced
    truth = [item for item in everything if item.get("name") == name]
    assert len(truth) == 1
    assert unmatched(truth, [event for event in found.of(DnsQuery) if event.name == name]) == ([], [])


def test_bytes_of_connections(traced: Found) -> None:
    found, everything = traced
    truth = [item for item in everything if item["event_type"] == "net_close"]
    closes = found.of(NetClose)
    missing, left = unmatched(truth, list(closes))
    assert missing == []
    carried = [event for event in left if isinstance(event, NetClose) and event.bytes_sent]
    assert [event for event in carried if event.protocol == "tcp"] == []


def test_datagrams(traced: Found) -> None:
    found, everything = traced
    truth = [item for item in everything if item["event_type"] == "net_send"]
    assert len(truth) == 4
    for item in truth:
        sends = [
            event
            for event in found.of(NetSend)
            if (event.family, event.remote_address, event.remote_port, event.result)
            == (item["family"], item["remote_address"], item["remote_port"], 0)
        ]
        # two sockets, one after the other, send there: the sums of both
        both = [other for other in truth if other["remote_port"] == item["remote_port"]]
        assert sum(event.count for event in sends) == sum(other["count"] for other in both)
        assert sum(event.data_len for event in sends) == sum(other["data_len"] for other in both)


def test_answers_are_no_questions(traced: Found) -> None:
    found, _ = traced
    assert all(event.remote_port == 53 for event in found.of(DnsQuery))
    assert {event.protocol for event in found.of(DnsQuery)} == {"udp"}


def test_a_connection_that_goes_on_later_has_two_events(traced: Found) -> None:
    found, everything = traced
    expected = [item["result"] for item in everything if item.get("late")]
    assert sorted(expected) == [-111, -111, 0, 0]
    late = [event for event in found.of(NetConnect) if event.late]
    begun = [event for event in found.of(NetConnect) if event.result == -115]
    assert sorted(event.result for event in late) == sorted(expected)
    assert len(begun) == len(late)


def test_sockets_that_are_open_at_the_end(tmp_path: Path) -> None:
    """Nobody closed them: the end of the process did."""
    code = (
        "import os, socket\n"
        "waiting = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.create_connection(waiting.getsockname())\n"
        "server = waiting.accept()[0]\n"
        "client.sendall(b'x' * 1234); server.sendall(b'y' * 99)\n"
        "while len(server.recv(4096, socket.MSG_PEEK)) < 1234: pass\n"
        "server.recv(4096), client.recv(4096)\n"
        "os._exit(0)"
    )
    found = record([*PYTHON, "-c", code], tmp_path / "t.jsonl", "--events", "net").complete()
    closes = [(event.bytes_sent or 0, event.bytes_received or 0) for event in found.of(NetClose)]
    assert sorted(counts for counts in closes if any(counts)) == [(99, 1234), (1234, 99)]
    assert len(closes) == 3


def test_curl_and_a_server(tmp_path: Path) -> None:
    server = subprocess.Popen(
        [*PYTHON, "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(tmp_path)],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        port = _port_of(server.pid)
        url = f"http://127.0.0.1:{port}/"
        found = record(["curl", "-sf", "-o", "/dev/null", url], tmp_path / "t.jsonl", "--events", "net")
    finally:
        server.kill()
        server.wait(30)
    connects = [event for event in found.complete().of(NetConnect) if event.family == "inet"]
    assert {(event.remote_address, event.remote_port) for event in connects} == {("127.0.0.1", port)}
    assert [(event.result, event.late) for event in connects] in ([(-115, False), (0, True)], [(0, False)])
    (end,) = [event for event in found.of(NetClose) if event.family == "inet" and event.bytes_received]
    assert end.bytes_sent is not None
    assert end.bytes_sent > 50
    assert end.remote_port == port


def _port_of(pid: int) -> int:
    """The port on which a process listens, when it does."""
    end_s = time.monotonic() + 20
    while time.monotonic() < end_s:
        inodes = set()
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = str(link.readlink())
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes and fields[3] == "0A":
                return int(fields[1].rpartition(":")[2], 16)
        time.sleep(0.05)
    raise AssertionError("the server does not listen")
