"""The event that a call becomes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

from ...events import ConnectionEvent, LlmCall, derived_id
from .base import Draft
from .conversations import Conversations
from .providers import provider_name, server_of

__all__ = ["Origin", "make_call", "path_of"]

_NOT_IN_CALL = {"reasons", "first_content_ns", "previous_response_id", "provider_name", "conversation_id"}
_SHARED = tuple(field.name for field in fields(Draft) if field.name not in _NOT_IN_CALL)


@dataclass
class Origin:
    """Where a call came from.

    Attributes:
        event: whose id the call's follows from: the exchange, or the message that asked.
        sent: the request, or that message again.
        authority, target: of the request.
        sent_ns: when the request's last byte came, nanoseconds since the epoch.
        end_ns: when the answer's last byte came; None if there is none.
        status: of HTTP.
        headers: of the answer.
        request_id, response_id, exchange_id: of the events.
    """

    event: ConnectionEvent
    sent: ConnectionEvent
    authority: str
    target: str
    sent_ns: int
    end_ns: int | None = None
    status: int | None = None
    headers: Iterable[tuple[str, str]] = ()
    request_id: str | None = None
    response_id: str | None = None
    exchange_id: str | None = None


def path_of(target: str) -> str:
    """The path of a request's target, without the query; also of one that is a whole URL."""
    path = target.partition("?")[0].partition("#")[0]
    return path if path.startswith("/") else "/" + path.partition("://")[2].partition("/")[2]


def make_call(draft: Draft, origin: Origin, conversations: Conversations) -> LlmCall:
    """The event of a call that is over; finds out whose model it is, and which conversation it belongs to."""
    event, sent = origin.event, origin.sent
    call_id = derived_id(event.id, "llm_call")
    headers = [(name.lower(), value) for name, value in origin.headers]
    host, port = server_of(origin.authority, tls=sent.source == "ssl")
    draft.provider_name = provider_name(
        *(host, port, path_of(origin.target), draft.provider_name), (name for name, _ in headers)
    )
    begin_ns, first_ns, end_ns = sent.timestamp_ns, draft.first_content_ns, origin.end_ns
    to_first = tokens_per_second = None
    if draft.streaming and first_ns is not None:
        if first_ns >= origin.sent_ns:
            to_first = (first_ns - origin.sent_ns) / 1e6
        if draft.output_tokens is not None and end_ns is not None and end_ns > first_ns:
            tokens_per_second = draft.output_tokens * 1e9 / (end_ns - first_ns)
    shared: dict[str, Any] = {name: getattr(draft, name) for name in _SHARED}
    return LlmCall(
        id=call_id,
        timestamp_ns=begin_ns,
        source=event.source,
        pid=event.pid,
        comm=event.comm,
        exe=event.exe,
        connection_id=event.connection_id,
        provider_name=draft.provider_name,
        conversation_id=conversations.id_of(draft, call_id, event.pid),
        server_address=host,
        server_port=port,
        status=origin.status,
        rate_limit={
            name: value for name, value in headers if "ratelimit" in name or name.startswith("retry-after")
        },
        time_to_first_token_ms=to_first,
        duration_ms=(end_ns - begin_ns) / 1e6 if end_ns is not None else None,
        tokens_per_second=tokens_per_second,
        http_request_id=origin.request_id,
        http_response_id=origin.response_id,
        http_exchange_id=origin.exchange_id,
        incomplete=bool(draft.reasons),
        reason=",".join(sorted(draft.reasons)) or None,
        **shared,
    )
