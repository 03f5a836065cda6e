"""Go's crypto/tls in programs with and without symbols: made ones, and real ones if there is a compiler."""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.locators import go
from libagenttracer.locators.base import Found, NotReachable, ProbePoint
from libagenttracer.locators.elf import Image

from ..support import ROOT
from .go_image import TLS_NAMES, Function, GoImage, arm_function, x86_function

WRITE, READ, CLOSE = TLS_NAMES
MACHINES = ("x86_64", "aarch64")
SOURCE = """
package main

import (
    "crypto/tls"
    "os"
)

func main() {
    c, err := tls.Dial("tcp", os.Args[1], &tls.Config{InsecureSkipVerify: true})
    if err != nil {
        panic(err)
    }
    var b [64]byte
    c.Write([]byte("x"))
    c.Read(b[:])
    c.Close()
}
"""


def locate(image: bytes, machine: str = "x86_64") -> Found | NotReachable | None:
    return go.locate(Image(image, path="program", machine=machine))


def found(image: bytes, machine: str = "x86_64") -> Found:
    answer = locate(image, machine)
    assert isinstance(answer, Found), answer
    assert len(set(answer.points)) == len(answer.points)
    return answer


def reason(program: GoImage) -> str:
    answer = locate(program.build(), program.machine)
    assert isinstance(answer, NotReachable), answer
    assert answer.stack == "go"
    return answer.reason


def expected(program: GoImage, check_bytes: int, returns: tuple[int, ...]) -> tuple[ProbePoint, ...]:
    """Where the points are, with the functions as `go_image` makes them by default."""
    write, read, close = (program.text - program.base + entry for entry in program.entries[1:4])
    read_returns = [ProbePoint("go_tls_read_return", read + at) for at in returns]
    return (
        ProbePoint("go_tls_write", write + check_bytes),
        ProbePoint("go_tls_read", read + check_bytes),
        *read_returns,
        ProbePoint("go_tls_close", close + check_bytes),
    )


@pytest.mark.parametrize("position_independent", [False, True])
@pytest.mark.parametrize(
    ("since", "version"), [((1, 16), "go1.17"), ((1, 18), "go1.18"), ((1, 20), "go1.27.3")]
)
def test_each_format(since: tuple[int, int], version: str, position_independent: bool) -> None:
    program = GoImage(since=since, version=version, position_independent=position_independent)
    answer = found(program.build())
    assert answer.points == expected(program, 6, (27, 34))
    assert (answer.stack, answer.version, answer.confidence) == ("go", version, "certain")


@pytest.mark.parametrize("position_independent", [False, True])
@pytest.mark.parametrize("since", [(1, 18), (1, 20)])
def test_each_format_on_arm(since: tuple[int, int], position_independent: bool) -> None:
    program = GoImage(machine="aarch64", since=since, position_independent=position_independent)
    assert found(program.build(), "aarch64").points == expected(program, 12, (20,))


@pytest.mark.parametrize(
    "check",
    [
        b"\x49\x3b\x66\x10",
        b"\x4c\x8d\x64\x24\x80\x4d\x3b\x66\x10",
        b"\x4c\x8d\xa4\x24\0\xf0\xff\xff\x4d\x3b\x66\x10",
        b"\x49\x89\xe4\x49\x81\xec\0\0\1\0\x72\x20\x4d\x3b\x66\x10",
        b"\x49\x89\xe4\x49\x81\xec\0\0\1\0\x0f\x82\x20\0\0\0\x4d\x3b\x66\x10",
    ],
)
@pytest.mark.parametrize("far", [False, True])
def test_checks_of_the_stack(check: bytes, far: bool) -> None:
    program = GoImage([x86_function(name, check, far=far) for name in TLS_NAMES])
    size = len(check) + (6 if far else 2)
    assert found(program.build()).points == expected(program, size, (size + 21, size + 28))


def test_checks_of_the_stack_on_arm() -> None:
    program = GoImage([arm_function(name, large=True) for name in TLS_NAMES], machine="aarch64")
    assert found(program.build(), "aarch64").points == expected(program, 16, (24,))


def test_the_linker_leaves_out_what_is_not_called() -> None:
    program = GoImage([x86_function(WRITE), x86_function(READ)])
    assert {point.function for point in found(program.build()).points} == {
        "go_tls_write", "go_tls_read", "go_tls_read_return",
    }  # fmt: skip


def test_what_is_no_program_with_tls() -> None:
    assert locate(GoImage([x86_function("main.main"), x86_function(READ)]).build()) is None
    assert locate(GoImage([x86_function("main.main"), x86_function(WRITE + "2")]).build()) is None
    # a program that only names the function, as this one does
    other = bytearray(GoImage([x86_function("main.main" + "x" * 40)]).build())
    at = other.index(b"main.main")
    other[at - 1 : at + len(WRITE) + 1] = b"_" + WRITE.encode() + b"\0"
    assert locate(bytes(other)) is None


def test_versions_that_pass_arguments_on_the_stack() -> None:
    advice = "build the program with a current version of Go"
    old = GoImage(since=(1, 16), version="go1.16.15")
    assert reason(old) == "built with go1.16.15, which passes arguments on the stack"
    assert locate(old.build()) == NotReachable("go", reason(old), advice)
    assert "go1.17.1, which passes" in reason(GoImage(machine="aarch64", since=(1, 16), version="go1.17.1"))
    assert "on the stack" in reason(GoImage(since=(1, 16), version="")), "1.16 and 1.17 look alike"
    assert "on the stack" in reason(GoImage(since=(1, 18), version="go1.18 X:noregabi"))
    oldest = (
        GoImage(since=(1, 16), version="").build().replace(b"\xfa\xff\xff\xff\0\0", b"\xfb\xff\xff\xff\0\0")
    )
    answer = locate(oldest)
    assert isinstance(answer, NotReachable)
    assert answer.reason == "built with Go before 1.16, which passes arguments on the stack"


def test_without_a_version_the_format_tells_enough() -> None:
    assert found(GoImage(since=(1, 18), version="").build()).version == ""
    assert found(GoImage(version="devel go1.30-abcdef").build()).version == "devel go1.30-abcdef"
    assert found(GoImage(version="\x1b[31m").build()).version == ""


def test_a_version_behind_pointers() -> None:
    """As Go before 1.18 stated it."""
    program = GoImage(since=(1, 16), version="")
    image = bytearray(program.build())
    at = image.index(b"\xff Go buildinf:")
    base = program.base
    image[at + 15] = 0
    image[at + 16 : at + 32] = struct.pack("<QQ", base + at + 48, 0)
    image[at + 48 : at + 80] = struct.pack("<QQ", base + at + 64, 6) + b"go1.17".ljust(16, b"\0")
    assert found(bytes(image)).version == "go1.17"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (0, 0),
        (8, 0x400000),
        (16, 1 << 40),
        (80, 0x401000),
        (128, 0x400010),
        (136, 1),
        (160, 1),
        (176, 0x400040),
    ],
)
def test_module_data_that_disagree_with_the_table(field: int, value: int) -> None:
    program = GoImage()
    program.module = lambda fields: fields.update({field: value})
    assert reason(program) == "the function table that go1.22.3 made cannot be read"


def test_a_count_that_is_not_credible() -> None:
    for count in (0, 1 << 22, 1 << 40, 2**64 - 2):
        program = GoImage()
        program.count = count
        assert "cannot be read" in reason(program)


def test_an_ambiguous_table() -> None:
    assert "2 times" in reason(GoImage([x86_function(name) for name in (*TLS_NAMES, READ)]))
    assert "0 times" in reason(GoImage([x86_function(name) for name in (WRITE, CLOSE)]))


@pytest.mark.parametrize(
    "code",
    [
        b"\x55\x48\x89\xe5\xc3",
        b"\x49\x3b\x66\x10\x76\x7f" + b"\x90" * 10,  # jumps out of it
        b"\x49\x3b\x66\x10\x76\xf0" + b"\x90" * 20,  # jumps back
        b"\x49\x3b\x66\x18\x76\x04" + b"\x90" * 20,
        b"\x49\x3b\x66\x10\x76",
        b"\x49",
    ],
)
def test_code_that_is_not_as_expected(code: bytes) -> None:
    strange = Function(WRITE, code, ((len(code), 0),))
    program = GoImage([strange, x86_function(READ)])
    assert reason(program) == f"the beginning of {WRITE} is not as expected"


def test_a_function_of_which_it_is_unclear_where_it_returns() -> None:
    read = x86_function(READ)
    for code in (read.code.replace(b"\xc3", b"\x90"), read.code.replace(b"\xc3", b"\x90", 1)):
        program = GoImage([x86_function(WRITE), Function(READ, code, read.depths)])
        assert reason(program) == f"the end of {READ} was not found"


# --- real programs ----------------------------------------------------------------------------------------


def toolchain() -> str:
    places = [
        shutil.which("go"),
        *map(str, sorted(Path("/usr/lib").glob("go-*/bin/go"))),
        str(ROOT / "build/clients/venv/bin/go"),
    ]
    return next((place for place in places if place and os.access(place, os.X_OK)), "")


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    compiler = toolchain()
    if not compiler:
        pytest.skip("there is no Go compiler")
    folder = tmp_path_factory.mktemp("go")
    (folder / "main.go").write_text(SOURCE)
    (folder / "go.mod").write_text("module program\n\ngo 1.17\n")

    def run(*options: str, architecture: str = "amd64", cgo: bool = False) -> Path:
        output = tmp_path_factory.mktemp("program") / "program"
        environment = os.environ | {
            "GOARCH": architecture, "CGO_ENABLED": str(int(cgo)), "GOFLAGS": "-mod=mod",
            "GOTOOLCHAIN": "local", "GOPROXY": "off", "GOCACHE": str(ROOT / "build/go-cache"),
            "GOPATH": str(folder / "path"),
        }  # fmt: skip
        command = [compiler, "build", *options, "-o", str(output), "."]
        subprocess.run(command, cwd=folder, env=environment, check=True, timeout=500)
        return output

    return run


def check_by_symbols(path: Path, points: tuple[ProbePoint, ...]) -> None:
    """Holds the points against nm's addresses and objdump's instructions."""
    image = Image(path.read_bytes(), path="program", machine="x86_64")
    symbols = subprocess.run(["nm", "-S", path], capture_output=True, text=True, check=True).stdout
    addresses = {
        line.split()[3]: [int(number, 16) for number in line.split()[:2]]
        for line in symbols.splitlines()
        if len(line.split()) == 4
    }
    offsets = {role: [p.offset for p in points if p.function == role] for role, _ in points}
    for name, role in zip(TLS_NAMES, ("go_tls_write", "go_tls_read", "go_tls_close"), strict=True):
        begin, size = addresses[name]
        listing = subprocess.run(
            ["objdump", "-d", f"--start-address={begin}", f"--stop-address={begin + size}", path],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        code = re.findall(r"^ *([0-9a-f]+):\t[0-9a-f ]+\t(\w+)", listing, re.MULTILINE)
        instructions = [(image.offset_of(int(address, 16)), name) for address, name in code]
        after_check = next(n for n, (_, name) in enumerate(instructions) if name == "jbe") + 1
        assert offsets[role] == [instructions[after_check][0]]
        if name == READ:
            returns = [at for at, name in instructions if name == "ret"]
            assert offsets["go_tls_read_return"] == returns


@pytest.mark.parametrize(
    "options",
    [(), ("-buildmode=pie",), ("-buildmode=pie", "-ldflags=-linkmode=external")],
    ids=["plain", "pie", "pie linked by cc"],
)
def test_real_programs(build: Callable[..., Path], options: tuple[str, ...], tmp_path: Path) -> None:
    path = build(*options, cgo="external" in str(options))
    answer = found(path.read_bytes())
    assert re.fullmatch(r"go1\.\d+(\.\d+)?", answer.version)
    check_by_symbols(path, answer.points)
    stripped = tmp_path / "stripped"
    subprocess.run(["objcopy", "--strip-all", path, stripped], check=True)
    assert {point.function for point in found(stripped.read_bytes()).points} == {
        "go_tls_write", "go_tls_read", "go_tls_read_return", "go_tls_close",
    }  # fmt: skip
    without_sections = bytearray(path.read_bytes())
    struct.pack_into("<Q", without_sections, 40, 0)  # e_shoff
    struct.pack_into("<HH", without_sections, 60, 0, 0)  # e_shnum, e_shstrndx
    assert found(bytes(without_sections)) == answer


def test_a_real_program_for_arm(build: Callable[..., Path]) -> None:
    path = build("-trimpath", architecture="arm64")
    image = path.read_bytes()
    points = found(image, "aarch64").points
    words = {
        role: [image[p.offset : p.offset + 4] for p in points if p.function == role] for role, _ in points
    }
    assert set(words["go_tls_read_return"]) == {b"\xc0\x03\x5f\xd6"}
    for point in points:
        if point.function != "go_tls_read_return":
            assert image[point.offset - 1] == 0x54, "a conditional branch stands before it"
    assert len(words) == 4
