"""Where connections go, who speaks TLS unseen, and the two directions of connections that are seen as two."""

from __future__ import annotations

import random
from socket import AF_INET6
from typing import Any

from libagenttracer.events import Loss, SslClose, SslConnection, SslData, SslUnseen
from libagenttracer.runners.interface import LibraryTable
from libagenttracer.runners.record_kinds import LIBRARY_ENDLESS, Binding, SslFunction
from libagenttracer.runners.ssl_decoder import UNSEEN_AFTER_NS
from libagenttracer.runners.ssl_joining import HOLD_NS, MAX_ALL_EVENTS, MAX_HELD_EVENTS
from libagenttracer.runners.ssl_sockets import MAX_BOUND

from .client_hellos import RECORDED
from .records import (
    SOCKET,
    SOCKET_NS,
    Bench,
    data,
    only_data,
    process,
    socket_over,
    socket_talks,
    ssl_socket,
    tls_socket,
    totals,
)

WRITE_KEY, READ_KEY = 0x1000, 0x2000
SEAL, OPEN = SslFunction.aead_seal, SslFunction.aead_open


def sealed(payload: bytes, index: int, offset: int, **changes: int) -> bytes:
    fields: dict[str, Any] = {"ssl": WRITE_KEY, "function": SEAL, "library": LIBRARY_ENDLESS, **changes}
    return data(payload, index=index, offset=offset, written=True, **fields)


def opened(payload: bytes, index: int, offset: int, **changes: int) -> bytes:
    fields: dict[str, Any] = {"ssl": READ_KEY, "function": OPEN, "library": LIBRARY_ENDLESS, **changes}
    return data(payload, index=index, offset=offset, **fields)


def test_where_a_connection_goes() -> None:
    bench = Bench()
    (told, said) = bench.feed(
        process(), tls_socket(RECORDED["curl"]), ssl_socket(), data(b"hi", index=0, offset=0, written=True)
    )
    assert isinstance(told, SslConnection)
    assert isinstance(said, SslData)
    assert told.connection_id == said.connection_id
    assert (told.comm, told.pid, told.fd) == ("python", 100, 5)
    assert (told.local_address, told.local_port) == ("10.0.0.1", 40000)
    assert (told.remote_address, told.remote_port) == ("10.0.0.2", 443)
    assert told.server_name == "api.example.com"
    assert told.alpn == ["h2", "http/1.1"]
    assert told.binding == "inside_call"


def test_addresses_of_ipv6() -> None:
    bench = Bench()
    plain = tls_socket(local=("::1", 1), remote=("2001:db8::5", 2), family=AF_INET6, fd=-1)
    (told,) = bench.feed(process(), plain, ssl_socket(Binding.sent))
    assert isinstance(told, SslConnection)
    assert (told.local_address, told.remote_address, told.fd) == ("::1", "2001:db8::5", None)
    assert (told.binding, told.server_name, told.alpn) == ("next_to_call", None, None)
    mapped = tls_socket(
        remote=("::ffff:1.2.3.4", 2), local=("::ffff:127.0.0.1", 3), family=AF_INET6, socket=7
    )
    (told,) = bench.feed(mapped, ssl_socket(socket=7, ssl=9))
    assert isinstance(told, SslConnection)
    assert (told.local_address, told.remote_address) == ("127.0.0.1", "1.2.3.4")


def test_a_socket_whose_record_was_lost_is_unknown() -> None:
    (told,) = Bench().feed(process(), ssl_socket())
    assert isinstance(told, SslConnection)
    assert (told.fd, told.local_address, told.remote_port, told.server_name) == (None, None, None, None)


def test_the_same_socket_address_at_another_time_is_another_socket() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(remote=("10.0.0.2", 443)))
    bench.feed(tls_socket(remote=("10.0.0.9", 8443), socket_ns=SOCKET_NS + 1))
    (old,) = bench.feed(ssl_socket())
    (new,) = bench.feed(ssl_socket(socket_ns=SOCKET_NS + 1, ssl=2))
    assert isinstance(old, SslConnection)
    assert isinstance(new, SslConnection)
    assert (old.remote_address, new.remote_address) == ("10.0.0.2", "10.0.0.9")


def test_a_process_of_which_nothing_is_seen_is_told_once() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["go"]), tls_socket(RECORDED["go"], socket=SOCKET + 8))
    bench.feed(socket_talks(), socket_talks(socket=SOCKET + 8))
    assert bench.settle() == []  # it may still come
    bench.feed(process(tgid=101, tid=101, time_ns=UNSEEN_AFTER_NS + 2_000_000))
    bench.feed(tls_socket(tgid=101, tid=101, socket=1, time_ns=UNSEEN_AFTER_NS + 2_000_000))
    (told,) = bench.settle()
    assert isinstance(told, SslUnseen)
    assert (told.pid, told.comm, told.protocol, told.remote_port) == (100, "python", "tls", 443)
    assert told.server_name == "api.example.com"
    (last,) = bench.settle(final=True)
    assert isinstance(last, SslUnseen)
    assert (last.pid, last.protocol) == (101, "https")
    assert bench.settle(final=True) == []


def test_quic_is_named_whatever_else_is_seen() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(protocol=17), data(b"x", index=0, offset=0))
    (told,) = bench.settle(final=True)
    assert isinstance(told, SslUnseen)
    assert told.protocol == "quic"
    assert bench.decoder.unseen == ["python[100] talks quic to 10.0.0.2, not seen"]


def test_a_process_of_which_something_is_seen_is_not_told() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["go"]), socket_talks(), data(b"x", index=0, offset=0))
    assert bench.settle(final=True) == []


def test_a_handshake_that_fails_says_nothing_that_could_be_seen() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["go"]), socket_over())
    assert bench.settle(final=True) == []


def test_two_directions_become_one_connection() -> None:
    bench = Bench(LibraryTable(["/opt/uv"]))
    assert bench.feed(process(), tls_socket(RECORDED["go"]), sealed(b"GET /", 0, 0)) == []
    told, said = bench.feed(ssl_socket(Binding.sent, ssl=WRITE_KEY, function=SEAL))
    assert isinstance(told, SslConnection)
    assert isinstance(said, SslData)
    assert (said.payload, said.offset, said.joined_late) == (b"GET /", 0, False)
    answer = bench.feed(
        ssl_socket(Binding.sent, ssl=READ_KEY, function=OPEN),
        opened(b"200", 0, 0),
        opened(b"OK", 1, 3),
    )
    assert [(event.payload, event.offset) for event in only_data(answer)] == [(b"200", 0), (b"OK", 3)]
    ids = {told.connection_id, said.connection_id, *(event.connection_id for event in only_data(answer))}
    assert len(ids) == 1
    assert said.library == "/opt/uv"
    (over,) = bench.feed(socket_over())
    assert isinstance(over, SslClose)
    assert (over.connection_id, over.read_bytes, over.written_bytes) == (said.connection_id, 5, 5)


def test_a_new_key_goes_on_where_the_old_one_ended() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["go"]), ssl_socket(ssl=READ_KEY, function=OPEN))
    (first,) = only_data(bench.feed(opened(b"abc", 0, 0)))
    bench.feed(ssl_socket(ssl=READ_KEY, function=OPEN, generation_ns=99))
    (second,) = only_data(bench.feed(opened(b"def", 0, 0, generation_ns=99)))
    assert (first.offset, second.offset) == (0, 3)
    assert first.connection_id == second.connection_id


def test_a_key_without_a_socket_is_a_connection_of_its_own_in_time() -> None:
    bench = Bench()
    bench.feed(process(), sealed(b"a", 0, 0), sealed(b"b", 1, 1))
    assert bench.settle() == []
    late = tls_socket(time_ns=HOLD_NS + 2_000_000, socket=3)
    assert bench.feed(late) == []
    given = only_data(bench.settle())
    assert [(event.payload, event.offset, event.joined_late) for event in given] == [
        (b"a", 0, True), (b"b", 1, True),
    ]  # fmt: skip
    (next_one,) = only_data(bench.feed(sealed(b"c", 2, 2)))
    assert (next_one.offset, next_one.connection_id) == (2, given[0].connection_id)


def test_what_is_held_is_bounded_and_given_at_the_end() -> None:
    bench = Bench()
    bench.feed(process())
    given = 0
    for index in range(MAX_HELD_EVENTS + 10):
        given += len(bench.feed(sealed(b"x", index, index)))
    assert given == MAX_HELD_EVENTS + 10
    bench = Bench()
    bench.feed(process(), sealed(b"x", 0, 0))
    assert len(only_data(bench.settle(final=True))) == 1


def test_losses_keep_their_place_in_the_joined_stream() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["go"]), ssl_socket(ssl=READ_KEY, function=OPEN))
    bench.feed(opened(b"abc", 0, 0))
    gap, after = bench.feed(opened(b"z", 2, 10))
    assert isinstance(gap, Loss)
    assert isinstance(after, SslData)
    assert (gap.offset, gap.lost_bytes, gap.count, after.offset) == (3, 7, 1, 10)
    assert gap.connection_id == after.connection_id
    event, fault = bench.feed(opened(b"1234", 3, 11, flags=4))
    assert isinstance(event, SslData)
    assert isinstance(fault, Loss)
    assert (event.offset, event.data_len, fault.offset, fault.cause) == (11, 4, 11, "read_fault")
    seen = totals((5, 20), ssl=READ_KEY)
    assert bench.settle(seen, ring_full=(2, 12)) == []
    (end,) = bench.settle(seen, ring_full=(2, 12))
    assert isinstance(end, Loss)
    assert (end.offset, end.lost_bytes, end.connection_id) == (15, 5, after.connection_id)


def test_many_connections_are_not_mixed_up() -> None:
    random_ = random.Random(5)
    bench = Bench()
    bench.feed(process())
    steps = []
    for n in range(50):
        keys: dict[str, Any] = {"socket": SOCKET + n, "socket_ns": n}
        own = [
            tls_socket(RECORDED["go"], local=("10.0.0.1", 1000 + n), **keys),
            sealed(b"request %d" % n, 0, 0, ssl=WRITE_KEY + n, generation_ns=n),
            ssl_socket(ssl=WRITE_KEY + n, function=SEAL, generation_ns=n, **keys),
            ssl_socket(ssl=READ_KEY + n, function=OPEN, generation_ns=n, **keys),
            opened(b"answer %d" % n, 0, 0, ssl=READ_KEY + n, generation_ns=n),
        ]
        steps.append(own)
    events = []
    while any(steps):
        own = random_.choice([item for item in steps if item])
        events += bench.feed(own.pop(0))
    ports = {event.connection_id: event.local_port for event in events if isinstance(event, SslConnection)}
    assert len(ports) == 50
    said = [event for event in events if isinstance(event, SslData)]
    assert len(said) == 100
    for event in said:
        assert int(event.payload.split()[1]) == (ports[event.connection_id] or 0) - 1000


def test_nothing_waits_for_others_to_say_something() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["curl"], time_ns=0), sealed(b"hi", 0, 0, time_ns=0))
    assert bench.settle(now_ns=HOLD_NS) == []
    (given,) = only_data(bench.settle(now_ns=HOLD_NS + 1))
    assert given.payload == b"hi"
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["curl"], time_ns=0), socket_talks(time_ns=0))
    assert bench.settle(now_ns=UNSEEN_AFTER_NS) == []
    (told,) = bench.settle(now_ns=UNSEEN_AFTER_NS + 1)
    assert isinstance(told, SslUnseen)


def test_what_is_held_of_many_keys_is_bounded() -> None:
    bench, given = Bench(), list[SslData]()
    each, keys = 100, MAX_ALL_EVENTS // 100 + 20
    for key in range(keys):
        for index in range(each):
            given += only_data(bench.feed(sealed(b"x", index, index, ssl=key)))
        assert len(given) >= each * (key + 1) - MAX_ALL_EVENTS
    assert [event.offset for event in given[:each]] == list(range(each)), "what waited longest comes first"
    given += only_data(bench.settle(final=True))
    assert len(given) == each * keys


def test_a_loss_that_only_the_totals_show_keeps_its_place_behind_what_is_held() -> None:
    bench = Bench()
    bench.feed(process(), sealed(b"hello", 0, 0))
    seen = totals((0, 0), (2, 12), ssl=WRITE_KEY)
    assert bench.settle(seen, ring_full=(1, 7)) == []
    assert bench.settle(seen, ring_full=(1, 7)) == []
    said, lost, later = bench.feed(
        tls_socket(RECORDED["curl"]), ssl_socket(ssl=WRITE_KEY, function=SEAL), sealed(b"!", 2, 12)
    )[1:]
    assert isinstance(said, SslData)
    assert isinstance(lost, Loss)
    assert isinstance(later, SslData)
    assert (said.offset, lost.offset, lost.lost_bytes, later.offset) == (0, 5, 7, 12)
    assert said.connection_id == lost.connection_id == later.connection_id


def test_the_end_of_a_connection_whose_first_key_was_that_of_the_handshake() -> None:
    bench = Bench(LibraryTable(["/a", "/b"]))
    library = 1 | LIBRARY_ENDLESS
    bench.feed(
        process(), tls_socket(RECORDED["curl"]), ssl_socket(ssl=0x3000, function=OPEN),
        sealed(b"abc", 0, 0, library=library), ssl_socket(ssl=WRITE_KEY, function=SEAL),
        ssl_socket(ssl=READ_KEY, function=OPEN), opened(b"de", 0, 0, library=library),
    )  # fmt: skip
    (end,) = bench.feed(socket_over())
    assert isinstance(end, SslClose)
    assert (end.written_bytes, end.read_bytes, end.library) == (3, 2, "/b")


def test_where_no_flag_can_be_carried_keys_still_have_no_end_of_their_own() -> None:
    bench = Bench()
    bench.feed(
        process(), tls_socket(RECORDED["curl"]), sealed(b"x", 0, 0, library=0),
        ssl_socket(ssl=WRITE_KEY, function=SEAL),
    )  # fmt: skip
    (end,) = bench.feed(socket_over())
    assert isinstance(end, SslClose)


def test_many_connections_inside_another_one_are_not_all_remembered() -> None:
    bench = Bench()
    bench.feed(process(), tls_socket(RECORDED["curl"]))
    for number in range(3 * MAX_BOUND):
        bench.feed(ssl_socket(ssl=0x100 + number), ssl_socket(ssl=0x100 + number))
    item = bench.decoder._sockets.get(SOCKET, SOCKET_NS)
    assert item is not None
    assert len(item.bound) == MAX_BOUND
