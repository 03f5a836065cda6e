"""What in JSON-RPC messages is of the Model Context Protocol."""

from __future__ import annotations

from typing import Any

__all__ = ["MAX_NAME", "is_mcp", "name_in", "object_in", "said_version"]

MAX_NAME = 4096  # characters of a session's or version's name, or of a target
_META_VERSION = "io.modelcontextprotocol/protocolVersion"  # in each request, from 2026-07-28 on
_FAMILIES = (
    *("notifications/", "tools/", "resources/", "prompts/", "completion/", "logging/", "sampling/"),
    *("elicitation/", "roots/", "server/discover", "subscriptions/"),
)


def name_in(value: Any) -> str:
    """A value that is a name of a reasonable length; else ""."""
    return value if isinstance(value, str) and len(value) <= MAX_NAME else ""


def object_in(value: Any) -> dict[str, Any]:
    """A value that is an object; else an empty one."""
    return value if isinstance(value, dict) else {}


def said_version(message: dict[str, Any]) -> str:
    """The protocol version that a message itself tells, as it does from 2026-07-28 on; "" if it does not."""
    return name_in(object_in(object_in(message.get("params")).get("_meta")).get(_META_VERSION))


def is_mcp(message: dict[str, Any]) -> bool:
    """Whether a message is of MCP, not of another use of JSON-RPC."""
    method = message.get("method")
    if method == "initialize":
        return bool(name_in(object_in(message.get("params")).get("protocolVersion")))
    return isinstance(method, str) and (method.startswith(_FAMILIES) or bool(said_version(message)))
