"""What every locator gives, and the ELF reading that they share."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..errors import LibraryError

__all__ = ["MACHINES", "ProbePoint", "symbol_offsets"]

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
            raise LibraryError(path, "a 32-bit library: only 64-bit ones can be probed")
        if elf["e_machine"] != wanted:
            raise LibraryError(path, f"made for {elf['e_machine']}, this is {machine}")
        loads = [segment.header for segment in elf.iter_segments("PT_LOAD")]
        found = {}
        for name, address in _defined(elf, frozenset(names)).items():
            for load in loads:
                if load.p_vaddr <= address < load.p_vaddr + load.p_filesz:
                    found[name] = address - load.p_vaddr + load.p_offset
        return found
    except LibraryError:
        raise
    # pyelftools meets a broken file with whatever exception the broken value leads to
    except (ELFError, Exception) as error:
        raise LibraryError(
            path, f"cannot be read as an ELF file ({error or type(error).__name__})"
        ) from error


def _defined(elf: object, names: frozenset[str]) -> dict[str, int]:
    """Addresses of the defined symbols, from .dynsym, or .symtab where names are missing there."""
    found: dict[str, int] = {}
    for section_name in (".dynsym", ".symtab"):
        section = elf.get_section_by_name(section_name)  # type: ignore[attr-defined]
        if section is None or names <= found.keys():
            continue
        for symbol in section.iter_symbols():
            if symbol["st_value"] and symbol["st_shndx"] != "SHN_UNDEF" and symbol.name in names:
                found.setdefault(symbol.name, symbol["st_value"])
    if not found:  # no section table: go by the dynamic segment
        for segment in elf.iter_segments("PT_DYNAMIC"):  # type: ignore[attr-defined]
            for symbol in segment.iter_symbols():
                if symbol["st_value"] and symbol.name in names:
                    found.setdefault(symbol.name, symbol["st_value"])
    return found


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
