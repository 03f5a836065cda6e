"""A TLS server that knows every byte: it ends TLS, logs the plaintext, and passes it on to `app.Answers`.

What is logged is what the TLS layer received and sent, whatever protocol is inside: HTTP/1.1, HTTP/2, gRPC.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
import ssl
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config

from .app import Answers

__all__ = ["Authority", "Connection", "Truth", "make_authority"]

HOSTS = ("127.0.0.1", "::1")
_PIECE_BYTES = 1 << 18


@dataclass(frozen=True)
class Authority:
    """A certificate authority of its own, and a certificate of this machine's that it has signed."""

    ca: Path
    chain: Path  # certificate and authority
    key: Path


def make_authority(folder: Path) -> Authority:
    """Makes both with openssl; some clients refuse a server's certificate that is its own authority."""
    made = Authority(folder / "ca.pem", folder / "chain.pem", folder / "key.pem")
    ca_key, request, leaf = folder / "ca-key.pem", folder / "request.pem", folder / "leaf.pem"
    extensions = folder / "extensions"
    extensions.write_text(
        "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
        "extendedKeyUsage=serverAuth\nsubjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1\n"
    )
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-config", "/dev/null"]
    usage = [
        "-addext",
        "basicConstraints=critical,CA:TRUE",
        "-addext",
        "keyUsage=critical,keyCertSign,cRLSign",
    ]
    signed = ["-CA", made.ca, "-CAkey", ca_key, "-CAcreateserial", "-days", "30"]
    for command in (
        ["req", "-x509", *new_key, *usage, "-subj", "/CN=Test authority", "-keyout", ca_key, "-out", made.ca],
        ["req", "-new", *new_key, "-subj", "/CN=localhost", "-keyout", made.key, "-out", request],
        ["x509", "-req", *signed, "-extfile", extensions, "-in", request, "-out", leaf],
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    made.chain.write_bytes(leaf.read_bytes() + made.ca.read_bytes())
    return made


@dataclass
class Connection:
    """What one TLS connection carried.

    Attributes:
        peer: the client's address and port.
        local: this end's.
        server_name: what the client asked for (SNI), or None.
        alpn: what was agreed on, or None.
    """

    peer: tuple[str, int]
    local: tuple[str, int]
    server_name: str | None
    alpn: str | None
    _received: io.BytesIO = field(default_factory=io.BytesIO)
    _sent: io.BytesIO = field(default_factory=io.BytesIO)
    closed: bool = False

    @property
    def received(self) -> bytes:
        return self._received.getvalue()

    @property
    def sent(self) -> bytes:
        return self._sent.getvalue()


class Truth:
    """The server, in a thread of its own while the context is open.

    Args:
        authority: whose certificate it shows.
        folder: for the log of the calls to language models that it answered.
        gated: connections wait before their handshake until `open_gate()`.
    """

    def __init__(self, authority: Authority, folder: Path, *, gated: bool = False) -> None:
        self.log: list[Connection] = []
        self.port = 0
        self.waiting = threading.Event()  # a client has connected
        self._authority, self._folder = authority, folder
        self._gate, self._ended = asyncio.Event(), asyncio.Event()
        if not gated:
            self._gate.set()
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._problem: BaseException | None = None

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def __enter__(self) -> Truth:
        self._thread.start()
        self._ready.wait()
        if self._problem:
            self._thread.join()
            raise self._problem
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join()
        self._loop.close()

    def open_gate(self) -> None:
        self._loop.call_soon_threadsafe(self._gate.set)

    def settle(self, timeout_s: float = 10.0) -> bool:
        """Waits until every connection so far has ended, so that its log is complete."""
        end_s = time.monotonic() + timeout_s
        while not all(one.closed for one in list(self.log)):
            if time.monotonic() > end_s:
                return False
            time.sleep(0.01)
        return True

    async def _serve(self) -> None:
        # What is cancelled at the end is of no interest.
        self._loop.set_exception_handler(lambda loop, about: None)
        try:
            await self._run()
        except BaseException as problem:
            self._problem = problem
            raise
        finally:
            self._ready.set()

    async def _run(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._authority.chain, self._authority.key)
        context.set_alpn_protocols(["h2", "http/1.1"])
        context.sni_callback = _remember_name
        self._context = context
        inner = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self._backend = inner.getsockname()
        config = Config()
        config.bind = [f"fd://{inner.detach()}"]
        config.h2_max_concurrent_streams = 1000
        config.keep_alive_max_requests = 1_000_000
        config.keep_alive_timeout = 60
        config.graceful_timeout = 1
        config.loglevel = "ERROR"
        accepting = []
        for host in HOSTS:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            listening = socket.create_server((host, self.port), family=family, backlog=1024)
            self.port = listening.getsockname()[1]
            accepting.append(asyncio.ensure_future(self._accept(listening)))
        with (self._folder / "calls.jsonl").open("w", encoding="utf-8") as calls:
            application = cast(Any, Answers(calls))
            backend = asyncio.ensure_future(
                serve(application, config, shutdown_trigger=cast(Any, self._ended.wait))
            )
            self._ready.set()
            await self._ended.wait()
            for task in accepting:
                task.cancel()
            await asyncio.gather(*accepting, return_exceptions=True)
            await backend

    async def _accept(self, listening: socket.socket) -> None:
        """Takes connections; no byte is read from one before the gate opens."""
        listening.setblocking(False)
        relayed: set[asyncio.Task[None]] = set()
        try:
            while True:
                plain, _ = await self._loop.sock_accept(listening)
                self.waiting.set()
                task = asyncio.ensure_future(self._connected(plain))
                relayed.add(task)
                task.add_done_callback(relayed.discard)
        finally:
            listening.close()
            left = list(relayed)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def _connected(self, plain: socket.socket) -> None:
        with contextlib.suppress(OSError, ssl.SSLError):  # a client that goes, or refuses the certificate
            await self._gate.wait()
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            reader = asyncio.StreamReader(limit=_PIECE_BYTES)
            protocol = asyncio.StreamReaderProtocol(reader)
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol, plain, ssl=self._context
            )
            writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
            try:
                await self._relay(reader, writer)
            finally:
                writer.close()
                await writer.wait_closed()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        peer, local = writer.get_extra_info("peername")[:2], writer.get_extra_info("sockname")[:2]
        name = getattr(tls, "asked_name", None)
        connection = Connection(peer, local, name, tls.selected_alpn_protocol())
        self.log.append(connection)
        back_reader, back_writer = await asyncio.open_connection(*self._backend)
        try:
            there = asyncio.ensure_future(_pump(reader, back_writer, connection._received))
            back = asyncio.ensure_future(_pump(back_reader, writer, connection._sent))
            await asyncio.wait([there, back], return_when=asyncio.FIRST_COMPLETED)
            for task in (there, back):
                task.cancel()
            await asyncio.gather(there, back, return_exceptions=True)
        finally:
            back_writer.close()
            connection.closed = True


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter, log: io.BytesIO) -> None:
    while data := await source.read(_PIECE_BYTES):
        log.write(data)
        target.write(data)
        await target.drain()


def _remember_name(tls: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
    tls.asked_name = name  # type: ignore[attr-defined]
