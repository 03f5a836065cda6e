"""How much is kept, so that no peer can make memory grow."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Limits"]


@dataclass(frozen=True)
class Limits:
    """Bounds of the HTTP decoders.

    Attributes:
        max_body_bytes: of a decoded body, or of a WebSocket message; what is beyond is not kept.
        max_head_bytes: of a message's headers together.
        max_headers: how many of them.
        max_ratio: decoded bytes for each byte that was carried; checked above `ratio_floor_bytes`.
        ratio_floor_bytes: decoded bytes that are never taken for a bomb.
        max_encodings: of one body, one in another.
        max_outstanding: requests of a connection without response.
        max_streams: open streams of an HTTP/2 connection.
        max_connections: connections that are followed.
        max_held_bytes: bodies of all streams of one connection that are being received, together.
    """

    max_body_bytes: int = 32 << 20
    max_head_bytes: int = 256 << 10
    max_headers: int = 1000
    max_ratio: int = 200
    ratio_floor_bytes: int = 1 << 20
    max_encodings: int = 3
    max_outstanding: int = 1000
    max_streams: int = 1000
    max_connections: int = 4096
    max_held_bytes: int = 128 << 20
