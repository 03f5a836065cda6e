"""Where the functions of an OpenSSL library are, held against readelf; and files that are none."""

from __future__ import annotations

import mmap
import os
import random
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.errors import LibraryError
from libagenttracer.locators import Found, ProbePoint, openssl
from libagenttracer.locators.elf import Image
from libagenttracer.locators.openssl import DATA_FUNCTIONS, HANDSHAKE_FUNCTIONS, LIFE_FUNCTIONS

from ..support import file_offsets, time_limit

MACHINE = os.uname().machine
FUNCTIONS = (*DATA_FUNCTIONS, *HANDSHAKE_FUNCTIONS, *LIFE_FUNCTIONS)
SOURCE = """
int SSL_read(void) { return 1; }
int SSL_write(void) { return 2; }
int SSL_new(void) { return 3; }
extern int SSL_connect(void);
int other(void) { return SSL_connect(); }
"""


def locate(image: bytes | mmap.mmap, machine: str = MACHINE) -> list[ProbePoint]:
    """The places to probe; none if it has no OpenSSL in it."""
    found = openssl.locate(Image(image, path="libssl.so", machine=machine))
    return list(found.points) if isinstance(found, Found) else []


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Compiles a small library that looks like OpenSSL."""

    def compile_source(*options: str, source: str = SOURCE) -> Path:
        folder = tmp_path_factory.mktemp("library")
        (folder / "ssl.c").write_text(source)
        output = folder / "libssl.so"
        subprocess.run(
            ["gcc", "-O1", "-fPIC", "-shared", *options, "-o", output, folder / "ssl.c"], check=True
        )
        return output

    return compile_source


@pytest.fixture(scope="module")
def small(build: Callable[..., Path]) -> bytes:
    return build().read_bytes()


def test_the_systems_library_is_read_as_readelf_reads_it(system_libssl: Path) -> None:
    expected = file_offsets(system_libssl)
    found = locate(system_libssl.read_bytes())
    assert {point.function: point.offset for point in found} == {
        name: expected[name] for name in FUNCTIONS if name in expected
    }
    assert {"SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_new", "SSL_do_handshake"} <= {
        point.function for point in found
    }
    assert len({point.function for point in found}) == len(found)


def test_any_functions_are_read_as_readelf_reads_them(system_libssl: Path) -> None:
    expected = file_offsets(system_libssl)
    wanted = random.Random(3).sample(sorted(expected), 50)
    image = Image(system_libssl.read_bytes(), path="x", machine=MACHINE)
    found = {name: image.offset_of(address) for name, address in image.symbols(wanted).items()}
    assert found == {name: expected[name] for name in wanted}


def test_a_mapping_will_do(system_libssl: Path) -> None:
    with (
        system_libssl.open("rb") as file,
        mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as image,
    ):
        assert locate(image) == locate(system_libssl.read_bytes())


def test_a_small_library(small: bytes, build: Callable[..., Path]) -> None:
    path = build()
    offsets = file_offsets(path)
    assert locate(path.read_bytes()) == [
        ProbePoint(name, offsets[name]) for name in ("SSL_read", "SSL_write", "SSL_new")
    ], "SSL_connect is only used there, not defined"


def test_segments_whose_addresses_are_not_their_offsets(build: Callable[..., Path]) -> None:
    path = build("-Wl,-z,max-page-size=0x10000", "-Wl,-Ttext-segment=0x200000", "-Wl,-z,separate-code")
    offsets = file_offsets(path)
    found = {point.function: point.offset for point in locate(path.read_bytes())}
    assert found == {name: offsets[name] for name in found}
    code = path.read_bytes()
    assert all(0 < offset < len(code) for offset in found.values())


def test_a_stripped_library(build: Callable[..., Path]) -> None:
    path = build()
    before = locate(path.read_bytes())
    subprocess.run(["strip", "-s", path], check=True)
    assert locate(path.read_bytes()) == before


def test_a_program_with_openssl_linked_in(build: Callable[..., Path], tmp_path: Path) -> None:
    program = tmp_path / "program"
    (tmp_path / "main.c").write_text("int SSL_connect(void) { return 4; }\nint main(void) { return 0; }\n")
    (tmp_path / "ssl.c").write_text(SOURCE)
    subprocess.run(["gcc", "-o", program, tmp_path / "main.c", tmp_path / "ssl.c"], check=True)
    offsets = file_offsets(program)
    found = {point.function: point.offset for point in locate(program.read_bytes())}
    assert found == {name: offsets[name] for name in ("SSL_read", "SSL_write", "SSL_connect", "SSL_new")}


def test_a_library_without_a_section_table(small: bytes) -> None:
    """Some packers remove it; the loader does not need it either."""
    image = bytearray(small)
    struct.pack_into("<Q", image, 40, 0)  # e_shoff
    struct.pack_into("<HH", image, 60, 0, 0)  # e_shnum, e_shstrndx
    assert {point.function for point in locate(bytes(image))} >= {"SSL_read", "SSL_write", "SSL_new"}
    assert {point.offset for point in locate(bytes(image))} == {point.offset for point in locate(small)}


def test_a_library_that_is_not_openssl(build: Callable[..., Path]) -> None:
    for source in ("int SSL_read(void) { return 1; }\n", "int x;"):
        content = build(source=source).read_bytes()
        assert openssl.locate(Image(content, path="libssl.so", machine=MACHINE)) is None


@pytest.mark.parametrize("image", [b"", b"\x7f", b"\x7fEL", b"#!/bin/sh\n", b"PK\3\4" * 100, bytes(4096)])
def test_what_is_no_elf_file(image: bytes) -> None:
    with pytest.raises(LibraryError, match="not an ELF file"):
        locate(image)


@pytest.mark.parametrize(("machine", "name"), [(183, "AARCH64"), (62, "X86_64"), (8, "MIPS"), (0xFFF0, "")])
def test_a_library_for_another_machine(small: bytes, machine: int, name: str) -> None:
    other = {"EM_X86_64": 62, "EM_AARCH64": 183}
    if other.get({"x86_64": "EM_X86_64", "aarch64": "EM_AARCH64"}[MACHINE]) == machine:
        assert locate(small), "our own"
        return
    image = bytearray(small)
    struct.pack_into("<H", image, 18, machine)
    with pytest.raises(LibraryError, match=f"made for .*{name}.*, this is {MACHINE}"):
        locate(bytes(image))


def test_the_machine_is_an_argument(small: bytes) -> None:
    """Pure: it can look at a library of another machine as well."""
    image = bytearray(small)
    struct.pack_into("<H", image, 18, 183)
    assert locate(bytes(image), machine="aarch64") == locate(small)
    with pytest.raises(LibraryError, match="made for EM_AARCH64"):
        locate(bytes(image), machine="x86_64")


def test_a_32_bit_library(small: bytes) -> None:
    image = bytearray(small)
    image[4] = 1  # EI_CLASS
    with pytest.raises(LibraryError):
        locate(bytes(image))
    header = struct.pack(
        "<4sBBB9xHHIIIIIHHHHHH", b"\x7fELF", 1, 1, 1, 3, 62, 1, 0, 0, 0, 0, 52, 32, 0, 40, 0, 0
    )
    with pytest.raises(LibraryError, match="32"):
        locate(header.ljust(64, b"\0"), machine="x86_64")


def test_a_truncated_library(system_libssl: Path, small: bytes) -> None:
    texts = []
    for whole, step in ((small, 97), (system_libssl.read_bytes(), 60029)):
        for length in range(4, len(whole) - 1, step):
            try:
                with time_limit(10):
                    locate(whole[:length])
            except LibraryError as error:
                texts.append(str(error))
    assert texts
    assert [text for text in texts if not text.startswith("libssl.so: ") or "\n" in text] == []


def damaged(image: bytes, choice: random.Random, regions: list[tuple[int, int]]) -> bytes:
    copy = bytearray(image)
    for _ in range(choice.randint(1, 4)):
        begin, size = choice.choice(regions)
        width = choice.choice([1, 2, 4, 8])
        at = min(begin + choice.randrange(size) // width * width, len(copy) - width)
        value = choice.choice([0, 1, 0xFF, choice.getrandbits(8), choice.getrandbits(64), 2**64 - 1, 2**31])
        copy[at : at + width] = (value & (2 ** (8 * width) - 1)).to_bytes(width, "little")
    return bytes(copy)


def regions(image: bytes) -> list[tuple[int, int]]:
    """File header, program headers, section headers; and the begins of some sections, where tables are."""
    (program_at, section_at) = struct.unpack_from("<QQ", image, 32)
    program_size, program_count, section_size, section_count = struct.unpack_from("<4H", image, 54)
    found = [(4, 60), (program_at, program_size * program_count), (section_at, section_size * section_count)]
    for number in range(section_count):
        kind = struct.unpack_from("<I", image, section_at + number * section_size + 4)[0]
        offset, size = struct.unpack_from("<QQ", image, section_at + number * section_size + 24)
        if kind in (2, 3, 5, 6, 11, 0x6FFFFFF6) and size:  # symbols, strings, hashes, dynamic
            found.append((offset, min(size, 400)))
    return found


@pytest.mark.parametrize(("which", "rounds"), [("small", 1000), ("system", 150)])
def test_damaged_headers_raise_one_error_and_end(
    which: str, rounds: int, small: bytes, system_libssl: Path
) -> None:
    image = small if which == "small" else system_libssl.read_bytes()
    places, choice = regions(image), random.Random(11)
    refused = 0
    for _ in range(rounds):
        broken = damaged(image, choice, places)
        try:
            with time_limit(5):
                points = locate(broken)
        except LibraryError:
            refused += 1
            continue
        refused += not points
        if points:
            roles = {point.function for point in points}
            assert roles & {"SSL_read", "SSL_read_ex"}
            assert roles & {"SSL_write", "SSL_write_ex"}
    assert rounds // 20 < refused < rounds


def test_a_segment_behind_the_end_of_the_file_holds_no_function(small: bytes) -> None:
    (program_at,) = struct.unpack_from("<Q", small, 32)
    program_size, program_count = struct.unpack_from("<2H", small, 54)
    image = bytearray(small)
    for number in range(program_count):
        at = program_at + number * program_size
        if struct.unpack_from("<II", image, at) == (1, 5):  # PT_LOAD, readable and executable
            struct.pack_into("<Q", image, at + 8, 1 << 40)
    assert locate(bytes(image)) == []


def test_a_huge_table_of_nothing_does_not_stop_the_tracer(small: bytes, tmp_path: Path) -> None:
    """Anybody can map a sparse file of this name; who looks for libraries would read zeros for hours."""
    path = tmp_path / "libssl.so"
    image = bytearray(small)
    (section_at,) = struct.unpack_from("<Q", image, 40)
    section_size, section_count = struct.unpack_from("<2H", image, 58)
    for number in range(section_count):
        at = section_at + number * section_size
        if struct.unpack_from("<I", image, at + 4)[0] in (2, 11):  # both symbol tables
            struct.pack_into("<QQ", image, at + 24, 1 << 20, 24 << 30)
    path.write_bytes(image)
    os.truncate(path, 25 << 30)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapping:
        with time_limit(3), pytest.raises(LibraryError):
            locate(mapping)
