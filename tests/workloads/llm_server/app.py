"""The server as an ASGI application: routes, streams in small pieces, logs the truth."""

from __future__ import annotations

import asyncio
import json
import random
import re
import zlib
from collections.abc import Awaitable, Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, TextIO, cast

from . import (
    anthropic_messages,
    bedrock,
    cohere,
    gemini,
    mistral,
    ollama,
    openai_chat,
    openai_embeddings,
    openai_responses,
)
from .calls import Api, Call, compact
from .scenarios import Answer, answer_for

__all__ = ["App"]

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_ROUTES: list[tuple[str, ModuleType]] = [
    (r"/mistral/v1/chat/completions", mistral),
    (r"(/.*)?/v1/chat/completions", openai_chat),
    (r"(/.*)?/v1/responses", openai_responses),
    (r"(/.*)?/v1/embeddings", openai_embeddings),
    (r"(/.*)?/v1/messages", anthropic_messages),
    (r"/v1(beta)?/models/[^/:]+:(generateContent|streamGenerateContent)", gemini),
    (r"/api/(chat|generate)", ollama),
    (r"/v2/chat", cohere),
    (r"/model/[^/]+/(converse|converse-stream)", bedrock),
]
_PAUSE_S = 0.002
_THINKING_S = 0.02  # on a WebSocket: no model answers before the call that has sent the question returns


def _api(path: str) -> Api | None:
    for pattern, module in _ROUTES:
        if re.fullmatch(pattern, path):
            return cast(Api, module)
    return None


def _pieces(parts: Iterable[bytes], seed: int) -> Iterator[bytes]:
    """The same bytes in other pieces: parts are cut anywhere, and some are joined."""
    rng = random.Random(seed)
    pending = b""
    for part in parts:
        pending += part
        if rng.random() < 0.75:
            cut = rng.randrange(1, len(pending) + 1)
            yield pending[:cut]
            pending = pending[cut:]
    if pending:
        yield pending


def _compressed(parts: Iterable[bytes]) -> Iterator[bytes]:
    """gzip that a client can follow."""
    packer = zlib.compressobj(wbits=16 + zlib.MAX_WBITS)
    for part in parts:
        yield packer.compress(part) + packer.flush(zlib.Z_SYNC_FLUSH)
    yield packer.flush()


async def _body(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


async def _reply(send: Send, status: int, headers: dict[str, str], parts: Iterable[bytes]) -> None:
    """Sends a response, a write for each part."""
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    for number, part in enumerate(parts):
        await send({"type": "http.response.body", "body": part, "more_body": True})
        await asyncio.sleep(0 if number % 16 else _PAUSE_S)
    await send({"type": "http.response.body", "body": b""})


class App:
    """Answers.

    Args:
        truth: where the truth of each call is written.
    """

    def __init__(self, truth: TextIO) -> None:
        self._truth = truth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "websocket":
            await self._websocket(scope, receive, send)

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, path = await _body(receive), scope["raw_path"].decode()
        if path.startswith("/echo/"):
            await self._echo(path, body, send)
        elif (api := _api(path)) is None:
            await _reply(send, 404, {"content-type": "application/json"}, [b'{"error": "not found"}'])
        else:
            call = api.read(path, json.loads(body))
            answer = answer_for(*call.prompt())
            accepts = dict(scope["headers"]).get(b"accept-encoding", b"")
            await self._answer(api, call, answer, b"gzip" in accepts, send)
            self._log(api, call, answer)

    async def _answer(self, api: Api, call: Call, answer: Answer, gzip: bool, send: Send) -> None:
        status, headers = 200, dict[str, str]()
        parts: Iterable[bytes]
        if answer.error:
            status, (headers, data) = answer.error.status, api.refusal(answer.error)
            parts = [compact(data).encode()]
        elif call.streaming:
            parts = api.stream(call, answer)
        else:
            parts = [compact(api.whole(call, answer)).encode()]
        kind = api.KIND if call.streaming and not answer.error else "application/json"
        headers = {"content-type": kind, **headers}
        if answer.compressed and gzip:
            headers["content-encoding"] = "gzip"
            parts = _compressed(parts)
        if call.streaming and not answer.error:
            parts = _pieces(parts, int(answer.id, 16))
        else:
            parts = [b"".join(parts)]
            headers["content-length"] = str(len(parts[0]))
        await _reply(send, status, headers, parts)

    async def _echo(self, path: str, body: bytes, send: Send) -> None:
        """`/echo/MARKER`: the marker and the body, after a while and in pieces."""
        marker = path.rpartition("/")[2]
        rng = random.Random(marker)
        await asyncio.sleep(rng.random() * 0.2)
        lines = [compact({"marker": marker, "body": body.decode()}).encode()]
        lines += [compact({"marker": marker, "line": at}).encode() for at in range(rng.randrange(1, 30))]
        parts = [line + b"\n" for line in lines]
        headers = {"content-type": "text/plain", "x-marker": marker}
        await _reply(send, 200, headers, _pieces(parts, zlib.crc32(marker.encode())))

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """OpenAI's Responses: a call for each `response.create`."""
        api = cast(Api, openai_responses)
        while (message := await receive())["type"] != "websocket.disconnect":
            if message["type"] == "websocket.connect":
                await send({"type": "websocket.accept"})
                continue
            call = api.read(scope["path"], json.loads(message["text"]))
            call.websocket = True
            answer = answer_for(*call.prompt())
            await asyncio.sleep(_THINKING_S)
            if answer.error:
                status = answer.error.status
                data = {"type": "error", "status": status, **api.refusal(answer.error)[1]}
                await send({"type": "websocket.send", "text": compact(data)})
            else:
                for event in openai_responses.events(call, answer):
                    await send({"type": "websocket.send", "text": compact(event)})
            self._log(api, call, answer)

    def _log(self, api: Api, call: Call, answer: Answer) -> None:
        truth = call.truth(answer, api.told(call, answer))
        self._truth.write(json.dumps(truth, ensure_ascii=False) + "\n")
        self._truth.flush()
