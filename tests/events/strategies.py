"""Events of every registered type, with nasty strings and any bytes."""

from __future__ import annotations

import uuid

from hypothesis import strategies as st

from libagenttracer.events import Event, Loss, SslData, SslHandshake, SslSendfile

__all__ = ["EVENTS", "LOSSES", "NUMBERS", "SSL_DATA", "SSL_HANDSHAKES", "SSL_SENDFILES", "TEXTS"]

NASTY = [
    "",
    "\0",
    "a\0b",
    '"',
    "\\",
    "\x1b[2J",
    "\r\n",
    "\u2028",
    "\u202e",
    "\ufeff",
    "\U0001f600",
    "\x7f\x9b",
]
TEXTS = st.one_of(st.sampled_from(NASTY), st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
NUMBERS = st.integers(0, 2**63 - 1)
PIDS = st.integers(1, 2**31 - 1)
BYTES = st.one_of(
    st.binary(max_size=300),
    TEXTS.map(str.encode),
    st.sampled_from([b"\xff", b"\xc3", b"abc\xed\xa0\x80", "ü€".encode()[:-1]]),
)
DIRECTIONS = st.sampled_from(["read", "write"])
HEAD = {
    "id": st.uuids(version=4).map(str),
    "timestamp_ns": NUMBERS,
    "source": st.just("ssl"),
}
WHO = {
    "pid": PIDS,
    "tid": PIDS,
    "ppid": st.integers(0, 2**31 - 1),
    "uid": st.integers(0, 2**32 - 1),
    "comm": TEXTS,
    "exe": TEXTS,
    "connection_id": TEXTS,
    "function": TEXTS,
    "latency_ns": NUMBERS,
    "library": TEXTS,
}
SSL_DATA = st.builds(
    SslData,
    **HEAD,
    **WHO,
    direction=DIRECTIONS,
    data_len=NUMBERS,
    offset=NUMBERS,
    payload=BYTES,
    call_len=st.none() | NUMBERS,
    call_offset=st.none() | NUMBERS,
    joined_late=st.booleans(),
    incomplete=st.booleans(),
    reason=st.none() | TEXTS,
)
SSL_HANDSHAKES = st.builds(
    SslHandshake,
    **HEAD,
    **WHO,
    result=st.sampled_from(["ok", "incomplete"]),
    return_value=st.integers(-(2**31), 2**31 - 1),
    calls=NUMBERS,
    handshake_ns=NUMBERS,
    joined_late=st.booleans(),
)
SSL_SENDFILES = st.builds(
    SslSendfile,
    **HEAD,
    **WHO,
    direction=DIRECTIONS,
    data_len=NUMBERS,
    offset=NUMBERS,
    fd=st.integers(0, 2**31 - 1),
    file_offset=NUMBERS,
    joined_late=st.booleans(),
)
LOSSES = st.builds(
    Loss,
    **HEAD,
    cause=TEXTS,
    count=NUMBERS,
    lost_bytes=NUMBERS,
    pid=st.none() | PIDS,
    comm=st.none() | TEXTS,
    connection_id=st.none() | TEXTS,
    direction=st.none() | DIRECTIONS,
    offset=st.none() | NUMBERS,
)
EVENTS: st.SearchStrategy[Event] = st.one_of(SSL_DATA, SSL_HANDSHAKES, SSL_SENDFILES, LOSSES)


def ssl_data(**changes: object) -> SslData:
    """An ordinary event, with some fields changed."""
    fields: dict[str, object] = {
        "id": str(uuid.UUID(int=1)), "timestamp_ns": 1_640_995_200_123_456_789, "source": "ssl", "pid": 1234,
        "tid": 1235, "ppid": 1, "uid": 1000, "comm": "python", "exe": "/usr/bin/python3",
        "direction": "write",
        "data_len": 5, "offset": 10, "connection_id": "1234-7f00-1", "function": "SSL_write",
        "latency_ns": 2500, "library": "/usr/lib/libssl.so.3", "payload": b"hello",
    }  # fmt: skip
    return SslData(**{**fields, **changes})  # type: ignore[arg-type]
