"""Struct types read from an object's BTF."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
from elftools.elf.elffile import ELFFile

from libagenttracer.binding.btf import Member, struct_members
from libagenttracer.errors import ObjectError

from ..support import Target, time_limit


def test_all_shapes_of_members(bpf_bytes: Callable[[str], bytes]) -> None:
    assert struct_members(bpf_bytes("shapes"))["shapes"] == [
        Member("byte", 0, 1, False),
        Member("word", 4, 4, False),  # behind const and volatile
        Member("first", 8, 2, False),  # nested structs are flattened
        Member("second", 12, 12, False),  # behind a typedef
        Member("pointer", 24, 8, False),
        Member("either", 32, 8, False),  # a union is one place
        Member("color", 40, 4, False),
        Member("text", 44, 7, False),
        Member("table", 56, 48, False),
        Member("tail", 104, 0, True),
    ]


def test_nested_structs_are_listed_too(bpf_bytes: Callable[[str], bytes]) -> None:
    structs = struct_members(bpf_bytes("shapes"))
    assert [(member.name, member.offset) for member in structs["inner"]] == [("first", 0), ("second", 4)]
    assert "" not in structs


@pytest.mark.parametrize("data", [b"", b"no ELF file", b"\x7fELF", b"\x7fELF" + bytes(100)])
def test_what_is_no_elf_file(data: bytes) -> None:
    with pytest.raises(ObjectError, match="read BTF"):
        struct_members(data)


def test_an_elf_file_without_btf(target: Target) -> None:
    with pytest.raises(ObjectError, match=r"no \.BTF section"):
        struct_members(target.path.read_bytes())


def test_a_damaged_object_raises_one_error_only(bpf_bytes: Callable[[str], bytes]) -> None:
    """Every word of the types becomes several numbers: sizes, kinds, references to itself, …"""
    whole = bpf_bytes("shapes")
    section = ELFFile(io.BytesIO(whole)).get_section_by_name(".BTF")
    assert section is not None
    begin = section["sh_offset"]
    refused = 0
    for at in range(begin, begin + 400, 4):
        for word in [*range(0, 24, 2), 0xFFFFFFFF]:
            damaged = whole[:at] + word.to_bytes(4, "little") + whole[at + 4 :]
            try:
                with time_limit(2):
                    struct_members(damaged)
            except ObjectError:
                refused += 1
    assert refused > 100, "nothing was damaged: this test looks at the wrong bytes"


def test_a_cut_off_object_raises_one_error_only(bpf_bytes: Callable[[str], bytes]) -> None:
    whole = bpf_bytes("shapes")
    for length in range(0, len(whole) - 1, 37):
        with pytest.raises(ObjectError):
            struct_members(whole[:length])
