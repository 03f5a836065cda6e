"""What a name in a filter means: an attribute of events, its name in JSON, or a name within a group."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable
from functools import cache
from operator import attrgetter
from typing import Any, get_args

import msgspec

from ...events import (
    DnsQuery,
    Event,
    FileEvent,
    HttpBody,
    HttpExchange,
    HttpMessage,
    LlmCall,
    Loss,
    McpCall,
    NetEvent,
    ProcessEvent,
    ShellLine,
    SignalSend,
    SseEvent,
    SseStream,
    SslData,
    SslHandshake,
    SslSendfile,
    StreamData,
    UnknownEvent,
    WebSocketMessage,
    event_types,
)

__all__ = ["Getters", "field_names", "getters", "suggestions", "value_kind"]

Getter = Callable[[Any], Any]
Getters = dict[type[Event], Getter]

# the groups: `http.target` is the attribute `target` of these classes (and of those below them)
GROUPS: dict[str, tuple[type[Event], ...]] = {
    "http": (HttpMessage, HttpExchange, HttpBody),
    "ws": (WebSocketMessage,),
    "sse": (SseEvent, SseStream),
    "llm": (LlmCall,),
    "mcp": (McpCall,),
    "process": (ProcessEvent,),
    "file": (FileEvent,),
    "net": (NetEvent,),
    "dns": (DnsQuery,),
    "signal": (SignalSend,),
    "shell": (ShellLine,),
    "ssl": (SslData, SslHandshake, SslSendfile),
    "stream": (StreamData,),
    "loss": (Loss,),
}


def _models(call: LlmCall) -> list[str | None]:
    return [call.request_model, call.response_model]


def _tools(call: LlmCall) -> list[Any]:
    return [tool.get("name") for tool in call.tool_calls]


def _headers(message: HttpMessage) -> dict[str, list[str]]:
    """The values of all headers by their names in small letters."""
    values: dict[str, list[str]] = {}
    for name, value in message.headers:
        values.setdefault(name.lower(), []).append(value)
    return values


# other names, and what they are: an attribute, or a function for what is no attribute
ALIASES: dict[str, tuple[tuple[type[Event], str | Getter], ...]] = {
    "type": ((Event, "event_type"),),
    "http.status": ((HttpMessage, "status"), (HttpExchange, "status"), (LlmCall, "status")),
    "http.host": ((HttpMessage, "authority"), (HttpExchange, "authority")),
    "http.header": ((HttpMessage, _headers),),
    "ws.host": ((WebSocketMessage, "authority"),),
    "llm.model": ((LlmCall, _models),),
    "llm.tool": ((LlmCall, _tools),),
    "llm.provider": ((LlmCall, "provider_name"),),
    "llm.operation": ((LlmCall, "operation_name"),),
    "llm.error": ((LlmCall, "error_type"),),
    "llm.finish_reason": ((LlmCall, "finish_reasons"),),
    "llm.host": ((LlmCall, "server_address"),),
    "mcp.tool": ((McpCall, "tool_name"),),
    "mcp.arguments": ((McpCall, "tool_arguments"),),
    "dns.type": ((DnsQuery, "query_type"),),
}


def _classes() -> Iterable[type[Event]]:
    return (*event_types().values(), UnknownEvent)


@cache
def _types(cls: type[Event]) -> dict[str, Any]:
    """The types of a class's attributes."""
    return {field.name: field.type for field in msgspec.structs.fields(cls)}


@cache
def _attributes(cls: type[Event]) -> dict[str, str]:
    """Attributes by the names that they can have in a filter."""
    names = {name: name for name in (*cls.__struct_fields__, "timestamp")}
    names.update({field.encode_name: field.name for field in msgspec.structs.fields(cls)})
    names["event_type"] = "type_name" if cls is UnknownEvent else "event_type"
    return names


def _sources(name: str) -> dict[type[Event], str | Getter]:
    """Where a field comes from in each class of events that has it."""
    group, _, rest = name.partition(".")
    if name in ALIASES:
        bases = ALIASES[name]
        return {
            cls: source
            for cls in _classes()
            for base, source in bases
            if issubclass(cls, base) and (callable(source) or source in _attributes(cls))
        }
    members = GROUPS.get(group, ())
    found: dict[type[Event], str | Getter] = {}
    for cls in _classes():
        attributes = _attributes(cls)
        if name in attributes:
            found[cls] = attributes[name]
        elif rest in attributes and issubclass(cls, members):
            found[cls] = attributes[rest]
    return found


def getters(name: str) -> Getters:
    """How to get a field from each class of events that has it; empty if there is no such field."""
    return {
        cls: attrgetter(_attributes(cls).get(source, source)) if isinstance(source, str) else source
        for cls, source in _sources(name).items()
    }


def value_kind(name: str) -> str:
    """ "number" or "text" if the field is nothing else in any event; "" for all others."""
    kinds: set[Any] = set()
    for cls, source in _sources(name).items():
        type_ = _types(cls).get(source) if isinstance(source, str) else None
        kinds.update(get_args(type_) or (type_,))
    kinds.discard(type(None))
    if kinds and kinds <= {int, float}:
        return "number"
    return "text" if kinds and kinds <= {str, bytes} else ""


def field_names() -> set[str]:
    """All names that a filter can use."""
    names = set(ALIASES)
    for cls in _classes():
        own = _attributes(cls)
        names.update(own)
        for group, bases in GROUPS.items():
            if issubclass(cls, bases):
                names.update(f"{group}.{name}" for name in own if "." not in name)
    return names


def suggestions(name: str) -> list[str]:
    """Fields whose names are like one that does not exist."""
    names = field_names()
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    last = name.rpartition(".")[2]
    return close or sorted(known for known in names if known.rpartition(".")[2] == last)[:3]
