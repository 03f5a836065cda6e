"""Serves; see the package."""

from __future__ import annotations

import argparse
import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any, cast

from hypercorn.asyncio import serve
from hypercorn.config import Config

from ..server import certificate
from .app import App


async def _serve(directory: Path) -> None:
    cert, key = certificate(directory)
    listening = socket.create_server(("127.0.0.1", 0), backlog=512)
    port, truth = listening.getsockname()[1], directory / "truth.jsonl"
    config = Config()
    config.bind = [f"fd://{listening.detach()}"]
    config.certfile, config.keyfile = str(cert), str(key)
    config.alpn_protocols = ["h2", "http/1.1"]
    config.h2_max_concurrent_streams = 1000
    config.keep_alive_max_requests = 100_000
    config.keep_alive_timeout = 60
    config.graceful_timeout = 1
    config.loglevel = "WARNING"
    with truth.open("w", encoding="utf-8") as log:
        told = {"url": f"https://127.0.0.1:{port}", "ca": str(cert), "truth": str(truth)}
        print(json.dumps(told), flush=True)

        async def ended() -> None:
            await asyncio.to_thread(sys.stdin.read)

        await serve(cast(Any, App(log)), config, shutdown_trigger=ended)


def main() -> None:
    parser = argparse.ArgumentParser(description="Serve the APIs of language models over HTTPS.")
    parser.add_argument("--directory", type=Path, required=True, help="for certificate and log")
    asyncio.run(_serve(parser.parse_args().directory))


if __name__ == "__main__":
    main()
