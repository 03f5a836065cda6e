"""HAR: valid by the format's rules, readable by others, whole at any moment, and bounded."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import textwrap
from base64 import b64decode
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from haralyzer import HarParser  # type: ignore[import-untyped]
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libagenttracer.errors import OutputError
from libagenttracer.events import Event, SseItem, StreamEnd
from libagenttracer.outputs import Har

from ..events.strategies import BYTES, KERNEL_TEXTS, TEXTS
from ..support import ROOT
from .build import START_NS, exchange, request, response, sse_stream, websocket, websocket_message

TEXT, NUMBER, WHOLE = {"type": "string"}, {"type": "number"}, {"type": "integer", "minimum": -1}
DATE = {"type": "string", "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$"}
TIMES = {"type": "number", "minimum": 0}


def shape(optional: dict[str, Any] | None = None, **required: Any) -> dict[str, Any]:
    """An object: these and no other properties but extensions."""
    properties = {**required, **(optional or {}), "comment": TEXT}
    return {
        "type": "object", "properties": properties, "required": list(required),
        "patternProperties": {"^_": {}}, "additionalProperties": False,
    }  # fmt: skip


def many(item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": item}


PAIR = shape(name=TEXT, value=TEXT)
FLAG = {"type": "boolean"}
COOKIE = shape(
    {"path": TEXT, "domain": TEXT, "expires": DATE, "httpOnly": FLAG, "secure": FLAG}, name=TEXT, value=TEXT
)
MESSAGE: dict[str, Any] = {
    "httpVersion": TEXT, "cookies": many(COOKIE), "headers": many(PAIR), "headersSize": WHOLE,
    "bodySize": WHOLE,
}  # fmt: skip
URL = {"type": "string", "pattern": r"^[a-z]+://[!-~]+$"}
REQUEST = shape(
    {"postData": shape(mimeType=TEXT, text=TEXT)}, method=TEXT, url=URL, queryString=many(PAIR), **MESSAGE
)
CONTENT = shape(
    {"compression": {"type": "integer"}, "text": TEXT, "encoding": TEXT},
    size={"type": "integer", "minimum": 0}, mimeType=TEXT,
)  # fmt: skip
RESPONSE = shape(status={"type": "integer"}, statusText=TEXT, content=CONTENT, redirectURL=TEXT, **MESSAGE)
UNKNOWN = {name: {"const": -1} for name in ("blocked", "dns", "connect", "ssl")}
ENTRY = shape(
    {"connection": TEXT}, startedDateTime=DATE, time=TIMES, request=REQUEST, response=RESPONSE,
    cache=shape(), timings=shape(UNKNOWN, send=TIMES, wait=TIMES, receive=TIMES),
)  # fmt: skip
HAR = shape(log=shape(version={"const": "1.2"}, creator=shape(name=TEXT, version=TEXT), entries=many(ENTRY)))
VALIDATOR = jsonschema.Draft202012Validator(HAR)


def checked(path: Path) -> list[Any]:
    """The entries of a file that keeps the rules."""
    har = json.loads(path.read_bytes())
    VALIDATOR.validate(har)
    for entry in har["log"]["entries"]:
        timings = [value for value in entry["timings"].values() if value >= 0]
        assert entry["time"] == pytest.approx(sum(timings))
    entries: list[Any] = har["log"]["entries"]
    return entries


def written(folder: Path, events: list[Event], **options: Any) -> list[Any]:
    path = folder / "trace.har"
    output = Har(path, **options)
    for event in events:
        output.write([event])
    output.close()
    assert os.listdir(folder) == ["trace.har"]
    return checked(path)


def test_an_exchange(tmp_path: Path) -> None:
    [entry] = written(tmp_path, exchange(request(), response()))
    assert entry["startedDateTime"] == "2022-01-01T00:00:00.123456+00:00"
    assert entry["timings"] == {
        "blocked": -1, "dns": -1, "connect": -1, "ssl": -1, "send": 2, "wait": 100, "receive": 20
    }  # fmt: skip
    assert (entry["_pid"], entry["_comm"], entry["connection"]) == (1234, "python", "1234-7f00-1")
    assert "comment" not in entry
    asked, answered = entry["request"], entry["response"]
    assert (asked["method"], asked["httpVersion"]) == ("POST", "HTTP/1.1")
    assert asked["url"] == "https://api.example.com/v1/chat?a=1&b=%C3%A9+x&c"
    assert asked["queryString"] == [
        {"name": "a", "value": "1"}, {"name": "b", "value": "é x"}, {"name": "c", "value": ""}
    ]  # fmt: skip
    assert asked["postData"] == {"mimeType": "application/json", "text": '{"q": 1}'}
    assert asked["headers"][0] == {"name": "Host", "value": "api.example.com"}
    assert (answered["status"], answered["statusText"], answered["bodySize"]) == (200, "OK", 10)
    assert answered["content"] == {
        "size": 10, "mimeType": "application/json; charset=utf-8", "text": '{"a": "b"}'
    }  # fmt: skip


def test_another_reader_understands_it(tmp_path: Path) -> None:
    events = [*exchange(request(), response()), *exchange(request(1, method="GET", body=b""), response(1))]
    written(tmp_path, events)
    parser = HarParser.from_file(str(tmp_path / "trace.har"))
    assert (parser.version, parser.creator["name"]) == ("1.2", "libagenttracer")
    [page] = parser.pages  # one for all entries that are of none
    first, second = page.entries
    assert (first.request.method, first.request.host) == ("POST", "api.example.com")
    assert (first.request.url, first.request.text) == (
        f"https://api.example.com{request().target}",
        '{"q": 1}',
    )
    assert (first.response.status, first.response.text) == (200, '{"a": "b"}')
    assert (first.time, first.startTime.year) == (122, 2022)
    assert second.request.method == "GET"


@pytest.mark.parametrize(
    ("authority", "target", "url"),
    [
        ("h:8443", "/a b\n", "https://h:8443/a%20b%0A"),
        ("h", "http://other/x?y", "http://other/x?y"),
        ("", "/", "https://unknown.invalid/"),
        ("h", "*", "https://h/*"),
        ("proxy", "host:443", "https://host:443/"),
        ("[::1]:1", "/\udcff", "https://[::1]:1/%ED%B3%BF"),
        ("a/b", "/", "https://a%2Fb/"),
    ],
)
def test_urls(tmp_path: Path, authority: str, target: str, url: str) -> None:
    [entry] = written(tmp_path, exchange(request(authority=authority, target=target), response()))
    assert entry["request"]["url"] == url


def test_cookies(tmp_path: Path) -> None:
    asked = request(headers=[("Cookie", "a=1; b=x=y; junk")])
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    set_cookies = [
        ("Set-Cookie", f"s=1; Path=/; Domain=x.org; Expires={date}; HttpOnly; Secure"),
        ("set-cookie", "t=2; expires=whenever"),
        ("set-cookie", "u=3; expires=Wed, 21 Oct 0000 99:99:99 +9999"),
        ("set-cookie", "nothing"),
    ]
    [entry] = written(tmp_path, exchange(asked, response(headers=set_cookies)))
    assert entry["request"]["cookies"] == [{"name": "a", "value": "1"}, {"name": "b", "value": "x=y"}]
    plain = {"httpOnly": False, "secure": False}
    assert entry["response"]["cookies"] == [
        {
            "name": "s", "value": "1", "path": "/", "domain": "x.org", "httpOnly": True, "secure": True,
            "expires": "2015-10-21T07:28:00+00:00",
        },
        {"name": "t", "value": "2", **plain},
        {"name": "u", "value": "3", **plain},
    ]  # fmt: skip


def test_bodies_that_are_no_text_or_were_compressed(tmp_path: Path) -> None:
    raw = bytes(range(256))
    answered = response(body=raw, body_bytes=100, content_encoding="gzip", trailers=[("x", "y")], version="2")
    [entry] = written(tmp_path, exchange(request(body=raw), answered))
    content = entry["response"]["content"]
    assert (b64decode(content["text"]), content["encoding"], content["size"]) == (raw, "base64", 256)
    assert (content["compression"], entry["response"]["bodySize"]) == (156, 100)
    assert entry["response"]["httpVersion"] == "HTTP/2.0"
    assert entry["response"]["_trailers"] == [{"name": "x", "value": "y"}]
    posted = entry["request"]["postData"]
    assert (b64decode(posted["text"]), posted["_encoding"]) == (raw, "base64")


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    cut = response(1, incomplete=True, reason="gap")
    events = [*exchange(request(), None), *exchange(request(1), cut), *exchange(None, response(2))]
    entries = written(tmp_path, events)
    assert [entry["comment"] for entry in entries] == [
        "incomplete: no_response", "incomplete: gap", "incomplete: no_request"
    ]  # fmt: skip
    assert (entries[0]["response"]["status"], entries[0]["response"]["bodySize"]) == (0, -1)
    assert entries[2]["request"]["method"] == ""


def test_messages_that_were_filtered_out_are_not_invented(tmp_path: Path) -> None:
    [entry] = written(tmp_path, exchange(request(), response())[2:])
    assert "the request's headers and body are not at hand" in entry["comment"]
    assert entry["request"]["url"] == "https://api.example.com/v1/chat?a=1&b=%C3%A9+x&c"
    assert entry["response"]["status"] == 200
    assert (entry["response"]["headers"], entry["response"]["bodySize"]) == ([], -1)


def test_interim_responses_are_not_held(tmp_path: Path) -> None:
    output = Har(tmp_path / "trace.har")
    output.write([response(number, status=103) for number in range(5)])
    output.close()
    assert output.left_out == 0


@pytest.mark.parametrize("order", [(0, 1, 2, 3), (1, 2, 3, 0), (1, 0, 2, 3)])
def test_a_body_that_is_a_stream_of_events(tmp_path: Path, order: tuple[int, ...]) -> None:
    items = [SseItem(1, "message", "one\nline", "7"), SseItem(2, "end", "", "7"), SseItem(3, "message", "x")]
    stream = sse_stream(response(), *items, incomplete=True, reason="gap")
    answered = response(body=b"", body_in=stream.id, headers=[("Content-Type", "text/event-stream")])
    events = [stream, *exchange(request(), answered)]
    [entry] = written(tmp_path, [events[at] for at in order])
    content = entry["response"]["content"]
    assert content["text"] == ("id: 7\ndata: one\ndata: line\n\nevent: end\ndata: \n\nid: \ndata: x\n\n")
    assert content["size"] == len(content["text"])
    assert entry["comment"] == "the stream of events is incomplete: gap"
    assert [list(message.values()) for message in entry["_eventSourceMessages"]] == [
        [1e-9, "message", "7", "one\nline"],
        [2e-9, "end", "7", ""],
        [3e-9, "message", "", "x"],
    ]


def test_a_stream_that_never_comes(tmp_path: Path) -> None:
    [entry] = written(tmp_path, exchange(request(), response(body=b"", body_in="elsewhere", body_bytes=9)))
    content = entry["response"]["content"]
    assert "text" not in content
    assert content["comment"] == "the body is in the event elsewhere, which is not at hand"


@pytest.mark.parametrize("served", [False, True])
def test_websockets(tmp_path: Path, served: bool) -> None:
    first = "read" if served else "write"
    second = "write" if served else "read"
    messages: list[Event] = [
        websocket_message(0, direction=first),
        websocket_message(1, direction=second, opcode="binary", payload=b"\xff\0"),
        websocket_message(2, direction=second, opcode="text", payload=b"\xff", incomplete=True, reason="gap"),
        websocket_message(3, direction=first, opcode="close", close_code=1000, payload=b"bye"),
        websocket_message(4, direction=second, opcode="close", close_code=1000, payload=b""),
    ]
    [entry] = written(tmp_path, [*websocket(served=served), *messages])
    assert entry["request"]["url"] == "wss://api.example.com/v1/realtime"
    assert (entry["_resourceType"], entry["response"]["status"]) == ("websocket", 101)
    assert entry["_webSocketMessages"] == [
        {"type": "send", "time": pytest.approx(START_NS / 1e9 + 0.2), "opcode": 1, "data": "hello"},
        {"type": "receive", "time": pytest.approx(START_NS / 1e9 + 0.201), "opcode": 2, "data": "/wA="},
        {
            "type": "receive", "time": pytest.approx(START_NS / 1e9 + 0.202), "opcode": 1, "data": "/w==",
            "_encoding": "base64", "_incomplete": "gap",
        },
        {
            "type": "send", "time": pytest.approx(START_NS / 1e9 + 0.203), "opcode": 8, "data": "bye",
            "_closeCode": 1000,
        },
        {
            "type": "receive", "time": pytest.approx(START_NS / 1e9 + 0.204), "opcode": 8, "data": "",
            "_closeCode": 1000,
        },
    ]  # fmt: skip


def test_a_websocket_that_both_have_closed_is_written_at_once(tmp_path: Path) -> None:
    output = Har(tmp_path / "trace.har")
    output.write([*websocket(), websocket_message(opcode="close")])
    assert entries_now(tmp_path) == []
    output.write([websocket_message(1, opcode="close", direction="read")])
    assert len(entries_now(tmp_path)) == 1
    output.close()


def test_a_websocket_ends_with_its_connection_and_at_the_latest_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "trace.har"
    output = Har(path)
    end = StreamEnd("e", START_NS, "ssl", 1234, "python", "", "1234-7f00-1", "process_exit")
    output.write([*websocket(), websocket_message(), end])
    output.write([*websocket(1), websocket_message(request_id=request(1).id)])
    output.write([websocket_message(9, request_id="never seen")])
    assert [len(entries_now(tmp_path))] == [1]
    output.close()
    entries = checked(path)
    assert [len(entry["_webSocketMessages"]) for entry in entries] == [1, 1, 1]
    assert "was not seen" in entries[2]["comment"]


def entries_now(folder: Path) -> list[Any]:
    [partial] = folder.glob(".trace.har.*.partial")
    return checked(partial)


def test_a_long_websocket_is_written_in_parts(tmp_path: Path) -> None:
    count = 500
    messages = [websocket_message(number, payload=b"x" * 100) for number in range(count)]
    entries = written(tmp_path, [*websocket(), *messages], max_held_bytes=20_000)
    assert len(entries) > 5
    assert sum(len(entry["_webSocketMessages"]) for entry in entries) == count
    assert {entry["request"]["url"] for entry in entries} == {"wss://api.example.com/v1/realtime"}
    assert all("goes on in a later entry" in entry["comment"] for entry in entries[:-1])
    assert "comment" not in entries[-1]


def test_room_for_nothing(tmp_path: Path) -> None:
    events = [*exchange(request(), response()), *websocket(), websocket_message(), websocket_message(1)]
    entries = written(tmp_path, events, max_held_bytes=1)
    assert entries[0]["response"]["status"] == 200
    assert sum(len(entry.get("_webSocketMessages", ())) for entry in entries) == 2


def test_what_waits_is_bounded_and_what_is_given_up_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "trace.har"
    output = Har(path, max_held_bytes=100_000)
    requests = [request(number, body=b"x" * 1000) for number in range(500)]
    output.write(requests)
    assert 300 < output.left_out < 500
    kept = 500 - output.left_out
    output.write([exchange(asked, response(1000))[2] for asked in requests])
    output.close()
    assert len([entry for entry in checked(path) if "postData" in entry["request"]]) == kept
    assert f"{500 - kept} messages are not in the entries" in json.loads(path.read_bytes())["log"]["comment"]


def test_it_is_whole_json_after_each_write_and_gets_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "trace.har"
    path.write_text("the last run's")
    path.chmod(0o644)
    output = Har(path)
    assert entries_now(tmp_path) == []
    for number in range(3):
        output.write(exchange(request(number), response(number)))
        assert len(entries_now(tmp_path)) == number + 1
    assert path.read_text() == "the last run's"
    output.close()
    output.close()  # does nothing
    assert len(checked(path)) == 3
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["trace.har"]


@pytest.mark.parametrize(("number", "name"), [(signal.SIGINT, "trace.har"), (signal.SIGKILL, ".trace.har.*")])
def test_an_end_in_the_middle_leaves_whole_json(tmp_path: Path, number: int, name: str) -> None:
    program = textwrap.dedent("""
        import signal, sys
        from libagenttracer.outputs import Har
        from tests.outputs.build import exchange, request, response
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
        output = Har(sys.argv[1])
        try:
            number = 0
            while True:
                output.write(exchange(request(number), response(number)))
                number += 1
                if number == 100:
                    print("ready", flush=True)
        finally:
            output.close()
    """)
    arguments = [sys.executable, "-c", program, str(tmp_path / "trace.har")]
    with subprocess.Popen(arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        process.wait()
    [path] = tmp_path.glob(name)
    assert len(json.loads(path.read_bytes())["log"]["entries"]) >= 100


def test_a_link_is_followed_and_a_device_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link.har").symlink_to("real/trace.har")
    output = Har(tmp_path / "link.har")
    output.close()
    assert (tmp_path / "link.har").is_symlink()
    assert checked(tmp_path / "real" / "trace.har") == []
    with pytest.raises(OutputError, match="/dev/null: it is no regular file"):
        Har("/dev/null")


def test_files_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*missing/x\.har: No such file"):
        Har(tmp_path / "missing" / "x.har")
    path = tmp_path / "trace.har"
    path.write_text("recording")
    status = path.stat()
    with pytest.raises(OutputError, match="is the file that is being read"):
        Har(path, unless=(status.st_dev, status.st_ino))
    assert os.listdir(tmp_path) == ["trace.har"]


def fill(output: Har) -> None:
    for number in range(1000):
        output.write(exchange(request(number), response(number)))


@pytest.mark.kernel  # mounting needs root as well
def test_a_full_disk(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], check=True)
    try:
        output = Har(folder / "trace.har")
        with pytest.raises(OutputError, match="No space left on device; what was written before is whole"):
            fill(output)
        before = len(entries_now(folder))
        assert before > 20
        output.close()
        assert len(checked(folder / "trace.har")) == before
    finally:
        subprocess.run(["umount", folder], check=True)


HEADERS = st.lists(
    st.tuples(st.sampled_from(["cookie", "set-cookie", "content-type", "location"]) | TEXTS, TEXTS),
    max_size=4,
)
NUMBERS = st.integers(0, 2**63 - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(
    headers=HEADERS,
    body=BYTES,
    strings=st.tuples(KERNEL_TEXTS, KERNEL_TEXTS, KERNEL_TEXTS, KERNEL_TEXTS),
    times=st.tuples(NUMBERS, NUMBERS, NUMBERS, NUMBERS),
)
def test_any_exchange_gives_valid_har(
    tmp_path: Path,
    headers: list[tuple[str, str]],
    body: bytes,
    strings: tuple[str, str, str, str],
    times: tuple[int, int, int, int],
) -> None:
    method, target, authority, comm = strings
    asked = request(
        method=method, target=target, authority=authority, headers=headers, body=body, comm=comm,
        timestamp_ns=times[0], last_byte_ns=times[1],
    )  # fmt: skip
    answered = response(headers=headers, body=body, timestamp_ns=times[2], last_byte_ns=times[3], comm=comm)
    [entry] = written(tmp_path, exchange(asked, answered))
    assert re.match("wss|[a-zA-Z][a-zA-Z0-9+.-]*://", entry["request"]["url"])
    (tmp_path / "trace.har").unlink()
