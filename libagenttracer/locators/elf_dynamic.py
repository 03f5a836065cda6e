"""The dynamic segment of an ELF file: what the loader goes by, whether there are sections or not."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from .elf_tables import Data, SymbolTable, Table, text_at

__all__ = ["Dynamic", "read_dynamic", "read_relocations"]

_DT_NEEDED, _DT_HASH, _DT_STRTAB, _DT_SYMTAB, _DT_RELA, _DT_RELASZ = 1, 4, 5, 6, 7, 8
_DT_STRSZ, _DT_SONAME, _DT_RELRSZ, _DT_RELR, _DT_GNU_HASH, _DT_FLAGS_1 = (
    10,
    14,
    35,
    36,
    0x6FFFFEF5,
    0x6FFFFFFB,
)
_DF_1_PIE = 0x08000000
_ENTRY = struct.Struct("<QQ")
_RELA = struct.Struct("<QQq")  # r_offset, r_info, r_addend
_SYMBOL_BYTES = 24
_MAX_ENTRIES = 4096
_MAX_SYMBOLS = 1 << 20
_MAX_RELOCATIONS = 1 << 22
_RELATIVE = {"x86_64": 8, "aarch64": 1027}  # R_X86_64_RELATIVE, R_AARCH64_RELATIVE

OffsetOf = Callable[[int], int | None]


class Dynamic(NamedTuple):
    """What the dynamic segment says.

    Attributes:
        soname: the library's own name, "" without.
        needed: the libraries that it needs.
        is_pie: it says of itself that it is a program.
        symbols: the dynamic symbol table, None if its size cannot be told.
        rela: the table of relocations with addends.
        relr: the compact table of relative relocations.
    """

    soname: str = ""
    needed: tuple[str, ...] = ()
    is_pie: bool = False
    symbols: SymbolTable | None = None
    rela: Table = Table(0, 0)
    relr: Table = Table(0, 0)


def read_dynamic(data: Data, place: Table, offset_of: OffsetOf) -> Dynamic:
    """Reads the dynamic segment.

    Args:
        data: the whole file.
        place: where the segment is in it.
        offset_of: turns an address into an offset in the file.
    """
    entries: list[tuple[int, int]] = []
    end = place.end - (place.end - place.begin) % _ENTRY.size
    for tag, value in islice(_ENTRY.iter_unpack(data[place.begin : end][: _MAX_ENTRIES * 16]), _MAX_ENTRIES):
        if not tag:
            break
        entries.append((tag, value))
    values = dict(reversed(entries))  # the first of a tag counts

    def table(address_tag: int, size: int) -> Table:
        begin = offset_of(values.get(address_tag, 0)) if address_tag in values else None
        return Table(begin, min(begin + size, len(data))) if begin is not None else Table(0, 0)

    texts = table(_DT_STRTAB, values.get(_DT_STRSZ, 0))

    def text(value: int) -> str:
        return text_at(data, texts.begin + value, texts.end)

    count = 0
    if _DT_SYMTAB in values and texts.end:
        count = _symbol_count(data, values, offset_of)
    return Dynamic(
        text(values[_DT_SONAME]) if _DT_SONAME in values else "",
        tuple(text(value) for tag, value in entries if tag == _DT_NEEDED),
        bool(values.get(_DT_FLAGS_1, 0) & _DF_1_PIE),
        SymbolTable(table(_DT_SYMTAB, count * _SYMBOL_BYTES), texts) if count else None,
        table(_DT_RELA, values.get(_DT_RELASZ, 0)),
        table(_DT_RELR, values.get(_DT_RELRSZ, 0)),
    )


def _symbol_count(data: Data, values: dict[int, int], offset_of: OffsetOf) -> int:
    """How many dynamic symbols there are: only the hash tables tell. 0 if neither is credible."""
    at = offset_of(values[_DT_HASH]) if _DT_HASH in values else None
    if at is not None and at + 8 <= len(data):
        chain_count: int = struct.unpack_from("<II", data, at)[1]
        return min(chain_count, _MAX_SYMBOLS)
    at = offset_of(values[_DT_GNU_HASH]) if _DT_GNU_HASH in values else None
    if at is None or at + 16 > len(data):
        return 0
    bucket_count: int
    first: int
    bucket_count, first, bloom_count, _ = struct.unpack_from("<IIII", data, at)
    buckets_at = at + 16 + 8 * bloom_count
    chains_at = buckets_at + 4 * bucket_count
    if bucket_count > _MAX_SYMBOLS or chains_at > len(data):
        return 0
    last = max(array("I", data[buckets_at:chains_at]), default=0)
    if not first <= last < _MAX_SYMBOLS:
        return min(first, _MAX_SYMBOLS)
    # the last chain ends with the last symbol, whose hash has its lowest bit set
    chain_at = chains_at + 4 * (last - first)
    while last < _MAX_SYMBOLS and chain_at + 4 <= len(data):
        last += 1
        if data[chain_at] & 1:
            break
        chain_at += 4
    return last


def read_relocations(
    data: Data, dynamic: Dynamic, machine: str, offset_of: OffsetOf
) -> Iterator[tuple[int, int]]:
    """The pointers that the loader moves along with the image.

    Yields:
        Address of the pointer, address that it points to (both as in the file), at most some millions.
    """
    rela = dynamic.rela
    end = rela.end - (rela.end - rela.begin) % _RELA.size
    kind = _RELATIVE[machine]
    with memoryview(data) as whole, whole[rela.begin : end] as view:
        for slot, info, addend in islice(_RELA.iter_unpack(view), _MAX_RELOCATIONS):
            if info == kind and addend >= 0:
                yield slot, addend
    # a few bytes of a table can name many slots, but each of them has its own place in the file
    for slot in islice(_compact_slots(data, dynamic.relr), min(_MAX_RELOCATIONS, len(data) // 8)):
        at = offset_of(slot)
        if at is not None and at + 8 <= len(data):
            yield slot, int.from_bytes(data[at : at + 8], "little")


def _compact_slots(data: Data, relr: Table) -> Iterator[int]:
    """The addresses in a RELR table: an even word is one, an odd word is a map of the 63 words behind it."""
    base = 0
    end = relr.end - (relr.end - relr.begin) % 8
    for (word,) in struct.iter_unpack("<Q", data[relr.begin : end]):
        if not word & 1:
            yield word
            base = word + 8
            continue
        bits = word >> 1
        while bits:
            lowest = bits & -bits
            yield base + 8 * (lowest.bit_length() - 1)
            bits ^= lowest
        base += 63 * 8
