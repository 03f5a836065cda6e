"""HTTP/2 traffic, made by two h2 connections that talk to each other, and recorded in both directions."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import h2.config
import h2.connection
import h2.events
import h2.settings
import msgspec

from libagenttracer.analyzers.http.http2 import Http2
from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.events import (
    Event,
    HttpBody,
    HttpExchange,
    HttpRequest,
    HttpResponse,
    StreamData,
    StreamEnd,
    WebSocketMessage,
)

Way = Literal["read", "write"]
Headers = Sequence[tuple[str, str]]
WHOSE: dict[str, Any] = {
    "source": "ssl",
    "pid": 7,
    "comm": "agent",
    "exe": "/bin/agent",
    "connection_id": "c",
}
OTHER: dict[Way, Way] = {"read": "write", "write": "read"}


class Link:
    """A client and a server, and what went over the wire: (direction, bytes) for each call.

    Args:
        client_way: the direction in which the client sends, as the observed process has it.
        client_settings, server_settings: what they announce first.
    """

    def __init__(
        self,
        client_way: Way = "write",
        client_settings: dict[Any, int] | None = None,
        server_settings: dict[Any, int] | None = None,
    ) -> None:
        self.client_way: Way = client_way
        self.sent: list[tuple[Way, bytes]] = []
        self.seen: list[h2.events.Event] = []  # by the server
        self.client = self._peer(True, client_settings)
        self.server = self._peer(False, server_settings)
        self.flow()

    def _peer(self, client: bool, settings: dict[Any, int] | None) -> h2.connection.H2Connection:
        config = h2.config.H2Configuration(
            client_side=client,
            header_encoding="utf-8",
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
            validate_inbound_headers=False,
        )
        peer = h2.connection.H2Connection(config)
        if settings:
            peer.local_settings = h2.settings.Settings(client, initial_values=settings)
        peer.initiate_connection()
        return peer

    def flow(self) -> None:
        """Lets everything arrive."""
        while self.flow_up() | self.flow_down():
            pass

    def flow_up(self) -> bool:
        return self._carry(self.client, self.server, self.client_way)

    def flow_down(self) -> bool:
        return self._carry(self.server, self.client, OTHER[self.client_way])

    def _carry(self, source: Any, target: Any, way: Way) -> bool:
        data = source.data_to_send()
        if not data:
            return False
        self.sent.append((way, data))
        for event in target.receive_data(data):
            if target is self.server:
                self.seen.append(event)
            if isinstance(event, h2.events.DataReceived) and event.flow_controlled_length:
                target.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        return True

    def ask(self, headers: Headers, body: bytes | None = None, *, step: int = 8000, **how: Any) -> int:
        """Sends a request, without waiting."""
        stream_id = self.client.get_next_available_stream_id()
        self.client.send_headers(stream_id, [*headers], end_stream=body is None, **how)
        if body is not None:
            self.send(self.client, stream_id, body, step)
        return stream_id

    def answer(
        self, stream_id: int, headers: Headers, body: bytes | None = None, *, step: int = 8000
    ) -> None:
        self.server.send_headers(stream_id, [*headers], end_stream=body is None)
        if body is not None:
            self.send(self.server, stream_id, body, step)

    def send(
        self, peer: Any, stream_id: int, body: bytes, step: int = 8000, trailers: Headers | None = None
    ) -> None:
        for start in range(0, len(body) or 1, step):
            part = body[start : start + step]
            last = start + step >= len(body) and trailers is None
            peer.send_data(stream_id, part, end_stream=last)
            self.flow()
        if trailers is not None:
            peer.send_headers(stream_id, [*trailers], end_stream=True)


def request(method: str, path: str, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    return [
        (":method", method),
        (":authority", "api.example"),
        (":scheme", "https"),
        (":path", path),
        *headers,
    ]


def response(status: int, *headers: tuple[str, str]) -> list[tuple[str, str]]:
    return [(":status", str(status)), *headers]


def pieces(
    sent: Iterable[tuple[Way, bytes]],
    cut: Callable[[bytes], Iterable[bytes]] = lambda data: [data],
    *,
    late: bool = False,
) -> list[StreamData]:
    """What was sent, each call cut as one likes."""
    given = []
    offsets = {"read": 0, "write": 0}
    for way, data in sent:
        for number, part in enumerate(cut(data)):
            given.append(
                StreamData(
                    id=f"{way}{offsets[way]}",
                    timestamp_ns=10,
                    **WHOSE,
                    direction=way,
                    offset=offsets[way],
                    payload=part,
                    starts_call=number == 0,
                    joined_late=late,
                )
            )
            offsets[way] += len(part)
    return given


def cut_in(sizes: Sequence[int]) -> Callable[[bytes], Iterable[bytes]]:
    """Cuts into pieces of these sizes, which begin again when they are used up."""
    turn = itertools.cycle(sizes)

    def cut(data: bytes) -> Iterable[bytes]:
        at = 0
        while at < len(data):
            size = next(turn)
            yield data[at : at + size]
            at += size

    return cut


def joined(sent: Iterable[tuple[Way, bytes]]) -> list[tuple[Way, bytes]]:
    """Calls that follow one another in the same direction as one."""
    given: list[tuple[Way, bytes]] = []
    for way, data in sent:
        if given and given[-1][0] == way:
            given[-1] = (way, given[-1][1] + data)
        else:
            given.append((way, data))
    return given


def lossy(fed: Iterable[StreamData], lost: set[int]) -> list[StreamData]:
    """The pieces without those of these numbers; the next of the same direction tells what is missing."""
    given = []
    missing = {"read": 0, "write": 0}
    for number, piece in enumerate(fed):
        if number in lost:
            missing[piece.direction] += len(piece.payload)
            continue
        given.append(msgspec.structs.replace(piece, missing_bytes=missing[piece.direction]))
        missing[piece.direction] = 0
    return given


def run(fed: Iterable[StreamData], *, late: bool = False, limits: Limits | None = None) -> list[Any]:
    """What is told; with the rules that always hold."""
    handler = Http2(limits or Limits(), joined_late=late)
    told: list[Any] = []
    for piece in fed:
        told += handler.data(piece)
    told += handler.end(StreamEnd(id="e", timestamp_ns=99, **WHOSE, cause="end"))
    check(told)
    return told


def check(told: Iterable[Event]) -> None:
    messages: dict[str, Any] = {}
    ids = set()
    paired = set()
    for event in told:
        assert event.id not in ids
        ids.add(event.id)
        if isinstance(event, (HttpRequest, HttpResponse)):
            messages[event.id] = event
            assert event.incomplete == bool(event.reason)
            assert event.incomplete or not event.unknown_headers
            assert event.version == "2"
        elif isinstance(event, HttpExchange):
            for message_id in (event.request_id, event.response_id):
                if message_id is not None:  # both come before
                    assert messages[message_id].stream_id == event.stream_id
                    assert event.incomplete or not messages[message_id].incomplete
                    assert message_id not in paired
                    paired.add(message_id)
            assert not (event.request_id is None or event.response_id is None) or event.incomplete
        else:
            assert isinstance(event, (HttpBody, WebSocketMessage))
    lonely = {event.id for event in messages.values() if getattr(event, "status", 0) // 100 != 1} - paired
    assert all(messages[message_id].incomplete for message_id in lonely)


def meaning(told: Iterable[Any]) -> list[Any]:
    """Events without their ids, which say in which piece something began; a body's parts joined."""
    given: list[Any] = []
    streamed: dict[str, bytes] = {}
    names = {event.id: number for number, event in enumerate(told)}
    for event in told:
        if isinstance(event, HttpBody):
            assert event.offset == len(streamed.get(event.response_id, b""))
            streamed[event.response_id] = streamed.get(event.response_id, b"") + event.payload
            continue
        if isinstance(event, HttpResponse) and event.id in streamed:
            assert streamed[event.id] == event.body
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "id"}
        for name in ("request_id", "response_id"):
            fields[name] = fields.get(name) in names
        given.append((event.event_type, fields))
    return given


def by_type(told: Iterable[Any], cls: type[Any]) -> list[Any]:
    return [event for event in told if type(event) is cls]
