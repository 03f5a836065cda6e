"""Text for people: readable, and harmless to the terminal whatever the traced programs say."""

from __future__ import annotations

import io
import os
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.errors import OutputClosed, OutputError
from libagenttracer.events import Event, Loss, SslHandshake, SslSendfile, UnknownEvent, from_json
from libagenttracer.outputs import Text
from libagenttracer.outputs.text import printable

from ..events.strategies import EVENTS, TEXTS, ssl_data

# what moves a cursor, changes a terminal's state, or turns the direction of writing round
CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)


@pytest.fixture(scope="module")
def plain() -> Text:
    return Text(open(os.devnull, "w"))


@pytest.fixture(scope="module")
def extra() -> Text:
    return Text(open(os.devnull, "w"), extra=True)


def test_an_ordinary_event(plain: Text) -> None:
    head, body = plain.format(ssl_data()).split("\n", 1)
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.123 python\[1234\] -> 5 bytes  \[1234-7f00-1\]", head)
    assert body == "hello\n"
    assert " <- " in plain.format(ssl_data(direction="read"))


def test_extra_says_more(extra: Text) -> None:
    lines = extra.format(ssl_data(latency_ns=2000)).split("\n")
    assert lines[1:] == [
        "  uid 1000  tid 1235  ppid 1  SSL_write 2 us  offset 10",
        "  /usr/lib/libssl.so.3  /usr/bin/python3",
        "hello",
        "",
    ]


def test_parts_and_incomplete_events_say_so(plain: Text) -> None:
    assert "part of 900, from 100" in plain.format(ssl_data(call_len=900, call_offset=100))
    assert "incomplete: read_fault" in plain.format(
        ssl_data(payload=b"", incomplete=True, reason="read_fault")
    )


def test_events_of_other_kinds(plain: Text) -> None:
    who: dict[str, Any] = {
        "id": "i", "timestamp_ns": 0, "source": "ssl", "pid": 7, "tid": 7, "ppid": 1, "uid": 0,
        "comm": "curl", "exe": "", "connection_id": "c", "latency_ns": 0, "library": "",
    }  # fmt: skip
    handshake = SslHandshake(
        **who, function="SSL_connect", result="ok", return_value=1, calls=3, handshake_ns=2_500_000
    )
    assert "curl[7] handshake ok (SSL_connect) 2.5 ms, 3 calls  [c]\n" in plain.format(handshake)
    sendfile = SslSendfile(
        **who, function="SSL_sendfile", direction="write", data_len=10, offset=0, fd=5, file_offset=99
    )
    assert "SSL_sendfile 10 bytes from fd 5 at 99" in plain.format(sendfile)
    loss = Loss("i", 0, "ssl", "ring_full", 3, 42, 7, "curl", "c", "read", 1000)
    assert plain.format(loss).endswith(" LOST 3 records, 42 bytes (ring_full) on c, read at 1000\n")
    assert plain.format(Loss("i", 0, "ssl", "map_full", 1, 0)).endswith(
        "LOST 1 records, 0 bytes (map_full)\n"
    )
    unknown = from_json('{"id":"i","timestamp_ns":1,"source":"s","event_type":"new","data":{"a":1}}')
    assert isinstance(unknown, UnknownEvent)
    assert '"data":{"a":1}' in plain.format(unknown)


@given(event=EVENTS)
def test_no_event_can_control_the_terminal(plain: Text, event: Event) -> None:
    text = plain.format(event)
    assert not CONTROLS.search(text), text
    assert text.endswith("\n")


@given(event=EVENTS)
def test_no_event_can_control_the_terminal_with_extra(extra: Text, event: Event) -> None:
    assert not CONTROLS.search(extra.format(event))


@given(text=TEXTS)
def test_no_unknown_event_can_control_the_terminal(plain: Text, text: str) -> None:
    event = UnknownEvent("i", 0, text, text, from_json(  # the JSON of it is as hostile as it can be
        b'{"id":"i","timestamp_ns":0,"source":"s","event_type":"x","data":"\xe2\x80\xae\\u001b"}'
    ).data)  # type: ignore[attr-defined]  # fmt: skip
    assert not CONTROLS.search(plain.format(event))


@given(payload=st.binary(max_size=2000))
def test_no_payload_can_control_the_terminal(plain: Text, payload: bytes) -> None:
    assert not CONTROLS.search(plain.format(ssl_data(payload=payload)))


@given(st.text())
def test_printable_keeps_what_is_harmless(text: str) -> None:
    shown = printable(text)
    assert not CONTROLS.search(shown)
    if not CONTROLS.search(text):
        assert shown == text


def test_names_stay_on_their_line(extra: Text) -> None:
    """A process may call itself "x\\n12:00:00.000 bash[1] -> …": that must not look like an event."""
    escaped = []
    for field in ("comm", "exe", "library", "function", "connection_id", "reason"):
        event = ssl_data(**{"incomplete": True, "reason": "r", field: "x\nspoof"})
        if "\nspoof" in extra.format(event):
            escaped.append(field)
    assert escaped == []


def test_colours_are_our_own_only() -> None:
    colored = Text(open(os.devnull, "w"), color=True)  # noqa: SIM115
    text = colored.format(ssl_data(comm="\x1b[31mred", payload=b"\x1b[2Jgone"))
    assert text.startswith("\x1b[36m")
    assert re.findall("\x1b.[0-9;]*m?", text) == ["\x1b[36m", "\x1b[0m"]
    assert "\\x1b[2Jgone" in text


def test_carriage_returns_of_http_are_line_ends(plain: Text) -> None:
    text = plain.format(ssl_data(payload=b"GET / HTTP/1.1\r\nHost: x\r\n\r\nover\rwritten"))
    assert text.split("\n", 1)[1] == "GET / HTTP/1.1\nHost: x\n\nover\\x0dwritten\n"


def test_bytes_that_are_no_text_are_dumped(plain: Text) -> None:
    payload = bytes(range(120, 140))
    assert plain.format(ssl_data(payload=payload)).split("\n", 1)[1] == (
        "  000000  78 79 7a 7b 7c 7d 7e 7f 80 81 82 83 84 85 86 87  xyz{|}~.........\n"
        "  000010  88 89 8a 8b                                      ....\n"
    )


def test_a_long_dump_is_cut_and_says_so(plain: Text) -> None:
    text = plain.format(ssl_data(payload=b"\xff" * 1000))
    assert text.count("\n  00") == 16
    assert text.endswith("… 744 more bytes (JSON output has all of them)\n")


def test_long_text_is_cut_and_says_so() -> None:
    short = Text(open(os.devnull, "w"), max_bytes=10)  # noqa: SIM115
    assert short.format(ssl_data(payload=b"x" * 10)).endswith("\nxxxxxxxxxx\n")
    assert short.format(ssl_data(payload=b"x" * 12)).split("\n", 1)[1] == (
        "xxxxxxxxxx\n… 2 more bytes (JSON output has all of them)\n"
    )


def body(text: str) -> str:
    return text.split("\n", 1)[1]


@given(text=st.text(st.characters(min_codepoint=0xA0, exclude_categories=["Cs"]), min_size=5, max_size=30))
def test_a_cut_through_a_character_is_still_text(text: str) -> None:
    short = Text(open(os.devnull, "w"), max_bytes=5)  # noqa: SIM115
    shown = body(short.format(ssl_data(payload=text.encode())))
    whole = text.encode()[:5].decode(errors="ignore")
    assert shown.startswith(printable(whole))
    rest = len(text.encode()) - len(whole.encode())
    assert re.search(r"… (\d+) more bytes", shown), "the cut is mentioned"
    assert int(re.findall(r"… (\d+) more bytes", shown)[-1]) in (rest, len(text.encode()) - 5)


@pytest.mark.parametrize("timestamp_ns", [0, -1, 2**63 - 1, -(2**63)])
def test_any_time(plain: Text, timestamp_ns: int) -> None:
    assert "python[1234]" in plain.format(ssl_data(timestamp_ns=timestamp_ns))


def test_lone_surrogates_are_written_somehow(tmp_path: Path) -> None:
    path = tmp_path / "trace.txt"
    output = Text(path, extra=True)
    output.write([ssl_data(exe="/tmp/\udcff", library="\udc80")])
    output.close()
    assert b"/tmp/\\udcff" in path.read_bytes()


def test_a_file_is_private_and_errors_are_typed(tmp_path: Path) -> None:
    output = Text(tmp_path / "trace.txt")
    output.write([ssl_data(), ssl_data()])
    output.close()
    assert (tmp_path / "trace.txt").read_text().count("hello\n") == 2
    assert (tmp_path / "trace.txt").stat().st_mode & 0o777 == 0o600
    with pytest.raises(OutputError, match="No space left"):
        Text("/dev/full").write([ssl_data()])
    read_end, write_end = os.pipe()
    os.close(read_end)
    with io.open(write_end, "wb") as pipe, pytest.raises(OutputClosed):  # noqa: UP020
        Text(pipe).write([ssl_data()])
