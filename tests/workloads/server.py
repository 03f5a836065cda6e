"""A small HTTPS server that answers like an LLM API and logs the plaintext it saw.

So a test knows every byte of a traced client. As a script it serves until interrupted.

    POST /v1/chat/completions   a completion; with ``"stream": true`` an SSE stream
    GET  /bytes/N               N bytes, always the same (``pseudo_random(N)``)
    POST /echo                  the request's body
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import random
import signal
import socket
import socketserver
import ssl
import subprocess
import tempfile
import threading
import time
from http import HTTPStatus
from pathlib import Path
from typing import Any

__all__ = ["REPLY", "Connection", "LocalServer", "certificate", "pseudo_random"]

REPLY = ["Hello", ", ", "I see ", "every byte", " — even ", "these: ü €."]  # not ASCII only


def certificate(directory: Path) -> tuple[Path, Path]:
    """Make a self-signed certificate for this machine; return its path and its key's."""
    cert, key = directory / "cert.pem", directory / "key.pem"
    command = ["openssl", "req", "-x509", "-config", "/dev/null", "-subj", "/CN=localhost", "-days", "30"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    # Not a CA: some clients refuse one as a server's certificate.
    command += ["-addext", "basicConstraints=critical,CA:FALSE", "-addext", "extendedKeyUsage=serverAuth"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]
    subprocess.run([*command, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
    return cert, key


def pseudo_random(length: int) -> bytes:
    return random.Random(length).randbytes(length)


class Connection:
    """What one connection carried, as plaintext."""

    def __init__(self, peer: tuple[str, int], tls: ssl.SSLSocket) -> None:
        self.peer = peer
        self.tls = tls
        self.closed = threading.Event()
        self._received: list[bytes] = []
        self._sent: list[bytes] = []

    @property
    def received(self) -> bytes:
        return b"".join(self._received)

    @property
    def sent(self) -> bytes:
        return b"".join(self._sent)


class _LoggedSocket(ssl.SSLSocket):
    """Logs in ``read`` and ``send``, which every other way of reading and sending calls."""

    connection: Connection | None = None

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        result: Any = super().read(len, buffer)
        if self.connection is not None and result:
            data = result if buffer is None else bytes(memoryview(buffer)[:result])
            self.connection._received.append(data)
        return result

    def send(self, data: Any, flags: int = 0) -> int:
        sent = super().send(data, flags)
        if self.connection is not None and sent:
            self.connection._sent.append(bytes(memoryview(data).cast("B")[:sent]))
        return sent


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else a delayed ACK adds 40 ms between head and body
    server: _Server

    def setup(self) -> None:
        self.request.settimeout(60)
        self.request.do_handshake()  # here, so that a slow one does not stop the others
        self.request.connection = self.log = Connection(self.client_address[:2], self.request)
        self.server.local.log.append(self.log)
        super().setup()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # a client may go without a close_notify
            super().finish()
            self.request.settimeout(1)
            self.request.unwrap()
        self.log.closed.set()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts: list[bytes] = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def answer(self, body: bytes, kind: str = "application/json", status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, status: HTTPStatus, message: str) -> None:
        self.answer(json.dumps({"error": {"message": message}}).encode(), status=status)

    def do_GET(self) -> None:
        kind, _, length = self.path.lstrip("/").partition("/")
        if kind == "bytes" and length.isascii() and length.isdigit() and len(length) < 10:
            self.answer(pseudo_random(int(length)), "application/octet-stream")
        else:
            self.refuse(HTTPStatus.NOT_FOUND, f"no {self.path}")

    def do_POST(self) -> None:
        body = self.body()
        if self.path == "/echo":
            self.answer(body, self.headers.get("Content-Type", "application/octet-stream"))
        elif self.path == "/v1/chat/completions":
            self.complete(body)
        else:
            self.refuse(HTTPStatus.NOT_FOUND, f"no {self.path}")

    def complete(self, body: bytes) -> None:
        try:
            request = json.loads(body)
            model, stream = str(request["model"]), bool(request.get("stream"))
            words = sum(len(str(message["content"]).split()) for message in request["messages"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.refuse(HTTPStatus.BAD_REQUEST, f"not a chat completion request: {error!r}")
            return
        kind = "chat.completion.chunk" if stream else "chat.completion"
        head: dict[str, Any] = {"id": "chatcmpl-local", "object": kind, "created": 1700000000, "model": model}
        counts = {"prompt_tokens": words, "completion_tokens": len(REPLY), "total_tokens": words + len(REPLY)}
        if stream:
            self.stream(head, counts)
            return
        message = {"role": "assistant", "content": "".join(REPLY)}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        self.answer(json.dumps({**head, "choices": [choice], "usage": counts}, ensure_ascii=False).encode())

    def stream(self, head: dict[str, Any], counts: dict[str, int]) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for delta in [{"role": "assistant"}, *({"content": text} for text in REPLY), {}]:
            choice = {"index": 0, "delta": delta, "finish_reason": None if delta else "stop"}
            self.send_event(json.dumps({**head, "choices": [choice]}, ensure_ascii=False))
            time.sleep(self.server.local.delay)
        self.send_event(json.dumps({**head, "choices": [], "usage": counts}))
        self.send_event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def send_event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))


class _Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, local: LocalServer, address: tuple[str, int]) -> None:
        self.local = local
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def get_request(self) -> tuple[socket.socket, Any]:
        plain, address = super().get_request()
        wrap = self.local.context.wrap_socket
        return wrap(plain, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that went away or refused our certificate


class LocalServer:
    """The server, in threads of its own while the context is open."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, delay: float = 0.0) -> None:
        self.delay = delay  # seconds after each event of a stream
        self.log: list[Connection] = []
        self._directory = tempfile.TemporaryDirectory(prefix="local-server-")
        self.ca_path, key = certificate(Path(self._directory.name))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(self.ca_path, key)
        self.context.set_alpn_protocols(["http/1.1"])
        self.context.sslsocket_class = _LoggedSocket
        self._server = _Server(self, (host, port))
        self.port: int = self._server.server_address[1]
        self.url = f"https://{f'[{host}]' if ':' in host else host}:{self.port}"

    def __enter__(self) -> LocalServer:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        for connection in self.log:  # wake the handlers that wait for another request
            with contextlib.suppress(OSError):
                socket.socket.shutdown(connection.tls, socket.SHUT_RDWR)
        self.wait_closed(5)
        self._server.server_close()
        self._directory.cleanup()

    def wait_closed(self, timeout: float = 10.0) -> bool:
        """Wait until every connection so far has ended, so that its log is complete."""
        end = time.monotonic() + timeout
        return all(one.closed.wait(max(0.0, end - time.monotonic())) for one in list(self.log))


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve an LLM-style API over HTTPS.")
    parser.add_argument("--port", type=int, default=8443, help="0: any free port (default: 8443)")
    parser.add_argument("--delay", type=float, default=0.05, help="seconds after each event of a stream")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with LocalServer(port=options.port, delay=options.delay) as server:
        print(json.dumps({"url": server.url, "ca": str(server.ca_path)}), flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
