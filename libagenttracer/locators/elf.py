"""An ELF file's layout, from bytes that anybody may have made."""

from __future__ import annotations

import re
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import islice
from operator import le
from typing import NamedTuple

from ..errors import LibraryError
from .elf_dynamic import Dynamic, read_dynamic, read_relocations
from .elf_tables import (
    ET_DYN,
    PT_DYNAMIC,
    PT_GNU_EH_FRAME,
    PT_INTERP,
    PT_LOAD,
    PT_NOTE,
    Data,
    ProgramHeader,
    Section,
    Table,
    find_all,
    find_symbols,
    read_build_id,
    read_header,
    read_program_headers,
    read_sections,
)

__all__ = ["Data", "FunctionTable", "Image", "Section", "Segment"]

_EXECUTABLE, _WRITABLE = 1, 2
_MAX_LOADED_BYTES = 2 << 30  # more than the code model of any compiler in use reaches
_MAX_TEXT = 1024
_MAX_FRAMES = 1 << 22
_TEXT_BEFORE = re.compile(rb"[\x20-\x7e]*\Z")
# .eh_frame_hdr: version 1, pointers of 4 bytes relative to here (DW_EH_PE_pcrel | sdata4), a count of
# 4 bytes (udata4), table entries of 2 x 4 bytes relative to the header (datarel | sdata4)
_FRAME_HEADER = bytes((1, 0x1B, 0x03, 0x3B))


class Segment(NamedTuple):
    """A part of the file that is loaded.

    Attributes:
        address: where it comes to lie, relative to where the image is put.
        offset: bytes from the file's start.
        file_bytes: how much of it is in the file (and not behind its end).
        executable, writable: how it is mapped.
    """

    address: int
    offset: int
    file_bytes: int
    executable: bool
    writable: bool


class FunctionTable(NamedTuple):
    """The functions that have unwinding information, which is not always all of them.

    Attributes:
        starts: their addresses, ascending.
        frames: for each, the address of its description (FDE) in .eh_frame.
    """

    starts: array[int]
    frames: array[int]


class Image:
    """An ELF file's layout, read once, every number checked against the file's size.

    Addresses are those that the file states, offsets are bytes from the file's start. Searches look at
    what is loaded, not at what is only appended to the file.

    Args:
        data: the whole file.
        path: for error messages.
        machine: the machine it has to be for, as `os.uname().machine` says it ("x86_64", "aarch64").

    Attributes:
        data, path, machine: as given.
        position_independent: it can be loaded at any address.
        is_executable: a program, not a library.
        segments: what is loaded, in the file's order; only what has bytes in the file.
        sections: by name; {} if the file has no section table. May state anything.
        build_id: in hexadecimal, "" without.
        soname: the library's own name, "" without.
        needed: the sonames of the libraries that it needs.

    Raises:
        LibraryError: not ELF, for another machine, not of 64 bits, or broken.
    """

    def __init__(self, data: Data, *, path: str, machine: str) -> None:
        self.data, self.path, self.machine = data, path, machine
        header = read_header(data, path, machine)
        programs = read_program_headers(data, header)
        self.position_independent = header.type == ET_DYN
        self.segments = tuple(
            Segment(item.address, item.offset, item.file_bytes, *_access(item.flags))
            for item in programs
            if item.type == PT_LOAD and item.file_bytes
        )
        loaded_bytes = sum(segment.file_bytes for segment in self.segments)
        if loaded_bytes > min(_MAX_LOADED_BYTES, 2 * len(data)):  # a look through all of it would never end
            raise LibraryError(path, "cannot be read as an ELF file (it claims to load more than it has)")
        if not self.segments:
            raise LibraryError(path, "cannot be read as an ELF file (nothing of it is loaded)")
        self.sections, self._symbol_tables = read_sections(data, header)
        self._frame_header = _first(programs, PT_GNU_EH_FRAME)
        notes = [_range(item) for item in programs if item.type == PT_NOTE]
        if (section := self.sections.get(".note.gnu.build-id")) is not None:
            notes.append(Table(section.offset, min(section.offset + section.size_bytes, len(data))))
        self.build_id = next(filter(None, (read_build_id(data, place) for place in notes)), "")
        dynamic = _first(programs, PT_DYNAMIC)
        self._dynamic = read_dynamic(data, _range(dynamic), self.offset_of) if dynamic else Dynamic()
        self.soname, self.needed = self._dynamic.soname, self._dynamic.needed
        interpreted = _first(programs, PT_INTERP) is not None
        self.is_executable = not self.position_independent or interpreted or self._dynamic.is_pie

    def offset_of(self, address: int) -> int | None:
        """Where in the file an address is, None if nowhere."""
        for begin, offset, size, _, _ in self.segments:
            if begin <= address < begin + size:
                return address - begin + offset
        return None

    def code_offset_of(self, address: int) -> int | None:
        """The same, None also if it is not executable there: no place for a probe."""
        for begin, offset, size, executable, _ in self.segments:
            if executable and begin <= address < begin + size:
                return address - begin + offset
        return None

    def address_of(self, offset: int) -> int | None:
        """The address at which a byte of the file is loaded, None if it is not."""
        for address, begin, size, _, _ in self.segments:
            if begin <= offset < begin + size:
                return offset - begin + address
        return None

    def read(self, address: int, size: int) -> bytes:
        """The bytes at an address; fewer, or none, where the segment's bytes in the file end."""
        for begin, offset, file_bytes, _, _ in self.segments:
            if begin <= address < begin + file_bytes:
                at = address - begin + offset
                return self.data[at : min(at + size, offset + file_bytes)]
        return b""

    def symbols(self, names: Iterable[str]) -> dict[str, int]:
        """The addresses of those functions that are defined here by a symbol.

        Raises:
            LibraryError: a symbol table that cannot be believed.
        """
        wanted = frozenset(names)
        found: dict[str, int] = {}
        tables = self._symbol_tables
        if not tables and self._dynamic.symbols is not None:  # the section table is gone
            tables = [self._dynamic.symbols]
        try:
            for table in tables:
                if wanted <= found.keys():
                    break
                for name, address in find_symbols(self.data, table, wanted - found.keys()):
                    if self.code_offset_of(address) is not None:
                        found.setdefault(name, address)
        except ValueError as error:
            raise LibraryError(self.path, f"cannot be read as an ELF file ({error})") from error
        return found

    def find(self, needle: bytes, limit: int = 64) -> list[int]:
        """The offsets in the file of the first places where these bytes are loaded."""
        places = (
            at
            for segment in self.segments
            for at in find_all(self.data, needle, segment.offset, segment.offset + segment.file_bytes)
        )
        return list(islice(places, limit))

    def strings(self, text: str) -> list[int]:
        """The addresses of this NUL-terminated string, whatever stands before it.

        It can be the end of a longer string: linkers merge those, and code refers to the middle then.
        """
        places = self.find(text.encode() + b"\0")
        return [address for at in places if (address := self.address_of(at)) is not None]

    def strings_ending(self, suffix: str) -> list[tuple[int, str]]:
        """The NUL-terminated strings of printable characters that end so, with their addresses."""
        found = []
        for at in self.find(suffix.encode() + b"\0"):
            before = self.data[max(0, at - _MAX_TEXT) : at]
            match = _TEXT_BEFORE.search(before)
            begin = at - len(match[0]) if match else at
            address = self.address_of(begin)
            if address is not None:
                found.append((address, self.data[begin : at + len(suffix)].decode("ascii")))
        return found

    def code(self) -> Section:
        """Where the instructions are: .text if that is most of the largest executable segment, else that.

        Raises:
            LibraryError: nothing is executable.
        """
        segments = [segment for segment in self.segments if segment.executable]
        if not segments:
            raise LibraryError(self.path, "cannot be read as an ELF file (nothing of it is executable)")
        largest = max(segments, key=lambda segment: segment.file_bytes)
        text = self.sections.get(".text")
        if (
            text is not None
            and self.code_offset_of(text.address) == text.offset
            and largest.offset <= text.offset
            and text.offset + text.size_bytes <= largest.offset + largest.file_bytes
            and 2 * text.size_bytes >= largest.file_bytes
        ):
            return text
        return Section("", largest.address, largest.offset, largest.file_bytes)

    @cached_property
    def functions(self) -> FunctionTable:
        """The table in .eh_frame_hdr (Linux Standard Base, "Exception Frames"), empty if it is not sound."""
        nothing = FunctionTable(array("q"), array("q"))
        header = self._frame_header
        if (
            header is None
            or header.file_bytes < 12
            or header.address >= 1 << 62  # what is relative to it would not fit
            or self.data[header.offset : header.offset + 4] != _FRAME_HEADER
        ):
            return nothing
        count = int.from_bytes(self.data[header.offset + 8 : header.offset + 12], "little")
        if count > min(_MAX_FRAMES, (header.file_bytes - 12) // 8):
            return nothing
        numbers = array("i", self.data[header.offset + 12 : header.offset + 12 + 8 * count])
        starts = array("q", [number + header.address for number in numbers[::2]])
        if not all(map(le, starts, starts[1:])):
            return nothing
        return FunctionTable(starts, array("q", [number + header.address for number in numbers[1::2]]))

    def function_starts(self) -> array[int]:
        """Addresses of the functions that have unwinding information, ascending."""
        return self.functions.starts

    def function_at(self, address: int) -> tuple[int, int] | None:
        """Begin and end of the function that covers an address, by its unwinding information.

        None if there is none for it: it can be missing for a part of an image.
        """
        starts, frames = self.functions
        number = bisect_right(starts, address) - 1
        if number < 0:
            return None
        # an FDE: its length, its CIE, then start (relative to that field) and size of the function
        fields = self.read(frames[number] + 8, 8)
        if len(fields) < 8:
            return None
        relative, size = struct.unpack("<iI", fields)
        begin = frames[number] + 8 + relative
        return (begin, begin + size) if begin == starts[number] and address < begin + size else None

    def relative_relocations(self) -> Iterator[tuple[int, int]]:
        """The pointers that move with the image: address of the pointer, address that it points to."""
        return read_relocations(self.data, self._dynamic, self.machine, self.offset_of)


def _access(flags: int) -> tuple[bool, bool]:
    return bool(flags & _EXECUTABLE), bool(flags & _WRITABLE)


def _range(header: ProgramHeader) -> Table:
    return Table(header.offset, header.offset + header.file_bytes)


def _first(programs: Iterable[ProgramHeader], kind: int) -> ProgramHeader | None:
    return next((item for item in programs if item.type == kind and item.file_bytes), None)
