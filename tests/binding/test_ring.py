"""The ring buffer: what the kernel wrote comes out whole, in order, once."""

from __future__ import annotations

import itertools
import os
import random
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from construct import Bytes, Int8ul, Int16ul, Struct, this
from hypothesis import given
from hypothesis import strategies as st
from libagenttracer.binding._libbpf import ffi, lib

from libagenttracer.binding import Object, ObjectSpec, RingBuffer, record_class
from libagenttracer.errors import LayoutError, RingError

from ..conftest import Loader
from ..support import Target, become_nobody, in_child, u64

pytestmark = pytest.mark.kernel

OUTPUT_AND_WAKE, DISCARD = 1, 2
RING_BYTES = 65536
Sample = record_class(
    Struct("number" / Int16ul, "used_bytes" / Int8ul, "text" / Bytes(this.used_bytes)), "Sample"
)


def in_ring(data: bytes) -> int:
    """How much of the ring a record takes."""
    return (len(data) + 8 + 7) // 8 * 8


@dataclass
class Source:
    """A loaded object that puts what `emit` is given into its ring."""

    item: Object
    target: Target

    def emit(self, data: bytes, action: int = 0) -> None:
        self.target.emit(data, action)

    @property
    def dropped(self) -> int:
        return self.item.globals["dropped"]


@pytest.fixture
def source(load: Loader, target: Target) -> Source:
    item = load("ring")
    item.programs["on_emit"].attach_uprobe(target.path, "target_emit", pid=os.getpid())
    return Source(item, target)


@pytest.fixture
def ring(source: Source) -> Iterator[RingBuffer]:
    with RingBuffer(source.item.maps["ring"]) as made:
        yield made


def take(ring: RingBuffer, **limits: int) -> list[bytes]:
    with ring.lease(**limits) as lease:
        return [bytes(record) for record in lease]


def test_records_come_in_order(source: Source, ring: RingBuffer) -> None:
    sent = [b"%d" % number * (number % 9 + 1) for number in range(100)]
    for data in sent:
        source.emit(data)
    assert take(ring) == sent
    assert take(ring) == []


def test_iterating_gives_copies_that_last(source: Source, ring: RingBuffer) -> None:
    sent = [b"record %d" % number for number in range(10)]
    for data in sent:
        source.emit(data)
    got = list(itertools.islice(ring, 10))
    for _ in range(20):  # several times round the ring: what was there is overwritten
        source.emit(bytes(8000))
        take(ring)
    assert got == sent


def test_iterating_waits_for_more(source: Source, ring: RingBuffer) -> None:
    got: list[bytes] = []
    reader = threading.Thread(target=lambda: got.extend(itertools.islice(ring, 2)))
    reader.start()
    time.sleep(0.03)
    source.emit(b"first", OUTPUT_AND_WAKE)
    time.sleep(0.03)
    source.emit(b"second")  # without a wakeup: it is found by looking again
    reader.join(5)
    assert got == [b"first", b"second"]


def test_iterating_with_a_record_class(source: Source) -> None:
    with RingBuffer(source.item.maps["ring"], record=Sample) as ring:
        source.emit(b"\x01\x02\x03abcdef")
        source.emit(b"\x04\x00\x00")
        first, second = itertools.islice(ring, 2)
        assert (first.number, first.text) == (0x0201, b"abc")
        assert (second.number, second.text) == (4, b"")


def test_a_record_that_does_not_fit_its_class(source: Source) -> None:
    with RingBuffer(source.item.maps["ring"], record=Sample) as ring:
        source.emit(b"\x01\x02\x09abc")
        source.emit(b"\x04\x00\x01x")
        with ring.lease() as lease, pytest.raises(LayoutError, match="needs 12 bytes, the record has 6"):
            _ = next(iter(lease)).text
        assert take(ring) == [], "the batch was given back all the same"


def test_a_lease_lends_records_in_place(source: Source) -> None:
    with RingBuffer(source.item.maps["ring"], record=Sample) as ring:
        source.emit(b"\x01\x00\x02hi")
        source.emit(b"\x02\x00\x01x")
        with ring.lease() as lease:
            assert len(lease) == 2
            first, second = lease
            assert (first.text, second.text) == (b"hi", b"x")
            assert [length for _, length in lease.spans()] == [5, 4]
            offset, length = next(lease.spans())
            assert bytes(lease.view[offset : offset + length]) == b"\x01\x00\x02hi"
            assert lease.view.readonly
        assert first.number == 1, "numbers were read when the record was made"
        with pytest.raises(ValueError, match="released"):
            _ = first.text
        with pytest.raises(ValueError, match="released"):
            list(lease)


def test_an_empty_lease(ring: RingBuffer) -> None:
    with ring.lease() as lease:
        assert len(lease) == 0
        assert list(lease) == []
    assert ring.position == 0


def test_positions_count_headers_and_padding(source: Source, ring: RingBuffer) -> None:
    sent = [b"", b"1", b"12345678", b"123456789"]
    for data in sent:
        source.emit(data)
    whole = sum(map(in_ring, sent))
    assert (ring.position, ring.pending_bytes) == (0, whole)
    with ring.lease():
        assert (ring.position, ring.pending_bytes) == (0, whole), "a leased batch is still there"
    assert (ring.position, ring.pending_bytes) == (whole, 0)


def test_a_batch_can_be_limited(source: Source, ring: RingBuffer) -> None:
    sent = [bytes([number]) * 100 for number in range(10)]
    for data in sent:
        source.emit(data)
    assert take(ring, max_records=3) == sent[:3]
    assert take(ring, max_records=1) == sent[3:4]
    assert take(ring, max_bytes=1) == sent[4:5], "one record at least"
    assert take(ring, max_bytes=2 * in_ring(sent[0])) == sent[5:7]
    assert take(ring, max_records=5000) == sent[7:]


def test_more_records_than_a_batch_may_have(source: Source, ring: RingBuffer) -> None:
    source.target.emit_many(bytes(2000), [1] * 2000)
    assert [len(take(ring, max_records=5000)) for _ in range(3)] == [1024, 976, 0]


def test_discarded_records_are_skipped(source: Source, ring: RingBuffer) -> None:
    source.emit(b"", DISCARD)
    source.emit(b"one")
    source.emit(b"", DISCARD)
    source.emit(b"", DISCARD)
    source.emit(b"two")
    source.emit(b"", DISCARD)
    assert take(ring) == [b"one", b"two"]
    assert ring.pending_bytes == 0
    source.emit(b"", DISCARD)
    assert take(ring) == []
    assert ring.pending_bytes == 0, "a batch of discarded records alone is given back too"


def test_a_record_still_being_written_is_waited_for(source: Source, ring: RingBuffer) -> None:
    item = source.item
    item.programs["on_stall"].attach_uprobe(source.target.path, "target_stall", pid=os.getpid())
    writer = threading.Thread(target=source.target.stall)
    writer.start()
    try:
        end_s = time.monotonic() + 5
        while not item.globals["stalling"] and time.monotonic() < end_s:
            time.sleep(0.001)
        assert item.globals["stalling"] == 1
        during, waiting_bytes = take(ring), ring.pending_bytes
    finally:
        item.globals["released"] = 1
        writer.join()
    assert during == [], "the second record was finished, but the first was not"
    assert waiting_bytes == 32
    assert take(ring) == [u64(1), u64(2)]


def test_a_full_ring_takes_nothing_until_a_batch_is_given_back(source: Source, ring: RingBuffer) -> None:
    sent = [bytes([number]) * 4000 for number in range(20)]
    for data in sent:
        source.emit(data)
    fitting = RING_BYTES // in_ring(sent[0])
    assert source.dropped == 20 - fitting
    with ring.lease() as lease:
        assert [bytes(record) for record in lease] == sent[:fitting]
        source.emit(b"x" * 4000)
        assert source.dropped == 20 - fitting + 1, "what is leased is not overwritten"
        assert [bytes(record) for record in lease] == sent[:fitting]
    source.emit(b"now it fits")
    assert take(ring) == [b"now it fits"]
    assert source.dropped == 20 - fitting + 1


def test_every_record_is_received_or_counted(source: Source, ring: RingBuffer) -> None:
    choice = random.Random(7)
    sent = received = 0
    for _ in range(200):
        lengths = [choice.randrange(3000) for _ in range(choice.randrange(1, 60))]
        source.target.emit_many(bytes(200_000), lengths)
        sent += len(lengths)
        received += len(take(ring, max_records=choice.randrange(1, 60)))
    while some := len(take(ring)):
        received += some
    assert source.dropped > 0, "the ring was never full: the test is too tame"
    assert received + source.dropped == sent


def test_odd_sizes_round_and_round(source: Source, ring: RingBuffer) -> None:
    """Some 24 MiB through 64 KiB, compared byte for byte."""
    choice = random.Random(42)
    noise = choice.randbytes(1 << 17)
    rounds = 0
    while ring.position < 24 << 20:
        begin = at = choice.randrange(1 << 16)
        lengths: list[int] = []
        while sum(map(in_ring, map(bytes, lengths))) < RING_BYTES - 20000:
            lengths.append(choice.choice([choice.randrange(100), choice.randrange(12000)]))
        source.target.emit_many(noise[begin:], lengths)
        with ring.lease(max_records=1024) as lease:
            assert len(lease) == len(lengths)
            for record, length in zip(lease, lengths, strict=True):
                assert record == noise[at : at + length]
                at += length
        rounds += 1
    assert source.dropped == 0
    assert rounds > 100


@pytest.fixture(scope="module")
def lasting_ring(bpf_bytes: Callable[[str], bytes], target: Target) -> Iterator[tuple[RingBuffer, Target]]:
    with ObjectSpec(bpf_bytes("ring"), name="ring").load() as item:
        item.programs["on_emit"].attach_uprobe(target.path, "target_emit", pid=os.getpid())
        with RingBuffer(item.maps["ring"]) as ring:
            yield ring, target


STEPS = st.one_of(
    st.binary(max_size=300), st.integers(1, 12000), st.sampled_from(["discard", "read", "read 1"])
)


@given(steps=st.lists(STEPS, max_size=40))
def test_any_order_of_writing_and_reading(
    lasting_ring: tuple[RingBuffer, Target], steps: list[bytes | int | str]
) -> None:
    ring, target = lasting_ring
    expected: list[bytes] = []
    got: list[bytes] = []
    for number, step in enumerate(steps):
        if step == "discard":
            target.emit(b"", DISCARD)
        elif isinstance(step, str):
            got += take(ring, max_records=1 if step == "read 1" else 100)
        else:
            data = step if isinstance(step, bytes) else bytes([number]) * step
            if ring.pending_bytes + in_ring(data) <= RING_BYTES - 64:
                expected.append(data)
                target.emit(data)
    while ring.pending_bytes:
        got += take(ring)
    assert got == expected


def test_waiting_ends_when_the_kernel_wakes(source: Source, ring: RingBuffer) -> None:
    assert not ring.wait(0)
    source.emit(b"quiet")
    assert not ring.wait(0), "a record without a wakeup does not end it"
    source.emit(b"loud", OUTPUT_AND_WAKE)
    assert ring.wait(5)
    assert not ring.wait(0), "one wakeup ends one wait"
    assert take(ring) == [b"quiet", b"loud"]


def test_a_thread_that_waits_is_woken(source: Source, ring: RingBuffer) -> None:
    woken: list[bool] = []
    waiter = threading.Thread(target=lambda: woken.append(ring.wait(10)))
    waiter.start()
    time.sleep(0.03)
    assert woken == []
    source.emit(b"x", OUTPUT_AND_WAKE)
    waiter.join(5)
    assert woken == [True]


def test_its_descriptor_can_be_polled(source: Source, ring: RingBuffer) -> None:
    poll = select.poll()
    poll.register(ring.fileno(), select.POLLIN)
    assert poll.poll(0) == []
    source.emit(b"x", OUTPUT_AND_WAKE)
    assert [fd for fd, _ in poll.poll(1000)] == [ring.fileno()]


def test_reading_without_privileges(source: Source) -> None:
    """Only the descriptor is handed over."""
    source.emit(b"before", OUTPUT_AND_WAKE)
    source.emit(b"x" * 5000)
    fd = source.item.maps["ring"].fileno()

    def read() -> tuple[int, bool, list[bytes], int]:
        become_nobody()
        with RingBuffer(fd, ring_bytes=RING_BYTES) as ring:
            woken = ring.wait(1)
            return os.getuid(), woken, take(ring), ring.pending_bytes

    assert in_child(read) == (65534, True, [b"before", b"x" * 5000], 0)
    source.emit(b"behind")
    with RingBuffer(fd, ring_bytes=RING_BYTES) as ring:
        assert take(ring) == [b"behind"], "what the other process gave back is gone for this one too"


@pytest.mark.parametrize("ring_bytes", [0, -4096, 1, 4095, 12288, RING_BYTES // 2, 2 * RING_BYTES, 1 << 31])
def test_impossible_sizes(source: Source, ring_bytes: int) -> None:
    with pytest.raises(RingError, match="map ring failed"):
        RingBuffer(source.item.maps["ring"].fileno(), ring_bytes=ring_bytes)


def test_what_is_no_ring(load: Loader) -> None:
    with pytest.raises(RingError, match="map ring failed"):
        RingBuffer(load("ring").maps["scratch"])
    with pytest.raises(RingError, match="map ring failed"):
        RingBuffer(load("ring").maps["scratch"].fileno(), ring_bytes=RING_BYTES)
    read_end, write_end = os.pipe()
    with pytest.raises(RingError, match="map ring failed"):
        RingBuffer(read_end, ring_bytes=RING_BYTES)
    os.close(read_end)
    os.close(write_end)


HEADERS = st.one_of(st.integers(0, 40), st.integers(1 << 30, (1 << 30) + 40), st.integers(0, (1 << 32) - 1))


@given(
    headers=st.lists(HEADERS, min_size=16, max_size=16),
    consumer=st.integers(0, 1 << 37),
    ahead=st.integers(0, 140),
    max_records=st.integers(0, 16),
)
def test_no_content_leads_out_of_the_ring(
    headers: list[int], consumer: int, ahead: int, max_records: int
) -> None:
    """The walk over a ring of nonsense finds places inside it, or says that it makes no sense."""
    page_bytes, ring_bytes = 16, 128
    consumer *= 8
    content = b"".join(map(u64, headers))
    memory = ffi.new("char[]", u64(consumer + ahead).ljust(page_bytes, b"\0") + content + content)
    cursor = ffi.new("uint64_t *", consumer)
    offsets, lengths = ffi.new("uint32_t[]", 16), ffi.new("uint32_t[]", 16)
    count = lib.lat_ring_peek(memory, page_bytes, ring_bytes, cursor, offsets, lengths, max_records, 1000)
    assert count == -74 or 0 <= count <= max_records  # EBADMSG
    for index in range(max(0, count)):
        assert offsets[index] < ring_bytes + 8
        assert offsets[index] + lengths[index] <= 2 * ring_bytes
    if count >= 0:
        assert consumer <= cursor[0] <= consumer + ahead
