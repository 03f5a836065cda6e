"""The layout of ELF files, held against readelf and pyelftools; and files that lie."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
from pathlib import Path

import pytest
from elftools.dwarf.callframe import FDE
from elftools.elf.elffile import ELFFile

from libagenttracer.errors import LibraryError
from libagenttracer.locators.elf import Image
from libagenttracer.locators.elf_tables import find_all

from ..support import file_offsets, time_limit
from .images import minimal, wiped
from .test_openssl import damaged, regions

MACHINE = os.uname().machine
RELATIVE = {"x86_64": 8, "aarch64": 1027}[MACHINE]
SOURCE = """
const char *texts[] = {"first", "second", "third"};
int twice(int n) { return 2 * n; }
int (*functions[100])(int) = {twice, 0, twice, [70] = twice, [99] = twice};
int main(int argc, char **argv) { return functions[argc](argc) + (int)(long)texts[argc]; }
"""


def image_of(path: Path) -> Image:
    return Image(path.read_bytes(), path=str(path), machine=MACHINE)


@pytest.fixture(scope="module")
def system(system_libssl: Path) -> Image:
    return image_of(system_libssl)


def compiled(folder: Path, *options: str) -> Path:
    (folder / "main.c").write_text(SOURCE)
    output = folder / "program"
    subprocess.run(["gcc", "-O1", "-w", *options, "-o", output, folder / "main.c"], check=True)
    return output


def readelf(*arguments: str | Path) -> str:
    return subprocess.run(["readelf", "-W", *arguments], capture_output=True, text=True, check=True).stdout


def test_sections_and_segments(system: Image) -> None:
    with Path(system.path).open("rb") as file:
        elf = ELFFile(file)
        sections = {
            section.name: (section["sh_addr"], section["sh_offset"], section["sh_size"])
            for section in elf.iter_sections()
        }
        loads = [segment.header for segment in elf.iter_segments("PT_LOAD")]
    sections.pop("")
    assert {name: tuple(section[1:4]) for name, section in system.sections.items()} == sections
    assert [(item.address, item.offset, item.file_bytes) for item in system.segments] == [
        (load.p_vaddr, load.p_offset, load.p_filesz) for load in loads
    ]
    assert [item.executable for item in system.segments] == [bool(load.p_flags & 1) for load in loads]
    assert [item.writable for item in system.segments] == [bool(load.p_flags & 2) for load in loads]


def test_build_id_and_names(system: Image) -> None:
    match = re.search(r"Build ID: ([0-9a-f]+)", readelf("-n", system.path))
    assert match
    assert system.build_id == match[1]
    dynamic = readelf("-d", system.path)
    assert f"Library soname: [{system.soname}]" in dynamic
    assert list(system.needed) == re.findall(r"Shared library: \[(.*)\]", dynamic)
    assert not system.is_executable
    assert system.position_independent


@pytest.mark.parametrize(
    ("options", "is_executable", "moves"),
    [
        (["-no-pie"], True, False),
        (["-pie", "-fPIE"], True, True),
        (["-static-pie", "-fPIE"], True, True),
        (["-shared", "-fPIC"], False, True),
    ],
)
def test_what_is_a_program(options: list[str], is_executable: bool, moves: bool, tmp_path: Path) -> None:
    image = image_of(compiled(tmp_path, *options))
    assert (image.is_executable, image.position_independent) == (is_executable, moves)


def test_addresses_and_offsets(system: Image) -> None:
    for segment in system.segments:
        for inside in (0, segment.file_bytes - 1):
            assert system.offset_of(segment.address + inside) == segment.offset + inside
            assert system.address_of(segment.offset + inside) is not None
        expected = segment.offset if segment.executable else None
        assert system.code_offset_of(segment.address) == expected
    end = max(segment.address + segment.file_bytes for segment in system.segments)
    assert system.offset_of(end) is None
    assert system.address_of(len(system.data)) is None
    assert system.read(end, 5) == b""
    assert system.read(system.segments[0].address, 4) == b"\x7fELF"
    last = system.segments[0].address + system.segments[0].file_bytes - 1
    assert len(system.read(last, 100)) == 1


def test_symbols_without_a_section_table(system_libssl: Path, system: Image) -> None:
    """Then the hash tables of the dynamic segment tell how many there are."""
    data = bytearray(system.data)
    struct.pack_into("<Q", data, 40, 0)
    struct.pack_into("<HH", data, 60, 0, 0)
    bare = Image(bytes(data), path="x", machine=MACHINE)
    assert not bare.sections
    expected = file_offsets(system_libssl)
    found = bare.symbols(expected)
    assert {name: bare.offset_of(address) for name, address in found.items()} == expected


def test_symbols_with_versions(tmp_path: Path) -> None:
    (tmp_path / "v.c").write_text(
        'int old(void) { return 1; }\nint new(void) { return 2; }\n__asm__(".symver old,work@ONE");\n'
        '__asm__(".symver new,work@@TWO");\nint value = 3;\n'
    )
    (tmp_path / "v.map").write_text("ONE { global: work; value; };\nTWO { global: work; } ONE;\n")
    output = tmp_path / "libv.so"
    command = ["gcc", "-O1", "-fPIC", "-shared", f"-Wl,--version-script={tmp_path / 'v.map'}"]
    subprocess.run([*command, "-o", output, tmp_path / "v.c"], check=True)
    image = image_of(output)
    found = image.symbols(["work", "wor", "ork", "value"])
    assert found.keys() == {"work"}, "a part of a name is none, and data is no function"


def test_the_end_of_a_name_can_be_a_name(tmp_path: Path) -> None:
    """The linker keeps "read" as the end of "SSL_read"."""
    (tmp_path / "n.c").write_text("int my_SSL_read(void) { return 1; }\nint SSL_read(void) { return 2; }\n")
    output = tmp_path / "libn.so"
    subprocess.run(["gcc", "-O1", "-fPIC", "-shared", "-o", output, tmp_path / "n.c"], check=True)
    image = image_of(output)
    found = image.symbols(["SSL_read", "my_SSL_read"])
    assert {name: image.offset_of(address) for name, address in found.items()} == {
        name: file_offsets(output)[name] for name in found
    }
    assert len(set(found.values())) == 2


def test_functions_are_where_the_unwinding_table_has_them(system: Image) -> None:
    with Path(system.path).open("rb") as file:
        elf = ELFFile(file)
        entries = [item for item in elf.get_dwarf_info().EH_CFI_entries() if isinstance(item, FDE)]
        ranges = {
            item.header["initial_location"]: item.header["initial_location"] + item.header["address_range"]
            for item in entries
        }
    assert list(system.function_starts()) == sorted(ranges)
    for begin, end in random.Random(5).sample(sorted(ranges.items()), 200):
        assert system.function_at(begin) == system.function_at(end - 1) == (begin, end)
        assert system.function_at(end) != (begin, end)
    assert system.function_at(0) is None
    assert not wiped(system, unwinding=False).function_starts()


@pytest.mark.parametrize("option", ["-Wl,-z,nopack-relative-relocs", "-Wl,-z,pack-relative-relocs"])
def test_pointers_that_move(option: str, tmp_path: Path) -> None:
    image = image_of(compiled(tmp_path, "-pie", "-fPIE", option))
    found = dict(image.relative_relocations())
    addresses = image.symbols(["twice", "main"])
    assert list(found.values()).count(addresses["twice"]) == 4
    texts = {address for text in ("first", "second", "third") for address in image.strings(text)}
    assert texts <= set(found.values())
    listed = re.findall(r"^([0-9a-f]{16}) .*R_\w+_RELATIVE", readelf("-r", image.path), re.MULTILINE)
    if listed:
        assert {int(slot, 16) for slot in listed} <= found.keys()


def test_strings(system: Image) -> None:
    (address,) = system.strings("ssl_write_internal")
    assert system.read(address, 19) == b"ssl_write_internal\0"
    assert address + 4 in system.strings("write_internal"), "the end of a string is one too"
    assert not system.strings("ssl_write_interna")
    assert (address, "ssl_write_internal") in system.strings_ending("te_internal")
    assert not system.strings_ending("no such string anywhere")


@pytest.mark.parametrize("where", [0, 1, (1 << 20) - 3, (1 << 20) - 1, 1 << 20, (3 << 20) - 6])
def test_what_lies_across_pieces_is_found(where: int) -> None:
    data = bytearray(3 << 20)
    data[where : where + 6] = b"needle"
    assert list(find_all(bytes(data), b"needle", 0, len(data))) == [where]
    assert list(find_all(bytes(data), b"needle", where + 1, len(data))) == []
    assert list(find_all(bytes(data), b"needle", 0, where + 5)) == []
    assert list(find_all(b"aaaa", b"aa", 0, 4)) == [0, 1, 2]


def test_where_the_code_is(system: Image) -> None:
    assert system.code() == system.sections[".text"]
    small = minimal(bytes(100))
    assert small.code()[1:4] == (0x400000, 0, 220), "the segment, without a section table"
    data = bytearray(system.data)
    struct.pack_into("<Q", data, 40, len(data) - 1)
    broken = Image(bytes(data), path="x", machine=MACHINE)
    assert broken.sections == {}
    assert broken.code().size_bytes > system.code().size_bytes


@pytest.mark.parametrize(
    ("at", "layout", "value", "text"),
    [
        (16, "<H", 1, "neither a program nor a shared library"),
        (54, "<H", 32, "no program header table"),
        (56, "<H", 0, "no program header table"),
        (56, "<H", 0xFFFF, "no program header table"),
        (32, "<Q", 1 << 62, "nothing of it is loaded"),
        (64 + 4, "<I", 4, "nothing of it is executable"),
        (64 + 8, "<Q", 1 << 40, "nothing of it is loaded"),
        (5, "<B", 2, "big-endian"),
    ],
)
def test_headers_without_which_nothing_can_be_done(at: int, layout: str, value: int, text: str) -> None:
    data = bytearray(minimal(bytes(100)).data)
    struct.pack_into(layout, data, at, value)
    with pytest.raises(LibraryError, match=text):
        Image(bytes(data), path="x", machine="x86_64").code()


def test_segments_that_claim_the_same_bytes_again_and_again() -> None:
    """A thousand segments of the whole file each would be searched a thousand times."""
    count = 1000
    size = 4 << 20
    header = bytearray(minimal(b"").data[:64])
    struct.pack_into("<H", header, 56, count)
    program = struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0, size, size, 0x1000)
    data = bytes(header) + program * count
    with pytest.raises(LibraryError, match="claims to load more"):
        Image(data.ljust(size, b"\0"), path="x", machine="x86_64")


def test_damage_leads_to_one_error_at_most(system: Image) -> None:
    data = bytes(system.data)
    places = regions(data)
    for name in (".dynamic", ".eh_frame_hdr", ".eh_frame", ".rela.dyn", ".relr.dyn", ".gnu.hash"):
        if name in system.sections:
            section = system.sections[name]
            places.append((section.offset, min(section.size_bytes, 600)))
    choice, refused = random.Random(17), 0
    for _ in range(200):
        broken = damaged(data, choice, places)
        try:
            with time_limit(5):
                image = Image(broken, path="x", machine=MACHINE)
                image.symbols(["SSL_read", "SSL_write"])
                image.code()
                ranges = [image.function_at(start) for start in image.function_starts()[:50]]
                assert all(item[0] < item[1] for item in ranges if item)
                assert sum(1 for _ in image.relative_relocations()) < 1 << 23
                image.strings("SSL_read")
        except LibraryError:
            refused += 1
    assert refused < 190
