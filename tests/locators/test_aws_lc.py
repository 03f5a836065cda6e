"""AWS-LC's ciphers below rustls: small programs of the same shape, with and without symbols."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.errors import DisassemblerMissing
from libagenttracer.locators import aws_lc
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image

from ..support import file_offsets
from .images import wiped

MACHINE = os.uname().machine
SYMBOLS = {
    "aead_seal": "EVP_AEAD_CTX_seal",
    "aead_seal_scatter": "EVP_AEAD_CTX_seal_scatter",
    "aead_open": "EVP_AEAD_CTX_open",
    "aead_open_gather": "EVP_AEAD_CTX_open_gather",
}
x86_64_only = pytest.mark.skipif(MACHINE != "x86_64", reason="the code of another machine")
SOURCE = Path(__file__).with_name("aead.c")
Build = Callable[..., Image]


def locate(image: Image) -> Found | NotReachable | None:
    return aws_lc.locate(image)


@pytest.fixture
def build(tmp_path: Path) -> Build:
    """Compiles the source; as a library, unless it is to be a program."""

    def compile_source(*options: str) -> Image:
        kind = ["-DPROGRAM"] if "-static" in options or "-no-pie" in options else ["-shared", "-fPIC"]
        output = tmp_path / "output"
        command = ["gcc", "-O2", "-fvisibility=hidden", *kind, *options, "-o", str(output), str(SOURCE)]
        subprocess.run(command, check=True)
        return Image(output.read_bytes(), path=str(output), machine=MACHINE)

    return compile_source


def truth(image: Image, prefix: str = "") -> dict[str, int]:
    offsets = file_offsets(Path(image.path))
    return {role: offsets[prefix + name] for role, name in SYMBOLS.items() if prefix + name in offsets}


def points(answer: Found | NotReachable | None) -> dict[str, int]:
    assert isinstance(answer, Found), answer
    assert answer.stack == "aws-lc"
    assert len({point.function for point in answer.points}) == len(answer.points)
    return dict(answer.points)


@x86_64_only
@pytest.mark.parametrize(
    "options",
    [["-O2"], ["-Os"], ["-O3"], ["-O1", "-fno-omit-frame-pointer"], ["-no-pie"], ["-O2", "-static"]],
    ids=" ".join,
)
@pytest.mark.parametrize("unwinding", [True, False])
def test_without_symbols(build: Build, options: list[str], unwinding: bool) -> None:
    image = build(*options)
    expected = truth(image)
    answer = locate(wiped(image, unwinding=unwinding))
    assert isinstance(answer, Found)
    assert (answer.method, answer.version, answer.confidence) == ("error calls", "1.13.1", "certain")
    del expected["aead_open"]  # it calls the other one
    assert points(answer) == expected


def test_by_symbols_with_the_version_in_them(build: Build) -> None:
    image = build("-DPREFIX(name)=aws_lc_0_29_0_##name")
    answer = locate(image)
    assert isinstance(answer, Found)
    assert (answer.method, answer.confidence) == ("symbols", "certain")
    expected = truth(image, "aws_lc_0_29_0_")
    assert len(expected) == 4
    if MACHINE == "x86_64":
        del expected["aead_open"]
    assert points(answer) == expected


@x86_64_only
def test_a_function_that_the_other_one_is_a_part_of(build: Build) -> None:
    image = build("-DONE_FUNCTION")
    assert points(locate(wiped(image))) == truth(image)
    assert set(truth(image)) == {"aead_seal", "aead_seal_scatter", "aead_open"}


@x86_64_only
def test_a_function_that_is_called_by_way_of_the_linkage_table(build: Build) -> None:
    image = build("-fvisibility=default")
    assert points(locate(wiped(image))) == truth(image), "both, as the call's target is not known"


@pytest.mark.parametrize("folder", ["/build/boringssl/src/", "/aws-lc/"])
@pytest.mark.parametrize("symbols", [True, False])
def test_a_copy_that_belongs_to_a_tls_library(build: Build, folder: str, symbols: bool) -> None:
    image = build(f'-DFOLDER="{folder}"', f'-DTLS="{folder}"', "-DNO_RUSTLS")
    assert locate(image if symbols else wiped(image)) is None


@x86_64_only
def test_a_tls_library_of_other_sources_beside_rustls(build: Build) -> None:
    image = build('-DTLS="/build/boringssl/src/"')
    assert points(locate(wiped(image))).keys() == {"aead_seal", "aead_seal_scatter", "aead_open_gather"}
    assert locate(wiped(build('-DTLS="/aws-lc/"'))) is None


@x86_64_only
def test_without_rustls(build: Build) -> None:
    """By its own build it is for Rust; another build of it may be for anything."""
    answer = locate(wiped(build("-DNO_RUSTLS")))
    assert isinstance(answer, Found)
    assert (answer.confidence, answer.version) == ("likely", "")
    assert locate(wiped(build("-DNO_RUSTLS", '-DFOLDER="/build/src/"'))) is None


def test_a_library_of_ciphers_only(build: Build) -> None:
    assert locate(build("-DNO_RUSTLS", '-DFOLDER="/build/src/"')) is None


@x86_64_only
@pytest.mark.parametrize(
    ("option", "reason"),
    [("-DTWICE", "more than one function.* EVP_AEAD_CTX_seal$"), ("-DNO_OPEN", "no functions report")],
)
def test_what_is_not_as_expected_is_refused(build: Build, option: str, reason: str) -> None:
    answer = locate(wiped(build(option)))
    assert isinstance(answer, NotReachable)
    assert answer.stack == "aws-lc"
    assert re.search(reason, answer.reason)


def test_another_machine(build: Build) -> None:
    image = wiped(build())
    data = bytearray(image.data)
    data[18] = 183  # e_machine: EM_AARCH64
    answer = locate(Image(bytes(data), path=image.path, machine="aarch64"))
    assert isinstance(answer, NotReachable)
    assert answer.reason.endswith("not aarch64")


@x86_64_only
def test_without_the_disassembler(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    image = build()
    monkeypatch.setitem(sys.modules, "capstone", None)
    assert points(locate(image)) == truth(image), "both, as it is not known whether one calls the other"
    with pytest.raises(DisassemblerMissing, match="pip install capstone"):
        locate(wiped(image))
