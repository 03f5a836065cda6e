"""Leases, forks and closing: what must not be used any more says so, and nothing crashes."""

from __future__ import annotations

import gc
import itertools
import mmap
import os
from collections.abc import Callable, Iterator

import pytest

from libagenttracer.binding import Object, RingBuffer
from libagenttracer.errors import RingError

from ..conftest import Loader
from ..support import Target, in_child

pytestmark = pytest.mark.kernel


@pytest.fixture
def item(load: Loader, target: Target) -> Object:
    made = load("ring")
    made.programs["on_emit"].attach_uprobe(target.path, "target_emit", pid=os.getpid())
    return made


@pytest.fixture
def ring(item: Object) -> Iterator[RingBuffer]:
    with RingBuffer(item.maps["ring"]) as made:
        yield made


def take(ring: RingBuffer) -> list[bytes]:
    with ring.lease() as lease:
        return [bytes(record) for record in lease]


def refusal(use: Callable[[], object]) -> str:
    """What a use of something dead says, in a child, since it might crash."""

    def attempt() -> str:
        try:
            return f"gave {use()!r}"
        except RingError as error:
            return str(error)

    return in_child(attempt)


def test_a_second_lease_is_refused(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    with ring.lease(), pytest.raises(RingError, match="the last lease has not been released"):
        ring.lease()
    assert take(ring) == [], "the first batch has been given back"
    target.emit(b"two")
    assert take(ring) == [b"two"]


def test_a_lease_left_by_an_exception_is_given_back(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    with pytest.raises(ZeroDivisionError), ring.lease():
        _ = 1 // 0
    target.emit(b"two")
    assert take(ring) == [b"two"]


def test_releasing_twice_does_nothing(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    lease = ring.lease()
    lease.release()
    lease.release()
    target.emit(b"two")
    assert take(ring) == [b"two"]


def test_an_old_lease_does_not_end_the_next(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    target.emit(b"two")
    target.emit(b"three")
    first = ring.lease(max_records=1)
    first.release()
    second = ring.lease(max_records=1)
    at = ring.position
    first.release()
    assert ring.position == at
    with pytest.raises(RingError, match="has not been released"):
        ring.lease()
    second.release()
    assert take(ring) == [b"three"]


def test_borrowed_records_die_with_their_lease(ring: RingBuffer, target: Target) -> None:
    """Readable still, they would show other records' bytes as soon as the kernel has gone round."""
    target.emit(b"borrowed")
    with ring.lease() as lease:
        (record,) = lease
        assert record == b"borrowed"
    with pytest.raises(ValueError, match="released"):
        bytes(record)


def test_iterating_over_a_closed_ring_ends(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    records = iter(ring)
    assert next(records) == b"one"
    ring.close()
    assert list(records) == []
    assert list(ring) == []
    ring.close()  # does nothing


@pytest.mark.parametrize(
    "use",
    [
        lambda ring: ring.lease(),
        lambda ring: ring.position,
        lambda ring: ring.pending_bytes,
        lambda ring: ring.wait(0),
        lambda ring: ring.fileno(),
    ],
    ids=["lease", "position", "pending_bytes", "wait", "fileno"],
)
def test_a_closed_ring_refuses(item: Object, use: Callable[[RingBuffer], object]) -> None:
    def attempt() -> object:
        ring = RingBuffer(item.maps["ring"])
        ring.close()
        return use(ring)

    assert "closed" in refusal(attempt)


def test_a_ring_can_be_closed_while_records_are_lent(item: Object, target: Target) -> None:
    target.emit(b"lent")
    ring = RingBuffer(item.maps["ring"])
    lease = ring.lease()
    (record,) = lease
    descriptors = len(os.listdir("/proc/self/fd"))
    ring.close()
    assert len(os.listdir("/proc/self/fd")) < descriptors
    with pytest.raises(RingError, match="closed"):
        ring.lease()
    lease.release()
    del lease, record
    assert take(RingBuffer(item.maps["ring"])) in ([], [b"lent"])


def mappings_of_rings() -> int:
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("anon_inode:bpf-map" in line for line in maps)


def test_closing_unmaps(item: Object, target: Target) -> None:
    before = mappings_of_rings()
    ring = RingBuffer(item.maps["ring"])
    assert mappings_of_rings() > before
    target.emit(b"x")
    (record,) = itertools.islice(ring, 1)
    assert record == b"x"
    ring.close()
    assert mappings_of_rings() == before


def test_a_ring_outlives_its_object(item: Object, target: Target) -> None:
    with RingBuffer(item.maps["ring"]) as ring:
        target.emit(b"one")
        item.close()
        assert take(ring) == [b"one"]
        assert take(ring) == []


@pytest.mark.parametrize(
    "use",
    [
        lambda ring: ring.lease(),
        lambda ring: ring.position,
        lambda ring: ring.pending_bytes,
        lambda ring: next(iter(ring)),
    ],
    ids=["lease", "position", "pending_bytes", "iteration"],
)
def test_a_forked_child_is_refused(
    ring: RingBuffer, target: Target, use: Callable[[RingBuffer], object]
) -> None:
    target.emit(b"the parent's")
    assert "forked child" in refusal(lambda: use(ring))
    assert take(ring) == [b"the parent's"]


def test_a_lease_that_a_child_inherits_is_the_parents(ring: RingBuffer, target: Target) -> None:
    target.emit(b"one")
    with ring.lease() as lease:
        at = ring.position

        def end_it() -> None:
            lease.release()

        in_child(end_it)
        assert ring.position == at
        target.emit(b"two")
    assert take(ring) == [b"two"]


@pytest.mark.parametrize("ending", ["close", "drop"])
def test_its_end_in_a_child_frees_no_memory_of_the_child(item: Object, target: Target, ending: str) -> None:
    """Where the parent has the ring, the child may have got other memory by now."""
    rings = [RingBuffer(item.maps["ring"])]

    def use_memory_and_end_it() -> int:
        blocks = [mmap.mmap(-1, 4096 + 2 * 65536) for _ in range(40)]
        for block in blocks:
            block.write(b"\1" * len(block))
        if ending == "close":
            rings[0].close()
        rings.clear()
        gc.collect()
        return sum(block[0] + block[-1] for block in blocks)

    assert in_child(use_memory_and_end_it) == 80
    target.emit(b"still here")
    assert take(rings[0]) == [b"still here"]
    rings[0].close()
