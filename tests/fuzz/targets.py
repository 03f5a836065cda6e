"""What is fuzzed: each target takes bytes, and must neither raise nor keep more than its limits."""

from __future__ import annotations

import itertools
import json
import struct
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal

import msgspec

from libagenttracer.analyzers import Analyzer, FilterAnalyzer, Redactor
from libagenttracer.analyzers.chunks import ChunkMerger
from libagenttracer.analyzers.http import HttpAnalyzer, Limits
from libagenttracer.analyzers.http.bodies import Body
from libagenttracer.analyzers.http.websocket import WebSocket
from libagenttracer.analyzers.llm import LlmAnalyzer
from libagenttracer.analyzers.mcp import McpAnalyzer
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.errors import FilterError, LibraryError
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    SslData,
    StreamData,
    StreamEnd,
    to_json,
)
from libagenttracer.locators import locate_all
from libagenttracer.locators.base import Found
from libagenttracer.locators.elf import Image
from libagenttracer.runners.client_hello import parse_client_hello

from ..locators.go_image import GoImage
from ..runners.client_hellos import RECORDED

__all__ = ["SEEDS", "TARGETS"]

LIMITS = Limits(
    max_body_bytes=1 << 20, max_head_bytes=16 << 10, ratio_floor_bytes=64 << 10, max_held_bytes=2 << 20
)
WHOSE = (7, "agent", "/bin/agent", "7-a-1")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"


def check(events: Iterable[Event]) -> list[Event]:
    """Each event can be written; and what is whole says so rightly, as far as that can be seen here."""
    found = list(events)
    for event in found:
        to_json(event)
        if isinstance(event, (HttpRequest, HttpResponse)):
            assert len(event.body) <= LIMITS.max_body_bytes
            assert event.incomplete == bool(event.reason)
    return found


def split(data: bytes) -> Iterator[tuple[Literal["read", "write"], bytes, int]]:
    """Cuts the input into pieces of both directions, some with a gap before them.

    A piece has two bytes in front: direction (1), gap (2), length (the rest and the second byte).
    """
    while len(data) >= 2:
        flags, length = data[0], (data[0] >> 2) * 256 + data[1]
        yield ("write" if flags & 1 else "read"), data[2 : 2 + length], 13 if flags & 2 else 0
        data = data[2 + length :]


def pieces(data: bytes, first: bytes = b"") -> Iterator[StreamData]:
    offsets = {"read": 0, "write": 0}
    numbers = itertools.count()
    parts: Iterable[tuple[Any, bytes, int]] = split(data)
    if first:
        parts = itertools.chain([("write", first, 0)], parts)
    for direction, payload, missing in parts:
        offsets[direction] += missing
        number = next(numbers)
        yield StreamData(
            f"id{number}", number, "ssl", *WHOSE, direction, offsets[direction], payload, missing
        )
        offsets[direction] += len(payload)


def through(chain: list[Analyzer], events: Iterable[Event]) -> list[Event]:
    """As `Chain`, but what raises is a crash."""
    given: list[Event] = []
    events = list(events)
    for analyzer in chain:
        given = [found for event in events for found in analyzer.feed(event)]
        given += analyzer.tick(10**9)
        given += analyzer.flush()
        events = given
    return check(given)


def http1(data: bytes) -> None:
    through([HttpAnalyzer(LIMITS)], pieces(data, b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"))


def http2(data: bytes) -> None:
    through([HttpAnalyzer(LIMITS)], pieces(data, PREFACE + b"\0\0\0\4\0\0\0\0\0"))


def anything(data: bytes) -> None:
    """All that decodes, from records on; then to JSON."""
    chain: list[Analyzer] = [
        ChunkMerger(raw=True, max_held_bytes=1 << 16), HttpAnalyzer(LIMITS), SseMerger(), LlmAnalyzer(),
        McpAnalyzer(), Redactor(b"key"),
    ]  # fmt: skip
    offsets = {"read": 0, "write": 0}
    events = []
    for number, (direction, payload, missing) in enumerate(split(data)):
        offsets[direction] += missing
        events.append(
            SslData(
                f"id{number}", number, "ssl", 7, 7, 1, 0, "agent", "", direction, len(payload),
                offsets[direction], "7-a-1", "SSL_read", 1, "", payload,
            )
        )  # fmt: skip
        offsets[direction] += len(payload)
    through(chain, events)


def request(method: str = "POST", target: str = "/", headers: Any = (), body: bytes = b"") -> HttpRequest:
    return HttpRequest(
        "request", 1, "ssl", *WHOSE, "write", "1.1", list(headers), body, 2, method=method, target=target,
        authority="localhost",
    )  # fmt: skip


def response(headers: Any = (), body: bytes = b"", status: int = 200) -> HttpResponse:
    return HttpResponse("response", 3, "ssl", *WHOSE, "read", "1.1", list(headers), body, 4, status=status)


def websocket(data: bytes) -> None:
    deflated = data[:1] == b"\1"
    extension = "permessage-deflate" + ("; server_no_context_takeover" if data[:1] == b"\2" else "")
    headers = [("sec-websocket-extensions", extension)] if deflated else []
    handler = WebSocket(request("GET", headers=headers), response(headers, status=101), LIMITS, "write")
    found: list[Event] = []
    for piece in pieces(data[1:]):
        found += handler.data(piece)
    found += handler.end(StreamEnd("end", 10**9, "ssl", *WHOSE, "end"))
    check(found)


def bodies(data: bytes) -> None:
    names = ("gzip", "deflate", "br", "zstd", "gzip, br", "br, zstd, gzip", "", "x-unknown")
    if not data:
        return
    body = Body(names[data[0] % len(names)], None, LIMITS)
    step = data[0] // len(names) * 16 + 1
    decoded = b""
    for at in range(1, len(data), step):
        decoded += body.add(data[at : at + step])
    decoded += body.finish()
    assert decoded == body.value()
    assert len(decoded) <= LIMITS.max_body_bytes


def sse(data: bytes) -> None:
    """The same events, however the stream is cut."""
    step = (data[0] if data else 0) + 1
    stream = data[1:]

    def parts(step: int) -> Iterator[Event]:
        for at in range(0, len(stream) + 1, step):
            last = at + step > len(stream)
            yield HttpBody(
                f"id{at}", 5, "ssl", *WHOSE, "response", "request", None, "text/event-stream", at,
                stream[at : at + step], 0, last,
            )  # fmt: skip

    def told(step: int) -> list[Any]:
        found = through([SseMerger()], parts(step))
        return [
            (e.event, e.data, e.last_event_id) if hasattr(e, "event") else (e.comments, e.reason)  # type: ignore[attr-defined]
            for e in found
        ]

    assert told(step) == told(len(stream) + 1)


LLM_PATHS = (
    "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/v1/completions", "/v1/messages",
    "/v1beta/models/m:generateContent", "/v1beta/models/m:streamGenerateContent", "/api/chat",
    "/api/generate", "/api/embed", "/v2/chat", "/v2/embed",
    "/model/m/converse", "/model/m/converse-stream", "/model/m/invoke",
    "/model/m/invoke-with-response-stream", "/openai/deployments/d/chat/completions",
)  # fmt: skip
LLM_TYPES = (
    "application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream",
)  # fmt: skip


def llm(data: bytes) -> None:
    """A request and its answer; the input has a length, then both bodies."""
    if len(data) < 4:
        return
    path, kind = LLM_PATHS[data[0] % len(LLM_PATHS)], LLM_TYPES[data[1] % len(LLM_TYPES)]
    length = data[2] * 256 + data[3]
    asked, answered = data[4 : 4 + length], data[4 + length :]
    json_type = [("content-type", "application/json")]
    exchange = HttpExchange(
        "exchange", 1, "ssl", *WHOSE, "request", "response", None, "client", "POST", path, "localhost", 200,
        1, 2, 3, 4, 0.1,
    )  # fmt: skip
    events = [request("POST", path, json_type, asked), response([("content-type", kind)], answered), exchange]
    through([LlmAnalyzer()], events)


def mcp(data: bytes) -> None:
    length = (data[0] if data else 0) * 16
    asked, answered = data[1 : 1 + length], data[1 + length :]
    json_type = [("content-type", "application/json")]
    exchange = HttpExchange(
        "exchange", 1, "ssl", *WHOSE, "request", "response", None, "client", "POST", "/mcp", "localhost", 200,
        1, 2, 3, 4, 0.1,
    )  # fmt: skip
    through(
        [McpAnalyzer()], [request(headers=json_type, body=asked), response(json_type, answered), exchange]
    )


def redact(data: bytes) -> None:
    """What was JSON stays JSON."""
    target = data[:64].decode("latin-1")
    headers = [("content-type", "application/json"), ("x-a", target)]
    (told,) = through([Redactor(b"key")], [request(target=target, headers=headers, body=data)])
    assert isinstance(told, HttpRequest)
    try:
        msgspec.json.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return
    msgspec.json.decode(told.body)


def filters(data: bytes) -> None:
    try:
        analyzer = FilterAnalyzer(data.decode(errors="replace"))
    except FilterError:
        return
    list(analyzer.feed(request(body=data)))


def elf(data: bytes) -> None:
    """An ELF file is refused, or what is found in it lies in its code."""
    for machine in ("x86_64", "aarch64"):
        try:
            image = Image(data, path="file", machine=machine)
            answers = locate_all(image)
        except LibraryError:
            continue
        code = [part for part in image.segments if part.executable]
        for answer in answers:
            for point in answer.points if isinstance(answer, Found) else ():
                assert any(part.offset <= point.offset < part.offset + part.file_bytes for part in code)
                assert point.offset < len(data)


def client_hello(data: bytes) -> None:
    found = parse_client_hello(data)
    if found is not None:
        assert len(found.server_name) <= 254
        assert all(text.isascii() and text.isprintable() for text in (found.server_name, *found.alpn))


TARGETS: dict[str, Callable[[bytes], None]] = {
    function.__name__: function
    for function in (
        anything,
        bodies,
        client_hello,
        elf,
        filters,
        http1,
        http2,
        llm,
        mcp,
        redact,
        sse,
        websocket,
    )
}


def _piece(direction: Literal["read", "write"], payload: bytes) -> bytes:
    flags = (direction == "write") | (len(payload) >> 8) << 2
    return bytes([flags, len(payload) & 0xFF]) + payload


_CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}
_DELTA = {"choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
_ASKED = json.dumps(_CHAT).encode()
_ANSWERED = b"data: " + json.dumps(_DELTA).encode() + b"\n\ndata: [DONE]\n\n"
_RPC = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": {}}}
_RESULT = b'{"jsonrpc":"2.0","id":1,"result":{}}'
_RPC_BYTES = json.dumps(_RPC).encode().ljust(16 * 6)
_HEADERS = b"host: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
_POST = b"POST /v1/chat/completions HTTP/1.1\r\n" + _HEADERS % len(_ASKED) + _ASKED
_OK = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    b"%x\r\n%s\r\n0\r\n\r\n" % (len(_ANSWERED), _ANSWERED)
)
_LIBRARY = """
extern void ERR_put_error(int, int, int, const char *, int), ERR_set_debug(const char *, int, const char *);
int SSL_read(void *s, void *b, int n) { ERR_put_error(16, 0, 66, "../ssl_lib.cc", 9); return b != s; }
int SSL_write(void *s, void *b, int n) { ERR_set_debug("s.c", n, "ssl_write_internal"); return b == s; }
int gnutls_record_send(void) { return 1; }
int gnutls_record_recv(void) { return 2; }
const char *const texts[] = { "3.8.1", "ssl_read_internal", "x/cipher/aead.c", "SSL_read" };
"""


def _elf_files() -> Iterator[bytes]:
    """Small ones: a library with symbols, without, without sections, and what looks like Go programs."""
    options = ["-Os", "-fPIC", "-shared", "-nostdlib", "-Wl,-z,noseparate-code,-z,max-page-size=64"]
    for more in ([], ["-s", "-fvisibility=hidden"]):
        with tempfile.TemporaryDirectory() as folder:
            output = Path(folder, "library")
            command = ["gcc", *options, *more, "-o", str(output), "-x", "c", "-"]
            subprocess.run(command, input=_LIBRARY.encode(), check=True)
            image = bytearray(output.read_bytes())
        yield bytes(image)
        struct.pack_into("<Q", image, 40, 0)  # e_shoff
        struct.pack_into("<HH", image, 60, 0, 0)  # e_shnum, e_shstrndx
        yield bytes(image)
    for machine in ("x86_64", "aarch64"):
        yield GoImage(machine=machine, page_bytes=64).build()
        yield GoImage(machine=machine, page_bytes=64, position_independent=True).build()


SEEDS: dict[str, tuple[bytes, ...]] = {
    "anything": (_piece("write", _POST) + _piece("read", _OK),),
    "http1": (_piece("read", _OK) + _piece("write", _POST) + _piece("read", _OK),),
    "http2": (
        _piece("read", b"\0\0\0\4\0\0\0\0\0")
        + _piece("write", b"\0\0\5\1\5\0\0\0\1\x82\x84\x87\x41\0")
        + _piece("read", b"\0\0\1\1\4\0\0\0\1\x88\0\0\2\0\1\0\0\0\1ok"),
    ),
    "llm": (bytes([0, 1, len(_ASKED) >> 8, len(_ASKED) & 0xFF]) + _ASKED + _ANSWERED,),
    "mcp": (bytes([6]) + _RPC_BYTES + _RESULT,),
    "redact": (b'{"password": "hunter2hunter2", "x": ["Bearer abcdefghijklmnop"]}',),
    "sse": (b"\3" + _ANSWERED, b"\1event: a\r\nid: 7\r\ndata: x\r\ndata: y\r\n\r\n: c\r\rretry: 9\n\n"),
    "websocket": (b"\0" + _piece("write", b"\x81\x82abcd\0\0") + _piece("read", b"\x81\2hi"),),
    "elf": tuple(_elf_files()),
    "client_hello": tuple(RECORDED[client] for client in ("chrome_by_curl_cffi", "go", "openssl_tls12")),
    "filters": (b'llm.model ~ "gpt" and not http.status == 200',),
}
