"""Where executables and TLS libraries are to be expected, before any process maps them."""

from __future__ import annotations

import glob
import os
import re
import shutil
from collections.abc import Iterator

from ..errors import LibraryError
from .images import open_image

__all__ = ["interpreter_of", "program_files", "system_libraries"]

# libssl.so.3, libssl.so.1.1, libgnutls.so.30, NSS's libnspr4.so and libssl3.so, the dynamic loaders
_LIBRARY = re.compile(
    r"(libssl([-.][^/]*)?\.so(\.[0-9.]+)?|libgnutls\.so\.[0-9.]+|libnspr4\.so|libssl3\.so|ld-[^/]*\.so(\.[0-9]+)?)"
)
_SYSTEM_FOLDERS = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64")
_PATTERNS = ("libssl*.so*", "libgnutls.so*", "libnspr4.so", "ld-*.so*")
_MAX_SCRIPTS = 4  # a script's interpreter may be a script; the kernel gives up at 5
_MAX_LINE = 256  # BINPRM_BUF_SIZE
_MAX_INTERPRETER = 4096
_PT_INTERP_RANGE = 1 << 16


def system_libraries() -> list[str]:
    """The TLS libraries and dynamic loaders in the system's folders, symbolic links resolved."""
    folders = [*_SYSTEM_FOLDERS, *glob.glob("/usr/lib/*-linux-gnu*")]
    found = {
        os.path.realpath(path)
        for folder in folders
        for pattern in _PATTERNS
        for path in glob.glob(f"{glob.escape(folder)}/{pattern}")
        if _LIBRARY.fullmatch(os.path.basename(path))
    }
    return sorted(found)


def program_files(name: str) -> list[str]:
    """The files that run when a command is started: the program, for a script its interpreter too, loaders.

    Args:
        name: looked up in PATH unless it has a slash.
    """
    found: list[str] = []
    path = shutil.which(name)
    while path is not None and len(found) < _MAX_SCRIPTS:
        path = os.path.realpath(path)
        if path in found:
            break
        found.append(path)
        try:
            with open_image(path) as image:
                begin = image.read(_MAX_LINE)
        except LibraryError:
            break
        path = _script_interpreter(begin)
    if found and (loader := interpreter_of(found[-1])) is not None:
        found.append(os.path.realpath(loader))
    return found


def interpreter_of(path: str) -> str | None:
    """The dynamic loader that a program names (PT_INTERP), None if it names none."""
    from ..locators.elf_tables import PT_INTERP, read_header, read_program_headers

    try:
        with open_image(path) as image:
            begin = image.read(_PT_INTERP_RANGE)
            header = read_header(begin, path, os.uname().machine)
            for item in read_program_headers(begin, header):
                if item.type == PT_INTERP:
                    text = image.read(min(item.file_bytes, _MAX_INTERPRETER), item.offset)
                    return os.fsdecode(text.partition(b"\0")[0]) or None
    except LibraryError:
        pass
    return None


def _script_interpreter(begin: bytes) -> str | None:
    """The program of a script's first line, looked up in PATH where env does that."""
    if not begin.startswith(b"#!"):
        return None
    words = iter(os.fsdecode(begin[2:].partition(b"\n")[0]).split())
    program = next(words, None)
    if program is None or os.path.basename(program) != "env":
        return program if program and os.path.exists(program) else None
    name = next(_after_options(words), None)
    return shutil.which(name) if name else None


def _after_options(words: Iterator[str]) -> Iterator[str]:
    """What env would run: options and assignments before it are left out."""
    return (word for word in words if not word.startswith("-") and "=" not in word)
