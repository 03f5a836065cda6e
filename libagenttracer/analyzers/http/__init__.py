"""HTTP out of a connection's bytes: all versions, and WebSocket."""

from __future__ import annotations
