"""Planted secrets of each kind at each place leave nothing behind, and ordinary traffic stays as it is.

All secrets are made at run time.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import string
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from libagenttracer.analyzers import Redactor
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    LlmCall,
    McpCall,
    ShellLine,
    SseEvent,
    SseItem,
    SseStream,
    WebSocketMessage,
    to_json,
)

from ..support import ROOT
from .build import exec_, make, open_, run

HEAD: dict[str, Any] = {"id": "1", "timestamp_ns": 1, "source": "ssl"}
WHO: dict[str, Any] = {"pid": 7, "comm": "agent", "exe": "/usr/bin/agent", "connection_id": "c"}
MESSAGE: dict[str, Any] = {**HEAD, **WHO, "version": "1.1", "last_byte_ns": 2}
ALNUM = string.ascii_letters + string.digits
HEX = "0123456789abcdef"
PAIR = re.compile(r"\[redacted:[a-z_]+:[0-9a-f]{8}\]")


def some(rng: random.Random, count: int, alphabet: str = ALNUM) -> str:
    """With a digit in it, as nearly all keys have."""
    return "".join(rng.choice(alphabet) for _ in range(count - 2)) + rng.choice("23456789") + "k"


def jwt(rng: random.Random) -> str:
    def part(value: dict[str, Any]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    return f"{head}.{part({'sub': str(rng.random()), 'iat': 1})}.{some(rng, 43)}"


def pem(rng: random.Random, kind: str) -> str:
    lines = [some(rng, 64) for _ in range(rng.randint(3, 8))]
    return f"-----BEGIN {kind}PRIVATE KEY-----\n" + "\n".join(lines) + f"\n-----END {kind}PRIVATE KEY-----"


# tokens that are known by their form
SHAPES: dict[str, Callable[[random.Random], str]] = {
    "openai": lambda r: "sk-" + some(r, 48),
    "openai-project": lambda r: "sk-" + "proj-" + some(r, 80, ALNUM + "_-"),
    "anthropic": lambda r: "sk-" + "ant-" + "api03-" + some(r, 93, ALNUM + "_-"),
    "openrouter": lambda r: "sk-" + "or-v1-" + some(r, 64, HEX),
    "github": lambda r: "gh" + r.choice("pous") + "_" + some(r, 36),
    "github-fine": lambda r: "github_" + "pat_" + some(r, 22) + "_" + some(r, 59),
    "gitlab": lambda r: "gl" + "pat-" + some(r, 20, ALNUM + "_-"),
    "slack": lambda r: "xox" + r.choice("bp") + "-" + some(r, 12, string.digits) + "-" + some(r, 24),
    "aws": lambda r: "AK" + "IA" + some(r, 16, string.ascii_uppercase + "234567").upper(),
    "google": lambda r: "AI" + "za" + some(r, 35, ALNUM + "_-"),
    "google-oauth": lambda r: "ya" + "29." + some(r, 60, ALNUM + "_-"),
    "stripe": lambda r: r.choice(["sk", "rk"]) + "_live_" + some(r, 24),
    "huggingface": lambda r: "h" + "f_" + some(r, 34),
    "npm": lambda r: "n" + "pm_" + some(r, 36),
    "pypi": lambda r: "py" + "pi-" + some(r, 150, ALNUM + "_-"),
    "jwt": jwt,
    "telegram": lambda r: some(r, 8, string.digits)[:-1] + "77:" + "AA" + some(r, 33, ALNUM + "_-"),
    "sendgrid": lambda r: "S" + "G." + some(r, 22) + "." + some(r, 43, ALNUM + "_-"),
    "twilio": lambda r: "S" + "K" + some(r, 32, HEX)[:-1] + "a",
    "mailgun": lambda r: "key" + "-" + some(r, 32, HEX)[:-1] + "a",
    "digitalocean": lambda r: "do" + "p_v1_" + some(r, 64, HEX)[:-1] + "b",
    "groq": lambda r: "gs" + "k_" + some(r, 52),
    "vault": lambda r: "hv" + "s." + some(r, 90, ALNUM + "_-"),
}
# what only its name or place gives away
NAMED: dict[str, Callable[[random.Random], str]] = {
    "alnum": lambda r: some(r, 32),
    "hex": lambda r: some(r, 40, HEX)[:-1] + "c",
    "base64": lambda r: base64.b64encode(r.randbytes(33)).decode(),
    "short": lambda r: some(r, 10),
    "uuid": lambda r: str(uuid.UUID(int=r.getrandbits(128))),
}
ALL = {**SHAPES, **NAMED}
TEXTS: dict[str, Callable[[random.Random], str]] = {
    **SHAPES,
    "pem": lambda r: pem(r, r.choice(["", "RSA ", "OPENSSH "])),
}


def request(**fields: Any) -> HttpRequest:
    own: dict[str, Any] = {"direction": "write", "headers": [], "body": b"", "method": "POST", "target": "/"}
    return HttpRequest(**{**MESSAGE, **own, **fields})


def response(body: bytes, content_type: str) -> HttpResponse:
    headers = [("content-type", content_type)]
    return HttpResponse(**MESSAGE, direction="read", headers=headers, body=body, status=200)


def llm(**fields: Any) -> LlmCall:
    return LlmCall(**HEAD, **WHO, **{"provider_name": "x", "operation_name": "chat", "api": "x", **fields})


def body(value: Any) -> Event:
    return request(body=value if isinstance(value, bytes) else json.dumps(value).encode())


def websocket(payload: str, index: int = 0) -> WebSocketMessage:
    own: dict[str, Any] = {"opcode": "text", "target": "/", "authority": "h", "request_id": None}
    rest: dict[str, Any] = {"stream_id": None, "payload": payload.encode(), "last_byte_ns": index}
    return WebSocketMessage(**HEAD, **WHO, direction="read", **own, **rest)


def sse(data: list[str]) -> list[Event]:
    common = {**HEAD, **WHO, "response_id": "r", "request_id": None}
    events: list[Event] = [SseEvent(**common, index=n, event="x", data=text) for n, text in enumerate(data)]
    items = [SseItem(n, "x", text) for n, text in enumerate(data)]
    return [*events, SseStream(**common, events=items, last_byte_ns=9)]


def only_stream(data: list[str]) -> list[Event]:
    return sse(data)[-1:]


def mcp(**fields: Any) -> McpCall:
    own: dict[str, Any] = {"transport": "http", "kind": "request", "sender": "client", "method": "tools/call"}
    return McpCall(**HEAD, **WHO, **own, **fields)


QUOTED = urllib.parse.quote
# places for anything that is secret
NAMED_PLACES: dict[str, Callable[[str], Event | list[Event]]] = {
    "authorization": lambda s: request(headers=[("Authorization", f"Bearer {s}")]),
    "authorization, no scheme": lambda s: request(headers=[("authorization", s)]),
    "basic": lambda s: request(
        headers=[("authorization", "Basic " + base64.b64encode(f"user:{s}".encode()).decode())]
    ),
    "proxy-authorization": lambda s: request(headers=[("Proxy-Authorization", f"Token {s}")]),
    "x-api-key": lambda s: request(headers=[("x-api-key", s)]),
    "api-key": lambda s: request(headers=[("api-key", s)]),
    "x-goog-api-key": lambda s: request(headers=[("X-Goog-Api-Key", s)]),
    "x-amz-security-token": lambda s: request(headers=[("X-Amz-Security-Token", s)]),
    "x-anything-secret": lambda s: request(headers=[("X-Hub-Secret", s)]),
    "cookie": lambda s: request(headers=[("cookie", f"theme=dark1; session={s}")]),
    "set-cookie": lambda s: response(b"", "x").__class__(
        **MESSAGE,
        direction="read",
        headers=[("Set-Cookie", f"sid={s}; Path=/; HttpOnly")],
        body=b"",
        status=200,
    ),
    "trailer": lambda s: request(trailers=[("x-auth-token", s)]),
    "query": lambda s: request(target=f"/v1/x?a=1&api_key={QUOTED(s, safe='')}&b=2"),
    "query access_token": lambda s: request(target=f"/x?access_token={QUOTED(s, safe='')}"),
    "userinfo": lambda s: request(target=f"https://user:{QUOTED(s, safe='')}@host/x"),
    "json": lambda s: body({"user": "bob", "password": s, "max_tokens": 5}),
    "json api_key": lambda s: body({"config": {"apiKey": s}}),
    "json client_secret": lambda s: body([{"client_secret": s}]),
    "json refresh_token": lambda s: body({"refresh_token": s}),
    "json list": lambda s: body({"api_keys": ["x", s]}),
    "json name and value": lambda s: body({"env": [{"name": "MY_API_KEY", "value": s}]}),
    "json cut off": lambda s: request(body=json.dumps({"password": s, "x": "y"}).encode()[:-9]),
    "json, escaped": lambda s: body(
        json.dumps({"password": s})
        .replace("-", "\\u002d")
        .replace("/", "\\/")
        .replace("+", "\\u002B")
        .encode()
    ),
    "json in json": lambda s: body({"arguments": json.dumps({"private_token": s})}),
    "json in json in json": lambda s: body({"a": json.dumps({"b": json.dumps({"password": s})})}),
    "form": lambda s: body(f"user=bob&password={QUOTED(s, safe='')}&x=1".encode()),
    "multipart": lambda s: body(
        f'--b\r\nContent-Disposition: form-data; name="password"\r\n\r\n{s}\r\n--b--\r\n'.encode()
    ),
    "argv --token X": lambda s: exec_(1, 5, "tool", "--token", s),
    "argv --password=X": lambda s: exec_(1, 5, "tool", f"--password={s}", "rest"),
    "argv curl -H": lambda s: exec_(1, 5, "curl", "-H", f"Authorization: Bearer {s}", "https://h/"),
    "argv curl -u": lambda s: exec_(1, 5, "curl", "-u", f"bob:{s}", "https://h/"),
    "argv env": lambda s: exec_(1, 5, "env", f"FOO_API_KEY={s}", "run"),
    "shell export": lambda s: make(ShellLine, 1, 5, line=f"export FOO_API_KEY={s}; run"),
    "shell curl": lambda s: make(ShellLine, 1, 5, line=f'curl -H "X-Api-Key: {s}" -u "bob:{s}" https://h/'),
    "shell dsn": lambda s: make(ShellLine, 1, 5, line=f"psql postgres://bob:{QUOTED(s, safe='')}@db/app"),
    "tool argument": lambda s: llm(tool_calls=[{"id": "1", "name": "login", "arguments": {"password": s}}]),
    "message": lambda s: llm(
        messages=[
            {
                "role": "user",
                "parts": [{"type": "text", "content": f'use Authorization: Bearer {s}\nand "ls"'}],
            }
        ]
    ),
    "tool result": lambda s: llm(
        messages=[{"parts": [{"type": "tool_call_response", "response": f".env:\nDB_PASSWORD={s}\nX=1\n"}]}]
    ),
    "mcp params": lambda s: mcp(
        params={"arguments": {"access_token": s}}, tool_arguments={"access_token": s}
    ),
    "mcp result": lambda s: mcp(result={"content": [{"text": json.dumps({"secret": s})}]}),
    "websocket": lambda s: websocket(json.dumps({"type": "session.update", "api_key": s})),
}
# places where a token stands alone in a text
TEXT_PLACES: dict[str, Callable[[str], Event | list[Event]]] = {
    "any header": lambda s: request(headers=[("x-note", f"use {' '.join(s.split())} now")]),
    "path of a URL": lambda s: request(target=f"/{'bot' * (':' in s)}{QUOTED(s)}/send"),
    "prose": lambda s: body({"messages": [{"content": f"My key is {s}, do not tell."}]}),
    "after an escape": lambda s: body({"content": f"key:\n{s}\ttab"}),
    "after an escape in an escape": lambda s: body({"content": json.dumps({"a": f"\n{s}\n"})}),
    "plain text": lambda s: body(f"first line\n{s}\n".encode()),
    "binary": lambda s: body(b"\x00\xff" + s.encode() + b"\x00"),
    "message": lambda s: llm(output_messages=[{"parts": [{"type": "text", "content": f"It is `{s}`."}]}]),
    "system prompt": lambda s: llm(system_instructions=[{"content": s}], error_message=f"bad key: {s}"),
    "file name": lambda s: open_(1, path=f"/tmp/{QUOTED(s)}.txt"),
    "exchange": lambda s: HttpExchange(
        *("1", 1, "ssl", 7, "agent", "", "c", None, None, None, "client", "GET", f"/x/{QUOTED(s)}", "h", 200),
        *(None, None, None, None, None),
    ),
    "coloured": lambda s: body({"output": f"\x1b[32m{s}\x1b[0m"}),
}


def remains(secret: str, events: list[Event]) -> str:
    """A part of a secret that is found in what would be written, and where; "" if there is none.

    Texts that are spread over several events are also read one behind the other.
    """
    written = b"\n".join(to_json(event) for event in events).decode()
    streamed = "".join(
        text
        for event in events
        for text in (
            [event.data]
            if isinstance(event, SseEvent)
            else [event.payload.decode()]
            if isinstance(event, WebSocketMessage)
            else [item.data for item in event.events]
            if isinstance(event, SseStream)
            else []
        )
    )
    pieces = "".join(
        re.findall(r'"(?:text|content|partial_json|arguments|delta)":"((?:[^"\\]|\\.)*)"', streamed)
    )
    lines = [line for line in secret.split("\n") if not line.startswith("-----")]
    for shown in (written, urllib.parse.unquote(written), pieces, pieces.replace("\\n", "\n")):
        for line in lines:
            length = min(len(line), 10)  # no third of it, and more than a prefix
            for at in range(0, len(line) - length + 1, 3):
                if line[at : at + length] in shown:
                    return shown[max(shown.index(line[at : at + length]) - 60, 0) :][:160]
    for found in re.findall(r"[A-Za-z0-9+/]{16,}={0,2}", written):
        try:
            if secret.encode() in base64.b64decode(found + "==", validate=False):
                return str(found)
        except ValueError:
            continue
    return ""


def redact(events: Event | list[Event]) -> list[Event]:
    return run(Redactor(b"key"), events if isinstance(events, list) else [events])


def check(place: Callable[[str], Event | list[Event]], kinds: dict[str, Any], seed: str) -> None:
    rng = random.Random(seed)
    for kind, make_secret in kinds.items():
        for _ in range(3):
            secret = make_secret(rng)
            redactor = Redactor(b"key")
            planted = place(secret)
            events = run(redactor, planted if isinstance(planted, list) else [planted])
            assert not remains(secret, events), f"{kind}: {secret} in {remains(secret, events)}"
            assert redactor.redacted, kind


@pytest.mark.parametrize("place", NAMED_PLACES)
def test_planted_behind_a_name(place: str) -> None:
    check(NAMED_PLACES[place], ALL, place)


@pytest.mark.parametrize("place", TEXT_PLACES)
def test_planted_anywhere(place: str) -> None:
    kinds = SHAPES if place in ("path of a URL", "any header", "file name", "exchange") else TEXTS
    check(TEXT_PLACES[place], kinds, place)


# ---- split over the events of a stream


def anthropic(pieces: list[str], index: int = 0) -> list[str]:
    """As `content_block_delta`, with text."""
    deltas = [
        {"type": "content_block_delta", "index": index, "delta": {"type": "text_delta", "text": piece}}
        for piece in pieces
    ]
    return [
        json.dumps(event, separators=(",", ":"))
        for event in (
            {"type": "message_start", "message": {"id": "msg_1", "content": []}},
            {"type": "content_block_start", "index": index, "content_block": {"type": "text", "text": ""}},
            *deltas,
            {"type": "content_block_stop", "index": index},
            {"type": "message_stop"},
        )
    ]


def anthropic_tool(pieces: list[str]) -> list[str]:
    return [
        json.dumps(
            {"type": "content_block_delta", "index": 1, "delta": {"partial_json": piece}},
            separators=(",", ":"),
        )
        for piece in pieces
    ]


def openai(pieces: list[str]) -> list[str]:
    chunks = [{"id": "c", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    end = {"id": "c", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    return [*(json.dumps(chunk, separators=(",", ":")) for chunk in [*chunks, end]), "[DONE]"]


def openai_two(pieces: list[str]) -> list[str]:
    """Two choices, by turns."""
    chunks = [
        {"choices": [{"index": index, "delta": {"content": piece if index else "ok"}}]}
        for piece in pieces
        for index in (0, 1)
    ]
    return [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]


def openai_tool(pieces: list[str]) -> list[str]:
    return [
        json.dumps(
            {
                "choices": [
                    {"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}}
                ]
            },
            separators=(",", ":"),
        )
        for piece in pieces
    ]


def responses(pieces: list[str]) -> list[str]:
    deltas = [{"type": "response.output_text.delta", "output_index": 0, "delta": piece} for piece in pieces]
    done = {"type": "response.output_text.done", "output_index": 0, "text": "".join(pieces)}
    return [json.dumps(event, separators=(",", ":")) for event in [*deltas, done]]


def gemini(pieces: list[str]) -> list[str]:
    chunks = [{"candidates": [{"content": {"parts": [{"text": piece}]}}]} for piece in pieces]
    return [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]


def plain(pieces: list[str]) -> list[str]:
    return pieces


def as_sse_body(data: list[str]) -> list[Event]:
    return [response("".join(f"event: x\ndata: {text}\n\n" for text in data).encode(), "text/event-stream")]


def as_lines(data: list[str]) -> list[Event]:
    return [response("\n".join(data).encode(), "application/x-ndjson")]


def as_array(data: list[str]) -> list[Event]:
    return [response(f"[{','.join(data)}]".encode(), "application/json")]


def as_websocket(data: list[str]) -> list[Event]:
    return [websocket(text, n) for n, text in enumerate(data)]


STREAMS: list[Any] = [
    *(anthropic, anthropic_tool, openai, openai_two, openai_tool, responses, gemini),
]
CARRIERS = [sse, only_stream, as_sse_body, as_lines, as_array, as_websocket]


def split(rng: random.Random, text: str, longest: int) -> list[str]:
    pieces = []
    while text:
        length = rng.randint(1, longest)
        pieces.append(text[:length])
        text = text[length:]
    return pieces


@pytest.mark.parametrize("carrier", CARRIERS)
@pytest.mark.parametrize("stream", STREAMS)
def test_planted_across_deltas(stream: Any, carrier: Any) -> None:
    rng = random.Random(f"{stream.__name__} {carrier.__name__}")
    for kind, make_secret in TEXTS.items():
        secret = make_secret(rng)
        longest = rng.choice([1, 4, 4, 30])
        data = stream(split(rng, f"Here it is: {secret}\nThat was all of it.", longest))
        if carrier is as_array:
            data = [text for text in data if text.startswith("{")]
        shown = redact(carrier(data))
        assert not remains(secret, shown), f"{kind} {longest}: {secret} in {remains(secret, shown)}"


@pytest.mark.parametrize("carrier", [sse, only_stream])
def test_planted_behind_a_name_across_deltas(carrier: Any) -> None:
    rng = random.Random(5)
    for kind, make_secret in ALL.items():
        secret = make_secret(rng)
        for form in ('{{"user": "bob", "password": "{}"}}', "API_KEY={}\nls", "Authorization: Bearer {}\n"):
            for stream in (anthropic_tool, openai_tool, anthropic):
                shown = redact(carrier(stream(split(rng, form.format(secret), 4))))
                assert not remains(secret, shown), f"{kind}: {form}: {secret} in {remains(secret, shown)}"


def test_planted_across_plain_events() -> None:
    rng = random.Random(6)
    for make_secret in SHAPES.values():
        secret = make_secret(rng)
        shown = redact(sse(split(rng, secret, 5)))
        data = "".join(event.data for event in shown if isinstance(event, SseEvent))
        assert PAIR.fullmatch(data), (secret, data)


def test_raw_bytes_are_left_out() -> None:
    common = {**HEAD, **WHO, "response_id": "r", "request_id": None, "stream_id": None}
    part = HttpBody(**common, content_type="text/event-stream", offset=0, payload=b"x")
    assert redact(part) == []


# ---- ordinary traffic


def ids(rng: random.Random, count: int) -> list[str]:
    """As the APIs give to calls, messages and answers: no secrets."""
    kinds = [
        "call_",
        "msg_01",
        "toolu_01",
        "resp_",
        "chatcmpl-",
        "run_",
        "fc_",
        "rs_",
        "file-",
        "asst_",
        "req_",
    ]
    return [rng.choice(kinds) + some(rng, rng.choice([22, 24, 29, 48])) for _ in range(count)]


def git_log(rng: random.Random) -> str:
    return "\n".join(
        f"commit {hashlib.sha1(rng.randbytes(8)).hexdigest()}\nAuthor: A <a@example.com>\n\n    Fix token\n"
        for _ in range(60)
    )


def lock_file(rng: random.Random) -> str:
    def entry(n: int) -> dict[str, str]:
        integrity = "sha512-" + base64.b64encode(rng.randbytes(64)).decode()
        return {"version": f"1.{n}.0", "resolved": f"https://r.example/p-{n}.tgz", "integrity": integrity}

    return json.dumps({"packages": {f"node_modules/p{n}": entry(n) for n in range(150)}}, indent=2)


def minified(rng: random.Random) -> str:
    names = ["".join(rng.choice(string.ascii_letters) for _ in range(rng.randint(1, 3))) for _ in range(200)]
    calls = [
        "function {}({}){{return {}.{}}}",
        "var {}={}[{}]({});",
        "{}&&({}={}?{}:null),",
        "{}.{}={}.key||{};",
    ]
    return "".join(rng.choice(calls).format(*rng.sample(names, 4)) for _ in range(2000))


def conversation(rng: random.Random) -> str:
    usage = {"input_tokens": 1234, "output_tokens": 99, "cache_read_input_tokens": 5, "total_tokens": 1333}
    parts = [
        {
            **{"id": one, "type": "tool_use", "name": "bash", "input": {"command": "ls -la", "timeout": 3}},
            **{
                "signature": base64.b64encode(rng.randbytes(200)).decode(),
                "usage": usage,
                "max_tokens": 4096,
            },
            **{"request_id": str(uuid.UUID(int=rng.getrandbits(128))), "prompt_cache_key": "conversation-17"},
            **{"logprobs": [{"token": " Hello", "logprob": -0.1, "bytes": [32]}], "next_page_token": "p2"},
        }
        for one in ids(rng, 120)
    ]
    return json.dumps(parts)


def image(rng: random.Random) -> str:
    data = base64.b64encode(rng.randbytes(150_000)).decode()
    return json.dumps(
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": data}}
    )


def source_code(_: random.Random) -> str:
    """Of this package, but for the redactor: its own examples are meant to be found."""
    files = [path for path in sorted((ROOT / "libagenttracer").rglob("*.py")) if "redact" not in path.parts]
    return "\n".join(path.read_text(encoding="utf-8") for path in files)


def library_code(_: random.Random) -> str:
    """Of the standard library, where modules deal with passwords, tokens and cookies."""
    names = [
        "tokenize",
        "netrc",
        "getpass",
        "secrets",
        "imaplib",
        "smtplib",
        "http/cookiejar",
        "ast",
    ]
    return "\n".join(
        (Path(json.__file__).parents[1] / f"{name}.py").read_text(encoding="utf-8") for name in names
    )


ORDINARY = [git_log, lock_file, minified, conversation, image, source_code, library_code]


@pytest.mark.parametrize("kind", ORDINARY)
def test_ordinary_traffic_stays_as_it_is(kind: Callable[[random.Random], str]) -> None:
    """At most two replacements in a megabyte, none of the sort that has ids, hashes or images."""
    rng = random.Random(3)
    text = kind(rng)
    redactor = Redactor(b"key")
    bodies = [text.encode(), json.dumps({"messages": [{"role": "user", "content": text}]}).encode()]
    shown: list[Any] = run(redactor, [request(body=one) for one in bodies])
    allowed = 2 * sum(map(len, bodies)) / 1_000_000 if kind is library_code else 0
    assert redactor.redacted <= allowed, [
        event.body[max(at.start() - 60, 0) : at.end() + 20]
        for event in shown
        for at in re.finditer(rb"\[redacted:[a-z_]+:[0-9a-f]{8}\]", event.body)
    ]
    if not redactor.redacted:
        assert [event.body for event in shown] == bodies


def test_ordinary_streams_stay_as_they_are() -> None:
    rng = random.Random(8)
    text = source_code(rng)[:6_000]
    for stream in STREAMS:
        data = stream(split(rng, text, 6))
        events = sse(data)
        assert redact(events) == events


def test_ordinary_answers_are_held_back_for_a_moment_only() -> None:
    """While a word is incomplete, and not for more than a few events."""
    rng = random.Random(9)
    redactor = Redactor(b"key")
    events = sse(openai(split(rng, "The quick brown fox jumps over the lazy dog. " * 50, 6)))[:-1]
    behind = 0
    shown = 0
    for n, event in enumerate(events):
        shown += len([*redactor.feed(event)])
        behind = max(behind, n + 1 - shown)
    assert behind <= 10


def test_the_corpus_would_find_what_is_left() -> None:
    rng = random.Random(4)
    for make_secret in ALL.values():
        secret = make_secret(rng)
        for name, place in {**NAMED_PLACES, **TEXT_PLACES}.items():
            events = place(secret)
            found = remains(secret, events if isinstance(events, list) else [events])
            assert found or name == "json, escaped", (name, secret)
        assert remains(secret, sse(anthropic(split(rng, secret, 3))))
