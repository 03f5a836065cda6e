"""Records of a connection, in any order, become its byte streams again."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers import ChunkMerger
from libagenttracer.events import Event, Loss, ProcessExit, SslData, SslSendfile, StreamData, StreamEnd

PID = 7


def data(
    offset: int,
    payload: bytes,
    *,
    direction: Literal["read", "write"] = "read",
    connection: str = "7-a-1",
    at_ns: int = 0,
    lost: bool = False,
    call_offset: int | None = None,
) -> SslData:
    return SslData(
        f"id-{connection}-{direction}-{offset}", at_ns, "ssl", PID, PID, 1, 0, "curl", "/usr/bin/curl",
        direction, len(payload), offset, connection, "SSL_read", 1, "libssl.so.3",
        b"" if lost else payload, call_offset=call_offset, incomplete=lost,
        reason="read_fault" if lost else None,
    )  # fmt: skip


def loss(offset: int, lost_bytes: int, connection: str = "7-a-1") -> Loss:
    return Loss("loss", 5, "ssl", "ring_full", 1, lost_bytes, PID, "curl", connection, "read", offset)


def run(events: Iterable[Event], **options: Any) -> list[Event]:
    merger = ChunkMerger(**options)
    return [given for event in events for given in merger.feed(event)] + [*merger.flush()]


def pieces(events: Iterable[Event], direction: str = "read") -> list[StreamData]:
    return [e for e in events if isinstance(e, StreamData) and e.direction == direction]


def put_together(found: list[StreamData]) -> bytes:
    """The stream, with a question mark for each missing byte; checks that the offsets say the same."""
    stream = b""
    for piece in found:
        stream += b"?" * piece.missing_bytes
        assert piece.offset == len(stream)
        stream += piece.payload
    return stream


CONTENT = bytes(range(1, 255)).replace(b"?", b"!") * 3


@st.composite
def records(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """The content in parts, some of them twice or overlapping, in some order."""
    cuts = sorted(draw(st.sets(st.integers(1, len(CONTENT) - 1), max_size=12)))
    parts = [
        (begin, CONTENT[begin:end]) for begin, end in zip([0, *cuts], [*cuts, len(CONTENT)], strict=True)
    ]
    again = draw(st.lists(st.sampled_from(parts), max_size=3))
    more = [(max(0, at - 5), CONTENT[max(0, at - 5) : at + 9]) for at, _ in again]
    return list(draw(st.permutations([*parts, *again, *more])))


@given(records())
def test_every_order_gives_the_stream_once(parts: list[tuple[int, bytes]]) -> None:
    found = pieces(run(data(at, part) for at, part in parts))
    assert put_together(found) == CONTENT
    assert not [piece for piece in found if piece.missing_bytes]


@given(records(), st.randoms(use_true_random=False))
def test_what_is_lost_is_a_gap_at_its_place(parts: list[tuple[int, bytes]], chance: random.Random) -> None:
    kept = [part for part in parts if chance.random() < 0.8]
    known = bytearray(b"?" * len(CONTENT))
    for at, part in kept:
        known[at : at + len(part)] = part
    found = put_together(pieces(run(data(at, part) for at, part in kept)))
    assert found == bytes(known)[: len(found)]
    assert set(known[len(found) :]) <= {ord("?")}


def test_directions_and_connections_are_kept_apart() -> None:
    found = run(
        [
            data(0, b"GET", direction="write"),
            data(0, b"200", direction="read"),
            data(0, b"PUT", direction="write", connection="7-b-2"),
            data(3, b" / ", direction="write"),
        ]
    )
    assert [(e.connection_id, e.direction, e.payload) for e in found if isinstance(e, StreamData)] == [
        ("7-a-1", "write", b"GET"),
        ("7-a-1", "read", b"200"),
        ("7-b-2", "write", b"PUT"),
        ("7-a-1", "write", b" / "),
    ]
    ends = {(e.connection_id, e.cause) for e in found if isinstance(e, StreamEnd)}
    assert ends == {("7-a-1", "end"), ("7-b-2", "end")}


def test_a_loss_that_is_told_is_a_gap_at_once() -> None:
    """So what comes behind it need not wait; also at the end of a stream, where nothing comes."""
    merger = ChunkMerger()
    list(merger.feed(data(0, b"abc")))
    told = list(merger.feed(loss(3, 4)))
    assert [type(event) for event in told] == [Loss, StreamData]
    assert put_together(pieces([*ChunkMerger().feed(data(0, b"abc")), *told])) == b"abc????"
    (piece,) = merger.feed(data(7, b"xyz"))
    assert isinstance(piece, StreamData)
    assert (piece.payload, piece.missing_bytes) == (b"xyz", 0)


def test_bytes_that_could_not_be_read_are_a_gap() -> None:
    found = pieces(run([data(0, b"abc"), data(3, b"....", lost=True), data(7, b"z")]))
    assert put_together(found) == b"abc????z"
    sent = SslSendfile(
        "x", 0, "ssl", PID, PID, 1, 0, "curl", "", "write", 9, 0, "7-a-1", "SSL_sendfile", 1, "", 3, 0
    )
    assert put_together(pieces(run([sent, data(9, b"z", direction="write")]), "write")) == b"?" * 9 + b"z"


def test_what_came_too_early_waits_only_so_long() -> None:
    merger = ChunkMerger(max_wait_ns=1000)
    list(merger.feed(data(0, b"abc")))
    assert list(merger.feed(data(5, b"f", at_ns=100))) == []
    assert list(merger.tick(1000)) == []
    (piece,) = merger.tick(1100)
    assert isinstance(piece, StreamData)
    assert (piece.payload, piece.missing_bytes) == (b"f", 2)
    assert list(merger.tick(9999)) == []


def test_what_came_too_early_takes_only_so_much_room() -> None:
    merger = ChunkMerger(max_held_bytes=100)
    found: list[Event] = []
    for at in range(1, 400, 10):
        found += merger.feed(data(at, b"x" * 10))
    assert len(put_together(pieces(found))) > 250


def test_the_place_of_a_connection_is_used_again() -> None:
    found = run([data(0, b"a", connection="7-a-1"), data(0, b"b", connection="7-a-2")])
    ends = [(e.connection_id, e.cause) for e in found if isinstance(e, StreamEnd)]
    assert ends == [("7-a-1", "reused"), ("7-a-2", "end")]


def test_too_many_connections() -> None:
    found = run((data(0, b"a", connection=f"7-{n:x}-1") for n in range(5)), max_connections=3)
    ends = [(e.connection_id, e.cause) for e in found if isinstance(e, StreamEnd)]
    assert ends[:2] == [("7-0-1", "evicted"), ("7-1-1", "evicted")]
    assert len(ends) == 5


def test_the_end_of_the_process_ends_its_connections() -> None:
    ended = ProcessExit(
        "e", 9, "process", PID, PID, 1, 0, "curl", "p", "x", "pp", 0, None, False, 1.0, 0.0, 0.0, 1
    )
    found = [*ChunkMerger().feed(data(0, b"a"))]
    merger = ChunkMerger()
    found = [*merger.feed(data(0, b"a")), *merger.feed(ended), *merger.flush()]
    assert [type(event) for event in found] == [StreamData, StreamEnd, ProcessExit]


@pytest.mark.parametrize("call_offset", [None, 0, 5])
def test_where_a_call_begins(call_offset: int | None) -> None:
    (piece,) = pieces(run([data(0, b"abc", call_offset=call_offset)]))
    assert piece.starts_call == (not call_offset)


def test_raw_events_come_first() -> None:
    raw = data(0, b"abc")
    first, second = ChunkMerger(raw=True).feed(raw)
    assert first is raw
    assert isinstance(second, StreamData)
