"""ring's ciphers below rustls: small images with constants and functions of the same shape."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.errors import DisassemblerMissing, LibraryError
from libagenttracer.locators import ring
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image
from libagenttracer.locators.ring_arguments import ArgumentReader, Arguments

from ..support import file_offsets, time_limit
from .images import wiped

MACHINE = os.uname().machine
SOURCE = Path(__file__).with_name("ring.c")
pytestmark = pytest.mark.skipif(MACHINE != "x86_64", reason="the code of another machine")
Build = Callable[..., Image]


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles the source; as a library, unless it is to be a program."""

    def compile_source(*options: str) -> Image:
        program = {"-static", "-no-pie", "-pie"} & set(options)
        kind = ["-DPROGRAM"] if program else ["-shared", "-fPIC"]
        output = tmp_path / "output"
        command = ["gcc", "-O2", "-fvisibility=hidden", *kind, *options, "-o", str(output), str(SOURCE)]
        subprocess.run(command, check=True)
        return Image(output.read_bytes(), path=str(output), machine=MACHINE)

    return compile_source


def truth(image: Image) -> set[tuple[str, int]]:
    roles = {"seal": "ring_seal", "open": "ring_open"}
    offsets = file_offsets(Path(image.path)).items()
    own = re.compile(r"(?:aes|chacha)_\d_(seal|open)")
    return {(roles[match[1]], offset) for name, offset in offsets if (match := own.fullmatch(name))}


def points(answer: Found | NotReachable | None) -> set[tuple[str, int]]:
    assert isinstance(answer, Found), answer
    assert (answer.stack, answer.confidence) == ("ring", "certain")
    assert len(set(answer.points)) == len(answer.points)
    return set(answer.points)


def refused(answer: Found | NotReachable | None) -> str:
    assert isinstance(answer, NotReachable), answer
    assert answer.stack == "ring"
    return answer.reason


@pytest.mark.parametrize(
    "options",
    [
        ["-O2"],
        ["-Os"],
        ["-O3", "-march=x86-64-v3"],
        ["-O1", "-fno-omit-frame-pointer"],
        ["-O2", "-mstackrealign", "-mno-red-zone"],
        ["-no-pie"],
        ["-pie"],
        ["-static"],
        ["-O2", "-DLIMIT"],
        ["-static", "-DLIMIT"],
        ["-O2", "-DCOPIES=2"],
        ["-O2", "-DNO_CHACHA"],
    ],
    ids=" ".join,
)
def test_without_symbols(build: Build, options: list[str]) -> None:
    image = build(*options)
    answer = ring.locate(wiped(image))
    expected = truth(image)
    assert len(expected) == (8 if "-DCOPIES=2" in options else 4)
    if "-DNO_CHACHA" in options:
        names = file_offsets(Path(image.path))
        expected = {("ring_seal", names["aes_1_seal"]), ("ring_open", names["aes_1_open"])}
    assert points(answer) == expected
    assert isinstance(answer, Found)
    assert (answer.method, answer.version) == ("cipher descriptions", "0.17.8")


def test_without_unwinding_information(build: Build) -> None:
    image = build("-fno-asynchronous-unwind-tables")
    assert points(ring.locate(wiped(image, unwinding=False))) == truth(image)


def test_packed_relocations(build: Build) -> None:
    try:
        image = build("-Wl,-z,pack-relative-relocs")
    except subprocess.CalledProcessError:
        pytest.skip("this linker does not pack relocations")
    assert points(ring.locate(wiped(image))) == truth(image)


def test_without_rustls(build: Build) -> None:
    assert ring.locate(build("-DNO_RUSTLS")) is None


@pytest.mark.parametrize("option", ["-DKEY_FIRST", "-DSWAPPED", "-O0"])
def test_other_calling_conventions_are_refused(build: Build, option: str) -> None:
    assert refused(ring.locate(build(option))) == "its functions do not take their arguments as expected"


def test_other_constants_are_refused(build: Build) -> None:
    assert refused(ring.locate(build("-DNO_AES_256"))).startswith("the constants that describe its ciphers")


def test_rustls_without_ring(build: Build) -> None:
    data = build("-DNO_AES_256").data
    assert isinstance(data, bytes)
    without = data.replace(b"/ring-0.17.8/", b"/sing-0.17.8/")
    assert ring.locate(Image(without, path="x", machine=MACHINE)) is None


def test_too_many_are_refused(build: Build) -> None:
    assert refused(ring.locate(build("-DCOPIES=6"))).startswith("too many constants")


def test_another_machine(build: Build) -> None:
    data = bytearray(build().data)
    data[18] = 183  # e_machine: EM_AARCH64
    assert refused(ring.locate(Image(bytes(data), path="x", machine="aarch64"))).endswith("not aarch64")


def test_without_the_disassembler(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    image, other = build(), build("-DNO_RUSTLS")
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(DisassemblerMissing, match="pip install capstone"):
        ring.locate(image)
    assert ring.locate(other) is None, "it is not needed there"


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("cmp dword ptr [rsi], 5; jne 1f; mov rax, [rsp + 8]; 1: ret", ("rsi", {1})),
        ("push rbx; sub rsp, 16; cmp qword ptr [rsi], 0; mov rax, [rsp + 32]; ret", ("rsi", {1})),
        (
            "push rbx; cmp dword ptr [rsi], 5; push [rsp + 24]; push [rsp + 24]; call 1f; 1: ret",
            ("rsi", {1, 2}),
        ),
        (
            "push rbp; mov rbp, rsp; and rsp, -64; test byte ptr [rsi], 1; add rdx, [rbp + 24]; ret",
            ("rsi", {2}),
        ),
        ("enter 16, 0; leave; mov rax, [rdi]; ret", ("", set())),
        ("mov rsi, rdi; cmp dword ptr [rsi], 5; ret", ("rdi", set())),
        ("cmp dword ptr [rdi], 5; lea rax, [rsp + 8]; mov [rsp + 8], rax; ret", ("rdi", set())),
        ("cmp dword ptr [rsi + 8], 5; ret", ("", set())),
        ("mov rax, rsi; mov rsi, rdx; cmp dword ptr [rax], 5; ret", ("rsi", set())),
        ("mov esi, edx; cmp dword ptr [rsi], 5; ret", ("", set())),
        ("cmp dword ptr [rsi], 5; call 1f; nop; mov rax, [rsp + 8]; 1: ret", ("rsi", set())),
        ("1: cmp dword ptr [rsi], 5; push rax; jmp 1b", ("rsi", set())),
        ("mov rsp, rdi; mov rax, [rsp + 8]; cmp dword ptr [rsi], 5; ret", ("", set())),
        ("cmp dword ptr [rsi], 5; lea rsp, [rsp - 8]; mov rax, [rsp + 16]; ud2", ("rsi", {1})),
    ],
)
def test_arguments(tmp_path: Path, code: str, expected: tuple[str, set[int]]) -> None:
    source = f".intel_syntax noprefix\n.globl f\n.type f, @function\nf: {code}\n.size f, . - f\n"
    (tmp_path / "f.s").write_text(source)
    command = ["gcc", "-shared", "-nostdlib", "-o", str(tmp_path / "f.so"), str(tmp_path / "f.s")]
    subprocess.run(command, check=True)
    image = Image((tmp_path / "f.so").read_bytes(), path="f.so", machine=MACHINE)
    found = ArgumentReader(image, ()).arguments(image.symbols(["f"])["f"])
    assert found == Arguments(expected[0], frozenset(expected[1]))


def test_damaged_images(build: Build) -> None:
    image = build("-DLIMIT")
    whole, choice = bytes(image.data), random.Random(5)
    begin = struct.unpack_from("<Q", whole, 40)[0]
    found = 0
    for _ in range(400):
        damaged = bytearray(whole)
        for _ in range(choice.randint(1, 40)):
            damaged[choice.randrange(64, begin)] = choice.choice((0, 0xFF, 0xE9, choice.randrange(256)))
        with time_limit(5):
            try:
                answer = ring.locate(Image(bytes(damaged), path="x", machine=MACHINE))
            except LibraryError:
                continue
        if isinstance(answer, Found):
            found += 1
            assert all(0 < point.offset < len(whole) for point in answer.points)
    assert found
