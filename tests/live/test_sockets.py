"""Where connections go: real clients over loopback, each of which tells its own end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from libagenttracer import SslConnection, SslData, SslRunner, SslUnseen
from libagenttracer.events import Event
from libagenttracer.system.places import system_libraries

from ..workloads.server import LocalServer
from .tracing import run_tracer

ASYNC_CLIENTS = """
import asyncio, ssl, sys
port, ca, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=ca)

async def one():
    where = {"host": "127.0.0.1", "port": port, "ssl": context, "server_hostname": "localhost"}
    reader, writer = await asyncio.open_connection(**where)
    own = writer.get_extra_info("sockname")[1]
    for path in (5, 3000, 7):
        writer.write(b"GET /bytes/%d HTTP/1.1\\r\\nHost: x\\r\\nX-Port: %d\\r\\n\\r\\n" % (path, own))
        await writer.drain()
        await reader.readuntil(b"\\r\\n\\r\\n")
        await reader.readexactly(path)
    writer.close()

async def main():
    await asyncio.gather(*(one() for _ in range(count)))

asyncio.run(main())
"""

THREADED_CLIENTS = """
import socket, ssl, sys, threading
port, ca, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
context = ssl.create_default_context(cafile=ca)
ready = threading.Barrier(count)

def one():
    raw = socket.create_connection(("127.0.0.1", port))
    tls = context.wrap_socket(raw, server_hostname="localhost")
    ready.wait()
    own = tls.getsockname()[1]
    for path in (5, 3000, 7):
        tls.sendall(b"GET /bytes/%d HTTP/1.1\\r\\nHost: x\\r\\nX-Port: %d\\r\\n\\r\\n" % (path, own))
        tls.recv(10000)
    tls.close()

threads = [threading.Thread(target=one) for _ in range(count)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""

PLAIN_THEN_TLS = """
import socket, ssl, sys, threading
# plain text on one socket, and between its answers TLS on another
listener = socket.create_server(("127.0.0.1", 0))
def echo():
    peer, _ = listener.accept()
    while data := peer.recv(100):
        peer.sendall(data)
threading.Thread(target=echo, daemon=True).start()
plain = socket.create_connection(listener.getsockname())
context = ssl.create_default_context(cafile=sys.argv[2])
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")

def step(do):
    while True:
        plain.sendall(b"x" * 50); plain.recv(100)
        try:
            result = do()
            break
        except ssl.SSLWantReadError:
            plain.sendall(b"y" * 50); plain.recv(100)
            if out := outgoing.read():
                raw.sendall(out)
            incoming.write(raw.recv(16384))
    plain.sendall(b"z" * 500); plain.recv(1000)
    if out := outgoing.read():
        raw.sendall(out)
    return result

step(tls.do_handshake)
step(lambda: tls.write(b"GET /bytes/5 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"))
step(lambda: tls.read(1000))
"""

CALLBACK_TALKS = """
import socket, ssl, sys, time
# what the application does in a callback of the TLS library goes through another socket
listener = socket.create_server(("127.0.0.1", 0))
plain = socket.create_connection(listener.getsockname())
plain.sendall(b"hello")
context = ssl.create_default_context(cafile=sys.argv[2])
context._msg_callback = lambda *_: plain.sendall(b"a line")
raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
tls = context.wrap_socket(raw, server_hostname="localhost")
own = tls.getsockname()[1]
time.sleep(0.2)
tls.setblocking(False)
try:
    tls.recv(100)  # the session tickets only
except ssl.SSLWantReadError:
    pass
tls.setblocking(True)
tls.sendall(b"GET /bytes/5 HTTP/1.1\\r\\nHost: x\\r\\nX-Port: %d\\r\\n\\r\\n" % own)
tls.recv(10000)
"""


def traced(server: LocalServer, tmp_path: Path, script: str, *more: str) -> list[Event]:
    path = tmp_path / "client.py"
    path.write_text(script)
    command = [sys.executable, str(path), str(server.port), str(server.ca_path), *more]
    runner = SslRunner(command=command)
    events = list(runner)
    assert runner.exit_status == 0
    assert runner.stats.lost == {}
    return events


def check_ports(server: LocalServer, events: list[Event], count: int) -> set[str]:
    """Each connection's own requests say from which port they come. Returns how it is known."""
    told = {event.connection_id: event for event in events if isinstance(event, SslConnection)}
    assert len(told) == count
    for item in told.values():
        assert (item.local_address, item.remote_address) == ("127.0.0.1", "127.0.0.1")
        assert (item.remote_port, item.server_name) == (server.port, "localhost")
        assert item.fd is not None
    said = 0
    for event in events:
        if isinstance(event, SslData) and event.direction == "write":
            own = int(event.payload.partition(b"X-Port: ")[2].split(b"\r")[0])
            assert told[event.connection_id].local_port == own
            assert not event.joined_late
            said += 1
    assert said >= count
    return {item.binding for item in told.values()}


def test_fifty_connections_over_memory_bios(server: LocalServer, tmp_path: Path) -> None:
    events = traced(server, tmp_path, ASYNC_CLIENTS, "50")
    assert check_ports(server, events, 50) == {"next_to_call"}


def test_fifty_threads(server: LocalServer, tmp_path: Path) -> None:
    events = traced(server, tmp_path, THREADED_CLIENTS, "50")
    assert check_ports(server, events, 50) == {"inside_call"}


def test_plain_text_next_to_a_call_is_no_tls(server: LocalServer, tmp_path: Path) -> None:
    events = traced(server, tmp_path, PLAIN_THEN_TLS)
    # nothing of TLS is next to a call: it stays unknown, and is not taken for the socket that is
    assert [event for event in events if isinstance(event, SslConnection)] == []
    assert any(isinstance(event, SslData) for event in events)


def test_a_socket_that_a_callback_uses_is_not_the_connections(server: LocalServer, tmp_path: Path) -> None:
    events = traced(server, tmp_path, CALLBACK_TALKS)
    assert sum(isinstance(event, SslConnection) for event in events) == 1
    assert check_ports(server, events, 1) == {"inside_call"}


def test_port_and_host(server: LocalServer) -> None:
    curl = f"curl -so /dev/null --cacert '{server.ca_path}'"
    script = f"for name in localhost 127.0.0.1; do {curl} https://$name:{server.port}/bytes/3; done"
    command = ["sh", "-c", script]

    def names(*options: str) -> tuple[list[str | None], int, str]:
        done = run_tracer(["ssl", "--format", "json", *options, "--", *command])
        lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        connections = [line["data"] for line in lines if line["event_type"] == "ssl_connection"]
        payloads = [line for line in lines if line["event_type"] == "ssl_data"]
        return [item["server_name"] for item in connections], len(payloads), done.stderr

    found, payloads, _ = names("--port", str(server.port))
    assert found == ["localhost", None]
    assert payloads > 2
    found, payloads, stderr = names("--host", "local*")
    assert found == ["localhost"]
    assert payloads > 1
    assert "left out by --port or --host" in stderr
    found, _, _ = names("--host", "127.0.0.1")
    assert found == ["localhost", None]  # both go to this address
    assert names("--port", "1")[:2] == ([], 0)


@pytest.fixture(scope="module")
def other_library() -> str:
    """A TLS library that curl does not use."""
    return next(path for path in system_libraries() if "libgnutls" in path)


def test_a_process_that_is_not_seen_is_told(server: LocalServer, other_library: str) -> None:
    curl = ["curl", "-s", "--cacert", str(server.ca_path), f"https://localhost:{server.port}/bytes/3"]
    with SslRunner(command=curl, libraries=[other_library]) as runner:
        (told,) = runner
    assert isinstance(told, SslUnseen)
    assert (told.comm, told.protocol, told.server_name) == ("curl", "tls", "localhost")
    assert (told.remote_port, told.remote_address) == (server.port, "127.0.0.1")
    assert any("curl" in note and "not seen" in note for note in runner.stats.notes)


def test_quic_is_named() -> None:
    script = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x' * 1200, ('127.0.0.1', 443))"
    with SslRunner(command=[sys.executable, "-c", script]) as runner:
        (told,) = runner
    assert isinstance(told, SslUnseen)
    assert (told.protocol, told.remote_port) == ("quic", 443)


def test_quic_is_named_where_the_kernel_uses_a_sockets_address_again() -> None:
    script = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'x' * 1200, ('127.0.0.1', 443))"
    with SslRunner(
        command=["sh", "-c", f'for i in 1 2 3 4 5 6; do {sys.executable} -S -c "{script}"; done']
    ) as runner:
        told = [event for event in runner if isinstance(event, SslUnseen)]
    assert len({event.pid for event in told}) == len(told) == 6


def test_port_443_of_a_process_that_ran_before(tmp_path: Path, other_library: str) -> None:
    script = tmp_path / "before.py"
    script.write_text(
        "import socket, sys\n"
        "listener = socket.create_server(('127.0.0.1', 443))\n"
        "client = socket.create_connection(('127.0.0.1', 443))\n"
        "print(flush=True)\n"
        "sys.stdin.read()\n"
        "client.sendall(b'no hello')\n"
    )
    process = subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    with SslRunner(pid=process.pid, libraries=[other_library]) as runner:
        process.communicate(timeout=30)
        (told,) = runner
    assert isinstance(told, SslUnseen)
    assert (told.protocol, told.remote_port, told.server_name) == ("https", 443, None)
