"""The struct types in a BPF object, read from its .BTF section (for checks, not needed at run time).

Format: kernel Documentation/bpf/btf.rst.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

from construct import Array, Const, ConstructError, Int8ul, Int16ul, Int32ul, Struct

from ..errors import ObjectError

__all__ = ["Member", "struct_members"]

_HEADER = Struct(
    "magic" / Const(0xEB9F, Int16ul),
    "version" / Int8ul,
    "flags" / Int8ul,
    "header_bytes" / Int32ul,
    "types_offset" / Int32ul,
    "types_bytes" / Int32ul,
    "strings_offset" / Int32ul,
    "strings_bytes" / Int32ul,
)
_TYPE = Struct("name" / Int32ul, "info" / Int32ul, "size_or_type" / Int32ul)
_MEMBER = Struct("name" / Int32ul, "type" / Int32ul, "offset" / Int32ul)
_ARRAY = Struct("type" / Int32ul, "index_type" / Int32ul, "count" / Int32ul)

_INT, _PTR, _ARRAY_KIND, _STRUCT, _UNION, _ENUM, _VAR, _DATASEC = 1, 2, 3, 4, 5, 6, 14, 15
_FUNC_PROTO, _FLOAT, _DECL_TAG, _ENUM64 = 13, 16, 17, 19
_NAMED = frozenset({8, 9, 10, 11, 18})  # typedef, volatile, const, restrict, type tag: look behind them
_EXTRA_BYTES = {_INT: 4, _VAR: 4, _DECL_TAG: 4}
_EXTRA_PER_ITEM = {_ENUM: 8, _FUNC_PROTO: 8, _DATASEC: 12, _ENUM64: 12}


class Member(NamedTuple):
    """A member of a struct; nested structs are flattened. Offsets and sizes in bytes."""

    name: str
    offset: int
    size: int
    flexible: bool


def struct_members(data: bytes) -> dict[str, list[Member]]:
    """All named structs of an object with their members.

    Raises:
        ObjectError: no ELF file, or it has no BTF that can be read.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    try:
        section = ELFFile(io.BytesIO(data)).get_section_by_name(".BTF")
        if section is None:
            raise ObjectError("read BTF", hint="the object has no .BTF section")
        types = _Types(section.data())
        return {
            item["name"]: types.members(item)
            for item in types.items
            if item["kind"] == _STRUCT and item["name"]
        }
    # whatever a damaged section leads to, sizes that fit into no memory and circles included
    except (
        ELFError,
        ConstructError,
        ValueError,
        LookupError,
        RecursionError,
        OverflowError,
        MemoryError,
    ) as error:
        raise ObjectError("read BTF", hint=str(error) or type(error).__name__) from error


class _Types:
    def __init__(self, raw: bytes) -> None:
        header = _HEADER.parse(raw)
        strings = raw[header.header_bytes + header.strings_offset :][: header.strings_bytes]
        stream = io.BytesIO(raw[header.header_bytes + header.types_offset :][: header.types_bytes])
        self.items: list[dict[str, Any]] = [{"kind": 0, "name": "void", "size": 0}]
        while stream.tell() < header.types_bytes:
            head = _TYPE.parse_stream(stream)
            kind, count = head.info >> 24 & 0x1F, head.info & 0xFFFF
            item = {
                "kind": kind,
                "name": strings[head.name : strings.index(b"\0", head.name)].decode(),
                "size": head.size_or_type,
            }
            if kind in (_STRUCT, _UNION):
                item["members"] = [
                    (strings[m.name : strings.index(b"\0", m.name)].decode(), m.type, m.offset & 0xFFFFFF)
                    for m in Array(count, _MEMBER).parse_stream(stream)
                ]
            elif kind == _ARRAY_KIND:
                item["array"] = _ARRAY.parse_stream(stream)
            else:
                stream.read(_EXTRA_BYTES.get(kind, 0) + count * _EXTRA_PER_ITEM.get(kind, 0))
            self.items.append(item)

    def resolve(self, number: int) -> dict[str, Any]:
        item = self.items[number]
        for _ in self.items:  # a longer way would be a circle
            if item["kind"] not in _NAMED:
                return item
            item = self.items[item["size"]]
        raise ValueError("types refer to each other in a circle")

    def size(self, number: int) -> int:
        item = self.resolve(number)
        if item["kind"] == _PTR:
            return 8
        if item["kind"] == _ARRAY_KIND:
            return int(item["array"].count) * self.size(item["array"].type)
        return int(item["size"])

    def members(self, struct: dict[str, Any], base: int = 0) -> list[Member]:
        found = []
        for name, type_, bits in struct["members"]:
            offset, inner = base + bits // 8, self.resolve(type_)
            if inner["kind"] == _STRUCT:
                found += self.members(inner, offset)
            else:
                flexible = inner["kind"] == _ARRAY_KIND and inner["array"].count == 0
                found.append(Member(name, offset, self.size(type_), flexible))
        return found
