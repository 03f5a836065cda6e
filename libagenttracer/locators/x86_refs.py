"""Who refers to an address in x86-64 code, found without disassembling it.

A relative operand is the difference between its target and the end of its instruction. Within 64 KiB of code
the upper two bytes of that difference take two or three values only, so that `bytes.find` (in C) looks for
these and Python sees little more than the real references: 80 MB take some tenths of a second, no memory.
What happens to look like a reference in the middle of other instructions is found as well.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from ..errors import LibraryError
from .elf import Image
from .elf_tables import find_all

__all__ = ["Reference", "data_pointers", "immediate_references", "relative_references"]

_WINDOW_BYTES = 1 << 16
_MAX_HITS = 1 << 24
_CALL, _JUMP, _LEA = 0xE8, 0xE9, 0x8D
_KINDS = {_CALL: "call", _JUMP: "jump"}


class Reference(NamedTuple):
    """An instruction that refers to an address.

    Attributes:
        address: of the instruction.
        target: what it refers to.
        kind: "call", "jump", "branch" (a conditional jump), "lea" or "mov" (of a constant).
    """

    address: int
    target: int
    kind: str


def relative_references(image: Image, low: int, high: int) -> Iterator[Reference]:
    """The calls, jumps and `lea` in the code that lead to addresses from `low` to below `high`.

    The narrower the range, the faster: it costs one search of the code for each 64 KiB, and two more.

    Raises:
        LibraryError: code made to be slow to search.
    """
    data, code = image.data, image.code()
    shift, end = code.address - code.offset, code.offset + code.size_bytes
    hits = 0
    for begin in range(code.offset, end - 4, _WINDOW_BYTES):
        # the operands of a window, and what is before the first one; a copy, as mmap.find is slow
        window = data[max(begin - 3, 0) : min(begin + _WINDOW_BYTES + 3, end)]
        moved = shift + max(begin - 3, 0)
        first = max(low - (moved + len(window)) >> 16, -0x8000)
        last = min(high - 1 - (moved + 4) >> 16, 0x7FFF)
        for upper in range(first, last + 1):
            needle, at = struct.pack("<h", upper), 4
            while (at := window.find(needle, at + 1)) >= 0:
                hits += 1
                field = at - 2
                target = moved + at + 2 + (window[field] | window[field + 1] << 8) + (upper << 16)
                if low <= target < high and (found := _instruction(window[field - 3 : field])):
                    kind, size = found
                    yield Reference(field - size + moved, target, kind)
        if hits > _MAX_HITS:
            raise LibraryError(image.path, "its code cannot be searched (it is nothing a compiler makes)")


def _instruction(before: bytes) -> tuple[str, int] | None:
    """What the bytes before a relative operand make of it: kind, and bytes from its begin to the operand."""
    if len(before) < 3:
        return None
    rex, opcode, last = before
    if last in _KINDS:
        return _KINDS[last], 1
    if opcode == 0x0F and last & 0xF0 == 0x80:
        return "branch", 2
    # REX.W 8D /r with a ModRM byte that says "relative to the instruction pointer"
    if opcode == _LEA and rex & 0xF8 == 0x48 and last & 0xC7 == 0x05:
        return "lea", 3
    return None


def immediate_references(image: Image, low: int, high: int) -> Iterator[Reference]:
    """The instructions that load an address from `low` to below `high` as a constant of 32 bits.

    Only code at a fixed place can do that: nothing for a position-independent image.

    Raises:
        LibraryError: as of `relative_references`.
    """
    if image.position_independent:
        return
    data, code = image.data, image.code()
    shift, end = code.address - code.offset, code.offset + code.size_bytes
    for upper in range(low >> 16, (min(high, 1 << 31) - 1 >> 16) + 1):
        for hits, at in enumerate(find_all(data, struct.pack("<H", upper), code.offset + 5, end)):
            if hits > _MAX_HITS:
                raise LibraryError(image.path, "its code cannot be searched (it is nothing a compiler makes)")
            rex, opcode, last, *lower = data[at - 5 : at]
            target = upper << 16 | lower[1] << 8 | lower[0]
            if not low <= target < high:
                continue
            if last & 0xF8 == 0xB8:  # mov r32, imm32; REX.B makes it one of the upper registers
                yield Reference(at - (4 if opcode == 0x41 else 3) + shift, target, "mov")
            elif opcode == 0xC7 and last & 0xF8 == 0xC0 and rex & 0xF8 == 0x48:  # mov r64, imm32
                yield Reference(at - 5 + shift, target, "mov")


def data_pointers(image: Image, low: int, high: int) -> set[int]:
    """The addresses from `low` to below `high` that pointers in an image at a fixed place hold.

    They are looked for where the data is writable or not executable, at multiples of 8 bytes.
    """
    found: set[int] = set()
    for segment in image.segments:
        if segment.executable:
            continue
        end = segment.offset + segment.file_bytes
        for upper in range(low >> 16, (high - 1 >> 16) + 1):
            needle = struct.pack("<Q", upper)[:6]
            for at in islice(find_all(image.data, needle, segment.offset + 2, end), _MAX_HITS):
                lower = int.from_bytes(image.data[at - 2 : at], "little")
                address = at - 2 - segment.offset + segment.address
                if not address % 8 and low <= (target := upper << 16 | lower) < high:
                    found.add(target)
    return found
