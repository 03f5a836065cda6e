"""`doctor` on files and processes, and without privileges: what it says, and how it reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from .run import drop_capabilities, run

# a TLS library that no locator knows has at least the labels that keys are derived with
UNKNOWN_TLS = """
#include <stdio.h>
int main(int count, char **words)
{
	static const char *const labels[] = {"c hs traffic", "s hs traffic", "%s"};
	return count > 3 ? puts(labels[count %% 3]) : words == NULL;
}
"""
SLEEPER = "public class Sleeper { public static void main(String[] a) throws Exception {\n" + (
    'System.out.println("ready"); Thread.sleep(60000); } }'
)


def compiled(folder: Path, source: str, *options: str, name: str = "agent") -> Path:
    path = folder / name
    subprocess.run(
        ["gcc", "-s", "-x", "c", "-", "-o", path, *options], input=source, text=True, check=True, cwd=folder
    )
    return path


def doctor_json(*arguments: str | os.PathLike[str], **options: Any) -> tuple[int, dict[str, Any]]:
    done = run("doctor", "--json", "-q", *arguments, **options)
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout)


def subject(*arguments: str | os.PathLike[str]) -> dict[str, Any]:
    """What is said of a single subject; the status agrees."""
    status, report = doctor_json(*arguments)
    (only,) = report["subjects"]
    assert status == (0 if only["traceable"] else 1)
    assert report["ok"] == only["traceable"]
    return dict(only)


@pytest.fixture
def sleeper() -> Iterator[str]:
    with subprocess.Popen(["sleep", "60"]) as process:
        yield str(process.pid)
        process.kill()


# files


def test_a_library(system_libssl: Path) -> None:
    found = subject(system_libssl)
    assert found["verdict"].startswith("can be traced: openssl 3")
    library = next(item for item in found["libraries"] if item["path"] == str(system_libssl))
    (stack,) = library["stacks"]
    assert stack["stack"] == "openssl"
    assert {"SSL_read", "SSL_write"} <= stack["points"].keys()
    assert library["build_id"]


def test_a_program_is_known_by_its_libraries() -> None:
    found = subject("curl")
    assert found["exe"].endswith("/curl")
    assert any("/libssl.so.3" in item["path"] for item in found["libraries"])
    assert found["looked_at"] > 5


def test_the_text_for_a_library(system_libssl: Path) -> None:
    done = run("doctor", system_libssl)
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert lines[0].startswith("libagenttracer ")
    assert any(line.startswith("  yes  can be traced: openssl 3") for line in lines)
    assert any("SSL_read 0x" in line for line in lines)
    assert max(map(len, lines)) <= 80


def test_a_stack_that_cannot_be_located(tmp_path: Path) -> None:
    agent = compiled(tmp_path, UNKNOWN_TLS % "mbedtls", "-static")
    found = subject(agent)
    assert "Mbed TLS" in found["verdict"]
    assert found["verdict"].startswith("cannot be traced: ")
    assert "proxy" in found["advice"][0]
    other = subject(compiled(tmp_path, UNKNOWN_TLS % "frobnicate"))
    assert "no TLS library that is known" in other["verdict"]
    text = run("doctor", agent).stdout
    assert "what to do: send its traffic through a proxy" in text


def test_a_program_without_tls(tmp_path: Path) -> None:
    source = "int main(void) { return 0; }"
    found = subject(compiled(tmp_path, source, "-static"))
    assert found["verdict"] == "no TLS in it: one file was looked at"
    assert found["notes"] == ["it is linked statically: it will load no library at run time"]
    found = subject(compiled(tmp_path, source))
    assert found["verdict"] == "no TLS in it: 2 files were looked at"
    assert "what it loads while it runs" in found["notes"][0]


def changed(content: bytes, at: int, value: int) -> bytes:
    return content[:at] + bytes([value]) + content[at + 1 :]


def test_files_that_are_something_else(tmp_path: Path, system_libssl: Path) -> None:
    true = Path(shutil.which("true") or "/bin/true").read_bytes()
    foreign = 62 if os.uname().machine == "aarch64" else 183  # e_machine
    files = {
        "foreign": changed(true, 18, foreign),
        "narrow": changed(true, 4, 1),  # EI_CLASS
        "cut.so": system_libssl.read_bytes()[:300_000],
        "header": true[:40],
        "text": b"hello\n",
        "empty": b"",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    os.mkfifo(tmp_path / "fifo")
    expected = {
        "foreign": ("made for EM_", "machine of its kind"),
        "narrow": ("only 64-bit", "64-bit build"),
        "cut.so": ("cut short", "install it again"),
        "header": ("cannot be read as an ELF file", "install it again"),
        "text": ("not an ELF file", "give an executable"),
        "empty": ("not an ELF file", "give an executable"),
        "fifo": ("not an ELF file", "give an executable"),
        ".": ("is a directory", "give a file"),
        "missing": ("no such file or directory", "check the path"),
    }
    status, report = doctor_json(*(tmp_path / name for name in expected))
    assert status == 1
    for item, (reason, advice) in zip(report["subjects"], expected.values(), strict=True):
        assert item["verdict"].startswith(f"cannot be told: {reason}"), item
        assert any(advice in text for text in item["advice"]), item
    assert subject("no-such-program-anywhere")["verdict"].endswith("no such command in PATH")


def test_a_script_is_its_interpreter(tmp_path: Path) -> None:
    script = tmp_path / "agent"
    script.write_text("#!/bin/sh\ncurl https://localhost\n")
    script.chmod(0o755)
    found = subject(script)
    assert any("a script, which" in note for note in found["notes"])
    assert any("it runs a shell" in note for note in found["notes"])


def test_needed_libraries_that_are_not_there(tmp_path: Path) -> None:
    compiled(tmp_path, "int gone(void) { return 0; }", "-shared", "-fPIC", name="libgone.so")
    agent = compiled(tmp_path, "int gone(void); int main(void) { return gone(); }", "-L.", "-lgone")
    assert subject(agent)["looked_at"] == 3  # found beside it
    (tmp_path / "libgone.so").unlink()
    assert any("not found, nor looked at: libgone.so" in note for note in subject(agent)["notes"])


def test_names_that_would_drive_a_terminal(tmp_path: Path) -> None:
    name = os.fsdecode(b"\x1b[31m\n  yes  can be traced \xff")
    (tmp_path / name).write_bytes(b"hello")
    done = run("doctor", tmp_path / name)
    assert done.returncode == 1
    assert "\x1b" not in done.stdout
    assert not [line for line in done.stdout.splitlines() if line.startswith("  yes  can")]
    _, report = doctor_json(tmp_path / name)
    assert "\\udcff" in report["subjects"][0]["name"]


# processes


def test_a_process_without_tls(sleeper: str) -> None:
    found = subject("-p", sleeper)
    assert found["comm"] == "sleep"
    assert found["verdict"].startswith("no TLS in what it maps now: ")
    assert "later" in found["notes"][0]


def test_pids_that_are_none() -> None:
    with subprocess.Popen(["true"]) as process:
        process.wait()
    assert subject("-p", str(process.pid))["verdict"] == f"no process with pid {process.pid}"
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        assert subject("-p", str(thread.native_id))["verdict"].endswith("give the process's pid")
    finally:
        stop.set()
        thread.join()


@pytest.mark.skipif(shutil.which("javac") is None, reason="there is no JDK")
def test_java_says_why_and_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "Sleeper.java").write_text(SLEEPER)
    with subprocess.Popen(["java", "Sleeper.java"], cwd=tmp_path, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            done = run("doctor", "-p", str(process.pid))
        finally:
            process.kill()
    assert done.returncode == 1
    assert "  NO   cannot be traced: Java's own TLS (JSSE)" in done.stdout
    assert done.stdout.count("what to do: send its traffic through a proxy") == 1
    assert "libjvm.so" in done.stdout


# without privileges, and wrong usage


def test_files_need_no_privileges(system_libssl: Path) -> None:
    done = run("doctor", system_libssl, before=drop_capabilities)
    assert done.returncode == 0
    assert "CAP_" not in done.stdout


def test_without_privileges_it_says_what_is_missing(sleeper: str) -> None:
    done = run("doctor", before=drop_capabilities)
    assert done.returncode == 1
    assert done.stdout.splitlines()[1] == "TLS cannot be traced from here."
    assert "  NO   CAP_BPF: missing" in done.stdout
    assert "could not be tried: CAP_BPF, CAP_PERFMON missing" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80
    done = run("doctor", "-p", sleeper, "--", "true", before=drop_capabilities)
    assert done.returncode == 1
    assert "it was not run: load track: needs CAP_BPF" in " ".join(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "0"], "0 is not in the range"),
        (["--for", "1"], "--for goes with -p"),
        (["--for", "1", "/bin/sh"], "--for goes with -p"),
        (["--as", "nobody"], "--as goes with -- COMMAND"),
        (["--"], "there is no command after --"),
        (["--frobnicate"], "No such option"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str) -> None:
    done = run("doctor", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stdout == ""
