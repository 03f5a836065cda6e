"""Where GnuTLS is to be probed, held against readelf."""

from __future__ import annotations

import ctypes.util
import os
import subprocess
from pathlib import Path

import pytest

from libagenttracer.locators import gnutls
from libagenttracer.locators.base import Found
from libagenttracer.locators.elf import Image

from ..support import file_offsets

MACHINE = os.uname().machine
ROLES = (
    "gnutls_record_send", "gnutls_record_send2", "gnutls_record_send_early_data", "gnutls_record_recv",
    "gnutls_record_recv_seq", "gnutls_record_recv_early_data", "gnutls_record_recv_packet",
    "gnutls_record_uncork", "gnutls_handshake", "gnutls_init", "gnutls_deinit",
)  # fmt: skip


def locate(path: Path) -> Found | None:
    return gnutls.locate(Image(path.read_bytes(), path=str(path), machine=MACHINE))


def compile_library(folder: Path, source: str) -> Path:
    (folder / "source.c").write_text(source)
    library = folder / "library.so"
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, folder / "source.c"], check=True)
    return library


@pytest.fixture(scope="module")
def system_library() -> Path:
    found = [path for path in Path("/usr/lib").glob("*/libgnutls.so.30*") if not path.is_symlink()]
    if not found:
        pytest.skip("no GnuTLS here")
    return found[0]


def test_the_systems_library(system_library: Path) -> None:
    expected = file_offsets(system_library)
    answer = locate(system_library)
    assert answer is not None
    assert (answer.stack, answer.method, answer.confidence) == ("gnutls", "symbols", "certain")
    points = {(point.function, point.offset) for point in answer.points}
    wanted = {(name, expected[name]) for name in ROLES if name in expected}
    assert points == wanted | {("gnutls_record_send", expected["gnutls_record_send_range"])}
    assert len(points) == len(answer.points)
    loaded = ctypes.CDLL(str(system_library)).gnutls_check_version
    loaded.restype = ctypes.c_char_p
    assert answer.version == loaded(None).decode()


def test_a_stripped_copy_under_another_name(system_library: Path, tmp_path: Path) -> None:
    copy = tmp_path / "lib-5a6f.so"
    subprocess.run(["objcopy", "--strip-all", system_library, copy], check=True)
    before, after = locate(system_library), locate(copy)
    assert before is not None
    assert after is not None
    assert [role for role, _ in after.points] == [role for role, _ in before.points]


def test_an_old_or_reduced_version(tmp_path: Path) -> None:
    names = ("gnutls_record_send", "gnutls_record_recv", "gnutls_init")
    library = compile_library(tmp_path, "".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
    answer = locate(library)
    assert answer is not None
    offsets = file_offsets(library)
    assert set(answer.points) == {(name, offsets[name]) for name in names}
    assert answer.version == ""


def test_what_only_uses_it(tmp_path: Path) -> None:
    assert (
        locate(
            compile_library(
                tmp_path, "int gnutls_record_send(void); int f(void) { return gnutls_record_send(); }"
            )
        )
        is None
    )
    assert locate(compile_library(tmp_path, "int gnutls_record_send(void) { return 1; }")) is None, "one half"
    assert locate(compile_library(tmp_path, "int gnutls_record_send, gnutls_record_recv;")) is None, (
        "no functions"
    )


def test_versions_that_contradict_each_other(tmp_path: Path) -> None:
    functions = "int gnutls_record_send(void) { return 1; }\nint gnutls_record_recv(void) { return 2; }\n"
    for texts, version in (
        ("3.8.1", "3.8.1"),
        ("3.8.1\\0003.7.9", ""),
        ("3.8.1\\0003.8.1", "3.8.1"),
        ("3.8", ""),
    ):
        source = f'{functions}const char texts[] = "\\000{texts}";\n'
        answer = locate(compile_library(tmp_path, source))
        assert answer is not None
        assert answer.version == version, texts
