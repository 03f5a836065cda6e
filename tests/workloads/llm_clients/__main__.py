"""Runs one SDK; see the package."""

from __future__ import annotations

import argparse
import asyncio
import importlib

from .common import Connection, have, have_async, talks


async def _all_at_once(module: object, connection: Connection) -> None:
    async with module.asking_async(connection) as ask:  # type: ignore[attr-defined]
        chosen = talks(module.SCENARIOS)  # type: ignore[attr-defined]
        await asyncio.gather(*(have_async(talk, ask) for talk in chosen))


def main() -> None:
    parser = argparse.ArgumentParser(description="Ask a local server by a real SDK.")
    parser.add_argument("sdk", help="a module of this package, for instance sdk_openai")
    parser.add_argument("--url", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--http2", action="store_true")
    parser.add_argument("--asynchronous", action="store_true", help="all conversations at the same time")
    options = parser.parse_args()
    module = importlib.import_module(f".{options.sdk}", __package__)
    connection = Connection(options.url, options.ca, options.http2)
    if options.asynchronous:
        asyncio.run(_all_at_once(module, connection))
        return
    with module.asking(connection) as ask:
        for talk in talks(module.SCENARIOS):
            have(talk, ask)


if __name__ == "__main__":
    main()
