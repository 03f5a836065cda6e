"""Record layouts: a construct `Struct` declares one, a class derived from it decodes in place.

construct's own `parse()` takes some 10 µs a record and copies; the derived class unpacks the fixed part
with one `struct.unpack_from` and leaves the tail where it is. What a layout may hold: little-endian
integers, nested Structs of them (their fields become the record's own), `Bytes(n)`, `Padding(n)`, and at
the end one `Bytes(this.FIELD)` whose length an earlier field gives. Anything else is a `LayoutError`.

    Sample = Struct("pid" / Int32ul, "used_bytes" / Int32ul, "text" / Bytes(this.used_bytes))
    SampleRecord = record_class(Sample, "SampleRecord")
    SampleRecord(view, offset, length).pid
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, ClassVar

import construct

from ..errors import LayoutError

__all__ = ["Field", "Record", "fields_of", "record_class"]


class Field:
    """A place in a layout.

    Attributes:
        name: "" for padding.
        offset, size: bytes; size is -1 for the tail.
        format: for `struct`; "" for the tail.
        length_field: for the tail, the name of the field with its length.
    """

    __slots__ = ("format", "length_field", "name", "offset", "size")

    def __init__(self, name: str, offset: int, size: int, format_: str, length_field: str = "") -> None:
        self.name = name
        self.offset = offset
        self.size = size
        self.format = format_
        self.length_field = length_field


class Record:
    """A record in place: bytes that the kernel wrote and somebody else owns.

    Numbers are read when it is made. The tail is looked up in the ring when asked for: that works only
    while its lease lasts, and raises ValueError afterwards.
    """

    __slots__ = ("_offset", "_values", "_view")
    layout: ClassVar[construct.Struct]
    fields: ClassVar[tuple[Field, ...]]
    fixed_bytes: ClassVar[int]
    _view: memoryview
    _offset: int
    _values: tuple[Any, ...]

    def __init__(self, view: memoryview, offset: int = 0, length: int = -1) -> None:
        raise TypeError("derive a class with record_class()")

    def as_dict(self) -> dict[str, Any]:
        """All fields, copied."""
        return {
            field.name: bytes(getattr(self, field.name)) if field.size < 0 else getattr(self, field.name)
            for field in self.fields
            if field.name
        }

    def __repr__(self) -> str:
        text = ", ".join(f"{name}={value!r}" for name, value in self.as_dict().items())
        return f"{type(self).__name__}({text})"


def fields_of(layout: construct.Struct) -> tuple[Field, ...]:
    """The places of a layout in order, nested ones flattened.

    Raises:
        LayoutError: something in it cannot be decoded in place.
    """
    found: list[Field] = []
    offset = 0
    for name, item in _flatten(layout):
        if found and found[-1].size < 0:
            raise LayoutError(f"{name or 'padding'} comes after the tail")
        field = _field(name, item, offset, found)
        found.append(field)
        offset += max(0, field.size)
    names = [field.name for field in found if field.name]
    if taken := [name for name in names if name.startswith("_") or name in _TAKEN]:
        raise LayoutError(f"no field may be named {', '.join(taken)}: a record has that already")
    if doubled := {name for name in names if names.count(name) > 1}:
        raise LayoutError(f"fields named twice: {', '.join(sorted(doubled))}")
    return tuple(found)


def record_class(layout: construct.Struct, name: str) -> type[Any]:
    """Derives the class that decodes this layout in place.

    Returns:
        A subclass of `Record`, made as `cls(view, offset, length)`: a memoryview, where in it the record
        begins, and how many bytes it has (there may be more than the layout needs). It raises `LayoutError`
        if they are too few for the layout or for the tail.
    """
    fields = fields_of(layout)
    tail = fields[-1] if fields and fields[-1].size < 0 else None
    fixed = struct.Struct("<" + "".join(field.format for field in fields))
    unpack_from = fixed.unpack_from
    fixed_bytes = fixed.size
    places = [field.name for field in fields if field.name and field.size >= 0]

    def too_short(needed: int, length: int) -> LayoutError:
        return LayoutError(f"{name} needs {needed} bytes, the record has {length}")

    def whole(view: memoryview, offset: int, length: int) -> int:
        """Off the hot path: a length that was not given is all that there is; too short raises."""
        if length < 0:
            length = len(view) - offset
        if length < fixed_bytes:
            raise too_short(fixed_bytes, length)
        return length

    if tail is None:

        def __init__(self: Any, view: memoryview, offset: int = 0, length: int = -1) -> None:
            if length < fixed_bytes:
                length = whole(view, offset, length)
            self._values = unpack_from(view, offset)

    else:
        length_index = places.index(tail.length_field)

        def __init__(self: Any, view: memoryview, offset: int = 0, length: int = -1) -> None:
            if length < fixed_bytes:
                length = whole(view, offset, length)
            self._values = values = unpack_from(view, offset)
            if values[length_index] > length - fixed_bytes:
                raise too_short(fixed_bytes + values[length_index], length)
            self._view = view
            self._offset = offset + fixed_bytes

    namespace: dict[str, Any] = {
        "__slots__": (),
        "__doc__": f"A {name} in place, decoded from its construct layout.",
        "__init__": __init__,
        "layout": layout,
        "fields": fields,
        "fixed_bytes": fixed_bytes,
    }
    for index, place in enumerate(places):
        namespace[place] = _value_property(index, place)
    if tail is not None:
        namespace[tail.name] = _tail_property(places.index(tail.length_field), tail.name)
    return type(name, (Record,), namespace)


def _value_property(index: int, name: str) -> property:
    def get(self: Record) -> Any:
        return self._values[index]

    return property(get, doc=f"Field {name}.")


def _tail_property(length_index: int, name: str) -> property:
    def get(self: Record) -> memoryview:
        return self._view[self._offset : self._offset + self._values[length_index]]

    return property(get, doc=f"Tail {name}, a borrowed memoryview.")


def _flatten(layout: construct.Struct) -> Iterator[tuple[str, Any]]:
    for item in layout.subcons:
        name, inner = "", item
        while isinstance(inner, construct.Renamed):
            name, inner = name or inner.name or "", inner.subcon
        if isinstance(inner, construct.Struct):
            yield from _flatten(inner)
        else:
            yield name, inner


def _field(name: str, item: Any, offset: int, before: list[Field]) -> Field:
    if isinstance(item, construct.FormatField):
        if item.fmtstr[0] not in "<=" and item.length > 1:
            raise LayoutError(f"{name}: only little-endian numbers can be decoded in place")
        if not name:
            return Field("", offset, item.length, f"{item.length}x")
        return Field(name, offset, item.length, item.fmtstr[1:].replace("L", "I").replace("l", "i"))
    if isinstance(item, construct.Padded) and item.subcon is construct.Pass:
        return Field("", offset, item.sizeof(), f"{item.sizeof()}x")
    if isinstance(item, construct.Bytes):
        if isinstance(item.length, int):
            return Field(name, offset, item.length, f"{item.length}s")
        length_field = _length_field(item.length)
        if length_field not in [field.name for field in before if field.format in ("B", "H", "I", "Q")]:
            raise LayoutError(f"{name}: its length must be an unsigned field before it (this.FIELD)")
        return Field(name, offset, -1, "", length_field)
    raise LayoutError(f"{name or 'a field'}: {type(item).__name__} cannot be decoded in place")


_TAKEN = frozenset({"as_dict", "fields", "fixed_bytes", "layout"})


class _Probe(dict[str, Any]):
    """Stands in for a parsed container, to see which field a length expression asks for."""

    def __getitem__(self, key: str) -> Any:
        self.setdefault("asked", key)
        return 0


def _length_field(expression: Any) -> str:
    probe = _Probe()
    try:
        result = expression(probe)
    except Exception as error:
        raise LayoutError(f"length {expression!r}: only this.FIELD is understood") from error
    asked = str(dict.get(probe, "asked", ""))
    if result != 0 or repr(expression) != repr(getattr(construct.this, asked)):
        raise LayoutError(f"length {expression!r}: only this.FIELD is understood")
    return asked
