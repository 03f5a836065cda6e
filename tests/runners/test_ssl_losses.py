"""What was lost shows in the stream: at its place where that is known, later otherwise, and never twice."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.events import Event, Loss, SslData
from libagenttracer.runners.interface import ConnectionTotals

from .records import (
    GENERATION_NS,
    SSL,
    Bench,
    data,
    handshake,
    losses,
    only_data,
    only_losses,
    process,
    sendfile,
    totals,
)

CONNECTION = f"100-{SSL:x}-{GENERATION_NS:x}"


@pytest.fixture
def bench() -> Bench:
    made = Bench()
    made.feed(process())
    return made


def where(loss: Loss) -> tuple[str, int, int, str | None, str | None, int | None]:
    return (loss.cause, loss.count, loss.lost_bytes, loss.connection_id, loss.direction, loss.offset)


def test_a_gap_stands_where_it_is(bench: Bench) -> None:
    before, gap, behind = bench.feed(
        data(b"a" * 10, index=0, offset=0), data(b"d" * 5, index=3, offset=75, time_ns=2_000_000)
    )
    assert isinstance(before, SslData)
    assert isinstance(gap, Loss)
    assert isinstance(behind, SslData)
    assert where(gap) == ("ring_full", 2, 65, CONNECTION, "read", 10)
    assert (gap.pid, gap.comm, gap.timestamp_ns) == (100, "python", behind.timestamp_ns)
    assert (gap.offset or 0) + gap.lost_bytes == behind.offset
    assert len({before.id, gap.id, behind.id}) == 3
    assert only_data(bench.feed(data(b"e", index=4, offset=80))), "told once"


def test_a_gap_at_the_beginning(bench: Bench) -> None:
    gap, event = bench.feed(data(b"x", index=2, offset=300, written=True))
    assert isinstance(gap, Loss)
    assert where(gap) == ("ring_full", 2, 300, CONNECTION, "write", 0)
    assert isinstance(event, SslData)


def test_a_gap_in_front_of_a_sendfile(bench: Bench) -> None:
    gap, _ = bench.feed(sendfile(10, index=1, offset=500))
    assert isinstance(gap, Loss)
    assert where(gap) == ("ring_full", 1, 500, CONNECTION, "write", 0)


def test_directions_have_gaps_of_their_own(bench: Bench) -> None:
    events = bench.feed(
        data(b"x", index=0, offset=0),
        data(b"y", index=1, offset=9, written=True),
        data(b"x", index=1, offset=1),
    )
    assert [where(event) for event in events if isinstance(event, Loss)] == [
        ("ring_full", 1, 9, CONNECTION, "write", 0)
    ]


def test_bytes_that_no_record_stands_for_were_cut_off(bench: Bench) -> None:
    """A call that moved more than its records may hold: the numbers go on, the offset jumps."""
    _, gap, _ = bench.feed(data(b"x", index=0, offset=0), data(b"y", index=1, offset=1001))
    assert isinstance(gap, Loss)
    assert where(gap) == ("truncated", 1, 1000, CONNECTION, "read", 1)


def test_a_payload_that_could_not_be_read(bench: Bench) -> None:
    event, loss, behind = bench.feed(
        data(b"x" * 30, index=0, offset=0, fault=True), data(b"y", index=1, offset=30)
    )
    assert isinstance(event, SslData)
    assert (event.data_len, event.payload, event.incomplete, event.reason) == (30, b"", True, "read_fault")
    assert isinstance(loss, Loss)
    assert where(loss) == ("read_fault", 1, 30, CONNECTION, "read", 0)
    assert isinstance(behind, SslData)
    assert not behind.incomplete


# settle(): what no later record shows


def test_nothing_is_told_where_nothing_is_missing(bench: Bench) -> None:
    bench.feed(data(b"x" * 10, index=0, offset=0))
    assert bench.settle(totals((1, 10))) == []
    assert bench.settle(totals((1, 10)), final=True) == []


def test_a_loss_at_a_connections_end_is_told_when_it_rests(bench: Bench) -> None:
    bench.feed(data(b"x" * 10, index=0, offset=0))
    assert bench.settle(totals((3, 50)), ring_full=(2, 40)) == [], "its records may still be on their way"
    (loss,) = only_losses(bench.settle(totals((3, 50)), ring_full=(2, 40)))
    assert where(loss) == ("ring_full", 2, 40, CONNECTION, "read", 10)
    assert bench.settle(totals((3, 50)), ring_full=(2, 40)) == []
    assert bench.settle(totals((3, 50)), ring_full=(2, 40), final=True) == [], "told once"
    assert only_data(bench.feed(data(b"y", index=3, offset=50)))


def test_a_connection_that_does_not_rest_is_left_alone(bench: Bench) -> None:
    bench.feed(data(b"x" * 10, index=0, offset=0))
    for n in range(2, 6):
        assert bench.settle(totals((n, n * 10)), ring_full=(1, 10)) == []


def test_the_totals_are_not_read_again_for_what_they_cannot_tell(bench: Bench) -> None:
    looked = 0

    def seen() -> Iterator[ConnectionTotals]:
        nonlocal looked
        looked += 1
        yield totals((1, 10))

    bench.feed(data(bytes(10), index=0, offset=0))
    for lost, times in ((1, 1), (1, 1), (2, 2), (2, 2)):
        assert bench.decoder.settle(losses({"ring_full": (lost, 0)}), seen(), final=False) == []
        assert looked == times
    assert len(only_losses(bench.decoder.settle(losses({"ring_full": (2, 0)}), seen(), final=True))) == 1
    assert looked == 3


def test_at_the_end_everything_is_told_at_once(bench: Bench) -> None:
    bench.feed(data(b"x" * 10, index=0, offset=0))
    read, written = only_losses(bench.settle(totals((2, 30), (4, 400)), ring_full=(5, 420), final=True))
    assert where(read) == ("ring_full", 1, 20, CONNECTION, "read", 10)
    assert where(written) == ("ring_full", 4, 400, CONNECTION, "write", 0)


def test_a_connection_that_was_lost_whole(bench: Bench) -> None:
    (loss,) = only_losses(bench.settle(totals((2, 30)), ring_full=(2, 30), final=True))
    assert where(loss) == ("ring_full", 2, 30, CONNECTION, "read", 0)


def test_records_of_no_connection_are_told_at_the_end(bench: Bench) -> None:
    """A process's own record, a handshake: there is no offset for these."""
    assert bench.settle(ring_full=(3, 0)) == []
    (loss,) = only_losses(bench.settle(ring_full=(3, 0), final=True))
    assert where(loss) == ("ring_full", 3, 0, None, None, None)
    assert bench.settle(ring_full=(3, 0), final=True) == []


@pytest.mark.parametrize("cause", ["map_full", "missed_return"])
def test_causes_without_a_place_are_told_at_once(bench: Bench, cause: str) -> None:
    (loss,) = only_losses(bench.settle(counts={cause: (2, 0)}))
    assert where(loss) == (cause, 2, 0, None, None, None)
    assert bench.settle(counts={cause: (2, 0)}) == []
    (loss,) = only_losses(bench.settle(counts={cause: (5, 0)}, final=True))
    assert loss.count == 3


@pytest.mark.parametrize("cause", ["read_fault", "truncated"])
def test_causes_with_a_place_wait_for_it(bench: Bench, cause: str) -> None:
    assert bench.settle(counts={cause: (2, 10)}) == []
    (loss,) = only_losses(bench.settle(counts={cause: (2, 10)}, final=True))
    assert where(loss) == (cause, 2, 10, None, None, None)


def test_what_an_event_has_told_is_not_told_again(bench: Bench) -> None:
    bench.feed(data(b"x" * 30, index=0, offset=0, fault=True))
    assert bench.settle(counts={"read_fault": (1, 30)}, final=True) == []


def test_settling_does_not_forget_a_connection_whose_records_are_still_to_come(bench: Bench) -> None:
    """The address is used again already when the counts are read, but the reader is not there yet."""
    bench.feed(*[data(b"x", index=n, offset=n) for n in range(5)])
    reused = totals(generation_ns=GENERATION_NS + 9)
    assert bench.settle(reused, ring_full=(1, 1)) == []
    assert only_data(bench.feed(data(b"x", index=5, offset=5))), "no gap: nothing of it was lost"


@st.composite
def traffic(draw: st.DrawFn) -> tuple[list[tuple[str, int, int, int]], random.Random]:
    kinds = st.sampled_from(["data", "data", "data", "sendfile", "handshake"])
    step = st.tuples(kinds, st.integers(0, 2), st.integers(0, 1), st.integers(1, 40))
    return draw(st.lists(step, max_size=60)), draw(st.randoms(use_true_random=False))


@given(traffic(), st.floats(0, 1), st.integers(1, 10))
def test_all_losses_together_are_what_the_kernel_counted(
    drawn: tuple[list[tuple[str, int, int, int]], random.Random], rate: float, batch: int
) -> None:
    """Any traffic, any losses: captured and told is everything, and every stream has no silent hole."""
    steps, choice = drawn
    bench = Bench()
    records = {(ssl, way): 0 for ssl in range(3) for way in range(2)}
    sent = dict(records)
    lost_records = lost_bytes = 0
    pending: list[bytes] = []
    events: list[Event] = []
    for kind, ssl, way, size in steps:
        if kind == "handshake":
            record, bytes_ = handshake(ssl=ssl), 0
        elif kind == "sendfile":
            record, bytes_ = sendfile(size, index=records[ssl, 1], offset=sent[ssl, 1], ssl=ssl), size
            records[ssl, 1] += 1
            sent[ssl, 1] += size
        else:
            index, offset = records[ssl, way], sent[ssl, way]
            record = data(b"p" * size, written=bool(way), index=index, offset=offset, ssl=ssl)
            bytes_ = size
            records[ssl, way] += 1
            sent[ssl, way] += size
        if choice.random() < rate:
            lost_records, lost_bytes = lost_records + 1, lost_bytes + bytes_
        else:
            pending.append(record)
        if len(pending) >= batch:
            events += bench.feed(*pending)
            pending = []
    events += bench.feed(*pending)
    seen = [
        totals((records[ssl, 0], sent[ssl, 0]), (records[ssl, 1], sent[ssl, 1]), ssl=ssl) for ssl in range(3)
    ]
    for _ in range(choice.randrange(3)):
        events += bench.settle(*seen, ring_full=(lost_records, lost_bytes))
    events += bench.settle(*seen, ring_full=(lost_records, lost_bytes), final=True)

    told = [event for event in events if isinstance(event, Loss)]
    assert {loss.cause for loss in told} <= {"ring_full"}
    assert sum(loss.count for loss in told) == lost_records
    assert sum(loss.lost_bytes for loss in told) == lost_bytes
    assert len({event.id for event in events}) == len(events)
    check_streams(events, seen)


def check_streams(events: list[Event], seen: list[ConnectionTotals]) -> None:
    at: dict[tuple[str, str], int] = {}
    for event in events:
        if isinstance(event, Loss):
            if event.connection_id is None or event.direction is None:
                continue
            size = event.lost_bytes
        elif hasattr(event, "data_len"):
            size = event.data_len
        else:
            continue
        key = (event.connection_id, event.direction)  # type: ignore[attr-defined]
        assert event.offset == at.get(key, 0)  # type: ignore[attr-defined]
        at[key] = at.get(key, 0) + size
    for total in seen:
        id_ = f"{total.tgid}-{total.ssl:x}-{total.generation_ns:x}"
        assert at.get((id_, "read"), 0) == total.read_bytes
        assert at.get((id_, "write"), 0) == total.written_bytes
