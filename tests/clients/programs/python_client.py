"""`python_client.py STACK URL [--connections N]`: talks to the server of `tests.clients.truth`.

It fetches a little, sends 3 MB, fetches 3 MB, reads a stream of events, and prints size and digest of each
answer. With `--connections`: that many requests at the same time, each on a connection of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import ssl
import urllib.request
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

CA = os.environ["SSL_CERT_FILE"]
BODY = random.Random(1).randbytes(3_000_000)
QUESTION = {"model": "test", "stream": True, "messages": [{"role": "user", "content": "hello [long]"}]}
STEPS: list[tuple[str, str, bytes | None]] = [
    ("GET", "/bytes/1000", None),
    ("POST", "/digest", BODY),
    ("GET", "/bytes/3000000", None),
    ("POST", "/v1/chat/completions", json.dumps(QUESTION).encode()),
]
JSON = {"Content-Type": "application/json"}
Ask = Callable[[str, str, "bytes | None"], bytes]
AskLater = Callable[[str, str, "bytes | None"], Awaitable[bytes]]
Use = Callable[[AskLater], Awaitable[None]]


def with_urllib(method: str, url: str, body: bytes | None) -> bytes:
    request = urllib.request.Request(url, body, JSON if body else {}, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return bytes(answer.read())


def requests_session() -> Ask:
    requests = import_module("requests")

    session = requests.Session()
    return lambda method, url, body: bytes(session.request(method, url, data=body, headers=JSON).content)


def httpx_client(http2: bool) -> Ask:
    httpx = import_module("httpx")

    client = httpx.Client(http2=http2, verify=ssl.create_default_context(cafile=CA), timeout=60)
    return lambda method, url, body: bytes(client.request(method, url, content=body, headers=JSON).content)


def curl_cffi_session() -> Ask:
    requests = import_module("curl_cffi.requests")

    session = requests.Session(verify=CA, impersonate="chrome", timeout=60)
    return lambda method, url, body: bytes(session.request(method, url, data=body, headers=JSON).content)


def primp_client() -> Ask:
    primp = import_module("primp")

    client = primp.Client(ca_cert_file=CA, timeout=60)
    return lambda method, url, body: bytes(
        client.request(method, url, content=body, headers=JSON if body else None).content
    )


def httpr_client() -> Ask:
    httpr = import_module("httpr")
    client = httpr.Client(ca_cert_file=CA, timeout=60)

    def ask(method: str, url: str, body: bytes | None) -> bytes:
        more = {"content": body, "headers": JSON} if body else {}
        return bytes(client.request(method, url, **more).content)

    return ask


SYNCHRONOUS: dict[str, Callable[[], Ask]] = {
    "urllib": lambda: with_urllib,
    "requests": requests_session,
    "httpx": lambda: httpx_client(False),
    "httpx-http2": lambda: httpx_client(True),
    "curl_cffi": curl_cffi_session,
    "primp": primp_client,
    "httpr": httpr_client,
}


async def with_aiohttp(use: Use) -> None:
    aiohttp = import_module("aiohttp")

    connector = aiohttp.TCPConnector(ssl=ssl.create_default_context(cafile=CA), limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def ask(method: str, url: str, body: bytes | None) -> bytes:
            async with session.request(method, url, data=body, headers=JSON) as answer:
                return bytes(await answer.read())

        await use(ask)


async def with_async_httpx(use: Use) -> None:
    httpx = import_module("httpx")

    context, limits = ssl.create_default_context(cafile=CA), httpx.Limits(max_connections=1000)
    async with httpx.AsyncClient(verify=context, limits=limits, timeout=60) as client:

        async def ask(method: str, url: str, body: bytes | None) -> bytes:
            return bytes((await client.request(method, url, content=body, headers=JSON)).content)

        await use(ask)


ASYNCHRONOUS: dict[str, Callable[[Use], Coroutine[Any, Any, None]]] = {
    "aiohttp": with_aiohttp,
    "async-httpx": with_async_httpx,
}


def tell(name: str, answer: bytes) -> None:
    print(name, len(answer), hashlib.sha256(answer).hexdigest(), flush=True)


def step_by_step(stack: str, url: str) -> None:
    if stack in SYNCHRONOUS:
        ask = SYNCHRONOUS[stack]()
        for method, path, body in STEPS:
            tell(path, ask(method, url + path, body))
        return

    async def use(ask: AskLater) -> None:
        for method, path, body in STEPS:
            tell(path, await ask(method, url + path, body))

    asyncio.run(ASYNCHRONOUS[stack](use))


def checked(number: int, answer: bytes) -> int:
    first = json.loads(answer.splitlines()[0])
    return int(first["marker"] == f"m{number}" and first["body"] == f"body of {number} " * 50)


def at_once(stack: str, url: str, count: int) -> None:
    if stack in SYNCHRONOUS:

        def one(number: int) -> int:
            ask = SYNCHRONOUS[stack]()
            body = f"body of {number} " * 50
            return checked(number, ask("POST", f"{url}/echo/m{number}", body.encode()))

        with ThreadPoolExecutor(count) as pool:
            print("right answers:", sum(pool.map(one, range(count))))
        return

    async def use(ask: AskLater) -> None:
        async def one(number: int) -> int:
            body = f"body of {number} " * 50
            return checked(number, await ask("POST", f"{url}/echo/m{number}", body.encode()))

        print("right answers:", sum(await asyncio.gather(*map(one, range(count)))))

    asyncio.run(ASYNCHRONOUS[stack](use))


def with_grpc(url: str) -> None:
    grpc = import_module("grpc")

    credentials = grpc.ssl_channel_credentials(Path(CA).read_bytes())
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.secure_channel(url.removeprefix("https://"), credentials, options=options) as channel:
        for size in (10, 100_000):
            message = BODY[:size]
            tell(f"unary {size}", channel.unary_unary("/truth.Echo/Unary")(message, timeout=60))
            parts = channel.unary_stream("/truth.Echo/Stream")(message, timeout=60)
            tell(f"stream {size}", b"".join(parts))


def with_openai(url: str) -> None:
    openai = import_module("openai")

    client = openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0)
    message: list[Any] = [{"role": "user", "content": "hello [unicode]"}]
    whole = client.chat.completions.create(model="test", messages=message)
    tell("chat", str(whole.choices[0].message.content).encode())
    stream = client.chat.completions.create(model="test", messages=message, stream=True)
    parts = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    tell("streamed chat", "".join(parts).encode())
    response = client.responses.create(model="test", input="hello [long]")
    tell("response", response.output_text.encode())


def with_anthropic(url: str) -> None:
    anthropic = import_module("anthropic")

    client = anthropic.Anthropic(base_url=url, api_key="x", max_retries=0)
    message: list[Any] = [{"role": "user", "content": "hello [long]"}]
    whole = client.messages.create(model="test", max_tokens=9000, messages=message)
    tell("message", whole.content[0].text.encode())
    with client.messages.stream(model="test", max_tokens=9000, messages=message) as stream:
        tell("streamed message", "".join(stream.text_stream).encode())


SDKS = {"grpc": with_grpc, "openai": with_openai, "anthropic": with_anthropic}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("stack", choices=[*SYNCHRONOUS, *ASYNCHRONOUS, *SDKS])
    parser.add_argument("url")
    parser.add_argument("--connections", type=int, default=0)
    options = parser.parse_args()
    if options.stack in SDKS:
        SDKS[options.stack](options.url)
    elif options.connections:
        at_once(options.stack, options.url, options.connections)
    else:
        step_by_step(options.stack, options.url)


if __name__ == "__main__":
    main()
