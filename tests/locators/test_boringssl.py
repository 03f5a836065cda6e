"""BoringSSL without symbols, held against the symbols of the same program; and what is too much alike."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from libagenttracer.errors import LibraryError
from libagenttracer.locators import boringssl, locate_all, openssl
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image

from .c_programs import BORINGSSL, build, offsets
from .images import wiped

pytestmark = pytest.mark.skipif(os.uname().machine != "x86_64", reason="it is found in x86-64 code only")

BUILDS = {
    "fast": ["-O2"],
    "fastest": ["-O3", "-fPIE", "-pie"],
    "small": ["-Os"],
    "fixed": ["-O2", "-no-pie", "-fno-pie"],
    "plain": ["-O1", "-fno-omit-frame-pointer"],
    "checked": ["-O2", "-fcf-protection", "-fstack-protector-all"],
    "whole": ["-O2", "-fno-plt", "-fno-semantic-interposition", "-fvisibility=hidden"],
    "clang": ["clang", "-O2"],
    "clang small": ["clang", "-Oz", "-no-pie", "-fno-pie"],
}


def located(image: Image) -> Found:
    found = boringssl.locate(image)
    assert isinstance(found, Found), found
    return found


def roles(found: Found) -> dict[str, int]:
    assert len({point.function for point in found.points}) == len(found.points)
    return {point.function: point.offset for point in found.points}


@pytest.mark.parametrize("unwinding", [True, False], ids=["unwinding", "no unwinding"])
@pytest.mark.parametrize("name", BUILDS)
def test_builds_without_symbols(name: str, unwinding: bool, tmp_path: Path) -> None:
    options = BUILDS[name]
    if options[0] == "clang" and not shutil.which("clang"):
        pytest.skip("there is no clang")
    image = build(tmp_path, BORINGSSL, options)
    expected = offsets(image, "SSL_read", "SSL_write", "SSL_do_handshake")
    found = located(wiped(image, unwinding=unwinding))
    assert roles(found) == expected
    assert (found.stack, found.method, found.confidence, found.notes) == (
        "boringssl",
        "error calls",
        "certain",
        (),
    )
    assert openssl.locate(wiped(image, unwinding=unwinding)) is None


def test_with_symbols_it_is_not_taken_for_openssl(tmp_path: Path) -> None:
    image = build(tmp_path, BORINGSSL)
    found = located(image)
    assert found.method == "symbols"
    assert roles(found) == offsets(image, "SSL_read", "SSL_write", "SSL_do_handshake")
    assert openssl.locate(image) is None


def test_openssl_is_not_taken_for_boringssl(system_libssl: Path) -> None:
    image = Image(system_libssl.read_bytes(), path="libssl.so.3", machine=os.uname().machine)
    assert boringssl.locate(image) is None
    assert boringssl.locate(wiped(image)) is None


def test_two_that_could_be_it_are_not_probed(tmp_path: Path) -> None:
    image = build(tmp_path, BORINGSSL, ["-O2", "-DTWICE"])
    answer = boringssl.locate(wiped(image))
    assert isinstance(answer, NotReachable)
    assert "more than one" in answer.reason
    assert answer.advice


def test_other_lines_make_it_less_certain(tmp_path: Path) -> None:
    image = build(tmp_path, BORINGSSL.replace("#line 977", "#line 979"))
    found = located(wiped(image))
    assert found.confidence == "likely"
    assert roles(found) == offsets(image, "SSL_read", "SSL_write", "SSL_do_handshake")


def test_reading_is_left_out_where_it_cannot_be_told_from_peeking(tmp_path: Path) -> None:
    source = BORINGSSL.replace("ssl->size -= done;", "").replace(
        "ssl->pending = (char *)ssl->pending + done;", "ssl_run(ssl);"
    )
    found = located(wiped(build(tmp_path, source)))
    assert "SSL_read" not in roles(found)
    assert "only what is sent" in found.notes[0]


def test_a_part_that_the_compiler_put_elsewhere_is_not_probed(tmp_path: Path) -> None:
    """All errors of SSL_write are reported in such a part then, which is no function."""
    image = build(tmp_path, BORINGSSL, ["-O2", "-DERROR_ATTRIBUTE=__attribute__((cold))"])
    answer = boringssl.locate(wiped(image))
    if isinstance(answer, Found):  # the compiler did not do it
        assert roles(answer).items() <= offsets(image, "SSL_read", "SSL_write", "SSL_do_handshake").items()
    else:
        assert isinstance(answer, NotReachable)


def test_a_file_name_alone_is_nothing(tmp_path: Path) -> None:
    source = 'const char *name = "../ssl/ssl_lib.cc"; const char *get(void) { return name; }'
    assert boringssl.locate(wiped(build(tmp_path, source))) is None


def test_another_machine_is_reported(tmp_path: Path) -> None:
    data = bytearray(wiped(build(tmp_path, BORINGSSL)).data)
    data[18] = 183
    answer = boringssl.locate(Image(bytes(data), path="x", machine="aarch64"))
    assert isinstance(answer, NotReachable)
    assert "aarch64" in answer.reason


def test_all_locators_together(tmp_path: Path) -> None:
    image = wiped(build(tmp_path, BORINGSSL))
    assert locate_all(image) == [boringssl.locate(image)]


def test_without_capstone_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    image = wiped(build(tmp_path, BORINGSSL))
    with pytest.raises(LibraryError, match="pip install capstone"):
        boringssl.locate(image)
    (answer,) = locate_all(image)
    assert isinstance(answer, NotReachable)
    assert (answer.stack, answer.advice) == ("boringssl", "install capstone: pip install capstone")
