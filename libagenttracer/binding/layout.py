"""Record layouts: a construct `Struct` declares one, a class derived from it decodes in place.

construct's own `parse()` takes some 10 µs a record and copies; the derived class unpacks the fixed part
with one `struct.unpack_from` and leaves the tail where it is. What a layout may hold: little-endian
integers, nested Structs of them (their fields become the record's own), `Bytes(n)`, `Padding(n)`, and at
the end one `Bytes(this.FIELD)` whose length an earlier field gives. Anything else is a `LayoutError`.

    Sample = Struct("pid" / Int32ul, "used_bytes" / Int32ul, "text" / Bytes(this.used_bytes))
    SampleRecord = record_class(Sample, "SampleRecord")
    SampleRecord.unpack_from(view, offset, length).pid
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Collection, Iterator
from typing import Any, ClassVar

import construct
import msgspec

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


class Record(msgspec.Struct, gc=False, eq=False):
    """A record in place: bytes that the kernel wrote and somebody else owns.

    Numbers are read when it is made, but for those that its class was told to read when asked. They and
    the tail are looked up in the ring: that works only while its lease lasts, and raises ValueError
    afterwards. A msgspec Struct, because that is the cheapest object to make.
    """

    layout: ClassVar[construct.Struct]
    fields: ClassVar[tuple[Field, ...]]
    fixed_bytes: ClassVar[int]
    unpack_from: ClassVar[Callable[..., Any]]

    _values: tuple[Any, ...]
    _view: memoryview
    _offset: int
    _length: int

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


def record_class(layout: construct.Struct, name: str, *, lazy: Collection[str] = ()) -> type[Any]:
    """Derives the class that decodes this layout in place.

    Args:
        layout: what may be in it is said at the head of this module.
        name: of the class.
        lazy: fields that are seldom asked for: read then, instead of when the record is made.

    Returns:
        A subclass of `Record`. Its `unpack_from(view, offset=0, length=-1)` makes a record of a memoryview,
        where in it the record begins, and how many bytes it has (there may be more than the layout needs;
        -1: all that follow). It raises `LayoutError` if they are too few for the layout; asking for the
        tail raises it if they are too few for that.

    Raises:
        LayoutError: the layout cannot be decoded in place, or has no such lazy field.
    """
    fields = fields_of(layout)
    if unknown := set(lazy) - {field.name for field in fields if field.name and field.size >= 0}:
        raise LayoutError(f"{name} has no field {', '.join(sorted(unknown))} to be lazy")
    fixed = struct.Struct(
        "<" + "".join(f"{field.size}x" if field.name in lazy else field.format for field in fields)
    )
    unpack, fixed_bytes = fixed.unpack_from, fixed.size
    namespace: dict[str, Any] = {
        "__doc__": f"A {name} in place, decoded from its construct layout.",
        "__module__": __name__,
        "__annotations__": {},
        "layout": layout,
        "fields": fields,
        "fixed_bytes": fixed_bytes,
    }
    eager = [field.name for field in fields if field.name and field.size >= 0 and field.name not in lazy]
    for index, place in enumerate(eager):
        namespace[place] = _eager_property(index, place)
    for field in fields:
        if field.name in lazy:
            namespace[field.name] = _lazy_property(field)
        elif field.size < 0:
            namespace[field.name] = _tail_property(field, fixed_bytes, eager)
    made: type[Any] = msgspec.StructMeta(name, (Record,), namespace, gc=False, eq=False)

    def unpack_from(view: memoryview, offset: int = 0, length: int = -1) -> Any:
        if length < fixed_bytes:  # also: not given
            length = len(view) - offset if length < 0 else length
            if length < fixed_bytes:
                raise _too_short(name, fixed_bytes, length)
        return made(unpack(view, offset), view, offset, length)

    made.unpack_from = staticmethod(unpack_from)
    return made


def _too_short(name: str, needed: int, length: int) -> LayoutError:
    return LayoutError(f"{name} needs {needed} bytes, the record has {length}")


def _eager_property(index: int, name: str) -> property:
    def get(self: Record) -> Any:
        return self._values[index]

    return property(get, doc=f"Field {name}.")


def _lazy_property(field: Field) -> property:
    unpack, at = struct.Struct("<" + field.format).unpack_from, field.offset

    def get(self: Record) -> Any:
        return unpack(self._view, self._offset + at)[0]

    return property(get, doc=f"Field {field.name}, read when asked for.")


def _tail_property(field: Field, fixed_bytes: int, eager: list[str]) -> property:
    index = eager.index(field.length_field) if field.length_field in eager else -1
    size_of = operator.attrgetter(field.length_field)

    def get(self: Record) -> memoryview:
        size = self._values[index] if index >= 0 else size_of(self)
        begin = self._offset + fixed_bytes
        if size > self._length - fixed_bytes:
            raise _too_short(type(self).__name__, fixed_bytes + size, self._length)
        return self._view[begin : begin + size]

    return property(get, doc=f"Tail {field.name}, a borrowed memoryview.")


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


_TAKEN = frozenset({"as_dict", "fields", "fixed_bytes", "layout", "unpack_from"})


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
