"""Files that anybody may have made: nothing but a LibraryError, soon, and no probe outside of code."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from libagenttracer.errors import LibraryError
from libagenttracer.locators import locate_all
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image

from ..support import time_limit
from .go_image import TLS_NAMES, GoImage, x86_function

MACHINE = os.uname().machine
E_SHOFF, E_PHNUM, E_SHNUM, E_SHSTRNDX = 40, 56, 60, 62
PT_LOAD, PT_DYNAMIC = 1, 2
DT_HASH, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ = 4, 5, 6, 7, 8
DT_STRSZ, DT_RELRSZ, DT_RELR, DT_GNU_HASH = 10, 35, 36, 0x6FFFFEF5
EXTREME = (
    0,
    1,
    0x7F,
    0xFFF,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 40,
    1 << 63,
    (1 << 64) - 4096,
    (1 << 64) - 1,
)
# as the library's functions are called, and what it refers to when it has lost its symbols
SOURCE = """
extern void ERR_put_error(int, int, int, const char *, int);
extern void ERR_set_debug(const char *, int, const char *);
int SSL_read(void *s, void *b, int n) { ERR_put_error(16, 0, 66, "../ssl/ssl_lib.cc", 9); return b != 0; }
int SSL_write(void *s, void *b, int n) { ERR_set_debug("s.c", n, "ssl_write_internal"); return s == b; }
int gnutls_record_send(void) { return 1; }
int gnutls_record_recv(void) { return 2; }
const char *texts[] = { "crypto/tls.(*Conn).Write", "ssl_read_internal", "3.8.1", "x/cipher/aead.c" };
"""


def locate(data: bytes, machine: str = MACHINE, seconds: float = 1) -> list[Found | NotReachable]:
    """Gives [] for a file that is refused. The seconds are of this process, whatever else is running."""
    begin = time.process_time()
    with time_limit(60):
        try:
            image = Image(data, path="file", machine=machine)
            answers = locate_all(image)
        except LibraryError:
            return []
        finally:
            assert time.process_time() - begin < seconds
    for answer in answers:
        if isinstance(answer, Found):
            for point in answer.points:
                assert any(
                    part.executable and part.offset <= point.offset < part.offset + part.file_bytes
                    for part in image.segments
                ), point
                assert point.offset < len(data)
    return answers


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "source.c").write_text(SOURCE)
    library = folder / "library.so"
    options = ["-O1", "-fPIC", "-shared", "-Wl,--hash-style=both", "-Wl,-soname,libsmall.so"]
    subprocess.run(["gcc", *options, "-o", library, folder / "source.c"], check=True)
    return library.read_bytes()


@pytest.fixture(scope="module")
def without_sections(small: bytes) -> bytes:
    image = bytearray(small)
    struct.pack_into("<Q", image, E_SHOFF, 0)
    struct.pack_into("<HH", image, E_SHNUM, 0, 0)
    return bytes(image)


def program_headers(image: bytes) -> dict[int, list[int]]:
    """Offsets of the program headers, by type."""
    (begin,) = struct.unpack_from("<Q", image, 32)
    (count,) = struct.unpack_from("<H", image, E_PHNUM)
    found: dict[int, list[int]] = {}
    for at in range(begin, begin + 56 * count, 56):
        found.setdefault(struct.unpack_from("<I", image, at)[0], []).append(at)
    return found


def dynamic_entries(image: bytes) -> dict[int, int]:
    """Offsets of the values in the dynamic segment, by tag."""
    header = program_headers(image)[PT_DYNAMIC][0]
    offset, size = (struct.unpack_from("<Q", image, header + at)[0] for at in (8, 32))
    entries: dict[int, int] = {}
    for at in range(offset, offset + size, 16):
        entries.setdefault(struct.unpack_from("<Q", image, at)[0], at + 8)
    return entries


def changed(image: bytes, *changes: tuple[int, str, int]) -> bytes:
    """A copy with numbers replaced: (offset, struct format, value)."""
    copy = bytearray(image)
    for at, kind, value in changes:
        struct.pack_into("<" + kind, copy, at, value)
    return bytes(copy)


def test_what_is_not_hostile(small: bytes, without_sections: bytes) -> None:
    for image in (small, without_sections):
        found = {answer.stack for answer in locate(image) if isinstance(answer, Found)}
        assert "gnutls" in found
        assert found & {"openssl", "boringssl"}


def test_truncated_anywhere(small: bytes, without_sections: bytes) -> None:
    for image, step in ((small, 61), (without_sections, 61), (GoImage().build(), 37)):
        for length in [*range(130), *range(130, len(image), step), len(image) - 1]:
            locate(image[:length], "x86_64" if image[18] == 62 else MACHINE)


def test_a_real_library_truncated(tmp_path: Path) -> None:
    path = next(iter(sorted(Path("/usr/lib").glob("*/libssl.so.*"))), None)
    if path is None:
        pytest.skip("no OpenSSL here")
    whole = path.read_bytes()
    for length in range(1, len(whole), len(whole) // 25):
        locate(whole[:length])


@pytest.mark.parametrize("field", range(16, 64, 2))
def test_each_field_of_the_file_header(small: bytes, field: int) -> None:
    for value in (0, 1, 0x38, 0x40, 0x7FFF, 0xFFFF):
        locate(changed(small, (field, "H", value)))


@pytest.mark.parametrize("value", EXTREME)
def test_section_tables_anywhere(small: bytes, value: int) -> None:
    locate(changed(small, (E_SHOFF, "Q", value)))
    for count in (0, 0xFFFF):
        locate(changed(small, (E_SHOFF, "Q", value), (E_SHNUM, "H", count)))
        locate(changed(small, (E_SHNUM, "H", count), (E_SHSTRNDX, "H", 0xFFFF)))


@pytest.mark.parametrize("value", EXTREME)
def test_each_field_of_each_section(small: bytes, value: int) -> None:
    (begin,) = struct.unpack_from("<Q", small, E_SHOFF)
    (count,) = struct.unpack_from("<H", small, E_SHNUM)
    for number in range(count):
        for field, kind in ((4, "I"), (16, "Q"), (24, "Q"), (32, "Q"), (40, "I"), (56, "Q")):
            at = begin + 64 * number + field
            locate(changed(small, (at, kind, value & 0xFFFFFFFF if kind == "I" else value)))


@pytest.mark.parametrize("value", EXTREME)
def test_each_field_of_each_program_header(small: bytes, without_sections: bytes, value: int) -> None:
    for image in (small, without_sections):
        for headers in program_headers(image).values():
            for at in headers:
                for field in (8, 16, 32, 40):
                    locate(changed(image, (at + field, "Q", value)))
                locate(changed(image, (at + 8, "Q", value), (at + 32, "Q", (1 << 64) - 1 - value)))
                locate(changed(image, (at + 32, "Q", value), (at + 40, "Q", value)))


@pytest.mark.parametrize("value", EXTREME)
def test_each_entry_of_the_dynamic_segment(without_sections: bytes, value: int) -> None:
    for at in dynamic_entries(without_sections).values():
        locate(changed(without_sections, (at, "Q", value)))


def test_hash_tables_that_never_end(without_sections: bytes) -> None:
    entries = dynamic_entries(without_sections)
    image = Image(without_sections, path="file", machine=MACHINE)

    def table(tag: int) -> int:
        address = struct.unpack_from("<Q", without_sections, entries[tag])[0]
        offset = image.offset_of(address)
        assert offset is not None
        return offset

    for value in (0, 1, 0xFFFF, (1 << 32) - 1):
        for field in range(0, 16, 4):
            locate(changed(without_sections, (table(DT_HASH) + field, "I", value)))
            only_gnu = changed(without_sections, (entries[DT_HASH] - 8, "Q", 0x6FFFFFFF))
            locate(changed(only_gnu, (table(DT_GNU_HASH) + field, "I", value)))
    # chains in which no entry is the last one, to the end of a large file
    whole = changed(without_sections, (entries[DT_HASH] - 8, "Q", 0x6FFFFFFF))
    last_load = program_headers(whole)[PT_LOAD][-1]
    address, size = len(whole) + 0x100000, 8 << 20
    whole = changed(
        whole, (last_load + 8, "Q", len(whole)), (last_load + 16, "Q", address), (last_load + 32, "Q", size),
        (last_load + 40, "Q", size), (entries[DT_GNU_HASH], "Q", address),
    )  # fmt: skip
    chains = struct.pack("<IIII", 1, 1, 0, 0) + struct.pack("<I", 1) + struct.pack("<I", 2) * (size // 4 - 5)
    locate(whole + chains)


def with_data(image: bytes, content: bytes, *tags: tuple[int, int]) -> bytes:
    """Lays content behind the file, loaded; of tags (tag, value), the first one's value is its address."""
    entries = dynamic_entries(image)
    headers = program_headers(image)
    spare = next(at for kind, places in headers.items() if kind not in (PT_LOAD, PT_DYNAMIC) for at in places)
    offset = len(image) + -len(image) % 4096
    address = offset + 0x1000000
    changes = [
        (spare, "I", PT_LOAD), (spare + 4, "I", 4), (spare + 8, "Q", offset), (spare + 16, "Q", address),
        (spare + 32, "Q", len(content)), (spare + 40, "Q", len(content)),
    ]  # fmt: skip
    free = [at for tag, at in entries.items() if tag not in (DT_HASH, DT_STRTAB, DT_SYMTAB, DT_STRSZ, 0)]
    for at, (tag, value) in zip(free, tags, strict=False):
        changes += [(at - 8, "Q", tag), (at, "Q", value or address)]
    return changed(image, *changes).ljust(offset, b"\0") + content


def test_relocations_without_number(without_sections: bytes) -> None:
    size = 4 << 20
    name = (
        b"crypto/tls.(*Conn).Write\0" + b"\xf1\xff\xff\xff\0\0\1\x08" + struct.pack("<9Q", 1, 1, 0, *[72] * 6)
    )
    rela = struct.pack("<QQq", 0x1000, 8, 0x1000) * (size // 24)
    relr = struct.pack("<Q", 0x1000) + b"\xff" * size
    for content, tags in (
        (name + rela, ((DT_RELA, 0), (DT_RELASZ, size))),
        (name + relr, ((DT_RELR, 0), (DT_RELRSZ, size))),
    ):
        locate(with_data(without_sections, content, *tags), seconds=2)


def test_segments_that_lie_over_each_other(small: bytes) -> None:
    """Each look through the file would be a thousand looks."""
    count = 1100
    table = struct.pack("<IIQQQQQQ", PT_LOAD, 5, 0, 0, 0, 1 << 40, 1 << 40, 4096) * count
    image = changed(small, (32, "Q", len(small)), (E_PHNUM, "H", count)) + table
    locate(image + bytes(1 << 20))
    shifted = b"".join(
        struct.pack("<IIQQQQQQ", PT_LOAD, 5, n, n << 20, 0, 1 << 20, 1 << 20, 4096) for n in range(count)
    )
    locate(changed(small, (32, "Q", len(small)), (E_PHNUM, "H", count)) + shifted + bytes(1 << 20))


def test_texts_without_number(small: bytes) -> None:
    """What is looked for, a hundred thousand times."""
    for text in (b"SSL_read\0", b"crypto/tls.(*Conn).Write\0", b"ssl_write_internal\0", b"ssl_lib.cc\0",
                 b"\xff Go buildinf:\x08\2", b"\xf1\xff\xff\xff\0\0\1\x08", b"\0003.8.1\0"):  # fmt: skip
        locate(with_data(small, text * 100_000), seconds=3)


def test_a_go_program_that_repeats_itself() -> None:
    program = GoImage([x86_function(name) for name in TLS_NAMES * 3000])
    (answer,) = locate(program.build(), "x86_64")
    assert isinstance(answer, NotReachable)
    for position_independent in (False, True):  # each table's header looks right, and points to the first
        program = GoImage(position_independent=position_independent)
        image = program.build()
        table = image.index(b"\xf1\xff\xff\xff\0\0\1\x08")
        decoys = (image[table : table + 72] + bytes(24)) * 10_000
        where = len(image) + -len(image) % 4096
        headers = program_headers(image)[PT_LOAD]
        longer = changed(image, (headers[1] + 32, "Q", 1 << 20), (headers[1] + 40, "Q", 1 << 20))
        assert len(locate(longer.ljust(where, b"\0") + decoys, "x86_64")) == 1


@pytest.mark.parametrize("machine", [2, 3, 8, 20, 21, 40, 183, 243, 0xFFFF])
def test_foreign_machines(small: bytes, machine: int) -> None:
    with pytest.raises(LibraryError, match="made for"):
        Image(
            changed(small, (18, "H", machine)), path="file", machine="x86_64" if machine == 183 else MACHINE
        )


def test_foreign_classes(small: bytes) -> None:
    for at, value in ((4, 1), (4, 0), (4, 0xFF), (5, 2), (5, 0)):
        with pytest.raises(LibraryError, match="64-bit"):
            Image(changed(small, (at, "B", value)), path="file", machine=MACHINE)


@pytest.mark.parametrize(
    "data", [b"", b"\x7f", b"\x7fELF", b"#!/bin/sh\n", b"\x7fELF" * 1000, bytes(1 << 16)]
)
def test_what_is_no_elf_file(data: bytes) -> None:
    with pytest.raises(LibraryError):
        Image(data, path="file", machine=MACHINE)


PLACES = st.lists(
    st.tuples(st.integers(0, 1 << 20), st.sampled_from([1, 2, 4, 8]), st.integers(0, (1 << 64) - 1))
)


def mutated(image: bytes, changes: list[tuple[int, int, int]], near: list[int]) -> bytes:
    """Some numbers replaced; every other one where it matters most."""
    copy = bytearray(image)
    for number, (place, size, value) in enumerate(changes):
        at = place % (len(image) - size) if number % 2 else near[place % len(near)]
        copy[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "little")
    return bytes(copy)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=PLACES, sections=st.booleans())
def test_mutations(
    small: bytes, without_sections: bytes, changes: list[tuple[int, int, int]], sections: bool
) -> None:
    image = small if sections else without_sections
    headers = [
        at + field for places in program_headers(image).values() for at in places for field in (0, 8, 16, 32)
    ]
    near = [*range(16, 64), *headers, *dynamic_entries(image).values()]
    locate(mutated(image, changes, near))


@settings(max_examples=300)
@given(changes=PLACES, position_independent=st.booleans())
def test_mutations_of_a_go_program(changes: list[tuple[int, int, int]], position_independent: bool) -> None:
    program = GoImage(position_independent=position_independent)
    image = program.build()
    table = image.index(b"\xf1\xff\xff\xff\0\0\1\x08")
    data = image.index(struct.pack("<Q", program.base + table)) if not position_independent else table
    near = [*range(table, table + 72), *range(table + 72, table + 600, 4), *range(data, data + 192, 8)]
    locate(mutated(image, changes, near), "x86_64")
