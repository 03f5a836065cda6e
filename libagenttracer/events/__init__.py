"""The events: owned, typed, immutable values, and their JSON form."""

from __future__ import annotations

from .base import Event, UnknownEvent, event_type, event_types, from_json, json_schema, to_json
from .loss import Loss
from .ssl import SslData, SslHandshake, SslSendfile

__all__ = [
    "Event",
    "Loss",
    "SslData",
    "SslHandshake",
    "SslSendfile",
    "UnknownEvent",
    "event_type",
    "event_types",
    "from_json",
    "json_schema",
    "to_json",
]
