"""Discovery follows the system: what ran before, what is loaded later, what starts later, and where."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from libagenttracer.errors import AttachError
from libagenttracer.locators import Found
from libagenttracer.runners.filters import Filter
from libagenttracer.system import surveyor
from libagenttracer.system.discovery import Discovery
from libagenttracer.system.images import ImageFile
from libagenttracer.system.seen import SeenImage

from ..support import become_nobody, in_child
from .build import mapper, tls_library, tls_program
from .tracing import Attached, discovering, until


@contextmanager
def looking(
    *pids: int, attach: Callable[[ImageFile, list[Found]], object] | None = None, **options: object
) -> Iterator[tuple[Discovery, Attached]]:
    """Discovery without the kernel's help."""
    attached = Attached()
    discovery = Discovery(attach or attached, lambda: pids, **options)  # type: ignore[arg-type]
    discovery.start()
    try:
        yield discovery, attached
    finally:
        discovery.close()


def seen(discovery: Discovery, path: object) -> SeenImage:
    found = [item for item in discovery.report() if item.path == str(path)]
    assert len(found) == 1, found
    return found[0]


def test_what_a_process_maps_already(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    with mapper(library) as first, mapper(library) as second, looking(first, second) as (discovery, attached):
        assert discovery.settle(10)
        until(lambda: seen(discovery, library).pids == {first, second})
        item = seen(discovery, library)
        assert (item.state, item.reason, len(item.found)) == ("probed", "", 1)
        assert [path for path in attached.calls if "pytest" in path] == [str(library)]
        assert seen(discovery, os.path.realpath(sys.executable)).state == "not probed"


def test_the_same_file_under_other_names_is_probed_once(tmp_path: Path) -> None:
    library, link = tls_library(tmp_path), tmp_path / "link.so"
    with mapper(library) as first, looking(first) as (discovery, attached):
        until(lambda: str(library) in attached.calls)
        os.link(library, link)  # changes its ctime
        with mapper(link) as second:
            discovery.look_at(second)
            until(lambda: seen(discovery, library).pids == {first, second})
        assert [path for path in attached.calls if "pytest" in path] == [str(library)]


def test_what_is_mapped_later_without_the_kernels_help(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    program = f"import ctypes, sys; sys.stdin.readline(); ctypes.CDLL({str(library)!r}); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, text=True) as process:
        with looking(process.pid) as (discovery, attached):
            assert discovery.settle(10)
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
            until(lambda: str(library) in attached.calls)
        process.kill()


def test_a_file_that_is_written_over_loses_its_probes(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    dropped: list[str] = []
    with (
        mapper(library) as pid,
        looking(pid, detach=lambda image: dropped.append(image.path)) as (
            discovery,
            attached,
        ),
    ):
        until(lambda: str(library) in attached.calls)
        time.sleep(0.02)
        library.write_bytes(tls_library(tmp_path, "other").read_bytes())
        discovery.look_at(pid)
        until(lambda: dropped == [str(library)])
        until(lambda: attached.calls.count(str(library)) == 2)


def test_a_deleted_file_is_let_go_when_nobody_maps_it_any_more(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    dropped: list[str] = []

    def detach(image: ImageFile) -> None:
        dropped.append(image.path)

    with ExitStack() as stack:
        pid = stack.enter_context(mapper(library))
        with looking(pid, detach=detach) as (discovery, _):
            assert discovery.settle(10)
            assert seen(discovery, library).state == "probed"
            library.unlink()
            for _again in range(3):
                discovery._surveyor.drop_deleted()
            assert dropped == []  # it is still mapped
            stack.close()
            discovery._surveyor.drop_deleted()
            assert dropped == []  # the first time may be too early
            discovery._surveyor.drop_deleted()
            assert dropped == [str(library)]
            assert seen(discovery, library).state == "not probed"
            open_files = [os.readlink(path) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
            assert not [path for path in open_files if str(library) in path]


def test_reasons(tmp_path: Path) -> None:
    library, garbage = tls_library(tmp_path), tmp_path / "garbage"
    garbage.write_bytes(b"\x7fELF" + bytes(5000))

    def refuse(image: ImageFile, found: list[Found]) -> None:
        raise AttachError("attach uprobe", image.path, 22)

    with mapper(library) as first, mapper(garbage) as second:
        with looking(first, second, attach=refuse) as (discovery, _):
            assert discovery.settle(10)
            until(lambda: "failed: Invalid argument" in seen(discovery, library).reason)
            assert "cannot be read" in seen(discovery, garbage).reason or seen(discovery, garbage).reason
            discovery.look_at_files([str(tmp_path), str(tmp_path / "nothing")])
            until(lambda: len([1 for item in discovery.report() if item.path.startswith(str(tmp_path))]) == 4)
            assert seen(discovery, tmp_path).reason == "is a directory"
            assert seen(discovery, tmp_path / "nothing").reason == "no such file or directory"


def test_an_attach_that_breaks_stops_nothing(tmp_path: Path) -> None:
    first, second = tls_library(tmp_path, "first.so"), tls_library(tmp_path, "second.so")

    def broken(image: ImageFile, found: list[Found]) -> None:
        raise RuntimeError("a bug")

    with looking(attach=broken) as (discovery, _):
        discovery.look_at_files([str(first), str(second)])
        until(lambda: len(discovery.report()) == 2)
        assert discovery.settle(10)
        assert {item.reason for item in discovery.report()} == {"RuntimeError: a bug"}


def test_what_changes_while_it_is_looked_at_is_not_probed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    library = tls_library(tmp_path)
    monkeypatch.setattr(ImageFile, "changed", lambda self: True)
    with looking() as (discovery, attached):
        discovery.look_at_files([str(library)])
        assert discovery.settle(10)
        assert attached.calls == []
        assert "written over" in seen(discovery, library).reason


def test_no_more_searches_wait_than_there_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surveyor, "MAX_WAITING", 2)
    files = [tmp_path / str(number) for number in range(4)]
    for file in files:
        file.write_bytes(tls_library(tmp_path).read_bytes() + b"rustls")
    with looking() as (discovery, attached):
        discovery.look_at_files(map(str, files))
        assert discovery.settle(30)
        reasons = [seen(discovery, file).reason for file in files]
        assert len(attached.calls) == reasons.count("") == 2
        assert set(reasons) == {"", "more than 2 files waited to be searched"}


def test_nothing_is_written_anywhere_after_the_end() -> None:
    with looking() as (discovery, _):
        number = discovery._wake
    event = os.eventfd(0, os.EFD_NONBLOCK)
    try:
        assert event == number, "the number is used again"
        discovery.look_at(os.getpid())
        with pytest.raises(BlockingIOError):
            os.eventfd_read(event)
    finally:
        os.close(event)


def test_processes_that_may_not_be_looked_into_are_reported_once() -> None:
    def look() -> list[tuple[str, str, set[int]]]:
        become_nobody()
        with looking(parent) as (discovery, _):
            time.sleep(2.5)
            return [(item.path, item.reason, item.pids) for item in discovery.report()]

    parent = os.getpid()
    assert in_child(look) == [
        (f"process {parent}", "what it maps cannot be seen: permission denied", {parent})
    ]


def test_nothing_is_left_open(tmp_path: Path) -> None:
    library = tls_library(tmp_path)
    before = set(os.listdir("/proc/self/fd"))
    threads = threading.active_count()
    with mapper(library) as pid, looking(pid) as (discovery, attached):
        until(lambda: str(library) in attached.calls)
        discovery.close()
        discovery.close()
    assert set(os.listdir("/proc/self/fd")) == before
    assert threading.active_count() == threads


@pytest.mark.kernel
def test_a_program_that_starts_later_finds_the_probes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under a filter by name, with a script that leads to the program."""
    program = tls_program(tmp_path, "lat-agent", static=True)
    script = tmp_path / "lat-script"
    script.write_text(f"#!{program}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    names = frozenset({"lat-script"})
    with discovering(filter_=Filter(comms=names)) as run:
        run.discovery.look_at_commands(names)
        assert run.discovery.settle(10)
        assert run.attached.calls == [str(program)]


@pytest.mark.kernel
def test_execs_and_loads_of_wanted_processes_are_told_at_once(tmp_path: Path) -> None:
    """Long before the next look at all processes, and not those of others."""
    program, library = tls_program(tmp_path, "lat-agent", static=True), tls_library(tmp_path)
    other = tls_program(tmp_path, "lat-other", static=True)
    copy = shutil.copy(os.path.realpath(sys.executable), tmp_path / "lat-python")
    code = f"import ctypes, time; time.sleep(.7); ctypes.CDLL({str(library)!r}); time.sleep(.3)"
    environment = {**os.environ, "PYTHONHOME": sys.base_prefix}
    with discovering(filter_=Filter(comms=frozenset({"lat-agent", "lat-python"})), wanted=list) as run:
        for command in (other, program):
            subprocess.run([command, "slowly"], check=True, timeout=10)
        until(lambda: run.seen(program))
        process = subprocess.Popen([copy, "-c", code], env=environment)
        until(lambda: str(library) in run.attached.calls, 3)
        assert process.wait() == 0
        assert run.seen(other) is None


@pytest.mark.kernel
@pytest.mark.parametrize("kind", ["chroot", "mount namespace", "overlay", "musl"])
def test_programs_with_libraries_of_their_own(tmp_path: Path, kind: str) -> None:
    """Each has a dynamic loader of its own, which is found and probed before it loads the library."""
    program = tls_program(tmp_path, "program")
    root = tmp_path / "root"
    root.mkdir()
    library = tmp_path / "program.libs" / "libssl.so.3"
    if kind == "musl":
        if shutil.which("musl-gcc") is None:
            pytest.skip("no musl-gcc here")
        source = "int SSL_read(void*, void*, int); int main(void) { return SSL_read(0, 0, 7) - 7; }"
        own = "int SSL_read(void *a, void *b, int n) { return n; } int SSL_write(void *a) { return 0; }"
        options = ["-x", "c", "-", "-o"]
        subprocess.run(["musl-gcc", "-shared", "-fPIC", *options, library], input=own, text=True, check=True)
        subprocess.run(
            ["musl-gcc", *options, program, "-x", "none", library, f"-Wl,-rpath,{library.parent}"],
            input=source,
            text=True,
            check=True,
        )
        command = f"{program}"
    else:
        libraries = subprocess.check_output(["ldd", program], text=True)
        for word in (str(program), *libraries.split()):
            if word.startswith("/") and os.path.exists(word):
                target = root / word[1:]
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(word), target)
        command = {
            "chroot": f"chroot {root} {program}",
            "mount namespace": f"unshare -m sh -c 'mount --bind {root}/{library} {library}; {program}'",
            "overlay": f"unshare -m sh -c 'cd {tmp_path}; mkdir -p u w m; mount -t overlay -o lowerdir=root,"
            f"upperdir=u,workdir=w none m; chroot m {program}'",
        }[kind]
    held_s = 0.2
    with discovering(["sh", "-c", f"{command}; {command}"], delay_s=held_s) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        assert [path.endswith(str(library)) for path in run.attached.calls] == [True]
        assert run.discovery.notes() == []


@pytest.mark.kernel
def test_known_images_give_no_notices(tmp_path: Path) -> None:
    program = tls_program(tmp_path, "program")
    with discovering(["sh", "-c", f"{program}; cat; {program}"], go=False) as run:
        run.discovery.look_at_files([str(program)])
        notices = run.discovery._notices
        assert notices is not None
        told: list[int] = []
        real = notices.read

        def read() -> list[object]:
            found = real()
            told.extend(1 for _ in found)
            return list(found)

        notices.read = read  # type: ignore[method-assign, assignment]
        assert run.command is not None
        run.command.go()
        assert run.command.wait() == 0
        assert 0 < len(told) < 12  # sh, cat, program, its library, libc once each


@pytest.mark.kernel
def test_a_flood_of_execs(tmp_path: Path) -> None:
    """More new images at once than there is room for notices: each is looked at all the same."""
    program = tls_program(tmp_path, "program", static=True)
    copies = [Path(shutil.copy(program, tmp_path / f"copy{number}")) for number in range(150)]
    script = "; ".join(f"{copy} &" for copy in copies).replace("&;", "&") + " wait"
    with discovering(["sh", "-c", script]) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        assert sum("copy" in path for path in run.attached.calls) == len(copies)


@pytest.mark.kernel
def test_a_stop_by_the_user_is_left_alone(tmp_path: Path) -> None:
    with discovering(["sleep", "30"]) as run:
        assert run.command is not None
        pid = run.command.pid
        time.sleep(1.2)
        os.kill(pid, signal.SIGSTOP)
        time.sleep(1.5)
        assert Path(f"/proc/{pid}/stat").read_text().split()[2] == "T"
