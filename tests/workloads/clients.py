"""Real TLS clients, as command lines that make one request to a server.

Each function takes the URL, the path of the CA's certificate and a body (none: GET).
The body goes to the program's standard input, and but for ``openssl s_client`` a program
reads all of it before it connects: so a test can start a client, attach to it, and then
let it go.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

__all__ = ["Client", "asyncio_streams", "curl", "every", "http_client", "httpx", "nonblocking", "s_client"]

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Client:
    name: str
    argv: list[str]
    env: dict[str, str]
    stdin: bytes
    raw: bool  # standard output is all that was received, not only the response's body

    def run(self, timeout: float = 60.0) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv, input=self.stdin, env=self.env, capture_output=True, timeout=timeout, check=True
        )


def _environment(ca: str | Path) -> dict[str, str]:
    """A small one, without proxies or a configuration of the user's."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "LANG": "C.UTF-8", "SSL_CERT_FILE": str(ca)}


def _script(name: str, python: str, url: str, ca: str | Path, body: bytes, *more: str) -> Client:
    path = HERE / f"client_{name}.py"
    return Client(name, [python, str(path), url, str(ca), *more], _environment(ca), body, raw=not more)


def curl(url: str, ca: str | Path, body: bytes = b"", *, repeat: int = 1, program: str = "curl") -> Client:
    argv = [program, "--disable", "--silent", "--show-error", "--http1.1", "--cacert", str(ca)]
    if body:
        kind = "application/json" if body.startswith(b"{") else "application/octet-stream"
        argv += ["--header", f"Content-Type: {kind}", "--data-binary", "@-"]
    return Client("curl", [*argv, *[url] * repeat], _environment(ca), body, raw=False)


def http_client(
    url: str, ca: str | Path, body: bytes = b"", *, repeat: int = 1, python: str = sys.executable
) -> Client:
    return _script("http", python, url, ca, body, str(repeat))


def httpx(
    url: str, ca: str | Path, body: bytes = b"", *, repeat: int = 1, python: str = sys.executable
) -> Client | None:
    """``None`` if that interpreter has no httpx."""
    if subprocess.run([python, "-c", "import httpx"], capture_output=True, check=False).returncode:
        return None
    return _script("httpx", python, url, ca, body, str(repeat))


def asyncio_streams(url: str, ca: str | Path, body: bytes = b"", *, python: str = sys.executable) -> Client:
    return _script("asyncio", python, url, ca, body)


def nonblocking(url: str, ca: str | Path, body: bytes = b"", *, python: str = sys.executable) -> Client:
    """A body of some megabytes makes it retry its one large write many times."""
    return _script("nonblocking", python, url, ca, body)


def s_client(url: str, ca: str | Path, body: bytes = b"", *, program: str = "openssl") -> Client:
    """It reads the response to its end, which ``-no_ign_eof`` would not when the input ends first."""
    parts = urlsplit(url)
    head = (
        f"{'POST' if body else 'GET'} {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    argv = [program, "s_client", "-quiet", "-verify_return_error", "-CAfile", str(ca)]
    argv += ["-connect", parts.netloc]
    return Client("s_client", argv, _environment(ca), head.encode() + body, raw=True)


def every(url: str, ca: str | Path, body: bytes = b"", *, python: str = sys.executable) -> list[Client]:
    """All that this machine has."""
    makers: list[Callable[..., Client | None]] = [http_client, httpx, asyncio_streams, nonblocking]
    made = [make(url, ca, body, python=python) for make in makers]
    return [curl(url, ca, body), s_client(url, ca, body), *(client for client in made if client)]
