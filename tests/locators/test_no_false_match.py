"""Programs without TLS: nothing is found in them, nor in their libraries other than those that have it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from libagenttracer.locators import Found, NotReachable

from .survey import elf_files, libraries_of, look, look_apart

PROGRAMS = 200
# the functions that make a library a TLS library, by what is found there
FUNCTIONS = {
    "openssl": {"SSL_read", "SSL_write"},
    "boringssl": {"SSL_read", "SSL_write"},
    "gnutls": {"gnutls_record_send", "gnutls_record_recv"},
}
NSS = ({"PR_Read", "PR_Write"}, {"SSL_ImportFD"})


def output_of(*command: str | Path) -> list[str]:
    """The lines that a program prints; none if it does not understand the file."""
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.splitlines()


def defined(path: Path) -> set[str]:
    return {line.split()[-1].split("@")[0] for line in output_of("nm", "-D", "--defined-only", path)}


def is_right(path: Path, answer: Found | NotReachable) -> bool:
    """By what others say of the file: its symbols, or what a Go or Java program has in it."""
    if answer.stack in FUNCTIONS:
        return FUNCTIONS[answer.stack] <= defined(path)
    if answer.stack == "nss":
        return any(names <= defined(path) for names in NSS)
    if answer.stack == "go":
        data = path.read_bytes()
        return b"\xff Go buildinf:" in data and b"crypto/tls.(*Conn).readRecordOrCCS" in data
    linked = "".join(output_of("readelf", "-d", path))
    return answer.stack == "java" and ("libjli.so" in linked or "JNI_CreateJavaVM" in defined(path))


@pytest.fixture(scope="module")
def programs() -> list[Path]:
    """Small ones and large ones alike, the same each time on the same system."""
    found = elf_files(Path("/usr/bin"))
    return found[:: max(1, len(found) // PROGRAMS)] if len(found) > PROGRAMS else found


def test_programs(programs: list[Path]) -> None:
    assert len(programs) > 50
    found = [(path, answer) for path in programs for answer in look(path).answers]
    assert [(str(path), answer) for path, answer in found if not is_right(path, answer)] == []
    assert len(found) < len(programs) / 10


def test_what_clients_are_made_of() -> None:
    """Not the program is probed but the library that it calls."""
    for name in ("curl", "wget", "ssh", "git", "openssl", "gnutls-cli", "gpg"):
        path = Path("/usr/bin", name)
        if path.exists():
            assert look(path.resolve()).answers == [], name


def test_their_libraries(programs: list[Path]) -> None:
    seen = set()
    for path in libraries_of([*programs, *[path for path in (Path("/usr/bin/curl"),) if path.exists()]]):
        answers = look(path).answers
        assert [answer for answer in answers if not is_right(path, answer)] == [], path
        if FUNCTIONS["openssl"] <= defined(path):
            assert "openssl" in {answer.stack for answer in answers}, path
        if FUNCTIONS["gnutls"] <= defined(path):
            assert "gnutls" in {answer.stack for answer in answers}, path
        seen |= {answer.stack for answer in answers}
    assert seen, "the check should not pass because nothing is ever found"


def test_the_largest_takes_little(programs: list[Path]) -> None:
    largest = max(elf_files(Path("/usr/bin")), key=lambda path: path.stat().st_size)
    found = look_apart(largest)
    assert found.seconds < 30
    assert found.peak_bytes < 300 << 20


def test_a_program_that_only_names_them(tmp_path: Path) -> None:
    """What only names the functions that are looked for, as a tracer does."""
    names = [
        "SSL_read", "SSL_write", "gnutls_record_send", "PR_Read", "SSL_ImportFD", "ssl_write_internal",
        "ssl_read_internal", "../ssl/ssl_lib.cc", "crypto/tls.(*Conn).Write", "JNI_CreateJavaVM", "libjvm.so",
        "x/fipsmodule/cipher/aead.c",
    ]  # fmt: skip
    source = "".join(f'const char name{number}[] = "{name}";\n' for number, name in enumerate(names))
    source += "".join(f"  print(name{number});\n" for number in range(len(names))).join(
        ["#include <stdio.h>\n#define print puts\nint main(void) {\n", "return 0; }\n"]
    )
    (tmp_path / "main.c").write_text(source)
    subprocess.run(["gcc", "-O2", "-o", tmp_path / "main", tmp_path / "main.c"], check=True)
    answers = look(tmp_path / "main").answers
    assert not [answer for answer in answers if isinstance(answer, Found)], "at most it is unclear"
