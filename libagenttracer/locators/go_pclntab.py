"""The function table of a Go program: names, extents and stack depths of its functions, symbols or not.

The linker writes it for the runtime (unwinding, stack growth), so stripping does not remove it. Formats of
Go 1.16 and later, as Go's sources have them: `pcHeader`, `_func`, `functab` and `moduledata` in
runtime/symtab.go and runtime/runtime2.go, and the "Go 1.2 runtime symbol table" document for the encoding of
tables by program counter. Section names are of no use here: in position-independent programs the table can be
a part of .data.rel.ro.

The header's field for the code's address is relocated in some programs and unused since Go 1.26, so the
address comes from the module data, which point to the header, and have to agree with it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from .elf import Data, Image

__all__ = ["Function", "FunctionTable", "find_tables", "has_old_table"]

_MAGIC_1_2, _MAGIC_1_16, _MAGIC_1_18, _MAGIC_1_20 = 0xFFFFFFFB, 0xFFFFFFFA, 0xFFFFFFF0, 0xFFFFFFF1
_QUANTUM = {"x86_64": 1, "aarch64": 4}  # the smallest instruction, which program counters are counted in
_MAX_MAGICS = 64
_MAX_TABLES = 4
_MAX_MODULES = 8
# places of a name, of its offset, and of the offset of a record: where one is meant, others can look alike
_MAX_NAMES, _MAX_RECORDS, _MAX_ENTRIES = 4, 64, 16
_MAX_FUNCTIONS = 1 << 23
_MAX_DEPTHS = 4096
_MAX_FUNCTION_BYTES = 1 << 20

# offsets in moduledata; the same from Go 1.16 to 1.27
_NAMES, _PC_TABLES, _RECORDS, _FUNCTIONS = 8, 80, 104, 128  # slices: address, length, capacity
_MIN_PC, _TEXT = 160, 176
_MODULE_BYTES = 192


class Function(NamedTuple):
    """A function of the program.

    Attributes:
        begin, end: its addresses; behind its last instruction there can be padding.
        depths: ranges of addresses (begin, end) with the bytes that the function has on the stack there.
    """

    begin: int
    end: int
    depths: tuple[tuple[int, int, int], ...]


class _Span(NamedTuple):
    """A range of the file, in bytes from its start."""

    begin: int
    end: int


class FunctionTable(NamedTuple):
    """A function table, checked against the file and against the module data.

    Attributes:
        image: the file.
        since: the first version of Go that writes this format, (1, 16), (1, 18) or (1, 20).
        text: address that the functions' are relative to, 0 for the format of 1.16.
        names, pc_tables, functions, records: where its parts are in the file. Offsets to records are
            relative to where `functions` begins.
        word: bytes of the numbers in `functions`, 4 or 8.
    """

    image: Image
    since: tuple[int, int]
    text: int
    names: _Span
    pc_tables: _Span
    functions: _Span
    records: _Span
    word: int

    def find(self, name: str) -> list[Function]:
        """The functions of this name: none if there is no such name, two only in a table that is broken."""
        data = self.image.data
        text = name.encode() + b"\0"
        found = []
        for at in _places(data, text, self.names, _MAX_NAMES):
            if at == self.names.begin or data[at - 1] == 0:
                # a record begins with the function's address and the offset of its name
                number = struct.pack("<I", at - self.names.begin)
                for field in _places(data, number, self.records, _MAX_RECORDS):
                    function = self._function(field - self.word)
                    if function is not None:
                        found.append(function)
        return found

    def _function(self, record: int) -> Function | None:
        """The function whose record is at this offset, None if there is no record."""
        data, word = self.image.data, self.word
        if record + word + 16 > self.records.end:
            return None
        number = (record - self.functions.begin).to_bytes(word, "little")
        for field in _places(data, number, self.functions, _MAX_ENTRIES):
            entry = field - word
            if (entry - self.functions.begin) % (2 * word) or entry + 3 * word > self.functions.end:
                continue
            begin, same, end = (self._address(at) for at in (entry, record, entry + 2 * word))
            if begin == same and begin < end <= begin + _MAX_FUNCTION_BYTES:
                table = self.pc_tables.begin + struct.unpack_from("<I", data, record + word + 12)[0]
                return Function(begin, end, tuple(self._depths(table, begin, end)))
        return None

    def _address(self, at: int) -> int:
        return self.text + int.from_bytes(self.image.data[at : at + self.word], "little")

    def _depths(self, table: int, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
        """Pairs of steps, of the value (first -1) and of the program counter; a step of 0 ends them."""
        quantum = _QUANTUM[self.image.machine]
        value, pc, at = -1, begin, table
        for _ in range(_MAX_DEPTHS):
            step, at = self._variable_number(at)
            if not step and pc != begin:
                return
            value += step >> 1 ^ -(step & 1)
            length, at = self._variable_number(at)
            if not length or pc + length * quantum > end:
                return
            yield pc, pc + length * quantum, value
            pc += length * quantum

    def _variable_number(self, at: int) -> tuple[int, int]:
        """A number of 7 bits a byte, lowest first, and where it ends; 0 where the table does."""
        value = 0
        for shift in range(0, 35, 7):
            if not self.pc_tables.begin <= at < self.pc_tables.end:
                return 0, at
            byte = self.image.data[at]
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        return value, at


def has_old_table(image: Image) -> bool:
    """Whether there is a table as Go before 1.16 wrote it."""
    return bool(image.find(_start(image, _MAGIC_1_2), limit=1))


def find_tables(image: Image) -> Iterator[FunctionTable]:
    """The function tables in a file: one in a Go program, or none."""
    headers: list[_Header] = []
    for magic, since in ((_MAGIC_1_20, (1, 20)), (_MAGIC_1_18, (1, 18)), (_MAGIC_1_16, (1, 16))):
        for at in image.find(_start(image, magic), limit=_MAX_MAGICS):
            header = _read_header(image, at, since)
            if header is not None and len(headers) < _MAX_TABLES:
                headers.append(header)
    modules = _modules(image, {header.address for header in headers}) if headers else {}
    for header in headers:
        for module in modules.get(header.address, ()):
            table = _by_module(image, module, header)
            if table is not None:
                yield table
                break


def _start(image: Image, magic: int) -> bytes:
    return struct.pack("<IHBB", magic, 0, _QUANTUM[image.machine], 8)  # 8: bytes of a pointer


class _Header(NamedTuple):
    """A table's header: its address, the number of functions, and the addresses of the parts."""

    address: int
    since: tuple[int, int]
    function_count: int
    names: int
    pc_tables: int
    functions: int


def _read_header(image: Image, at: int, since: tuple[int, int]) -> _Header | None:
    address = image.address_of(at)
    if address is None or at + 72 > len(image.data):
        return None
    count = int.from_bytes(image.data[at + 8 : at + 16], "little")
    # names, compilation units, files, pc tables, functions: relative to the header
    offsets = struct.unpack_from("<5Q", image.data, at + (24 if since == (1, 16) else 32))
    if not 0 < count < _MAX_FUNCTIONS or list(offsets) != sorted(offsets) or offsets[4] >= len(image.data):
        return None
    return _Header(address, since, count, address + offsets[0], address + offsets[3], address + offsets[4])


def _by_module(image: Image, module: _Module, header: _Header) -> FunctionTable | None:
    """The table that module data describe, if they agree with its header."""
    word = 8 if header.since == (1, 16) else 4
    slices = [module.slice(field) for field in (_NAMES, _PC_TABLES, _FUNCTIONS, _RECORDS)]
    addresses = [header.names, header.pc_tables, header.functions, header.functions]
    count = header.function_count  # Go 1.16 and 1.17 do not count the end of the last one
    if [address for address, _ in slices] != addresses or slices[2][1] not in (count, count + 1):
        return None
    sizes = (slices[0][1], slices[1][1], (2 * count + 1) * word, slices[3][1])
    spans = [_span(image, address, size) for address, size in zip(addresses, sizes, strict=True)]
    names, pc_tables, functions, records = spans
    if names is None or pc_tables is None or functions is None or records is None:
        return None
    text = 0 if word == 8 else module.pointer(_TEXT)
    first = text + int.from_bytes(image.data[functions.begin : functions.begin + word], "little")
    if first != module.pointer(_MIN_PC) or image.code_offset_of(first) is None:
        return None
    records = _Span(functions.end, records.end)
    return FunctionTable(image, header.since, text, names, pc_tables, functions, records, word)


def _span(image: Image, address: int, size: int) -> _Span | None:
    """Where in the file a range of addresses is, None if it is not in one segment of it."""
    begin = image.offset_of(address)
    last = image.offset_of(address + size - 1)
    if begin is None or last is None or last - begin != size - 1:
        return None
    return _Span(begin, last + 1)


class _Module(NamedTuple):
    """Module data at some address: bytes, and the pointers in them that are relocated."""

    content: bytes
    relocated: dict[int, int]

    def pointer(self, field: int) -> int:
        if field in self.relocated:
            return self.relocated[field]
        return int.from_bytes(self.content[field : field + 8], "little")

    def slice(self, field: int) -> tuple[int, int]:
        return self.pointer(field), int.from_bytes(self.content[field + 8 : field + 16], "little")


def _modules(image: Image, tables: set[int]) -> dict[int, list[_Module]]:
    """What may be module data, by the table: that which begins with a pointer to one."""
    found: dict[int, list[_Module]] = {table: [] for table in tables}
    if not image.position_independent:
        for table, modules in found.items():
            for at in image.find(table.to_bytes(8, "little"), limit=_MAX_MODULES):
                if at % 8 == 0:
                    modules.append(
                        _Module(image.data[at : at + _MODULE_BYTES].ljust(_MODULE_BYTES, b"\0"), {})
                    )
        return found
    fields: dict[int, list[tuple[dict[int, int], int]]] = {}  # module data can seem to overlap
    for slot, target in image.relative_relocations():
        if target in tables and len(found[target]) < _MAX_MODULES:
            module = _Module(image.read(slot, _MODULE_BYTES).ljust(_MODULE_BYTES, b"\0"), {})
            found[target].append(module)
            for field in range(0, _MODULE_BYTES, 8):
                fields.setdefault(slot + field, []).append((module.relocated, field))
    for slot, target in image.relative_relocations() if fields else ():
        for relocated, field in fields.get(slot, ()):
            relocated[field] = target
    return found


def _places(data: Data, needle: bytes, span: _Span, limit: int) -> Iterator[int]:
    """Where in a part of the file these bytes are, at most so many times."""
    at = span.begin - 1
    for _ in range(limit):
        at = data.find(needle, at + 1, span.end)
        if at < 0:
            return
        yield at
