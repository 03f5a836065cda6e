"""Watch AI agents from outside with eBPF: what they say inside TLS, and what they do.

for event in libagenttracer.trace_ssl(comm="python"):
    print(event.pid, event.direction, event.payload)

Names are imported when they are first used: importing the package costs little and needs no privileges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._lazy import load_name

if TYPE_CHECKING:
    from .analyzers import Analyzer, Chain, MinimumLifetime, RepeatMerger
    from .binding import Link, Map, Object, ObjectSpec, Program, Record, RingBuffer, record_class
    from .errors import AgentTracerError
    from .events import (
        DnsQuery,
        Event,
        FileChmod,
        FileChown,
        FileClose,
        FileDelete,
        FileEvent,
        FileLink,
        FileMkdir,
        FileOpen,
        FileRename,
        FileRmdir,
        FileTruncate,
        Loss,
        NetAccept,
        NetBind,
        NetClose,
        NetConnect,
        NetEvent,
        NetListen,
        NetSend,
        ProcessEvent,
        ProcessExec,
        ProcessExit,
        ProcessFork,
        ShellLine,
        SignalSend,
        SslData,
        SslHandshake,
        SslSendfile,
        UnknownEvent,
        from_json,
        to_json,
    )
    from .outputs import JsonLines, ProcessTree, Text
    from .runners.process import ProcessRunner, trace_process
    from .runners.replay import replay
    from .runners.runner import Stats
    from .runners.ssl import SslRunner, trace_ssl

__version__ = "0.1.0"

__all__ = [
    "AgentTracerError",
    "Analyzer",
    "Chain",
    "DnsQuery",
    "Event",
    "FileChmod",
    "FileChown",
    "FileClose",
    "FileDelete",
    "FileEvent",
    "FileLink",
    "FileMkdir",
    "FileOpen",
    "FileRename",
    "FileRmdir",
    "FileTruncate",
    "JsonLines",
    "Link",
    "Loss",
    "Map",
    "MinimumLifetime",
    "NetAccept",
    "NetBind",
    "NetClose",
    "NetConnect",
    "NetEvent",
    "NetListen",
    "NetSend",
    "Object",
    "ObjectSpec",
    "ProcessEvent",
    "ProcessExec",
    "ProcessExit",
    "ProcessFork",
    "ProcessRunner",
    "ProcessTree",
    "Program",
    "Record",
    "RepeatMerger",
    "RingBuffer",
    "ShellLine",
    "SignalSend",
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
    "trace_process",
    "trace_ssl",
]

_HOMES = {
    "binding": ("Link", "Map", "Object", "ObjectSpec", "Program", "Record", "RingBuffer", "record_class"),
    "errors": ("AgentTracerError",),
    "events": (
        "DnsQuery",
        "Event",
        "FileChmod",
        "FileChown",
        "FileClose",
        "FileDelete",
        "FileEvent",
        "FileLink",
        "FileMkdir",
        "FileOpen",
        "FileRename",
        "FileRmdir",
        "FileTruncate",
        "Loss",
        "NetAccept",
        "NetBind",
        "NetClose",
        "NetConnect",
        "NetEvent",
        "NetListen",
        "NetSend",
        "ProcessEvent",
        "ProcessExec",
        "ProcessExit",
        "ProcessFork",
        "ShellLine",
        "SignalSend",
        "SslData",
        "SslHandshake",
        "SslSendfile",
        "UnknownEvent",
        "from_json",
        "to_json",
    ),
    "analyzers": ("Analyzer", "Chain", "MinimumLifetime", "RepeatMerger"),
    "outputs": ("JsonLines", "ProcessTree", "Text"),
    "runners.process": ("ProcessRunner", "trace_process"),
    "runners.replay": ("replay",),
    "runners.runner": ("Stats",),
    "runners.ssl": ("SslRunner", "trace_ssl"),
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOMES, name)
