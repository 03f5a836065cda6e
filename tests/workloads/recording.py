"""Reads a recording (JSON Lines) without libagenttracer's help: what each traced connection said.

So it can check an installed package from outside, on any Python.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Conversation", "conversations"]


@dataclass
class Conversation:
    """One connection of one process."""

    pid: int
    comm: str
    exe: str
    library: str
    sent: bytes = b""
    received: bytes = b""
    remote: tuple[str | None, int | None] = (None, None)
    server_name: str | None = None


def conversations(recording: Path) -> list[Conversation]:
    """The connections in the order in which they begin.

    Raises:
        ValueError: something is missing from one, or was lost.
    """
    found: dict[str, Conversation] = {}
    where: dict[str, dict[str, Any]] = {}
    for line in recording.read_text().splitlines():
        event = json.loads(line)
        data: dict[str, Any] = event["data"]
        if event["event_type"] == "loss":
            raise ValueError(f"there was a loss: {data}")
        if event["event_type"] == "ssl_connection":
            where[data["connection_id"]] = data
        if event["event_type"] != "ssl_data":
            continue
        text = data.get("payload", "")
        payload = base64.b64decode(text) if "encoding" in data else text.encode()
        one = found.setdefault(
            data["connection_id"], Conversation(data["pid"], data["comm"], data["exe"], data["library"])
        )
        before = one.sent if data["direction"] == "write" else one.received
        if data["offset"] != len(before) or data["data_len"] != len(payload):
            raise ValueError(f"after {len(before)} bytes comes {data}")
        if data["direction"] == "write":
            one.sent += payload
        else:
            one.received += payload
    for connection_id, one in found.items():
        if connection_id in where:
            data = where[connection_id]
            one.remote = data["remote_address"], data["remote_port"]
            one.server_name = data["server_name"]
    return list(found.values())
