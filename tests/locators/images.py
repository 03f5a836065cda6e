"""ELF images made in memory: without the symbols of a real one, or of a few bytes."""

from __future__ import annotations

import struct

from libagenttracer.locators.elf import Image

__all__ = ["minimal", "wiped"]

_SYMTAB, _DYNSYM = 2, 11
_PT_NULL, _PT_GNU_EH_FRAME = 0, 0x6474E550


def wiped(image: Image, *, unwinding: bool = True) -> Image:
    """A copy in which no symbol is defined: the tables are there, but full of zeros.

    Args:
        image: stays as it is.
        unwinding: whether the copy keeps the table of its functions that is for unwinding.
    """
    data = bytearray(image.data)
    (section_at,) = struct.unpack_from("<Q", data, 40)
    section_size, section_count = struct.unpack_from("<2H", data, 58)
    for number in range(section_count):
        at = section_at + number * section_size
        if struct.unpack_from("<I", data, at + 4)[0] in (_SYMTAB, _DYNSYM):
            offset, size = struct.unpack_from("<QQ", data, at + 24)
            data[offset : offset + size] = bytes(size)
    (program_at,) = struct.unpack_from("<Q", data, 32)
    program_size, program_count = struct.unpack_from("<2H", data, 54)
    for at in range(program_at, program_at + program_count * program_size, program_size):
        if not unwinding and struct.unpack_from("<I", data, at)[0] == _PT_GNU_EH_FRAME:
            struct.pack_into("<I", data, at, _PT_NULL)
    return Image(bytes(data), path=image.path, machine=image.machine)


def minimal(
    code: bytes, *, machine: str = "x86_64", address: int = 0x400000, position_independent: bool = False
) -> Image:
    """The smallest image: a header and one executable segment with this code, at `address` + 120."""
    numbers = {"x86_64": 62, "aarch64": 183}
    kind = 3 if position_independent else 2
    start = 64 + 56
    header = struct.pack(
        "<4sBBB9xHHIQQQIHHHHHH",
        *(b"\x7fELF", 2, 1, 1, kind, numbers[machine], 1, address + start, 64, 0, 0, 64, 56, 1, 64, 0, 0),
    )
    size = start + len(code)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, address, address, size, size, 0x1000)
    return Image(header + program + code, path="minimal", machine=machine)
