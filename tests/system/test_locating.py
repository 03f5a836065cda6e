"""A quick look settles most images; the rest goes to a worker that can do no harm."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libagenttracer.errors import LibraryError
from libagenttracer.locators import INSTALL_CAPSTONE, Found, NotReachable
from libagenttracer.system import locate_worker, locating
from libagenttracer.system.images import open_image
from libagenttracer.system.locate_cache import LocateCache, content_digest
from libagenttracer.system.locate_worker import deep_locate
from libagenttracer.system.locating import Look, look_deep, look_quick
from libagenttracer.system.places import interpreter_of, program_files, system_libraries

from ..locators.c_programs import BORINGSSL, build
from ..locators.images import wiped
from ..support import file_offsets
from .build import tls_library, tls_program
from .tracing import until


def look(path: Path | str) -> Look:
    with open_image(os.path.realpath(path)) as image:
        return look_quick(image)


def test_a_library_with_symbols(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    seen = look(library)
    (found,) = seen.results
    assert isinstance(found, Found)
    offsets = file_offsets(library)
    assert {point.function: point.offset for point in found.points} == {
        name: offsets[name] for name in ("SSL_read", "SSL_write")
    }
    assert not seen.unsettled
    assert len(seen.build_id) == 40


def test_what_has_nothing_to_do_with_tls_is_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locating, "locate_all", lambda image: pytest.fail("searched"))
    libraries = [path for path in Path("/usr/lib").glob("*-linux-gnu*/lib[mz].so.*") if not path.is_symlink()]
    assert len(libraries) >= 2
    for path in (*libraries, Path("/bin/true")):
        seen = look(path)
        assert (seen.results, seen.unsettled, seen.loader) == ((), False, None)


def test_stripped_and_large_files_are_left_to_a_worker(tmp_path: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    raw = program.read_bytes()
    for name, content in {
        "stripped": raw.replace(b"SSL_read\0", b"SSL_r\0ad\0").replace(b"SSL_write\0", b"SSL_w\0ite\0")
        + b"ssl_write_internal\0",
        "large": raw + bytes(locating.LARGE_BYTES),
        "only one": raw.replace(b"SSL_read\0", b"SSL_r\0ad\0") + b"ssl_lib.cc\0",
        "rust": raw + b"/rustls-0.23/src/lib.rs",
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert look(path) == Look(build_id=look(program).build_id, unsettled=True)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"#!/bin/sh\n", "not an ELF file"),
        (b"\x7fELF", "cannot be read"),
        (b"\x7fELF\1\1\1" + bytes(200), "only 64-bit"),
        (b"\x7fELF" + b"\xff" * 5000, "only 64-bit"),
    ],
)
def test_what_is_no_image_of_this_machine(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(LibraryError, match=reason):
        look(tmp_path / "file")


def test_dynamic_loaders_are_known() -> None:
    interpreter = interpreter_of(sys.executable)
    assert interpreter is not None
    loader = look(interpreter).loader
    assert loader is not None
    assert loader.offset == file_offsets(Path(os.path.realpath(interpreter)))["_dl_debug_state"]
    assert loader.cookie
    assert os.path.realpath(interpreter) in system_libraries()


def test_the_system_libraries() -> None:
    names = {os.path.basename(path) for path in system_libraries()}
    assert any(name.startswith("libssl.so.") for name in names)
    assert not any(name.startswith(("libsslcommon", "libldap")) for name in names)


def test_what_a_command_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, through_env, loop = tmp_path / "script", tmp_path / "through-env", tmp_path / "loop"
    script.write_text(f"#!{sys.executable} -I\n")
    through_env.write_text("#!/usr/bin/env -S A=1 script\n")
    loop.write_text(f"#!{loop}\n")
    for path in (script, through_env, loop):
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    python = os.path.realpath(sys.executable)
    interpreter = interpreter_of(python)
    assert interpreter is not None
    loader = os.path.realpath(interpreter)
    assert program_files("script") == [str(script), python, loader]
    assert program_files("through-env") == [str(through_env), str(script), python, loader]
    assert program_files(str(loop)) == [str(loop)]
    assert program_files("no-such-command") == []


def test_the_worker_gives_what_the_locators_find(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    with open_image(str(library)) as image:
        digest, results = deep_locate(image)
        assert digest == content_digest(image)
        assert tuple(results) == look_quick(image).results


def test_a_second_search_is_answered_from_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = LocateCache(tmp_path / "cache")
    with open_image(str(tls_library(tmp_path))) as image:
        first = look_deep(image, cache)
        monkeypatch.setattr(locating, "deep_locate", None)
        assert look_deep(image, cache) == first
    assert isinstance(first[0], Found)


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="it is searched for in x86-64 code only")
def test_what_is_missing_only_for_want_of_capstone_is_searched_for_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        locate_worker, "_BOOT", "import sys\nsys.modules['capstone'] = None\n" + locate_worker._BOOT
    )
    program = tmp_path / "stripped"
    program.write_bytes(wiped(build(tmp_path, BORINGSSL)).data)
    cache = LocateCache(tmp_path / "cache")
    with open_image(str(program)) as image:
        (missing,) = look_deep(image, cache)
        assert isinstance(missing, NotReachable)
        assert missing.advice == INSTALL_CAPSTONE
        monkeypatch.undo()
        (found,) = look_deep(image, cache)
        assert isinstance(found, Found)
        assert cache.get(content_digest(image), image) == [found]


def test_what_a_worker_says_of_another_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = LocateCache(tmp_path / "cache")
    with open_image(str(tls_library(tmp_path))) as image:
        digest, results = deep_locate(image)
        monkeypatch.setattr(locating, "deep_locate", lambda *_, **__: ("0" * 64, results))
        assert look_deep(image, cache) == tuple(results)
        assert cache.get("0" * 64, image) is None
        assert cache.get(digest, image) is None


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("time.sleep(60)", "took longer than 1 s"),
        ("os.kill(os.getpid(), 11)", "ended with status -11"),
        ("raise ValueError('nonsense')", "nonsense"),
        ("[bytearray(1 << 30) for _ in range(9)]", "too much memory|MemoryError"),
        ("print('[]')", "no sensible answer"),
        ("print('x' * 2000000)", "no sensible answer|too large"),
        ("[os.write(1, bytes(1 << 16)) for _ in range(64)]", "too large"),
        ("os.fork()", "unavailable"),
        ("os.setuid(0)", "PermissionError|not permitted"),
        ("open('/etc/shadow')", "PermissionError|denied"),
        ("os.execvp('sudo', ['sudo', '-n', 'id'])", "."),
    ],
)
def test_a_worker_that_goes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, reason: str
) -> None:
    """Whatever the bytes of a file may make of it."""
    boot = f"""
import sys
sys.path[:] = sys.argv[3:]
import os, time, libagenttracer.locators as locators
from libagenttracer.system.locate_worker import main
def locate_all(image):
    {body}
    return []
locators.locate_all = locate_all
sys.exit(main())
"""
    monkeypatch.setattr(locate_worker, "_BOOT", boot)
    with open_image(str(tls_library(tmp_path))) as image:
        began_s = time.monotonic()
        with pytest.raises(LibraryError, match=reason):
            deep_locate(image, time_limit_s=1 if "sleep" in body else 30)
        assert time.monotonic() - began_s < 20


def test_the_worker_does_not_outlive_the_tracer(tmp_path: Path) -> None:
    tracer = f"""
import sys
from libagenttracer.system import locate_worker
from libagenttracer.system.images import open_image
locate_worker._BOOT = locate_worker._BOOT.replace("sys.exit", '''
import time, libagenttracer.locators as locators
def locate_all(image):
    print("searching", file=sys.stderr, flush=True)
    time.sleep(60)
locators.locate_all = locate_all
sys.exit''')
with open_image({str(tls_library(tmp_path))!r}) as image:
    locate_worker.deep_locate(image, started=lambda worker: print(worker.pid, flush=True))
"""
    with subprocess.Popen([sys.executable, "-c", tracer], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        worker = int(process.stdout.readline())
        complaints = Path(f"/proc/{worker}/fd/2")
        until(lambda: b"searching" in complaints.read_bytes())
        process.kill()
    until(lambda: not is_running(worker))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_worker_runs_nothing_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "libagenttracer"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise SystemExit(9)")
    (tmp_path / "struct.py").write_text("raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    with open_image(str(tls_library(tmp_path))) as image:
        assert len(deep_locate(image)[1]) == 1


def test_hundreds_of_ordinary_libraries_cost_little() -> None:
    """Milliseconds each, most of it for reading them."""
    folder = Path(
        subprocess.check_output([sys.executable, "-c", "import _json; print(_json.__file__)"], text=True)
    )
    modules = sorted(folder.parent.glob("*.so"))
    assert len(modules) > 20
    before_s = time.process_time()
    for path in modules:
        seen = look(path)
        assert (seen.results, seen.unsettled) == ((), False), path
    assert (time.process_time() - before_s) / len(modules) < 0.02
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < 2 << 20  # KiB
