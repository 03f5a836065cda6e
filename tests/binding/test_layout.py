"""Record classes derived from construct layouts, held against construct's own parser."""

from __future__ import annotations

from typing import Any

import construct
import pytest
from construct import (
    Array,
    Byte,
    Bytes,
    Computed,
    Const,
    CString,
    Enum,
    Flag,
    GreedyBytes,
    If,
    Int8sb,
    Int8ub,
    Int8ul,
    Int16sl,
    Int16ub,
    Int16ul,
    Int24ul,
    Int32sl,
    Int32ub,
    Int32ul,
    Int64sl,
    Int64ul,
    Padded,
    Padding,
    PrefixedArray,
    Struct,
    Switch,
    VarInt,
    this,
)
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.binding.layout import Record, fields_of, record_class
from libagenttracer.errors import LayoutError

ALL_KINDS = Struct(
    "u8" / Int8ul,
    "s8" / Int8sb,
    Padding(1),
    "s16" / Int16sl,
    "inner" / Struct("u16" / Int16ul, "deeper" / Struct("s32" / Int32sl, Padding(3), "u32" / Int32ul)),
    "s64" / Int64sl,
    "u64" / Int64ul,
    "name" / Bytes(5),
    "tail_bytes" / Int8ul,
    "tail" / Bytes(this.tail_bytes),
)
AllKinds = record_class(ALL_KINDS, "AllKinds")


def flat(container: construct.Container) -> dict[str, Any]:
    """What construct parsed, nested fields and all, as a record's `as_dict` would give it."""
    found: dict[str, Any] = {}
    for name, value in container.items():
        if isinstance(value, construct.Container):
            found.update(flat(value))
        elif not name.startswith("_"):
            found[name] = value
    return found


def parsed(layout: construct.Struct, raw: bytes) -> dict[str, Any]:
    return flat(layout.parse(raw))


def test_every_kind_of_field() -> None:
    values = {
        "u8": 200, "s8": -1, "s16": -2, "inner": {"u16": 65535, "deeper": {"s32": -3, "u32": 4}},
        "s64": -(2**63), "u64": 2**64 - 1, "name": b"abc\0\0", "tail_bytes": 3, "tail": b"xyz",
    }  # fmt: skip
    record = AllKinds.unpack_from(memoryview(ALL_KINDS.build(values)))
    assert (record.u8, record.s8, record.s16, record.u16, record.s32, record.u32) == (
        200,
        -1,
        -2,
        65535,
        -3,
        4,
    )
    assert (record.s64, record.u64, record.name) == (-(2**63), 2**64 - 1, b"abc\0\0")
    assert bytes(record.tail) == b"xyz"
    assert isinstance(record, Record)
    assert repr(record).startswith("AllKinds(u8=200, s8=-1, ")
    assert AllKinds.layout is ALL_KINDS
    assert AllKinds.fixed_bytes == 40


def test_fields_have_the_offsets_that_construct_gives() -> None:
    places = {field.name: (field.offset, field.size) for field in fields_of(ALL_KINDS) if field.name}
    assert places == {
        "u8": (0, 1), "s8": (1, 1), "s16": (3, 2), "u16": (5, 2), "s32": (7, 4), "u32": (14, 4),
        "s64": (18, 8), "u64": (26, 8), "name": (34, 5), "tail_bytes": (39, 1), "tail": (40, -1),
    }  # fmt: skip


@given(st.binary(min_size=40, max_size=40), st.binary(max_size=255), st.integers(0, 9), st.integers(0, 9))
def test_a_record_says_what_construct_parses(fixed: bytes, tail: bytes, before: int, behind: int) -> None:
    raw = fixed[:39] + bytes([len(tail)]) + tail
    view = memoryview(b"\xee" * before + raw + b"\xdd" * behind)
    record = AllKinds.unpack_from(view, before, len(raw) + behind)
    assert record.as_dict() == parsed(ALL_KINDS, raw)
    assert record.tail == tail


NUMBERS = [Int8ul, Int8ub, Int8sb, Int16ul, Int16sl, Int32ul, Int32sl, Int64ul, Int64sl]


@st.composite
def layouts(draw: st.DrawFn) -> construct.Struct:
    """A layout of random fields, nested, padded, with a tail or without."""
    count = 0

    def fields(depth: int) -> list[Any]:
        nonlocal count
        found: list[Any] = []
        for _ in range(draw(st.integers(0 if depth else 1, 4))):
            count += 1
            kind = draw(st.sampled_from(["number", "bytes", "padding", "nested"]))
            if kind == "number":
                found.append(f"f{count}" / draw(st.sampled_from(NUMBERS)))
            elif kind == "bytes":
                found.append(f"f{count}" / Bytes(draw(st.integers(0, 9))))
            elif kind == "padding":
                found.append(Padding(draw(st.integers(0, 9))))
            elif depth < 2:
                found.append(f"f{count}" / Struct(*fields(depth + 1)))
        return found

    parts = fields(0)
    if draw(st.booleans()):
        parts += ["length" / draw(st.sampled_from([Int8ul, Int16ul, Int32ul])), "tail" / Bytes(this.length)]
    return Struct(*parts)


@given(layouts(), st.data())
def test_any_layout_says_what_construct_parses(layout: construct.Struct, data: st.DataObject) -> None:
    made = record_class(layout, "Random")
    raw = bytearray(data.draw(st.binary(min_size=made.fixed_bytes, max_size=made.fixed_bytes)))
    length = next((field for field in made.fields if field.name == "length"), None)
    if length is not None:
        tail = data.draw(st.binary(max_size=40))
        raw[length.offset : length.offset + length.size] = len(tail).to_bytes(length.size, "little")
        raw += tail
    assert made.unpack_from(memoryview(raw), 0, len(raw)).as_dict() == parsed(layout, bytes(raw))
    assert made.unpack_from(memoryview(raw)).as_dict() == parsed(layout, bytes(raw))


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        pytest.param(Struct("a" / Int16ub), "little-endian", id="big-endian"),
        pytest.param(Struct("a" / Int32ub), "little-endian", id="big-endian 32"),
        pytest.param(Struct("a" / Int24ul), "BytesInteger", id="24 bits"),
        pytest.param(Struct("a" / VarInt), "VarInt", id="varint"),
        pytest.param(Struct("a" / Flag), "cannot be decoded", id="flag"),
        pytest.param(Struct("a" / Enum(Byte, x=1)), "Enum", id="enum"),
        pytest.param(Struct("a" / Array(3, Byte)), "Array", id="array"),
        pytest.param(Struct("a" / PrefixedArray(Byte, Byte)), "cannot be decoded", id="prefixed array"),
        pytest.param(Struct("a" / CString("utf8")), "cannot be decoded", id="string"),
        pytest.param(Struct("a" / GreedyBytes), "GreedyBytes", id="greedy"),
        pytest.param(Struct("a" / Const(b"x")), "Const", id="const"),
        pytest.param(Struct("a" / Computed(1)), "Computed", id="computed"),
        pytest.param(Struct("n" / Int8ul, "a" / If(this.n, Int8ul)), "cannot be decoded", id="if"),
        pytest.param(Struct("n" / Int8ul, "a" / Switch(this.n, {})), "Switch", id="switch"),
        pytest.param(Struct("a" / Bytes(this.n), "n" / Int8ul), "field before it", id="length behind"),
        pytest.param(Struct("a" / Bytes(this.missing)), "field before it", id="length missing"),
        pytest.param(Struct("n" / Int8ul, "a" / Bytes(this.n + 1)), "only this.FIELD", id="sum"),
        pytest.param(Struct("n" / Int8ul, "a" / Bytes(this.n * 2)), "only this.FIELD", id="product"),
        pytest.param(Struct("n" / Int8ul, "a" / Bytes(lambda it: it["n"])), "only this.FIELD", id="lambda"),
        pytest.param(Struct("n" / Int8ul, "a" / Bytes(lambda it: 1 // 0)), "only this.FIELD", id="raises"),
        pytest.param(
            Struct("h" / Struct("n" / Int8ul), "a" / Bytes(this.h.n)), "only this.FIELD", id="path in a path"
        ),
        pytest.param(
            Struct("n" / Int8ul, "a" / Bytes(this.n), "b" / Int8ul), "b comes after the tail", id="after tail"
        ),
        pytest.param(
            Struct("n" / Int8ul, "a" / Bytes(this.n), Padding(1)),
            "padding comes after",
            id="padding after tail",
        ),
        pytest.param(
            Struct("n" / Int8ul, "a" / Bytes(this.n), "b" / Bytes(this.n)), "after the tail", id="two tails"
        ),
        pytest.param(Struct("a" / Int8ul, "a" / Int16ul), "named twice: a", id="twice"),
        pytest.param(Struct("a" / Int8ul, "s" / Struct("a" / Int8ul)), "named twice: a", id="twice, nested"),
    ],
)
def test_what_cannot_be_decoded_in_place_is_refused(layout: construct.Struct, message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        record_class(layout, "Bad")


def test_a_field_in_a_padded_place_is_not_padding() -> None:
    """Padded(n, field) holds a value; only Padding(n) holds none."""
    with pytest.raises(LayoutError):
        record_class(Struct("a" / Padded(8, Int32ul), "b" / Int8ul), "PaddedField")


def test_a_field_without_a_name_moves_no_other() -> None:
    layout = Struct(Int32ul, "b" / Int32ul)
    raw = bytes([1, 0, 0, 0, 2, 0, 0, 0])
    try:
        record = record_class(layout, "Unnamed").unpack_from(memoryview(raw))
    except LayoutError:
        return  # to refuse it is right too
    assert record.b == layout.parse(raw).b == 2


def refused(layout: construct.Struct) -> bool:
    try:
        record_class(layout, "Bad")
    except LayoutError:
        return True
    return False


def test_the_length_of_a_tail_is_an_unsigned_number() -> None:
    """A negative length would give the bytes up to somewhere near the end of the ring."""
    kinds = [Int8sb, Int16sl, Int32sl, Int64sl, Bytes(4)]
    assert [kind for kind in kinds if not refused(Struct("n" / kind, "tail" / Bytes(this.n)))] == []


def test_a_field_may_not_hide_what_records_have() -> None:
    names = ["as_dict", "fields", "layout", "fixed_bytes", "unpack_from", "_values", "_view", "_offset"]
    assert [name for name in names if not refused(Struct(name / Int8ul, "b" / Int8ul))] == []


@pytest.mark.parametrize("length", range(41))
def test_a_record_shorter_than_its_layout_is_refused(length: int) -> None:
    raw = bytes(39) + b"\1" + b"x" * 30
    with pytest.raises(LayoutError, match=f"needs 4[01] bytes, the record has {length}$"):
        _ = AllKinds.unpack_from(memoryview(raw), 0, length if length < 40 else 40).tail


def test_a_record_without_a_tail_shorter_than_its_layout_is_refused() -> None:
    made = record_class(Struct("a" / Int32ul, "b" / Int32ul), "Pair")
    assert made.unpack_from(memoryview(bytes(8)), 0, 8).b == 0
    for length in range(8):
        with pytest.raises(LayoutError, match=f"Pair needs 8 bytes, the record has {length}"):
            made.unpack_from(memoryview(bytes(100)), 0, length)


def test_without_a_length_the_view_itself_has_to_be_long_enough() -> None:
    made = record_class(Struct("a" / Int32ul, "b" / Int32ul), "Pair")
    with pytest.raises(LayoutError):
        made.unpack_from(memoryview(bytes(7)))
    with pytest.raises(LayoutError):
        made.unpack_from(memoryview(bytes(12)), 5)


def test_an_empty_tail() -> None:
    record = AllKinds.unpack_from(memoryview(bytes(40)))
    assert record.tail == b""
    assert record.as_dict()["tail"] == b""


def test_the_tail_dies_with_its_view_and_the_numbers_do_not() -> None:
    view = memoryview(bytes(39) + b"\2hi")
    record = AllKinds.unpack_from(view)
    assert record.tail == b"hi"
    view.release()
    assert record.tail_bytes == 2
    with pytest.raises(ValueError, match="released"):
        _ = record.tail
    with pytest.raises(ValueError, match="released"):
        record.as_dict()


def test_the_tail_is_not_a_copy() -> None:
    raw = bytearray(39) + b"\2hi"
    record = AllKinds.unpack_from(memoryview(raw))
    raw[40] = ord("H")
    assert record.tail == b"Hi"


LAZY = record_class(ALL_KINDS, "Lazy", lazy=["u8", "s64", "tail_bytes"])


def test_a_lazy_field_is_read_when_asked_for() -> None:
    raw = bytearray(39) + b"\2hi"
    record = LAZY.unpack_from(memoryview(raw))
    assert record.as_dict() == AllKinds.unpack_from(memoryview(raw)).as_dict()
    raw[0] = 7
    assert record.u8 == 7
    assert record.tail == b"hi"


def test_lazy_fields_die_with_their_view_and_the_others_do_not() -> None:
    view = memoryview(bytes(39) + b"\2hi")
    record = LAZY.unpack_from(view)
    view.release()
    assert record.u16 == 0
    with pytest.raises(ValueError, match="released"):
        _ = record.u8


@pytest.mark.parametrize("name", ["absent", "tail", ""])
def test_only_numbers_and_bytes_can_be_lazy(name: str) -> None:
    with pytest.raises(LayoutError, match=f"no field {name} to be lazy"):
        record_class(ALL_KINDS, "Bad", lazy=[name])


def test_records_have_slots() -> None:
    record = AllKinds.unpack_from(memoryview(bytes(40)))
    with pytest.raises(AttributeError):
        record.surprise = 1
    with pytest.raises(AttributeError):
        record.u8 = 1
