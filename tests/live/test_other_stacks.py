"""TLS libraries other than OpenSSL: GnuTLS, NSS, Go; each byte once, and the right sockets."""

from __future__ import annotations

import socket
import subprocess
import time
from collections import defaultdict
from pathlib import Path

import pytest

from libagenttracer import Event, Loss, SslConnection, SslData, SslHandshake

from ..workloads.go_toolchain import compile_go
from ..workloads.server import LocalServer, certificate
from .tracing import Stream, read, run_tracer, streams, tracer

WORKLOADS = Path(__file__).resolve().parents[1] / "workloads"
GET = b"GET /bytes/200000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50000\r\n\r\n" + b"line\n" * 10000


class Running:
    """A program that prints READY and its pid, and waits for a line."""

    def __init__(self, *command: str | Path) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        first = self.process.stdout.readline()
        assert first.startswith("READY "), first
        self.pid = int(first.split()[1])

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> list[str]:
        """What it printed; it must have succeeded."""
        printed = self.process.communicate(timeout=60)[0]
        assert self.process.returncode == 0
        return printed.splitlines()


def traced(output: Path, *command: str, given: bytes = b"") -> list[Event]:
    done = run_tracer(["ssl", "--handshake", "-o", str(output), "--", *command], input=given, text=False)
    assert done.returncode == 0, done.stderr
    return read(output)


def two_ways(events: list[Event]) -> dict[str, dict[str, Stream]]:
    """By connection and direction."""
    found: dict[str, dict[str, Stream]] = defaultdict(dict)
    for (name, direction), stream in streams(events).items():
        assert not stream.lost_records
        found[name][direction] = stream
    return found


def ports(events: list[Event]) -> dict[str, int | None]:
    """Each connection's local port; it is told once."""
    told = [event for event in events if isinstance(event, SslConnection)]
    assert len({event.connection_id for event in told}) == len(told)
    return {event.connection_id: event.local_port for event in told}


def check(events: list[Event], server: LocalServer) -> None:
    """One connection, as the server saw it."""
    assert server.wait_closed(10)
    ((name, found),) = two_ways(events).items()
    (truth,) = server.log
    assert found["write"].content == truth.received
    assert found["read"].content == truth.sent
    assert ports(events) == {name: truth.peer[1]}


def test_wget(server: LocalServer, tmp_path: Path) -> None:
    options = ["--no-config", "--quiet", "--output-document=/dev/null", f"--ca-certificate={server.ca_path}"]
    events = traced(tmp_path / "trace.jsonl", "wget", *options, f"{server.url}/bytes/200000")
    check(events, server)
    data = [event for event in events if isinstance(event, SslData)]
    assert {event.function for event in data} == {"gnutls_record_send", "gnutls_record_recv"}
    assert not any(event.joined_late for event in data)
    shakes = [event for event in events if isinstance(event, SslHandshake)]
    assert [event.result for event in shakes][-1:] == ["ok"]


def test_gnutls_cli(server: LocalServer, tmp_path: Path) -> None:
    arguments = [f"--x509cafile={server.ca_path}", "--port", str(server.port), "localhost"]
    events = traced(tmp_path / "trace.jsonl", "gnutls-cli", *arguments, given=POST + GET)
    check(events, server)


def test_gnutls_early_data(tmp_path: Path) -> None:
    """What is sent with a resumed session's handshake."""
    certificate_, key = certificate(tmp_path)
    early = tmp_path / "early"
    early.write_bytes(b"early data " * 5)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    files = [f"--x509certfile={certificate_}", f"--x509keyfile={key}"]
    command = ["gnutls-serv", "--echo", "--earlydata", "--maxearlydata=1000", *files, "--port", port]
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(command, **quiet)  # type: ignore[call-overload]
    try:
        wait_for_port(int(port))
        arguments = ["--insecure", "--port", port, "--resume", f"--earlydata={early}", "localhost"]
        events = traced(tmp_path / "trace.jsonl", "gnutls-cli", *arguments, given=b"the rest\n")
    finally:
        server.terminate()
        server.wait()
    ((_, found),) = two_ways(events).items()
    assert found["write"].content == early.read_bytes() + b"the rest\n"


def wait_for_port(port: int) -> None:
    end_s = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            assert time.monotonic() < end_s
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def gnutls_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("gnutls") / "gnutls_pair"
    flags = ["-O2", "-Wall", "-Wextra", "-Werror", "-pthread"]
    source = WORKLOADS / "gnutls_pair.c"
    subprocess.run(["gcc", *flags, "-o", output, source, "-l:libgnutls.so.30"], check=True)
    return output


def test_every_function_of_gnutls(gnutls_pair: Path, tmp_path: Path) -> None:
    output, received = tmp_path / "trace.jsonl", tmp_path / "received"
    running = Running(gnutls_pair, received)
    with tracer(running.pid, output):
        running.go()
        assert running.process.stdout is not None
        interrupted = int(running.process.stdout.readline())
    running.end()
    events = read(output)
    truth = received.read_bytes()
    ways = {direction: stream for found in two_ways(events).values() for direction, stream in found.items()}
    assert ways["write"].content == truth  # what was corked, and what was tried again, shows once
    assert ways["read"].content == truth
    assert interrupted
    assert {event.function for event in events if isinstance(event, SslData)} == {
        "gnutls_record_send",
        "gnutls_record_send2",
        "gnutls_record_recv",
        "gnutls_record_recv_seq",
        "gnutls_record_recv_packet",
    }


def test_gnutls_send_that_is_finished_without_data(gnutls_pair: Path, tmp_path: Path) -> None:
    output, received = tmp_path / "trace.jsonl", tmp_path / "received"
    running = Running(gnutls_pair, received, "finish")
    with tracer(running.pid, output):
        running.go()
        assert running.process.stdout is not None
        assert int(running.process.stdout.readline())
    running.end()
    truth = received.read_bytes()
    position = 0
    unreadable = 0
    events = read(output)
    for event in events:
        if isinstance(event, SslData) and event.direction == "write":
            assert event.offset == position
            position += event.data_len
            if event.incomplete:
                unreadable += 1
            else:
                assert event.payload == truth[event.offset : position]
    assert position == len(truth)
    assert unreadable
    assert sum(event.count for event in events if isinstance(event, Loss)) == unreadable


@pytest.fixture
def database(tmp_path: Path) -> str:
    name = f"sql:{tmp_path}"
    subprocess.run(["certutil", "-N", "--empty-password", "-d", name], check=True, capture_output=True)
    return name


def tstclnt(server: LocalServer, database: str) -> list[str]:
    # -o: any certificate will do
    return ["tstclnt", "-4", "-o", "-h", "localhost", "-p", str(server.port), "-d", database]


def test_nss(server: LocalServer, database: str, tmp_path: Path) -> None:
    request = tmp_path / "request"
    request.write_bytes(POST + GET)
    events = traced(tmp_path / "trace.jsonl", *tstclnt(server, database), "-A", str(request))
    check(events, server)
    assert not any(event.joined_late for event in events if isinstance(event, SslData))


def test_nss_connection_that_was_there_before(server: LocalServer, database: str, tmp_path: Path) -> None:
    """Files and plain sockets go through the same functions, and how the connection began was not seen."""
    output = tmp_path / "trace.jsonl"
    client = subprocess.Popen(tstclnt(server, database), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert client.stdin is not None
    end_s = time.monotonic() + 10
    while not (server.log and server.log[0].tls.cipher()):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    with tracer(client.pid, output):
        client.stdin.write(POST + GET)
        client.stdin.flush()
        assert server.wait_closed(30)
        client.kill()  # it would wait for more
    client.stdin.close()
    client.wait()
    events = read(output)
    check(events, server)
    assert all(event.joined_late for event in events if isinstance(event, SslData))


def test_go(tmp_path: Path) -> None:
    """Stacks that move, TLS in TLS, addresses that are used again, a Read that never returns."""
    output = tmp_path / "trace.jsonl"
    running = Running(compile_go(WORKLOADS / "go_edges", tmp_path / "edges", "-ldflags=-s -w"))
    with tracer(running.pid, output):
        running.go()
        printed = [line.split() for line in running.end()]
    assert printed.pop()[0] == "again"
    events = read(output)
    local = ports(events)
    clients = defaultdict(list)
    for name, found in two_ways(events).items():
        sent, got = (bytes(found[way].content) if way in found else b"" for way in ("write", "read"))
        if sent == b"x" + got:
            clients[local.get(name) or 0].append(got)
    for number, (what, port, size) in enumerate(printed, 1):
        expected = bytes((number + at) & 255 for at in range(int(size)))
        assert clients[int(port)] == [expected], what
    assert {event.function for event in events if isinstance(event, SslData)} == {
        "go_tls_read",
        "go_tls_write",
    }
    assert {event.library for event in events if isinstance(event, SslData)} == {str(tmp_path / "edges")}
