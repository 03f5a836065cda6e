"""Many calls at the same time: `many_calls.py MODE --url … --ca …`, prints how many were answered rightly.

Each call has a marker in its path and its body, and is answered with it. The modes:

    http1-threads       8 threads, 20 connections of httpx, any of them used by any thread
    http1-pipelined     8 threads, 20 connections, 10 calls sent on each of them before any answer is read
    http2-asynchronous  200 calls on one connection, httpx and asyncio
    http2-threads       the same from 200 threads
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import ssl
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import httpx

CALLS, CONNECTIONS, THREADS = 200, 20, 8
END_OF_CHUNKS = b"\r\n0\r\n\r\n"


def content(number: int) -> bytes:
    return json.dumps({"marker": f"m{number}", "text": "é" * (number * 7 % 500)}).encode()


def right(number: int, body: str) -> bool:
    first = json.loads(body.split("\n", maxsplit=1)[0])
    return bool(first == {"marker": f"m{number}", "body": content(number).decode()})


def http1_threads(url: str, ca: str) -> int:
    context, limits = ssl.create_default_context(cafile=ca), httpx.Limits(max_connections=1)
    with contextlib.ExitStack() as stack:
        clients = [
            stack.enter_context(httpx.Client(verify=context, limits=limits, trust_env=False, timeout=60))
            for _ in range(CONNECTIONS)
        ]

        def call(number: int) -> bool:
            client = clients[number % CONNECTIONS]
            return right(number, client.post(f"{url}/echo/m{number}", content=content(number)).text)

        with ThreadPoolExecutor(THREADS) as threads:
            return sum(threads.map(call, range(CALLS)))


def http1_pipelined(url: str, ca: str) -> int:
    context, where = ssl.create_default_context(cafile=ca), urlsplit(url)
    assert where.hostname
    assert where.port
    address = where.hostname, where.port

    def send(at: int) -> ssl.SSLSocket:
        tls = context.wrap_socket(socket.create_connection(address), server_hostname=address[0])
        for number in range(at, CALLS, CONNECTIONS):
            body = content(number)
            head = f"POST /echo/m{number} HTTP/1.1\r\nHost: {where.netloc}\r\n"
            tls.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return tls

    def receive(at: int, tls: ssl.SSLSocket) -> int:
        expected, received = CALLS // CONNECTIONS, b""
        while received.count(END_OF_CHUNKS) < expected:
            part = tls.recv(5000)
            assert part, received
            received += part
        tls.close()
        numbers = range(at, CALLS, CONNECTIONS)
        answers = zip(numbers, received.split(END_OF_CHUNKS), strict=False)
        return sum(f"x-marker: m{number}\r\n".encode() in answer for number, answer in answers)

    with ThreadPoolExecutor(THREADS) as threads:
        opened = list(threads.map(send, range(CONNECTIONS)))  # all are sent, then others may read
        return sum(threads.map(receive, range(CONNECTIONS), opened))


def http2_asynchronous(url: str, ca: str) -> int:
    async def run() -> int:
        context, limits = ssl.create_default_context(cafile=ca), httpx.Limits(max_connections=1)
        options = {"verify": context, "limits": limits, "trust_env": False, "timeout": 60}
        async with httpx.AsyncClient(http1=False, http2=True, **options) as client:  # type: ignore[arg-type]

            async def call(number: int) -> bool:
                answer = await client.post(f"{url}/echo/m{number}", content=content(number))
                return right(number, answer.text)

            return sum(await asyncio.gather(*map(call, range(CALLS))))

    return asyncio.run(run())


def http2_threads(url: str, ca: str) -> int:
    context, limits = ssl.create_default_context(cafile=ca), httpx.Limits(max_connections=1)
    options = {"verify": context, "limits": limits, "trust_env": False, "timeout": 60}
    with httpx.Client(http1=False, http2=True, **options) as client:  # type: ignore[arg-type]

        def call(number: int) -> bool:
            return right(number, client.post(f"{url}/echo/m{number}", content=content(number)).text)

        with ThreadPoolExecutor(CALLS) as threads:
            return sum(threads.map(call, range(CALLS)))


MODES: dict[str, Callable[[str, str], int]] = {
    "http1-threads": http1_threads,
    "http1-pipelined": http1_pipelined,
    "http2-asynchronous": http2_asynchronous,
    "http2-threads": http2_threads,
}


def main() -> None:
    parser = argparse.ArgumentParser(description="Make many calls at the same time.")
    parser.add_argument("mode", choices=MODES)
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True)
    options = parser.parse_args()
    print(MODES[options.mode](options.url, options.ca))


if __name__ == "__main__":
    main()
