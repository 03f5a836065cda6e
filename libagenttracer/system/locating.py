"""What is in an image, found with as little work as it takes.

Most files that processes map have nothing to do with TLS. A look for a few marks in the bytes settles
these in a fraction of a millisecond. Those with symbols are answered here; only what must be searched for
in machine code, or is large, goes to a worker (locate_worker.py), and its answer is kept (locate_cache.py).
"""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import LibraryError
from ..locators import INSTALL_CAPSTONE, NotReachable, locate_all
from ..locators.elf import Image
from ..locators.elf_tables import (
    PT_NOTE,
    Table,
    read_build_id,
    read_header,
    read_program_headers,
    read_sections,
)
from .images import ImageFile
from .locate_cache import LocateCache, Result, content_digest
from .locate_worker import TIME_LIMIT_S, deep_locate

__all__ = ["LARGE_BYTES", "LoaderProbe", "Look", "look_deep", "look_quick"]

LARGE_BYTES = 8 << 20  # above, a look would take long enough to be felt by the capture
# Marks of the stacks that there are locators for. Names, in the symbol table of what has or uses them:
_NAMED = (
    b"SSL_write\0",
    b"gnutls_record_send\0",
    b"PR_Write\0",
    b"SSL_ImportFD\0",
    b"JNI_CreateJavaVM\0",
    b"libjvm.so\0",
    b"libjli.so\0",
    b"enif_make_atom\0",
)
# what OpenSSL and BoringSSL leave behind, which matters where there are no symbols:
_UNNAMED = (b"ssl_write_internal\0", b"ssl_lib.c")
# and what has to be searched for in code in any case:
_SEARCHED = (b"cipher/aead.c", b"crypto/tls.(*Conn).Write\0", b"rustls")
_LOADER_FUNCTION, _LOADER_LIST, _LOADER_LIST_POINTER = "_dl_debug_state", "_r_debug", "_dl_debug_addr"
_HEADER_BYTES = 1 << 16
# Elf64_Sym: st_name, st_info, st_other, st_shndx, st_value, st_size
_SYMBOL = struct.Struct("<IBBHQQ")
_OBJECT = 1  # STT_OBJECT


@dataclass(frozen=True)
class LoaderProbe:
    """Where a dynamic loader tells debuggers that it has loaded something.

    Attributes:
        offset: of that function, bytes from the file's start.
        cookie: for the program there: bytes from the function to the list of loaded objects, times two,
            plus one if there is only a pointer to it.
    """

    offset: int
    cookie: int


@dataclass(frozen=True)
class Look:
    """What a quick look at an image has shown.

    Attributes:
        results: of the locators.
        build_id: in hexadecimal, "" without.
        loader: if it is a dynamic loader.
        unsettled: only a long search can tell more.
    """

    results: tuple[Result, ...] = ()
    build_id: str = ""
    loader: LoaderProbe | None = None
    unsettled: bool = False


def look_quick(image: ImageFile) -> Look:
    """Reads the file if it is not large, and asks the locators if that is quick.

    Raises:
        LibraryError: it is no ELF file of this machine, or cannot be read.
    """
    begin = image.read(min(_HEADER_BYTES, image.size_bytes))
    machine = os.uname().machine
    header = read_header(begin, image.path, machine)
    notes = [item for item in read_program_headers(begin, header) if item.type == PT_NOTE]
    build_id = next(
        filter(None, (read_build_id(begin, Table(n.offset, n.offset + n.file_bytes)) for n in notes)), ""
    )
    if image.size_bytes > LARGE_BYTES:
        return Look(build_id=build_id, unsettled=True)
    data = image.read()
    loader = _loader_probe(data, image.path, machine) if _LOADER_FUNCTION.encode() in data else None
    unnamed, searched = (any(mark in data for mark in marks) for marks in (_UNNAMED, _SEARCHED))
    if not unnamed and not searched and not any(mark in data for mark in _NAMED):
        return Look(build_id=build_id, loader=loader)
    elf = Image(data, path=image.path, machine=machine)
    # only with both of them no locator searches the code, for which the capture would have to wait
    if searched or (unnamed and len(elf.symbols(("SSL_read", "SSL_write"))) < 2):
        return Look(build_id=build_id, loader=loader, unsettled=True)
    return Look(tuple(locate_all(elf)), build_id, loader)


def look_deep(
    image: ImageFile,
    cache: LocateCache | None,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    started: Callable[[subprocess.Popen[bytes]], object] = lambda process: None,
) -> tuple[Result, ...]:
    """What is known of the file, or a search of it that can take seconds.

    Args:
        cache: where results are kept; None: nowhere.
        time_limit_s, started: see `deep_locate()`.

    Raises:
        LibraryError: it could not be searched.
    """
    digest = ""
    if cache is not None:
        digest = content_digest(image)
        kept = cache.get(digest, image)
        if kept is not None:
            return tuple(kept)
    searched, results = deep_locate(image, time_limit_s=time_limit_s, started=started)
    # nothing is kept of another file, whatever the searched one has made of the worker
    if cache is not None and searched == digest and not any(map(_needs_capstone, results)):
        cache.put(digest, results)
    return tuple(results)


def _needs_capstone(result: Result) -> bool:
    """Whether there may be another result as soon as it is installed."""
    return isinstance(result, NotReachable) and result.advice == INSTALL_CAPSTONE


def _loader_probe(data: bytes, path: str, machine: str) -> LoaderProbe | None:
    """For glibc (`_r_debug`) and musl (`_dl_debug_addr`, which points to it)."""
    try:
        elf = Image(data, path=path, machine=machine)
        function = elf.symbols([_LOADER_FUNCTION]).get(_LOADER_FUNCTION)
        offset = None if function is None else elf.code_offset_of(function)
        if function is None or offset is None or elf.is_executable:  # programs can have it linked in
            return None
        for name, indirect in ((_LOADER_LIST, 0), (_LOADER_LIST_POINTER, 1)):
            address = _variable(data, path, machine, name)
            if address is not None:
                return LoaderProbe(offset, 2 * (address - function) + indirect)
    except LibraryError:
        pass
    return None


def _variable(data: bytes, path: str, machine: str, name: str) -> int | None:
    """The address of a variable that the image exports."""
    _, tables = read_sections(data, read_header(data, path, machine))
    for table in tables:
        (begin, end), texts = table
        text_at = data.find(b"\0" + name.encode() + b"\0", texts.begin, texts.end)
        if text_at < 0:
            continue
        end -= (end - begin) % _SYMBOL.size
        for text, info, _, section, address, _ in _SYMBOL.iter_unpack(data[begin:end]):
            if text == text_at + 1 - texts.begin and info & 15 == _OBJECT and section and address:
                return int(address)
    return None
