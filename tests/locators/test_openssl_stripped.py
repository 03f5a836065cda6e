"""OpenSSL 3 without symbols, held against the symbols of the same program; and what does not fit together."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from libagenttracer.locators import boringssl, openssl
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image

from .c_programs import OPENSSL, build, offsets
from .corpus import compare
from .images import wiped

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="it is found in x86-64 code only")

OLD = ['-DVERSION="3.0.17"', "-DFLAGS=0"]
NEW = ['-DVERSION="3.5.4"', "-DFLAGS=1"]
BUILDS = {
    "fast": ["-O2"],
    "fastest": ["-O3", "-fPIE", "-pie"],
    "small": ["-Os"],
    "fixed": ["-O2", "-no-pie", "-fno-pie"],
    "checked": ["-O2", "-fcf-protection", "-fstack-protector-all"],
    "clang": ["clang", "-O2"],
}


def located(image: Image) -> tuple[Found, set[tuple[str, int]]]:
    found = openssl.locate(image)
    assert isinstance(found, Found), found
    assert len({point.offset for point in found.points}) == len(found.points)
    return found, {(point.function, point.offset) for point in found.points}


def compiled(folder: Path, *options: str) -> Image:
    compiler = [options[0]] if options[0] == "clang" else []
    if compiler and not shutil.which("clang"):
        pytest.skip("there is no clang")
    return build(folder, OPENSSL, [*compiler, *options[len(compiler) :]])


@pytest.mark.parametrize("version", [OLD, NEW], ids=["before flags", "with flags"])
@pytest.mark.parametrize("name", BUILDS)
def test_the_functions_that_do_the_work(name: str, version: list[str], tmp_path: Path) -> None:
    image = compiled(tmp_path, *BUILDS[name], *version, "-DINLINE=0")
    at = offsets(image, "ssl_read_internal", "ssl_write_internal", "SSL_do_handshake")
    found, points = located(wiped(image))
    write = "SSL_write_ex2" if version is NEW else "SSL_write_ex"
    assert points == {
        ("SSL_read_ex", at["ssl_read_internal"]),
        (write, at["ssl_write_internal"]),
        ("SSL_do_handshake", at["SSL_do_handshake"]),
    }, "SSL_write and the others call these; who only says a name does not count"
    assert (found.stack, found.method, found.version) == (
        "openssl",
        "function names in strings",
        version[0].split('"')[1],
    )
    assert boringssl.locate(wiped(image)) is None


@pytest.mark.parametrize("version", [OLD, NEW], ids=["before flags", "with flags"])
@pytest.mark.parametrize("name", BUILDS)
def test_functions_that_these_are_a_part_of(name: str, version: list[str], tmp_path: Path) -> None:
    image = compiled(tmp_path, *BUILDS[name], *version, "-DINLINE=1")
    names = ["SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex", "SSL_do_handshake"]
    if version is NEW:
        names.append("SSL_write_ex2")
    _, points = located(wiped(image))
    assert points == {(name, offset) for name, offset in offsets(image, *names).items()}


def test_the_systems_library_without_its_symbols(system_libssl: Path) -> None:
    image = Image(system_libssl.read_bytes(), path=str(system_libssl), machine=os.uname().machine)
    answer, wrong = compare(image)
    assert isinstance(answer, Found)
    assert not wrong
    assert {"SSL_read_ex", "SSL_do_handshake"} <= {point.function for point in answer.points}


def test_objcopy_takes_no_more_than_wiping_does(tmp_path: Path) -> None:
    image = compiled(tmp_path, "-O2", *NEW, "-DINLINE=0")
    stripped = tmp_path / "stripped"
    subprocess.run(["objcopy", "--strip-all", image.path, stripped], check=True)
    bare = Image(stripped.read_bytes(), path="stripped", machine=os.uname().machine)
    assert located(bare)[1] == located(wiped(image))[1]


@pytest.mark.parametrize(("version", "flags"), [("3.0.17", 1), ("3.6.0", 0)])
def test_arguments_that_do_not_go_with_the_version(version: str, flags: int, tmp_path: Path) -> None:
    image = compiled(tmp_path, "-O2", f'-DVERSION="{version}"', f"-DFLAGS={flags}", "-DINLINE=0")
    answer = openssl.locate(wiped(image))
    assert isinstance(answer, NotReachable)
    assert f"OpenSSL {version}" in answer.reason


def test_without_unwinding_information_it_is_not_probed(tmp_path: Path) -> None:
    """A function that ends with a call that does not return seems to go on in the next one."""
    image = compiled(tmp_path, "-O2", *NEW, "-DINLINE=0")
    answer = openssl.locate(wiped(image, unwinding=False))
    assert isinstance(answer, NotReachable)
    assert "unwinding" in answer.reason


def test_half_of_it_is_not_probed(tmp_path: Path) -> None:
    source = OPENSSL.replace("s->method(s, buf, num, readbytes)", "0").replace(
        "{ RAISE(276); return -1; }", "", 1
    )
    image = build(tmp_path, source, ["-O2", *NEW, "-DINLINE=0"])
    answer = openssl.locate(wiped(image))
    assert isinstance(answer, NotReachable)
    assert "read" in answer.reason


def test_names_that_nothing_reports_errors_with(tmp_path: Path) -> None:
    source = (
        'int say(const char *); int f(void) { return say("ssl_write_internal") + say("ssl_read_internal"); }'
        "int SSL_do_handshake(void) { return f(); }"
    )
    assert openssl.locate(wiped(build(tmp_path, source))) is None


def test_openssl_1_is_reported(tmp_path: Path) -> None:
    source = (
        'const char version[] = "OpenSSL 1.1.1w  11 Sep 2023";\nvoid ERR_put_error();\n'
        'int SSL_do_handshake(void) { ERR_put_error(20, 208, 271, "ssl/ssl_lib.c", 1); return 0; }'
    )
    answer = openssl.locate(wiped(build(tmp_path, source)))
    assert isinstance(answer, NotReachable)
    assert "1.1.1w" in answer.reason


def test_another_machine_is_reported(tmp_path: Path) -> None:
    data = bytearray(wiped(compiled(tmp_path, "-O2", *NEW, "-DINLINE=0")).data)
    data[18] = 183
    answer = openssl.locate(Image(bytes(data), path="x", machine="aarch64"))
    assert isinstance(answer, NotReachable)
    assert "aarch64" in answer.reason
