"""Watch AI agents from outside with eBPF: what they say inside TLS, without changing them.

for event in libagenttracer.trace_ssl(comm="python"):
    print(event.pid, event.direction, event.payload)

Names are imported when they are first used: importing the package costs little and needs no privileges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._lazy import load_name

if TYPE_CHECKING:
    from .binding import Link, Map, Object, ObjectSpec, Program, Record, RingBuffer, record_class
    from .errors import AgentTracerError
    from .events import Event, Loss, SslData, SslHandshake, SslSendfile, UnknownEvent, from_json, to_json
    from .outputs import JsonLines, Text
    from .runners.replay import replay
    from .runners.runner import Stats
    from .runners.ssl import SslRunner, trace_ssl

__version__ = "0.1.0"

__all__ = [
    "AgentTracerError",
    "Event",
    "JsonLines",
    "Link",
    "Loss",
    "Map",
    "Object",
    "ObjectSpec",
    "Program",
    "Record",
    "RingBuffer",
    "SslData",
    "SslHandshake",
    "SslRunner",
    "SslSendfile",
    "Stats",
    "Text",
    "UnknownEvent",
    "__version__",
    "from_json",
    "record_class",
    "replay",
    "to_json",
    "trace_ssl",
]

_HOMES = {
    "binding": ("Link", "Map", "Object", "ObjectSpec", "Program", "Record", "RingBuffer", "record_class"),
    "errors": ("AgentTracerError",),
    "events": (
        "Event",
        "Loss",
        "SslData",
        "SslHandshake",
        "SslSendfile",
        "UnknownEvent",
        "from_json",
        "to_json",
    ),
    "outputs": ("JsonLines", "Text"),
    "runners.replay": ("replay",),
    "runners.runner": ("Stats",),
    "runners.ssl": ("SslRunner", "trace_ssl"),
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOMES, name)
