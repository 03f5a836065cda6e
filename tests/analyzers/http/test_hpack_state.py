"""An index never gives a wrong header, whatever was missed; and what was not missed is known."""

from __future__ import annotations

import random

import pytest
from hpack import Encoder, HPACKError, OversizedHeaderListError
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.http.hpack_state import HeaderDecoder
from libagenttracer.analyzers.http.limits import Limits

NAMES = [b":method", b":path", b"host", b"accept", b"x-a", b"x-b", b"x-" + b"long" * 20, b"cookie"]
VALUES = [b"GET", b"/", b"1", b"2", b"3", b"v" * 70, b"", b"w" * 1500]
FIELDS = st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(VALUES)), max_size=7)
SIZES = st.sampled_from([0, 31, 64, 100, 300, 4096, 9000, 1 << 20])
BLOCKS = st.lists(st.tuples(FIELDS, st.booleans(), st.none() | SIZES), min_size=1, max_size=25)


@settings(max_examples=300, deadline=None)
@given(BLOCKS, st.sampled_from([200, 5000, 256 << 10]))
def test_no_field_is_wrong(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]], kept: int
) -> None:
    """Any blocks can be missed, also those that tell the size of the table, and it may be kept smaller."""
    encoder = Encoder()
    decoder = HeaderDecoder(Limits(max_head_bytes=kept, max_headers=1000))
    missed = False
    for fields, lost, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(fields)
        if lost:
            missed = True
            decoder.lost()
            continue
        decoded = [*decoder.fields(block)]
        assert len(decoded) == len(fields)
        for seen, true in zip(decoded, fields, strict=True):
            assert tuple(seen) == true or not seen[0]
            if not missed and kept > 10_000 and encoder.header_table.maxsize < kept:
                assert tuple(seen) == true


def test_what_is_inserted_after_a_loss_is_known() -> None:
    encoder, decoder = Encoder(), HeaderDecoder(Limits())
    old = [(b"x-old", b"1"), (b"x-name", b"a")]
    new = [(b"x-new", b"2"), (b"x-name", b"b")]
    encoder.encode(old)
    decoder.lost()
    # all of the old ones are indices; a new value of an old name is inserted with an unknown name
    assert [*decoder.fields(encoder.encode([*old, *new]))] == [(b"", b""), (b"", b""), new[0], (b"", b"b")]
    assert [*decoder.fields(encoder.encode([new[0], new[1], (b"x-new", b"3")]))] == [
        new[0],
        (b"", b"b"),
        (b"x-new", b"3"),
    ]


def test_random_blocks_without_the_ones_between() -> None:
    """Long run with tables that overflow all the time."""
    choose = random.Random(3)
    encoder, decoder = Encoder(), HeaderDecoder(Limits())
    known = 0
    for _ in range(3000):
        fields = [(choose.choice(NAMES), b"%d" % choose.randrange(60)) for _ in range(5)]
        block = encoder.encode(fields)
        if choose.random() < 0.02:
            decoder.lost()
            continue
        for seen, true in zip(decoder.fields(block), fields, strict=True):
            assert tuple(seen) == true or not seen[0]
            known += bool(seen[0])
    assert known > 0.5 * 5 * 3000  # names that only the table has stay unknown: they are never sent again


def test_bombs_are_refused_and_do_not_stay() -> None:
    decoder = HeaderDecoder(Limits(max_head_bytes=10_000, max_headers=10))
    encoder = Encoder()
    name = b"x" * 3000
    [*decoder.fields(encoder.encode([(name, b"v")]))]
    with pytest.raises(OversizedHeaderListError):
        decoder.fields(b"\xbe" * 1000)
    assert [*decoder.fields(b"\xbe")] == [(b"", b"")]


@pytest.mark.parametrize(
    "block", [b"\x80", b"\x40\x85", b"\x40\x01a", b"\xff" * 30, b"\x82\x20", b"\x00\x81\xff"]
)
def test_malformed_blocks(block: bytes) -> None:
    decoder = HeaderDecoder(Limits())
    with pytest.raises(HPACKError):
        decoder.fields(block)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=5))
def test_any_bytes(blocks: list[bytes]) -> None:
    decoder = HeaderDecoder(Limits(max_head_bytes=1000, max_headers=10))
    for block in blocks:
        try:
            decoder.fields(block)
        except HPACKError:
            continue
        assert len(decoder.table.dynamic_entries) <= 1000 // 32
