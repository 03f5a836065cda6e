"""References, functions and constants in x86-64 code, held against symbols, objdump and plain search."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from libagenttracer.errors import DisassemblerMissing, LibraryError
from libagenttracer.locators import x86, x86_decode
from libagenttracer.locators.elf import Image
from libagenttracer.locators.x86 import Code
from libagenttracer.locators.x86_refs import data_pointers, immediate_references, relative_references

from .c_programs import BORINGSSL, build
from .images import minimal, wiped

BASE = 0x400000 + 120
LEA, CALL, JUMP, BRANCH = b"\x48\x8d\x3d", b"\xe8", b"\xe9", b"\x0f\x84"
KINDS = {LEA: "lea", CALL: "call", JUMP: "jump", BRANCH: "branch"}
on_x86 = pytest.mark.skipif(os.uname().machine != "x86_64", reason="it compiles for this machine")


def relative(opcode: bytes, at: int, target: int) -> bytes:
    """An instruction at an offset in the code that refers to an address."""
    return opcode + struct.pack("<i", target - (BASE + at + len(opcode) + 4))


@pytest.mark.parametrize("seed", range(4))
def test_references_are_found_wherever_they_are(seed: int) -> None:
    """Across the borders of the windows too, which are 64 KiB."""
    choice = random.Random(seed)
    code = bytearray(b"\x90" * 300_000)
    expected = set()
    target = BASE + choice.choice([0, 1000, 65536, 299_000, -50, 1 << 25])
    borders = [
        border + shift for border in (65536 - 120, 65536, 131072 - 120, 131072) for shift in range(-9, 3)
    ]
    for at in sorted({*choice.sample(borders, 3), *choice.sample(range(100, 299_000, 16), 50), 3, 299_990}):
        opcode = choice.choice(list(KINDS))
        if code[at - 8 : at + 16] == b"\x90" * 24 or at < 8 or at > 299_980:
            code[at : at + len(opcode) + 4] = relative(opcode, at, target)
            expected.add((BASE + at, target, KINDS[opcode]))
    image = minimal(bytes(code))
    assert {tuple(item) for item in relative_references(image, target, target + 1)} == expected
    assert {tuple(item) for item in relative_references(image, target - 70_000, target + 9)} >= expected
    assert not list(relative_references(image, target + 1, target + 2))
    tool = Code(image)
    assert tool.references(target) == sorted(at for at, _, kind in expected if kind == "lea")
    assert tool.callers(target) == sorted(at for at, _, kind in expected if kind != "lea")


def test_constants_at_a_fixed_place() -> None:
    code = bytearray(b"\x90" * 200_000)
    target = 0x00651234
    places = {50: b"\xbf", 70_000: b"\x41\xb8", 150_000: b"\x48\xc7\xc1", 199_000: b"\xb9"}
    for at, opcode in places.items():
        code[at : at + len(opcode) + 4] = opcode + struct.pack("<I", target)
    image = minimal(bytes(code))
    found = list(immediate_references(image, target, target + 1))
    assert [item.address for item in found] == [BASE + at for at in places]
    assert {item.kind for item in found} == {"mov"}
    assert not list(immediate_references(image, target + 1, target + 100))
    assert Code(image).references(target, target + 1) == [BASE + at for at in places]
    moving = minimal(bytes(code), position_independent=True)
    assert not list(immediate_references(moving, target, target + 1))


@on_x86
@pytest.mark.parametrize("options", [["-O2"], ["-O2", "-no-pie", "-fno-pie"]], ids=["moving", "fixed"])
def test_functions_begin_where_their_symbols_are(options: list[str], tmp_path: Path) -> None:
    image = build(tmp_path, BORINGSSL, options)
    names = ["SSL_read", "SSL_write", "SSL_do_handshake", "SSL_key_update", "SSL_peek"]
    symbols = image.symbols(names)
    for unwinding in (True, False):
        code = Code(wiped(image, unwinding=unwinding))
        inside = {start + step: start for start in symbols.values() for step in _instructions(image, start)}
        assert code.function_starts(inside) == inside
        assert code.doubtful_starts(symbols.values()) == set()


def _instructions(image: Image, start: int) -> list[int]:
    """Offsets of a function's instructions from its begin, by objdump."""
    begin, end = image.function_at(start) or (0, 0)
    command = ["objdump", "-d", f"--start-address={begin}", f"--stop-address={end}", image.path]
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    listed = [
        (int(match[1], 16), match[2])
        for line in lines
        if (match := re.match(r" +([0-9a-f]+):\t.*?\t(.*)", line))
    ]
    return [address - start for address, text in listed if "nop" not in text and "xchg" not in text]


@on_x86
def test_pointers_to_functions_count_as_begins(tmp_path: Path) -> None:
    fixed = build(tmp_path, BORINGSSL, ["-O2", "-no-pie", "-fno-pie"])
    address = fixed.symbols(["SSL_peek"])["SSL_peek"]
    assert data_pointers(fixed, address, address + 1) == {address}
    assert data_pointers(fixed, address + 1, address + 2) == set()


CONSTANTS = bytes.fromhex(
    "bf10000000"  # mov edi, 16
    "31f6"  # xor esi, esi
    "6a42"  # push 0x42
    "5a"  # pop rdx
    "4889d1"  # mov rcx, rdx
    "49b88877665544332211"  # movabs r8, 0x1122334455667788
    "4c8d0d10000000"  # lea r9, [rip+16]
    "41bc07000000"  # mov r12d, 7
    "e800000000"  # call the next instruction
    "4489e7"  # mov edi, r12d
    "8bd0"  # mov edx, eax: not known
    "e800000000"
    "c3"
)


def test_constants_are_followed() -> None:
    image = minimal(CONSTANTS)
    walk = Code(image).walk(BASE)
    first, second = (call.arguments for call in walk.calls)
    lea_end = BASE + CONSTANTS.index(b"\x41\xbc")
    assert first == {
        "rdi": 16,
        "rsi": 0,
        "rdx": 0x42,
        "rcx": 0x42,
        "r8": 0x1122334455667788,
        "r9": lea_end + 16,
    }
    assert second == {"rdi": 7}, "what a call may change is not known after it"
    assert walk.complete
    assert walk.returns == [BASE + len(CONSTANTS) - 1]
    assert walk.stores == 0


def test_each_way_to_a_shared_call_counts() -> None:
    code = bytes.fromhex(
        "be01000000"  # mov esi, 1
        "7405"  # je +5
        "be02000000"  # mov esi, 2
        "bf09000000"  # mov edi, 9
        "e800000000"  # call
        "c3"
    )
    walk = Code(minimal(code)).walk(BASE)
    assert sorted(call.arguments["rsi"] for call in walk.calls) == [1, 2]
    assert {call.arguments["rdi"] for call in walk.calls} == {9}


def test_what_is_read_before_it_is_written() -> None:
    reads = Code(minimal(bytes.fromhex("53 4c89c3 4531c0 4c890b 5b c3"))).walk(BASE)
    assert reads.uses("r8")
    assert reads.uses("r9")
    assert not reads.uses("rcx")
    assert reads.stores == 1, "through rbx; the stack does not count"
    writes = Code(minimal(bytes.fromhex("4531c0 4c89c3 c3"))).walk(BASE)
    assert not writes.uses("r8")


def test_endless_code_ends() -> None:
    assert Code(minimal(b"\xeb\xfe")).walk(BASE).complete
    assert Code(minimal(b"\x90" * 100)).walk(BASE).steps.keys() == set(range(BASE, BASE + 100))
    assert not Code(minimal(b"\x90" * 100)).walk(BASE).complete, "it runs over the end"
    assert not Code(minimal(b"\x90" * 100_000)).walk(BASE).complete
    nothing = Code(minimal(b"\x06\x06")).walk(BASE)
    assert nothing.steps == {}
    assert not nothing.uses("rdi")


def test_work_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(x86, "_MAX_SEARCHED_BYTES", 1 << 20)
    monkeypatch.setattr(x86_decode, "_MAX_STEPS", 1000)
    code = Code(minimal(b"\x90" * 300_000))
    for address in range(BASE, BASE + 3):
        assert code.callers(address) == []
    with pytest.raises(LibraryError, match="too long to search"):
        code.callers(BASE + 3)
    with pytest.raises(LibraryError, match="too long to follow"):
        code.walk(BASE)


def test_without_capstone_references_are_found_and_the_rest_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    code = Code(minimal(relative(CALL, 0, BASE + 5) + b"\xc3"))
    assert code.callers(BASE + 5) == [BASE]
    with pytest.raises(DisassemblerMissing, match="pip install capstone"):
        code.walk(BASE)
