"""From records to events, without a kernel: who, what, and where it belongs."""

from __future__ import annotations

import struct
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.errors import LayoutError
from libagenttracer.events import Loss, SslClose, SslData, SslHandshake, SslSendfile
from libagenttracer.runners import ssl_decoder
from libagenttracer.runners.interface import LibraryTable
from libagenttracer.runners.process_table import DEFAULT_MAX_PROCESSES
from libagenttracer.runners.record_kinds import SslFlag

from .records import (
    GENERATION_NS,
    RING_BYTES,
    SSL,
    Bench,
    close,
    data,
    handshake,
    losses,
    only_data,
    process,
    sendfile,
)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_every_field_of_a_data_event(bench: Bench) -> None:
    assert bench.feed(process()) == []
    (event,) = bench.feed(data(b"hello", index=0, offset=0, written=True))
    assert event == SslData(
        id=bench.identity.record_id(len(process()) // 8 * 8 + 16 - 8 * (len(process()) % 8 == 0)),
        timestamp_ns=1_000_000 + bench.identity.epoch_offset_ns,
        source="ssl",
        pid=100,
        tid=101,
        ppid=42,
        uid=1000,
        comm="python",
        exe="/usr/bin/python3",
        direction="write",
        data_len=5,
        offset=0,
        connection_id=f"100-{SSL:x}-{GENERATION_NS:x}",
        function="SSL_write",
        latency_ns=2500,
        library="/usr/lib/libssl.so.3",
        payload=b"hello",
    )
    assert (bench.decoder.records, bench.decoder.payload_bytes) == (2, 5)


def test_events_own_their_bytes(bench: Bench) -> None:
    (event,) = only_data(bench.feed(data(b"mine", index=0, offset=0)))
    bench.memory[:] = bytes(len(bench.memory))
    assert event.payload == b"mine"


def test_directions_count_apart(bench: Bench) -> None:
    events = only_data(
        bench.feed(
            data(b"GET", index=0, offset=0, written=True),
            data(b"OK", index=0, offset=0),
            data(b"more", index=1, offset=3, written=True),
            data(b"!", index=1, offset=2),
        )
    )
    assert [(event.direction, event.offset, event.payload) for event in events] == [
        ("write", 0, b"GET"),
        ("read", 0, b"OK"),
        ("write", 3, b"more"),
        ("read", 2, b"!"),
    ]


def test_a_call_in_several_records(bench: Bench) -> None:
    events = only_data(
        bench.feed(
            data(b"a" * 100, index=0, offset=0, call=(250, 0)),
            data(b"b" * 100, index=1, offset=100, call=(250, 100)),
            data(b"c" * 50, index=2, offset=200, call=(250, 200)),
            data(b"next", index=3, offset=250),
        )
    )
    assert [(event.call_len, event.call_offset) for event in events] == [
        (250, 0), (250, 100), (250, 200), (None, None),
    ]  # fmt: skip


def test_an_empty_call_of_a_connection_that_joined_late(bench: Bench) -> None:
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0, flags=SslFlag.JOINED_LATE)))
    assert event.joined_late
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0, ssl=1)))
    assert not event.joined_late


def test_a_process_that_is_not_known(bench: Bench) -> None:
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0)))
    assert (event.pid, event.comm, event.exe, event.ppid, event.uid) == (100, "", "", 0, 0)
    (event,) = only_data(bench.feed(process(), data(b"y", index=1, offset=1)))
    assert (event.comm, event.exe, event.ppid) == ("python", "/usr/bin/python3", 42)


def test_a_pid_that_is_used_again_is_another_process(bench: Bench) -> None:
    bench.feed(process())
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0, start_ns=6_000)))
    assert event.comm == ""
    bench.feed(process(b"curl", "/usr/bin/curl", start_ns=6_000))
    (event,) = only_data(bench.feed(data(b"x", index=1, offset=1, start_ns=6_000)))
    assert event.comm == "curl"
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0, ssl=1)))
    assert event.comm == "python"


def test_an_exec_changes_what_later_events_say(bench: Bench) -> None:
    bench.feed(process(b"sh", "/bin/sh"))
    first = only_data(bench.feed(data(b"x", index=0, offset=0)))[0]
    bench.feed(process(b"python", "/usr/bin/python3"))
    second = only_data(bench.feed(data(b"x", index=1, offset=1)))[0]
    assert (first.comm, first.exe) == ("sh", "/bin/sh")
    assert (second.comm, second.exe) == ("python", "/usr/bin/python3")


@pytest.mark.parametrize(
    ("path", "shown"),
    [("/", ""), ("/a", "/a"), ("/a/b/c", "/a/b/c"), ("/ü/€", "/ü/€"), ("/a b/\n", "/a b/\n")],
)
def test_paths_of_executables(bench: Bench, path: str, shown: str) -> None:
    bench.feed(process(path=path))
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0)))
    assert event.exe == shown


def test_names_that_are_no_utf8(bench: Bench) -> None:
    bench.feed(process(comm=b"caf\xe9"))
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0)))
    assert event.comm == "caf\udce9"
    bench.feed(process(comm=b"sixteen letters!"))
    (event,) = only_data(bench.feed(data(b"x", index=1, offset=1)))
    assert event.comm == "sixteen letters!"


def test_libraries_by_index() -> None:
    bench = Bench(LibraryTable(["/first", "/second"]))
    events = [
        only_data(bench.feed(data(b"x", index=n, offset=n, library=library)))[0]
        for n, library in enumerate([0, 1, 2])
    ]
    assert [event.library for event in events] == ["/first", "/second", ""]
    bench.libraries.paths.append("/third")
    (event,) = only_data(bench.feed(data(b"x", index=3, offset=3, library=2)))
    assert event.library == "/third"


def test_libraries_without_an_index() -> None:
    """Before Linux 5.15 records do not say which library they come from."""
    assert LibraryTable(["/only"], indexed=False).name(0) == "/only"
    assert LibraryTable(["/one", "/two"], indexed=False).name(1) == ""
    assert LibraryTable(indexed=False).name(0) == ""


def test_a_handshake(bench: Bench) -> None:
    bench.feed(process())
    (event, again) = bench.feed(handshake(), handshake(return_value=-1))
    assert isinstance(event, SslHandshake)
    assert (event.result, event.return_value, event.calls, event.handshake_ns) == ("ok", 1, 2, 9000)
    assert (event.function, event.comm, event.latency_ns) == ("SSL_do_handshake", "python", 2500)
    assert isinstance(again, SslHandshake)
    assert (again.result, again.return_value) == ("incomplete", -1)


def test_a_connection_is_over(bench: Bench) -> None:
    _, event = bench.feed(data(b"abcd", index=0, offset=0, written=True), close(written=(1, 4)))
    assert isinstance(event, SslClose)
    assert (event.read_bytes, event.written_bytes, event.library) == (0, 4, "/usr/lib/libssl.so.3")


def test_what_was_lost_at_the_end_of_a_connection_is_told_when_it_is_over(bench: Bench) -> None:
    _, gap, event = bench.feed(
        data(b"abcd", index=0, offset=0, written=True), close(written=(3, 10), read=(0, 0))
    )
    assert isinstance(gap, Loss)
    assert (gap.cause, gap.direction) == ("ring_full", "write")
    assert (gap.count, gap.lost_bytes, gap.offset) == (2, 6, 4)
    assert isinstance(event, SslClose)
    # and not again
    assert bench.decoder.settle(losses({"ring_full": (2, 6)}), [], final=True) == []


def test_a_sendfile_counts_as_written(bench: Bench) -> None:
    first, event, last = bench.feed(
        data(b"head", index=0, offset=0, written=True),
        sendfile(1000, index=1, offset=4),
        data(b"tail", index=2, offset=1004, written=True),
    )
    assert isinstance(event, SslSendfile)
    assert (event.data_len, event.offset, event.fd, event.file_offset) == (1000, 4, 5, 12)
    assert (event.direction, event.function) == ("write", "SSL_sendfile")
    assert isinstance(first, SslData)
    assert isinstance(last, SslData)
    assert event.connection_id == first.connection_id == last.connection_id


def test_a_new_generation_is_another_connection(bench: Bench) -> None:
    (old,) = only_data(bench.feed(data(b"x" * 50, index=0, offset=0)))
    (new,) = only_data(bench.feed(data(b"y", index=0, offset=0, generation_ns=GENERATION_NS + 1)))
    assert new.connection_id != old.connection_id
    assert new.offset == 0


def test_ids_are_unique_and_come_from_the_place_in_the_ring(bench: Bench) -> None:
    events = bench.feed(*[data(b"x", index=n, offset=n) for n in range(100)])
    ids = {event.id for event in events}
    assert len(ids) == 100
    again = Bench()
    assert {event.id for event in again.feed(*[data(b"x", index=n, offset=n) for n in range(100)])} == ids
    for text in ids:
        assert uuid.UUID(text).version == 8


def test_ids_stay_unique_round_the_ring(bench: Bench) -> None:
    ids = set()
    for n in range(60):
        (event,) = only_data(bench.feed(data(b"x" * 60_000, index=n, offset=n * 60_000)))
        ids.add(event.id)
    assert bench.position > 3 * RING_BYTES
    assert len(ids) == 60


def test_a_record_that_is_cut_off_is_an_error_of_the_layout(bench: Bench) -> None:
    record = data(b"hello", index=0, offset=0)
    for length in (0, 10, 40, len(record) - 34):
        with pytest.raises(LayoutError):
            bench.decoder.decode(memoryview(bytes(8) + record), [(8, length)], 0)


@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 3), st.binary(max_size=50)), max_size=60))
def test_without_losses_every_stream_comes_whole(calls: list[tuple[int, int, bytes]]) -> None:
    bench = Bench()
    streams: dict[tuple[int, int], bytes] = {}
    counts: dict[tuple[int, int], int] = {}
    records = []
    for way, ssl, payload in calls:
        key = (way, ssl)
        offset = len(streams.get(key, b""))
        record = data(payload, index=counts.get(key, 0), offset=offset, written=bool(way), ssl=ssl)
        records.append(record)
        streams[key] = streams.get(key, b"") + payload
        counts[key] = counts.get(key, 0) + 1
    got: dict[tuple[int, int], bytes] = {}
    for event in only_data(bench.feed(*records)):
        way, ssl = event.direction == "write", int(event.connection_id.split("-")[1], 16)
        assert event.offset == len(got.get((way, ssl), b""))
        got[way, ssl] = got.get((way, ssl), b"") + event.payload
    assert got == streams


# tables are bounded, and forget what has rested longest


def other_connections(bench: Bench, count: int, first: int = 1 << 32) -> list[Loss]:
    """One record on each of many connections of many processes; gives the losses that came of it."""
    template = bytearray(data(b"x", index=0, offset=0))
    at = template.index(struct.pack("<Q", SSL))
    found: list[Loss] = []
    for number in range(count):
        struct.pack_into("<Q", template, at, first + number)
        events = bench.decoder.decode(memoryview(template), [(0, len(template))], 8 + 8 * number)
        found += [event for event in events if isinstance(event, Loss)]
    return found


def test_connections_are_not_remembered_for_ever(bench: Bench) -> None:
    assert other_connections(bench, ssl_decoder.MAX_CONNECTIONS + 5000) == []
    assert len(bench.decoder._connections) <= ssl_decoder.MAX_CONNECTIONS


def test_processes_are_not_remembered_for_ever(bench: Bench) -> None:
    other_processes(bench, DEFAULT_MAX_PROCESSES + 5000, first=1000)
    assert len(bench.decoder._table) <= DEFAULT_MAX_PROCESSES


def test_a_connection_in_use_outlives_many_others(bench: Bench) -> None:
    """Forgotten, its next record would look as if all before it had been lost."""
    bench.feed(data(b"x", index=0, offset=0))
    round_, found = ssl_decoder.MAX_CONNECTIONS // 4, []
    for n in range(1, 7):
        found += other_connections(bench, round_, first=n << 32)
        found += [event for event in bench.feed(data(b"x", index=n, offset=n)) if isinstance(event, Loss)]
    assert found == []


def other_processes(bench: Bench, count: int, first: int) -> None:
    template = bytearray(process())
    at = template.index(struct.pack("<I", 100))
    for tgid in range(first, first + count):
        struct.pack_into("<I", template, at, tgid)
        bench.decoder.decode(memoryview(template), [(0, len(template))], 8)


def test_a_process_in_use_outlives_many_others(bench: Bench) -> None:
    """Its record is sent once: forgotten, it would have no name for the rest of its life."""
    bench.feed(process())
    names = []
    for n in range(6):
        other_processes(bench, DEFAULT_MAX_PROCESSES // 4, first=1000 + (n << 24))
        names += [event.comm for event in only_data(bench.feed(data(b"x", index=0, offset=0, ssl=n)))]
    assert names == ["python"] * 6


def test_a_process_with_one_long_connection_outlives_many_others(bench: Bench) -> None:
    bench.feed(process())
    for n in range(6):
        bench.feed(data(b"x", index=n, offset=n))
        other_processes(bench, DEFAULT_MAX_PROCESSES // 4, first=1000 + (n << 24))
    (event,) = only_data(bench.feed(data(b"x", index=0, offset=0, ssl=1)))
    assert event.comm == "python", "its next connection has a name too"
