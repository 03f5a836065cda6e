"""The tables of an ELF file: header, segments, sections, symbols, notes.

64-bit little-endian files only (System V ABI, ELF-64 object file format). Every number is held against the
file's size before it is used; what does not fit is left out or, where nothing can be done without it, an
error. Symbols and sections are read here rather than by pyelftools, which makes an object of each symbol
(minutes for a browser) and believes the counts that a file states, so that a file can stop its reader.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ..errors import LibraryError

__all__ = [
    "ET_DYN",
    "ET_EXEC",
    "PT_DYNAMIC",
    "PT_GNU_EH_FRAME",
    "PT_INTERP",
    "PT_LOAD",
    "PT_NOTE",
    "Data",
    "FileHeader",
    "ProgramHeader",
    "Section",
    "SymbolTable",
    "Table",
    "find_all",
    "find_symbols",
    "read_build_id",
    "read_header",
    "read_program_headers",
    "read_sections",
    "text_at",
]

Data = bytes | mmap.mmap

ET_EXEC, ET_DYN = 2, 3
PT_LOAD, PT_DYNAMIC, PT_INTERP, PT_NOTE, PT_GNU_EH_FRAME = 1, 2, 3, 4, 0x6474E550
_MACHINES = {"x86_64": 62, "aarch64": 183}  # EM_X86_64, EM_AARCH64
_SYMTAB, _NOBITS, _DYNSYM = 2, 8, 11
_STT_NOTYPE, _STT_FUNC, _STT_GNU_IFUNC = 0, 2, 10
_NT_GNU_BUILD_ID = 3

# Elf64_Ehdr after e_ident: e_type, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize,
# e_phentsize, e_phnum, e_shentsize, e_shnum, e_shstrndx
_HEADER = struct.Struct("<HHIQQQIHHHHHH")
# Elf64_Phdr: p_type, p_flags, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align
_PROGRAM = struct.Struct("<IIQQQQQQ")
# Elf64_Shdr: sh_name, sh_type, sh_flags, sh_addr, sh_offset, sh_size, sh_link, sh_info, sh_addralign,
# sh_entsize
_SECTION = struct.Struct("<IIQQQQIIQQ")
# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = struct.Struct("<IBBHQQ")
_NOTE = struct.Struct("<III")

_MAX_PROGRAM_BYTES = 1 << 16  # as Linux has it
_MAX_SECTIONS = 1 << 16
_MAX_NAME = 256
_MAX_TABLE_BYTES = 1 << 28
_MAX_PLACES = 64  # of one name in a string table
_MAX_NOTE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20


class FileHeader(NamedTuple):
    """What the file header says of the rest. `section_count` is the field as it stands."""

    type: int
    program_offset: int
    program_count: int
    section_offset: int
    section_bytes: int
    section_count: int
    section_names: int


class ProgramHeader(NamedTuple):
    """An entry of the program header table; `file_bytes` ends where the file ends."""

    type: int
    flags: int
    address: int
    offset: int
    file_bytes: int
    memory_bytes: int


class Section(NamedTuple):
    """A section, as the section table has it: nothing that runs depends on its being right.

    Attributes:
        name: ".text"
        address: where it is in memory, 0 if nowhere.
        offset: bytes from the file's start.
        size_bytes: its size; that of .bss and its like is in memory only.
    """

    name: str
    address: int
    offset: int
    size_bytes: int


class Table(NamedTuple):
    """A range of the file, in bytes from its start."""

    begin: int
    end: int


class SymbolTable(NamedTuple):
    """Where in the file a symbol table and its strings lie."""

    symbols: Table
    texts: Table


def read_header(data: Data, path: str, machine: str) -> FileHeader:
    """The file header.

    Args:
        data: the whole file.
        path: for error messages.
        machine: the machine it has to be for, as `os.uname().machine` says it.

    Raises:
        LibraryError: not an ELF file of 64 bits for this machine that can be run or loaded.
    """
    if data[:4] != b"\x7fELF":
        raise LibraryError(path, "not an ELF file")
    if len(data) < 16 + _HEADER.size:
        raise LibraryError(path, "cannot be read as an ELF file (it ends in its header)")
    if data[4] != 2 or data[5] != 1:
        bits = {1: "32 bits", 2: "big-endian"}.get(data[4], "unknown class")
        raise LibraryError(path, f"only 64-bit little-endian files can be probed ({bits})")
    fields = _HEADER.unpack_from(data, 16)
    kind, made_for, program_size, program_count = fields[0], fields[1], fields[8], fields[9]
    if made_for != _MACHINES.get(machine):
        raise LibraryError(path, f"made for {_machine_name(made_for)}, this is {machine}")
    if kind not in (ET_EXEC, ET_DYN):
        raise LibraryError(path, "neither a program nor a shared library")
    if program_size != _PROGRAM.size or not 0 < program_count * _PROGRAM.size <= _MAX_PROGRAM_BYTES:
        raise LibraryError(path, "cannot be read as an ELF file (it has no program header table)")
    return FileHeader(kind, fields[4], program_count, fields[5], *fields[10:13])


def _machine_name(number: int) -> str:
    """As elf.h has it."""
    from elftools.elf.enums import ENUM_E_MACHINE

    return next((name for name, value in ENUM_E_MACHINE.items() if value == number), f"machine {number}")


def read_program_headers(data: Data, header: FileHeader) -> list[ProgramHeader]:
    """The program header table, as far as the file has it."""
    found = []
    for number in range(header.program_count):
        at = header.program_offset + number * _PROGRAM.size
        if at + _PROGRAM.size > len(data):
            break
        kind, flags, offset, address, _, file_bytes, memory_bytes, _ = _PROGRAM.unpack_from(data, at)
        file_bytes = max(0, min(file_bytes, memory_bytes, len(data) - offset))
        if address + memory_bytes < 1 << 64:
            found.append(ProgramHeader(kind, flags, address, offset, file_bytes, memory_bytes))
    return found


def read_sections(data: Data, header: FileHeader) -> tuple[dict[str, Section], list[SymbolTable]]:
    """The sections by name (the first of a name counts), and the symbol tables, dynamic ones first.

    A section table that does not fit into the file is as good as none; so is a section that does not.
    """
    rows = _section_rows(data, header)
    if not header.section_names < len(rows):
        return {}, []
    names = _range_of(rows[header.section_names], len(data))
    sections: dict[str, Section] = {}
    tables: dict[int, list[SymbolTable]] = {_DYNSYM: [], _SYMTAB: []}
    for row in rows[1:]:
        name_at, kind, _, address, offset, size, link, *_ = row
        place = _range_of(row, len(data))
        if kind != _NOBITS and (place.end - place.begin != size):
            continue
        name = text_at(data, names.begin + name_at, names.end)
        sections.setdefault(name, Section(name, address, offset, size))
        if kind in tables and link < len(rows):
            tables[kind].append(SymbolTable(place, _range_of(rows[link], len(data))))
    return sections, [*tables[_DYNSYM][:1], *tables[_SYMTAB][:1]]  # the ABI allows one of each


def _section_rows(data: Data, header: FileHeader) -> list[tuple[int, ...]]:
    begin, count = header.section_offset, header.section_count
    if header.section_bytes != _SECTION.size or not 0 < begin <= len(data) - _SECTION.size:
        return []
    if not count:  # too many for the field: the first section's size says how many
        count = _SECTION.unpack_from(data, begin)[5]
    if count > _MAX_SECTIONS or begin + count * _SECTION.size > len(data):
        return []
    return list(_SECTION.iter_unpack(data[begin : begin + count * _SECTION.size]))


def _range_of(row: tuple[int, ...], file_bytes: int) -> Table:
    begin = min(row[4], file_bytes)
    return Table(begin, min(begin + row[5], file_bytes))


def text_at(data: Data, at: int, end: int) -> str:
    """The NUL-terminated text at an offset, "" if it has no end before `end` or is of no credible length."""
    if not 0 <= at < end:
        return ""
    stop = data.find(b"\0", at, min(end, at + _MAX_NAME))
    return data[at:stop].decode("latin-1") if stop >= 0 else ""


def find_all(data: Data, needle: bytes, begin: int, end: int) -> Iterator[int]:
    """Where in a range of the file these bytes are, in order; overlapping places too.

    In pieces, as `mmap.find` is many times slower than `bytes.find` before Python 3.13.
    """
    more = len(needle) - 1
    while begin < end - more:
        stop = min(begin + _PIECE_BYTES, end - more)
        piece, at = data[begin : stop + more], -1
        while (at := piece.find(needle, at + 1)) >= 0:
            yield begin + at
        begin = stop


def find_symbols(data: Data, table: SymbolTable, names: frozenset[str]) -> Iterator[tuple[str, int]]:
    """The defined functions of these names in a symbol table, with their addresses.

    Raises:
        ValueError: the table is larger than any real one.
    """
    (begin, end), texts = table
    if max(end - begin, texts.end - texts.begin) > _MAX_TABLE_BYTES:
        raise ValueError("a symbol table of that size is not credible")
    wanted = dict(_places_of_names(data, texts, names))
    if not wanted:
        return
    end -= (end - begin) % _SYMBOL.size
    with memoryview(data) as whole, whole[begin:end] as view:
        for text, info, _, section, address, _ in _SYMBOL.iter_unpack(view):
            if (
                text in wanted
                and section
                and address
                and info & 15 in (_STT_FUNC, _STT_GNU_IFUNC, _STT_NOTYPE)
            ):
                yield wanted[text], address


def _places_of_names(data: Data, texts: Table, names: frozenset[str]) -> Iterator[tuple[int, str]]:
    """Where in a string table names stand, also with a version behind them ("name@@VERSION")."""
    for name in names:
        text = name.encode()
        # linkers let a name share the end of a longer one, so every place counts
        places = (
            at
            for at in find_all(data, text, texts.begin, texts.end)
            if data[at + len(text) : at + len(text) + 1] in (b"\0", b"@")
        )
        for at in islice(places, _MAX_PLACES):
            yield at - texts.begin, name


def read_build_id(data: Data, notes: Table) -> str:
    """The GNU build-id in a range of notes, in hexadecimal, "" without.

    Each note is the sizes of name and content, its type, then both, padded to 4 bytes.
    """
    at, end = notes.begin, min(notes.end, notes.begin + _MAX_NOTE_BYTES)
    while at + _NOTE.size <= end:
        name_bytes, content_bytes, kind = _NOTE.unpack_from(data, at)
        name_at = at + _NOTE.size
        content_at = name_at + (name_bytes + 3 & ~3)
        at = content_at + (content_bytes + 3 & ~3)
        if at > end:
            break
        if kind == _NT_GNU_BUILD_ID and data[name_at : name_at + name_bytes] == b"GNU\0":
            return bytes(data[content_at : content_at + content_bytes]).hex() if content_bytes <= 64 else ""
    return ""
