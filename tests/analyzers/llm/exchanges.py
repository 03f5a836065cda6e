"""Makes the events of HTTP exchanges whose bodies are calls, and sends them through the analyzer."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from libagenttracer.analyzers import Chain
from libagenttracer.analyzers.llm import LlmAnalyzer
from libagenttracer.analyzers.sse import SseMerger
from libagenttracer.events import Event, HttpExchange, HttpRequest, HttpResponse, LlmCall, from_json, to_json

__all__ = ["MS", "SENT_NS", "call_of", "calls_of", "exchange", "ndjson", "sse"]

MS = 1_000_000
BEGIN_NS = 10**18
SENT_NS = BEGIN_NS + 5 * MS  # the request's last byte
FIRST_NS = BEGIN_NS + 100 * MS  # the answer's first byte
END_NS = BEGIN_NS + 1100 * MS


def sse(events: Iterable[Any], *, done: bool = True, typed: bool = False) -> bytes:
    """Server-sent events of JSON; `typed`: with the "type" of each as its type."""
    pieces = [(f"event: {e['type']}\n" if typed else "") + f"data: {json.dumps(e)}\n\n" for e in events]
    return "".join([*pieces, "data: [DONE]\n\n" if done else ""]).encode()


def ndjson(values: Iterable[Any]) -> bytes:
    """Lines of JSON."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def exchange(
    path: str,
    request: Any,
    response: Any,
    *,
    number: int = 1,
    content_type: str = "application/json",
    status: int = 200,
    host: str = "llm.example.com",
    headers: Iterable[tuple[str, str]] = (),
    times: Iterable[tuple[int, int]] = (),
    pid: int = 7,
    connection: str = "c",
    reason: str | None = None,
    request_type: str = "application/json",
) -> list[Event]:
    """A request, its response (None: there is none) and the exchange; bodies are bytes, or made to JSON.

    `times`: of the response's body, milliseconds after its first byte. `reason`: the response is incomplete.
    """
    who = ("ssl", pid, "agent", "/bin/agent", connection)
    asked = HttpRequest(
        *(f"request{number}", BEGIN_NS, *who, "write", "1.1"),
        [("Host", host), ("Content-Type", request_type)],
        request if isinstance(request, bytes) else json.dumps(request).encode(),
        SENT_NS,
        method="POST",
        target=path,
        authority=host,
    )
    answer = None
    if response is not None:
        answer = HttpResponse(
            *(f"response{number}", FIRST_NS, *who, "read", "1.1"),
            [("Content-Type", content_type), *headers],
            response if isinstance(response, bytes) else json.dumps(response).encode(),
            END_NS,
            status=status,
            body_times=[(offset, FIRST_NS + ms * MS) for offset, ms in times],
            incomplete=reason is not None,
            reason=reason,
        )
    paired = HttpExchange(
        *(f"exchange{number}", BEGIN_NS, *who, asked.id, answer.id if answer else None, None, "client"),
        *("POST", path, host, status, BEGIN_NS, SENT_NS, FIRST_NS, END_NS, (END_NS - BEGIN_NS) / MS),
        incomplete=reason is not None,
        reason=reason,
    )
    return [asked, *([answer] if answer else []), paired]


def calls_of(*exchanges: list[Event], merged: bool = False, **options: Any) -> list[LlmCall]:
    """The calls in them; checks that all other events pass, and that calls can be written and read.

    `merged`: an `SseMerger` runs before.
    """
    analyzer = LlmAnalyzer(**options)
    chain = Chain([SseMerger(), analyzer] if merged else [analyzer])
    events = [event for events in exchanges for event in events]
    given = [made for event in events for made in chain.feed(event)] + [*chain.flush()]
    calls = [event for event in given if isinstance(event, LlmCall)]
    if not merged:
        assert [event for event in given if not isinstance(event, LlmCall)] == events
    assert [from_json(to_json(call)) for call in calls] == calls
    return calls


def call_of(path: str, request: Any, response: Any, **options: Any) -> LlmCall:
    """The call that is one exchange."""
    (call,) = calls_of(exchange(path, request, response, **options))
    assert call.http_request_id == "request1"
    assert call.http_exchange_id == "exchange1"
    return call
