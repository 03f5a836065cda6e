"""WebSocket messages come out whole, however the bytes are cut, and are marked where bytes are missing."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.extensions.permessage_deflate import PerMessageDeflate
from websockets.frames import Frame, Opcode

from libagenttracer.analyzers.http.limits import Limits
from libagenttracer.analyzers.http.websocket import WebSocket
from libagenttracer.events import (
    HttpRequest,
    HttpResponse,
    StreamData,
    StreamEnd,
    WebSocketMessage,
    from_json,
    to_json,
)

Way = Literal["read", "write"]
WHOSE: dict[str, Any] = {
    "source": "ssl",
    "pid": 7,
    "comm": "agent",
    "exe": "/bin/agent",
    "connection_id": "c",
}
HEAD: dict[str, Any] = {"version": "1.1", "body": b"", "last_byte_ns": 1}
LIMITS = Limits(max_body_bytes=1000, ratio_floor_bytes=4096, max_ratio=20)
TEXTS = ["hello", "größer " * 20, "", "x" * 300, '{"a": 1}' * 5, "y" * 70]


def socket(extensions: str = "", limits: Limits | None = None, **changes: Any) -> WebSocket:
    request = HttpRequest(
        id="r", timestamp_ns=1, direction="write", method="GET", target="/chat", headers=[], **WHOSE, **HEAD
    )
    headers = [("Upgrade", "websocket")]
    if extensions:
        headers.append(("Sec-WebSocket-Extensions", extensions))
    response = HttpResponse(
        **{
            **WHOSE,
            **HEAD,
            **{"id": "s", "timestamp_ns": 2, "direction": "read", "status": 101, "headers": headers},
            **changes,
        }
    )
    return WebSocket(request, response, limits or Limits(), "write")


class Peer:
    """One end, which makes frames with the `websockets` package; each may have extensions."""

    def __init__(self, way: Way, deflate: PerMessageDeflate | None = None) -> None:
        self.way = way
        self.deflate = deflate

    def frame(self, opcode: Opcode, data: bytes, fin: bool = True, plain: bool = False) -> bytes:
        extensions = [self.deflate] if self.deflate and not plain else []
        return Frame(opcode, data, fin).serialize(mask=self.way == "write", extensions=extensions)

    def text(self, text: str, **options: Any) -> bytes:
        return self.frame(Opcode.TEXT, text.encode(), **options)


def deflate(no_takeover: bool = False, bits: int = 15) -> PerMessageDeflate:
    return PerMessageDeflate(no_takeover, no_takeover, bits, bits)


def piece(
    way: Way, number: int, at: int, offset: int, payload: bytes, missing: int = 0, starts: bool = True
) -> StreamData:
    return StreamData(
        **{**WHOSE, "id": f"{way}{number}", "timestamp_ns": at, "direction": way, "offset": offset},
        payload=payload,
        missing_bytes=missing,
        starts_call=starts,
    )


def pieces(way: Way, chunks: Iterable[bytes], at: int = 10) -> list[StreamData]:
    given = []
    offset = 0
    for number, chunk in enumerate(chunks):
        given.append(piece(way, number, at, offset, chunk))
        offset += len(chunk)
    return given


def lossy(way: Way, chunks: Iterable[bytes], lost: set[int]) -> list[StreamData]:
    given = []
    missing = offset = 0
    for number, chunk in enumerate(chunks):
        if number in lost:
            missing += len(chunk)
        else:
            given.append(piece(way, number, number, offset, chunk, missing))
            missing = 0
        offset += len(chunk)
    return given


def run(handler: WebSocket, fed: Iterable[StreamData], end: bool = True) -> list[WebSocketMessage]:
    told: list[Any] = [event for piece in fed for event in handler.data(piece)]
    if end:
        told += handler.end(StreamEnd(id="e", timestamp_ns=99, cause="end", **WHOSE))
    for event in told:
        assert type(event) is WebSocketMessage
        assert from_json(to_json(event)) == event
        assert event.incomplete == bool(event.reason)
    assert len({event.id for event in told}) == len(told)
    return told


def meaning(messages: Iterable[WebSocketMessage]) -> list[tuple[Any, ...]]:
    return [
        (
            m.direction,
            m.opcode,
            m.payload,
            m.compressed,
            m.close_code,
            m.timestamp_ns,
            m.last_byte_ns,
            m.reason,
        )
        for m in messages
    ]


def summary(messages: Iterable[WebSocketMessage]) -> list[tuple[str, bytes, str | None]]:
    return [(m.opcode, m.payload, m.reason) for m in messages]


def conversation(peer: Peer) -> bytes:
    """Whole and fragmented messages, control frames between the fragments, and a close."""
    return b"".join(
        (
            *(peer.text(text) for text in TEXTS),
            peer.frame(Opcode.TEXT, b"one \xc3", fin=False),
            peer.frame(Opcode.PING, b"are you there"),
            peer.frame(Opcode.CONT, b"\xbc two ", fin=False),
            peer.frame(Opcode.PONG, b""),
            peer.frame(Opcode.CONT, b"three"),
            peer.frame(Opcode.BINARY, bytes(range(256)) * 300),
            peer.frame(Opcode.BINARY, b"plain", plain=True),
            peer.frame(Opcode.CLOSE, b"\x03\xe8done"),
        )
    )


EXPECTED = [
    *(("text", text.encode(), None) for text in TEXTS),
    ("ping", b"are you there", None),
    ("pong", b"", None),
    ("text", "one ü two three".encode(), None),
    ("binary", bytes(range(256)) * 300, None),
    ("binary", b"plain", None),
    ("close", b"done", None),
]
KINDS = [
    ("", None, None),
    ("permessage-deflate", False, 15),
    ("permessage-deflate; client_no_context_takeover; server_no_context_takeover", True, 15),
    ("foo, permessage-deflate; server_max_window_bits=9; client_max_window_bits=10", False, 9),
]


@pytest.mark.parametrize("way", ["read", "write"])
@pytest.mark.parametrize(("accepted", "no_takeover", "bits"), KINDS)
def test_a_conversation(way: Way, accepted: str, no_takeover: bool | None, bits: int | None) -> None:
    peer = Peer(way, None if no_takeover is None else deflate(no_takeover, bits or 15))
    sent = conversation(peer)
    whole = run(socket(accepted), pieces(way, [sent]))
    assert summary(whole) == EXPECTED
    assert [m.compressed for m in whole[: len(TEXTS)]] == [no_takeover is not None] * len(TEXTS)
    assert not whole[-2].compressed
    assert whole[-1].close_code == 1000
    assert {(m.target, m.request_id, m.direction) for m in whole} == {("/chat", "r", way)}
    by_bytes = run(socket(accepted), pieces(way, (bytes([byte]) for byte in sent)))
    assert meaning(by_bytes) == meaning(whole)


@settings(max_examples=40, deadline=None)
@given(kind=st.sampled_from(KINDS), cuts=st.lists(st.integers(0, 2500), max_size=30))
def test_any_split_gives_the_same(kind: tuple[str, bool | None, int | None], cuts: list[int]) -> None:
    accepted, no_takeover, bits = kind
    sent = conversation(Peer("read", None if no_takeover is None else deflate(no_takeover, bits or 15)))
    edges = [0, *sorted(min(cut, len(sent)) for cut in cuts), len(sent)]
    chunks = [sent[begin:end] for begin, end in itertools.pairwise(edges)]
    assert summary(run(socket(accepted), pieces("read", chunks))) == EXPECTED


def test_both_directions_and_times() -> None:
    ours, theirs = Peer("write").text("question"), Peer("read").text("answer")
    handler = socket()
    fed = [
        *pieces("write", [ours[:3]], at=5),
        *pieces("read", [theirs], at=6),
        *pieces("write", [ours[3:]], at=8),
    ]
    told = run(handler, fed)
    assert [(m.payload, m.direction, m.timestamp_ns, m.last_byte_ns) for m in told] == [
        (b"answer", "read", 6, 6),
        (b"question", "write", 5, 8),
    ]


def test_what_is_not_ended() -> None:
    peer = Peer("read")
    begun = peer.frame(Opcode.TEXT, b"half", fin=False) + peer.frame(Opcode.PING, b"xyz")[:-1]
    assert summary(run(socket(), pieces("read", [begun]))) == [
        ("text", b"half", "aborted"),
        ("ping", b"", "aborted"),
    ]
    assert summary(run(socket(), pieces("read", [peer.text("cut off")[:2]]))) == [("text", b"", "aborted")]


@pytest.mark.parametrize(
    ("payload", "code", "said", "reason"),
    [
        (b"", None, b"", None),
        (b"\x03", None, b"", "malformed"),
        (b"\x0f\xa1bye", 4001, b"bye", None),
        (b"\x00\x01", 1, b"", "malformed"),
        (b"\x03\xe8\xff", 1000, b"\xff", "malformed"),
    ],
)
def test_close(payload: bytes, code: int | None, said: bytes, reason: str | None) -> None:
    frame = bytes([0x88, len(payload)]) + payload
    (told,) = run(socket(), pieces("read", [frame]))
    assert (told.close_code, told.payload, told.reason) == (code, said, reason)


def test_lost_bytes_inside_a_frame_leave_the_framing() -> None:
    for way in ("read", "write"):
        sent = Peer(way).text("abcdefghij" * 10)
        after = Peer(way).text("next")
        chunks = [sent[:30], sent[30:53], sent[53:] + after]
        told = run(socket(), lossy(way, chunks, {1}))
        body = ("abcdefghij" * 10).encode()
        head = 2 if way == "read" else 6
        assert summary(told) == [
            ("text", body[: 30 - head] + body[53 - head :], "gap"),
            ("text", b"next", None),
        ]
        told = run(socket(), lossy(way, [sent[:30], sent[30:], after], {1}))  # up to the frame's end
        assert summary(told) == [("text", body[: 30 - head], "gap"), ("text", b"next", None)]
        ping = Peer(way).frame(Opcode.PING, b"0123456789")
        told = run(socket(), lossy(way, [ping[:8], ping[8:9], ping[9:] + after], {1}))
        assert summary(told) == [("ping", b"", "gap"), ("text", b"next", None)]


def test_after_a_gap_it_goes_on_where_frames_begin() -> None:
    for way in ("read", "write"):
        peer = Peer(way)
        first = peer.frame(Opcode.TEXT, b"begun", fin=False)
        chunks = [first, peer.text("lost"), peer.text("found") + peer.text("too")]
        told = run(socket(), lossy(way, chunks, {1}))
        assert summary(told) == [("text", b"begun", "gap"), ("text", b"found", None), ("text", b"too", None)]
        # bytes that are no frame's beginning are passed over, even if they begin a call
        cut = peer.text("0123456789" * 20)
        chunks = [peer.text("a"), cut[:7], cut[7:], cut[60:], peer.frame(Opcode.CONT, b"end"), peer.text("b")]
        told = run(socket(), lossy(way, chunks, {1}))
        assert summary(told) == [("text", b"a", None), ("binary", b"end", "gap"), ("text", b"b", None)]


def test_a_long_frame_after_a_gap() -> None:
    peer = Peer("read")
    sent = peer.frame(Opcode.BINARY, b"z" * 100_000)
    told = run(socket(), lossy("read", [peer.text("lost"), sent[:16384], sent[16384:]], {0}))
    assert summary(told) == [("binary", b"z" * 100_000, None)]


def test_compressed_messages_after_a_gap() -> None:
    """With a shared context they can't be read; those that are not compressed can."""
    peer = Peer("read", deflate())
    chunks = [
        peer.text("one one one"),
        peer.text("two"),
        peer.text("one one one"),
        peer.text("p", plain=True),
    ]
    told = run(socket("permessage-deflate"), lossy("read", chunks, {1}))
    assert summary(told) == [("text", b"one one one", None), ("text", b"", "gap"), ("text", b"p", None)]
    assert told[1].compressed
    peer = Peer("read", deflate(no_takeover=True))
    chunks = [peer.text("one one one"), peer.text("two"), peer.text("three")]
    fed = lossy("read", chunks, {1})
    told = run(socket("permessage-deflate; server_no_context_takeover"), fed)
    assert summary(told) == [("text", b"one one one", None), ("text", b"three", None)]
    told = run(socket("permessage-deflate; client_no_context_takeover"), fed)  # of the other direction
    assert summary(told) == [("text", b"one one one", None), ("text", b"", "gap")]


def test_a_gap_inside_a_compressed_message() -> None:
    for no_takeover in (False, True):
        peer = Peer("read", deflate(no_takeover))
        long = bytes(zlib.crc32(bytes([n])) & 0xFF for n in range(200))
        sent = peer.frame(Opcode.BINARY, long)
        chunks = [sent[:40], sent[40:90], sent[90:], peer.text("after")]
        accepted = "permessage-deflate" + "; server_no_context_takeover" * no_takeover
        first, second = run(socket(accepted), lossy("read", chunks, {1}))
        assert first.reason == "gap"
        assert long.startswith(first.payload)
        assert (second.payload, second.reason) == ((b"after", None) if no_takeover else (b"", "gap"))


def test_limits() -> None:
    peer = Peer("read", deflate())
    noise = bytes(zlib.crc32(bytes([n % 256, n // 256])) & 0xFF for n in range(1500))
    sent = [peer.frame(Opcode.BINARY, noise), peer.frame(Opcode.BINARY, noise[:100])]
    told = run(socket("permessage-deflate", LIMITS), pieces("read", sent))
    # the second one refers to what of the first one was not kept
    assert summary(told) == [("binary", noise[:1000], "too_long"), ("binary", noise[:100], None)]
    bomb = peer.frame(Opcode.BINARY, bytes(50_000_000))
    told = run(socket("permessage-deflate", LIMITS), pieces("read", [*sent, bomb, peer.text("after")]))
    assert [(m.reason, len(m.payload)) for m in told[2:]] == [("bomb", 0), ("bomb", 0)]
    plain = Peer("read")
    fragments = [plain.frame(Opcode.TEXT, b"a" * 600, fin=False), plain.frame(Opcode.CONT, b"b" * 600)]
    told = run(socket(limits=LIMITS), pieces("read", [*fragments, plain.text("next")]))
    assert summary(told) == [("text", b"a" * 600 + b"b" * 400, "too_long"), ("text", b"next", None)]


def test_a_last_block() -> None:
    """A sender may say that a block is the last one (RFC 7692, 7.2.3.4)."""
    hello = b"\xf3\x48\xcd\xc9\xc9\x07\x00\x00"
    sent = bytes([0xC1, len(hello)]) + hello
    told = run(socket("permessage-deflate; server_no_context_takeover"), pieces("read", [sent, sent]))
    assert summary(told) == [("text", b"Hello", None)] * 2
    told = run(socket("permessage-deflate"), pieces("read", [sent, sent]))
    assert summary(told) == [("text", b"Hello", None), ("text", b"", "bad_encoding")]
    more = hello + b"more"
    sent = bytes([0xC1, len(more)]) + more
    (message,) = run(socket("permessage-deflate"), pieces("read", [sent]))
    assert message.reason == "bad_encoding"


@pytest.mark.parametrize(
    "wrong",
    [
        b"\x83\x00",  # a reserved opcode
        b"\xc1\x01a",  # compressed, which was not agreed
        b"\xa1\x01a",  # a reserved bit
        b"\x81\x81aaaaa",  # masked by the server
        b"\x09\x00",  # a ping in fragments
        b"\x81\x7e\x00\x01a",  # a length in too many bytes
        b"\x89\x7e\x00\x80",  # a long ping
    ],
)
def test_what_is_no_frame(wrong: bytes) -> None:
    peer = Peer("read")
    chunks = [peer.text("before"), wrong + peer.text("x"), b"HTTP/1.1 200 OK\r\n\r\n", peer.text("behind")]
    told = run(socket(), pieces("read", chunks))
    assert summary(told) == [
        ("text", b"before", None),
        ("binary", b"", "malformed"),
        ("text", b"behind", None),
    ]


def test_messages_that_break_the_rules() -> None:
    peer = Peer("read")
    begun = peer.frame(Opcode.TEXT, b"begun", fin=False)
    told = run(socket(), pieces("read", [peer.frame(Opcode.CONT, b"c"), begun, peer.text("whole")]))
    assert summary(told) == [
        ("binary", b"c", "malformed"),
        ("text", b"begun", "malformed"),
        ("text", b"whole", None),
    ]
    (message,) = run(socket(), pieces("read", [peer.frame(Opcode.TEXT, b"\xff\xfe")]))
    assert message.reason == "malformed"
    (message,) = run(socket("permessage-deflate"), pieces("read", [b"\xc1\x03\xff\xff\xff"]))
    assert (message.reason, message.compressed) == ("bad_encoding", True)


def test_unknown_headers_may_have_agreed_on_compression() -> None:
    sent = Peer("read", deflate()).text("squeezed")
    (message,) = run(socket(unknown_headers=1), pieces("read", [sent]))
    assert summary([message]) == [("text", b"squeezed", None)]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["read", "write"]),
            st.one_of(st.binary(max_size=60), st.just(conversation(Peer("read", deflate()))[:400])),
            st.integers(0, 300),
            st.booleans(),
        ),
        max_size=12,
    ),
    st.sampled_from([kind[0] for kind in KINDS]),
)
def test_any_bytes(fed: list[tuple[Way, bytes, int, bool]], accepted: str) -> None:
    handler = socket(accepted, LIMITS)
    run(
        handler,
        [
            piece(way, number, number, number, payload, missing, starts)
            for number, (way, payload, missing, starts) in enumerate(fed)
        ],
    )


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.integers(1, 40), min_size=10, max_size=60),
    st.sets(st.integers(0, 60), max_size=4),
)
def test_loss_never_gives_a_wrong_message(
    kind: tuple[str, bool | None, int | None], lengths: list[int], lost: set[int]
) -> None:
    accepted, no_takeover, bits = kind
    peer = Peer("read", None if no_takeover is None else deflate(no_takeover, bits or 15))
    texts = [f"<{n}:{chr(97 + n % 26) * length * 3}>" for n, length in enumerate(lengths)]
    chunks: list[bytes] = []
    for number, text in enumerate(texts):
        data = text.encode()
        if number % 3:
            chunks.append(peer.frame(Opcode.TEXT, data))
        else:
            half = len(data) // 2
            frames = peer.frame(Opcode.TEXT, data[:half], fin=False) + peer.frame(Opcode.CONT, data[half:])
            chunks += [frames[:5], frames[5:]]
    told = run(socket(accepted), lossy("read", chunks, lost))
    whole = [m.payload.decode() for m in told if not m.incomplete]
    assert set(whole) <= set(texts)
    if not lost:
        assert whole == texts
