"""Where NSS and NSPR are to be probed, held against readelf; and runtimes with a TLS out of reach."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from libagenttracer.locators import managed, nss
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image

from ..support import file_offsets

MACHINE = os.uname().machine
FILE_FUNCTIONS = ("PR_Read", "PR_Write", "PR_Recv", "PR_Send", "PR_Close")


def image(path: Path) -> Image:
    return Image(path.read_bytes(), path=str(path), machine=MACHINE)


def compile_file(folder: Path, names: tuple[str, ...], *options: str) -> Path:
    (folder / "source.c").write_text("".join(f"int {name}(void) {{ return 1; }}\n" for name in names))
    output = folder / "output"
    subprocess.run(["gcc", "-fPIC", *options, "-o", output, folder / "source.c"], check=True)
    return output


def installed(pattern: str) -> Path:
    found = [path for path in Path("/usr/lib").glob(pattern) if path.is_file()]
    if not found:
        pytest.skip(f"no {pattern} here")
    return found[0].resolve()


def check(path: Path, names: tuple[str, ...]) -> Found:
    offsets = file_offsets(path)
    answer = nss.locate(image(path))
    assert answer is not None
    assert answer.stack == "nss"
    assert answer.points == tuple((name, offsets[name]) for name in names)
    return answer


def test_the_systems_libraries() -> None:
    files = check(installed("*/libnspr4.so"), FILE_FUNCTIONS)
    assert files.version == ""
    assert "only what libssl3 makes TLS of" in files.notes[0]
    tls = check(installed("*/libssl3.so"), ("SSL_ImportFD",))
    assert tls.version.startswith("3.")
    assert "libnspr4" in tls.notes[0]


def test_both_in_one_file(tmp_path: Path) -> None:
    answer = check(
        compile_file(tmp_path, (*FILE_FUNCTIONS, "SSL_ImportFD"), "-shared"),
        (*FILE_FUNCTIONS, "SSL_ImportFD"),
    )
    assert answer.notes == ()


def test_what_is_not_nss(tmp_path: Path) -> None:
    for names in ((), FILE_FUNCTIONS[:4], ("SSL_read", "SSL_write")):
        assert nss.locate(image(compile_file(tmp_path, names, "-shared"))) is None
    part = compile_file(tmp_path, ("SSL_ImportFD", "PR_Read"), "-shared")
    assert check(part, ("SSL_ImportFD",))


@pytest.mark.parametrize(
    ("names", "options", "stack"),
    [
        (("f",), ("-shared", "-Wl,-soname,libjvm.so"), "java"),
        (("JNI_CreateJavaVM",), ("-shared",), "java"),
        (("main", "enif_make_atom", "erl_drv_mutex_create"), ("-Wl,-E",), "erlang"),
        (("f", "enif_make_atom", "erl_drv_mutex_create"), ("-shared",), None),
        (("main", "enif_make_atom"), ("-Wl,-E",), None),
        (("main",), (), None),
        (("f",), ("-shared", "-Wl,-soname,libjava.so"), None),
    ],
)
def test_runtimes(
    names: tuple[str, ...], options: tuple[str, ...], stack: str | None, tmp_path: Path
) -> None:
    answer = managed.locate(image(compile_file(tmp_path, names, *options)))
    assert (answer.stack if answer else None) == stack
    if answer:
        assert "at run time" in answer.reason
        assert "proxy" in answer.advice


def test_what_starts_java(tmp_path: Path) -> None:
    library = tmp_path / "libjli.so"
    compile_file(tmp_path, ("JLI_Launch",), "-shared", "-Wl,-soname,libjli.so").rename(library)
    program = tmp_path / "java"
    (tmp_path / "main.c").write_text("int JLI_Launch(void);\nint main(void) { return JLI_Launch(); }\n")
    subprocess.run(["gcc", "-o", program, tmp_path / "main.c", library], check=True)
    answer = managed.locate(image(program))
    assert isinstance(answer, NotReachable)
    assert answer.stack == "java"


def test_the_systems_java() -> None:
    for pattern in ("jvm/*/lib/server/libjvm.so", "jvm/*/bin/java"):
        answer = managed.locate(image(installed(pattern)))
        assert isinstance(answer, NotReachable)
        assert answer.stack == "java"
    assert managed.locate(image(installed("jvm/*/lib/libjava.so"))) is None
