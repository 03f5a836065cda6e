"""What every locator gives, and the ELF reading that they share."""

from __future__ import annotations

import io
import itertools
import mmap
import struct
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from ..errors import LibraryError

__all__ = ["MACHINES", "ProbePoint", "symbol_offsets"]

# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size (System V ABI, ELF-64)
_SYMBOL = struct.Struct("<IBBHQQ")
_MAX_TABLE_BYTES = 1 << 28
_MAX_DYNAMIC_SYMBOLS = 100_000
MACHINES = {"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}


class ProbePoint(NamedTuple):
    """A function to probe.

    Attributes:
        function: its name ("SSL_read"): says which program belongs there.
        offset: bytes from the file's start (uprobes take these, not virtual addresses).
    """

    function: str
    offset: int


def symbol_offsets(
    image: bytes | mmap.mmap, names: Iterable[str], *, path: str, machine: str
) -> dict[str, int]:
    """Looks function symbols up in an ELF image.

    Args:
        image: the whole file.
        names: the symbols wanted.
        path: for error messages.
        machine: the machine it has to be for, as `os.uname().machine` says it.

    Returns:
        For each symbol that is defined there, its offset in the file.

    Raises:
        LibraryError: not an ELF file of this machine, or a broken one.
    """
    from elftools.common.exceptions import ELFError
    from elftools.elf.elffile import ELFFile

    if image[:4] != b"\x7fELF":
        raise LibraryError(path, "not an ELF file")
    try:
        elf = ELFFile(io.BufferedReader(_Stream(image)))
        wanted = MACHINES.get(machine, machine)
        if elf.elfclass != 64:
            raise LibraryError(path, "only 64-bit libraries can be probed (32 bits)")
        if elf["e_machine"] != wanted:
            raise LibraryError(path, f"made for {elf['e_machine']}, this is {machine}")
        loads = [segment.header for segment in elf.iter_segments("PT_LOAD")]
        found = {}
        for name, address in _defined(elf, image, frozenset(names)).items():
            for load in loads:
                if load.p_vaddr <= address < load.p_vaddr + load.p_filesz:
                    offset = address - load.p_vaddr + load.p_offset
                    if offset < len(image):
                        found[name] = offset
        return found
    except LibraryError:
        raise
    # pyelftools meets a broken file with whatever exception the broken value leads to
    except (ELFError, Exception) as error:
        raise LibraryError(
            path, f"cannot be read as an ELF file ({error or type(error).__name__})"
        ) from error


def _defined(elf: Any, image: bytes | mmap.mmap, names: frozenset[str]) -> dict[str, int]:
    """Addresses of the defined symbols, from .dynsym, or .symtab where names are missing there."""
    found: dict[str, int] = {}
    for section_name in (".dynsym", ".symtab"):
        section = elf.get_section_by_name(section_name)
        if section is None or names <= found.keys():
            continue
        strings = elf.get_section(section["sh_link"])
        symbols = section["sh_offset"], section["sh_offset"] + section["sh_size"]
        texts = strings["sh_offset"], strings["sh_offset"] + strings["sh_size"]
        for name, address in _scan(image, symbols, texts, names):
            found.setdefault(name, address)
    if not found:  # no section table: go by the dynamic segment
        for segment in elf.iter_segments("PT_DYNAMIC"):
            for symbol in itertools.islice(segment.iter_symbols(), _MAX_DYNAMIC_SYMBOLS):
                if symbol["st_value"] and symbol.name in names:
                    found.setdefault(symbol.name, symbol["st_value"])
    return found


def _scan(
    image: bytes | mmap.mmap, symbols: tuple[int, int], texts: tuple[int, int], names: frozenset[str]
) -> Iterator[tuple[str, int]]:
    """The wanted symbols of a table. pyelftools makes an object of each symbol: far too slow for a browser.

    Args:
        symbols, texts: where in the file the table and its strings lie.
    """
    if max(symbols[1] - symbols[0], texts[1] - texts[0]) > _MAX_TABLE_BYTES:
        raise ValueError("a symbol table of that size is not credible")
    wanted = {}
    for name in names:
        # linkers let a name share the end of a longer one, so every place counts
        text, at = name.encode() + b"\0", texts[0]
        while (at := image.find(text, at, texts[1])) >= 0:
            wanted[at - texts[0]] = name
            at += 1
    size = _SYMBOL.size
    end = min(symbols[1], len(image))
    table = image[symbols[0] : end - (end - symbols[0]) % size]
    for text_at, _, _, section, address, _ in _SYMBOL.iter_unpack(table):
        if text_at in wanted and section and address:
            yield wanted[text_at], address


class _Stream(io.RawIOBase):
    """A seekable stream over bytes or a mapping, without copying the file."""

    def __init__(self, image: bytes | mmap.mmap) -> None:
        self._image = image
        self._at = 0

    def readinto(self, buffer: Any) -> int:
        data = self._image[self._at : self._at + len(buffer)]
        buffer[: len(data)] = data
        self._at += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, len(self._image))[whence])
        return self._at

    def tell(self) -> int:
        return self._at

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
