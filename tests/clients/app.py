"""What the server of `truth` answers, as an ASGI application.

    GET  /bytes/N               N bytes, always the same (`pseudo_random(N)`)
    POST /digest                size and SHA-256 of the body
    POST /echo/MARKER           the marker and the body, after a while and in pieces
    GET  /simple/NAME/          a page of a package index, with one wheel
    GET  /wheels/FILE           that wheel
    POST /truth.Echo/Unary      gRPC: the message, reversed
    POST /truth.Echo/Stream     gRPC: the message's bytes, reversed, in messages of 1,000 bytes

and what `tests.workloads.llm_server` answers (the APIs of language models), with the few more things that
agents ask for when they start.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator
from typing import Any, TextIO

from ..workloads.llm_server.app import App, Receive, Scope, Send
from ..workloads.server import pseudo_random

__all__ = ["Answers", "grpc_messages", "wheel"]

_GRPC_PIECE_BYTES = 1000


def wheel(name: str) -> bytes:
    """A wheel with one module; the same bytes every time."""
    info = f"{name}-1.0.dist-info"
    files = {
        f"{name}.py": "answer = 42\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n",
    }
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(zipfile.ZipInfo(path), text)
    return made.getvalue()


def grpc_messages(body: bytes) -> Iterator[bytes]:
    """The messages in a body of gRPC: a flag, a length of four bytes, the message."""
    while body:
        end = 5 + int.from_bytes(body[1:5], "big")
        yield body[5:end]
        body = body[end:]


def _grpc_frame(message: bytes) -> bytes:
    return b"\0" + len(message).to_bytes(4, "big") + message


class Answers:
    """Answers.

    Args:
        calls: where calls to language models are logged.
    """

    def __init__(self, calls: TextIO) -> None:
        self._models = App(calls)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"] if scope["type"] == "http" else ""
        kind, _, rest = path.lstrip("/").partition("/")
        if path.startswith("/truth.Echo/"):
            await self._grpc(rest, await _body(receive), send)
        elif scope.get("method") in {"GET", "HEAD"} and (found := _found(kind, rest)):
            await _reply(send, *found)
        elif kind == "digest":
            body = await _body(receive)
            await _reply(send, *_json({"size": len(body), "sha256": hashlib.sha256(body).hexdigest()}))
        elif rest.endswith("count_tokens"):
            await _body(receive)
            await _reply(send, *_json({"input_tokens": 10}))
        elif path.endswith("/responses"):
            await self._models(scope, _once(_named_tools(await _body(receive))), send)
        else:
            await self._models(scope, receive, send)

    async def _grpc(self, method: str, body: bytes, send: Send) -> None:
        headers = [(b"content-type", b"application/grpc")]
        await send({"type": "http.response.start", "status": 200, "headers": headers, "trailers": True})
        for message in grpc_messages(body):
            turned = message[::-1]
            size = _GRPC_PIECE_BYTES if method == "Stream" else max(1, len(turned))
            for at in range(0, len(turned), size):
                framed = _grpc_frame(turned[at : at + size])
                await send({"type": "http.response.body", "body": framed, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        await send({"type": "http.response.trailers", "headers": [(b"grpc-status", b"0")]})


def _found(kind: str, rest: str) -> tuple[str, bytes] | None:
    """Media type and body of what can be fetched."""
    if kind == "bytes":
        return "application/octet-stream", pseudo_random(int(rest))
    if kind == "simple":
        name = rest.strip("/").replace("-", "_")
        digest = hashlib.sha256(wheel(name)).hexdigest()
        file = f"{name}-1.0-py3-none-any.whl"
        link = f'<a href="/wheels/{file}#sha256={digest}">{file}</a>'
        return "text/html", f"<!DOCTYPE html><html><body>{link}</body></html>".encode()
    if kind == "wheels":
        return "application/zip", wheel(rest.partition("-")[0])
    if rest.endswith("models"):
        return _json({"object": "list", "data": [], "models": []})
    return None


def _json(value: object) -> tuple[str, bytes]:
    return "application/json", json.dumps(value).encode()


def _named_tools(body: bytes) -> bytes:
    """Without the tools that have no name, which the models' server does not know."""
    request = json.loads(body)
    request["tools"] = [tool for tool in request.get("tools") or [] if "name" in tool]
    return json.dumps(request).encode()


def _once(body: bytes) -> Receive:
    """Gives a body that has been read already."""

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


async def _body(receive: Receive) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _reply(send: Send, kind: str, body: bytes) -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
