"""Text for people, of HTTP and what it carries: one line for each event."""

from __future__ import annotations

import json
import re
import shlex
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from ..events import (
    ConnectionEvent,
    Event,
    HttpBody,
    HttpExchange,
    HttpMessage,
    HttpRequest,
    HttpResponse,
    McpCall,
    SseEvent,
    SseStream,
    UnknownProtocol,
    WebSocketMessage,
)
from .process_text import one_line

__all__ = ["HttpText", "as_json", "byte_size", "milliseconds", "who_label"]

_WHO_WIDTH = 17  # as of the lines about processes
_MAX_NAME = 200
_MAX_PREVIEW = 100
_MAX_REMEMBERED = 4096
_BLANK = re.compile(r"[\s'\"]")
_Paint = Callable[[str, str], str]


class HttpText:
    """Describes events of HTTP, WebSocket, SSE and MCP.

    An exchange's line says what its messages are too, so these have no lines of their own.

    Args:
        extra: lines for requests, responses and parts of bodies too, and connections.
        paint: puts text into a colour: "write", "read", "failure" or "dim".
    """

    def __init__(self, extra: bool, paint: _Paint) -> None:
        self._extra = extra
        self._paint = paint
        # size and type of the messages that wait for their exchange
        self._messages: OrderedDict[str, tuple[int, str]] = OrderedDict()
        self._describe: dict[type[Event], Callable[[Any], str | None]] = {
            HttpRequest: self._request,
            HttpResponse: self._response,
            HttpExchange: self._exchange,
            HttpBody: self._body,
            WebSocketMessage: self._websocket,
            SseEvent: self._sse_event,
            SseStream: self._sse_stream,
            McpCall: self._mcp,
            UnknownProtocol: self._unknown,
        }

    def line(self, event: Event) -> str | None:
        """What happened, without the time; "" if it is not shown, nothing for an event of another kind."""
        describe = self._describe.get(type(event))
        if describe is None or not isinstance(event, ConnectionEvent):
            return None
        text = describe(event)
        if not text:
            return ""
        tail = self._paint("dim", f"  [{one_line(event.connection_id)}]") if self._extra else ""
        return f"{who_label(event.comm, event.pid)} {text}{tail}"

    # each of these escapes what is not its own

    def _request(self, event: HttpRequest) -> str:
        size = self._remember(event)
        if not self._extra:
            return ""
        sent = event.direction == "write"
        return self._asked(sent, event.method, event.authority, event.target, size) + self._failed(event)

    def _response(self, event: HttpResponse) -> str:
        size = self._remember(event)
        if not self._extra:
            return ""
        return self._answered(event.direction == "write", event.status, size) + self._failed(event)

    def _exchange(self, event: HttpExchange) -> str:
        asked, answered = (
            self._messages.pop(key or "", None) for key in (event.request_id, event.response_id)
        )
        client = event.role == "client"
        text = self._asked(client, event.method, event.authority, event.target, asked)
        if event.response_id is not None:
            text += f" {self._answered(not client, event.status, answered)}"
        if event.duration_ms is not None:
            text += f" in {milliseconds(event.duration_ms)}"
        return text + self._failed(event)

    def _remember(self, message: HttpMessage) -> tuple[int, str]:
        content_type = (message.header("content-type") or "").partition(";")[0].strip()
        known = self._messages[message.id] = message.body_bytes, content_type[:_MAX_PREVIEW]
        if len(self._messages) > _MAX_REMEMBERED:
            self._messages.popitem(last=False)
        return known

    def _asked(
        self, sent: bool, method: str, authority: str, target: str, known: tuple[int, str] | None
    ) -> str:
        whole = "://" in target.partition("?")[0] or (target and not target.startswith(("/", "*")))
        url = self._name(target if whole else f"https://{authority or '?'}{target}")
        size = f" {byte_size(known[0])}" if known and known[0] else ""
        return f"{self._arrow(sent)} {self._name(method) if method else '?'} {url}{size}"

    def _answered(self, sent: bool, status: int, known: tuple[int, str] | None) -> str:
        code = str(status) if status else "?"
        words = [self._arrow(sent), self._paint("failure", code) if status >= 400 else code]
        if known is not None:
            words += [self._name(known[1])] if known[1] else []
            words.append(byte_size(known[0]))
        return " ".join(words)

    def _body(self, event: HttpBody) -> str:
        if not self._extra:
            return ""
        part = f"part of a body at {event.offset}, {byte_size(len(event.payload))}"
        return self._paint("dim", part + (", the last one" if event.last else ""))

    def _websocket(self, event: WebSocketMessage) -> str:
        text = f"{self._arrow(event.direction == 'write')} ws {one_line(event.opcode)}"
        if event.close_code is not None:
            text += f" {event.close_code}"
        text += f" {byte_size(len(event.payload))}"
        if self._extra:
            text += f" wss://{self._name((event.authority or '?') + event.target)}"
        if event.payload and event.opcode in ("text", "close"):
            text += f"  {self._preview(event.payload.decode(errors='replace'))}"
        return text + self._failed(event)

    def _sse_event(self, event: SseEvent) -> str:
        kind = "" if event.event == "message" else f" {self._name(event.event)}"
        return f"{self._paint('read', 'sse')} #{event.index}{kind}  {self._preview(event.data)}"

    def _sse_stream(self, event: SseStream) -> str:
        size = sum(len(item.data) for item in event.events)
        took = milliseconds(max(0, event.last_byte_ns - event.timestamp_ns) / 1e6)
        count = len(event.events)
        text = f"{self._paint('read', 'sse')} stream of {count} event{'s' * (count != 1)}, "
        return text + f"{byte_size(size)} in {took}" + self._failed(event)

    def _mcp(self, event: McpCall) -> str:
        sender = "(from the server) " if event.sender == "server" else ""
        text = f"{self._paint('signal', 'mcp')} {sender}{self._name(event.method)}"
        if event.tool_name is not None:
            text += f" {self._name(event.tool_name)}"
            if event.tool_arguments is not None:
                text += f" {self._preview(as_json(event.tool_arguments))}"
        elif self._extra and event.params is not None:
            text += f" {self._preview(as_json(event.params))}"
        if event.error is not None:
            text += " " + self._paint("failure", f"error {self._preview(as_json(event.error))}")
        elif event.result is not None:
            failed = isinstance(event.result, dict) and event.result.get("isError") is True
            result = f"= {self._preview(as_json(event.result))}"
            text += " " + (self._paint("failure", result) if failed else result)
        if event.duration_ms is not None:
            text += f" in {milliseconds(event.duration_ms)}"
        return text + self._failed(event)

    def _unknown(self, event: UnknownProtocol) -> str:
        took = milliseconds(max(0, event.last_ns - event.first_ns) / 1e6)
        carried = f"sent {byte_size(event.written_bytes)}, received {byte_size(event.read_bytes)}"
        return self._paint("dim", f"unknown protocol: {carried} in {took}")

    def _failed(self, event: Any) -> str:
        if not event.incomplete:
            return ""
        return "  " + self._paint(
            "failure", f"incomplete: {one_line(event.reason) or 'something is missing'}"
        )

    def _arrow(self, sent: bool) -> str:
        return self._paint("write", "→") if sent else self._paint("read", "←")

    def _name(self, text: str) -> str:
        """In quotes where it has blanks or quotes, so that it does not look like more of the line."""
        cut = text if self._extra else text[:_MAX_NAME]
        quoted = shlex.quote(cut) if not cut or _BLANK.search(cut) else cut
        return one_line(quoted) + ("…" if len(cut) < len(text) else "")

    def _preview(self, text: str) -> str:
        """On one line; the beginning of it, unless all is asked for."""
        if self._extra or len(text) <= _MAX_PREVIEW:
            return one_line(text)
        return f"{one_line(text[:_MAX_PREVIEW])}…"


def who_label(comm: str, pid: int) -> str:
    """A process; whoever has brackets in its name could pass for another one."""
    return f"{one_line(shlex.quote(comm) if '[' in comm else comm) or '?'}[{pid}]".ljust(_WHO_WIDTH)


def byte_size(count: int) -> str:
    """A number of bytes for people: "999 B", "3.2 KiB"."""
    if count < 1024:
        return f"{count} B"
    size = count / 1024
    for unit in ("KiB", "MiB"):
        if size < 1023.95:
            return f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def milliseconds(ms: float) -> str:
    """A time for people: "0.4 ms", "120 ms", "2.1 s"."""
    if ms < 9.95:
        return f"{ms:.1f} ms"
    return f"{ms:.0f} ms" if ms < 999.5 else f"{ms / 1000:.1f} s"


def as_json(value: Any) -> str:
    """JSON on one line, for people; a string is itself."""
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value, ensure_ascii=False, default=str)
    except (ValueError, TypeError, RecursionError):
        return "(cannot be shown)"
