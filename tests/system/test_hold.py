"""Launched processes are held until their images have been looked at, and nobody notices."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from libagenttracer.system import hold_watchdog, notices
from libagenttracer.system.hold_watchdog import is_stopped

from ..support import ROOT, time_limit
from .build import tls_library, tls_program
from .tracing import discovering, until

pytestmark = pytest.mark.kernel
DELAY_S = 0.4


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the library notes, in nanoseconds of the monotonic clock, that its code has begun to run."""
    path = tmp_path / "loaded"
    monkeypatch.setenv("LOADED_FILE", str(path))
    return path


def begun_ns(loaded: Path) -> list[int]:
    return [int(line) for line in loaded.read_text().split()]


@pytest.fixture(params=[True, False], ids=["any kernel", "before 5.17"])
def finds_files(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with the program for kernels that cannot tell which file is mapped."""
    if not request.param:
        monkeypatch.setattr(notices, "has_btf_name", lambda name: False)


@pytest.mark.usefixtures("finds_files")
@pytest.mark.parametrize("static", [True, False], ids=["exec of a static program", "library at start"])
def test_no_instruction_before_the_probes(tmp_path: Path, loaded: Path, static: bool) -> None:
    program = tls_program(tmp_path, "program", static=static)
    with discovering(["sh", "-c", f"{program}; exit $?"], delay_s=DELAY_S) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        (attached_ns,) = run.attached.times_ns.values()
        (began_ns,) = begun_ns(loaded)
        assert attached_ns < began_ns < attached_ns + 0.2e9
        assert run.discovery.notes() == []


def test_the_command_itself(tmp_path: Path, loaded: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    with discovering([str(program)], delay_s=DELAY_S) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        assert list(run.attached.times_ns) == [str(program)]
        assert run.attached.times_ns[str(program)] < begun_ns(loaded)[0]


@pytest.mark.usefixtures("finds_files")
def test_no_constructor_of_a_library_loaded_later_before_the_probes(tmp_path: Path, loaded: Path) -> None:
    library = tls_library(tmp_path)
    code = f"import ctypes; ctypes.CDLL({str(library)!r})"
    with discovering([sys.executable, "-c", code], delay_s=DELAY_S) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        assert run.attached.times_ns[str(library)] < begun_ns(loaded)[0]


def test_only_the_first_time(tmp_path: Path, loaded: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    with discovering(["sh", "-c", f"{program}; {program}; {program}"], delay_s=DELAY_S) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        times_ns = begun_ns(loaded)
        assert len(run.attached.calls) == 1
        assert times_ns[2] - times_ns[0] < DELAY_S * 1e9


def test_a_program_written_anew_under_the_same_name_is_held_again(tmp_path: Path, loaded: Path) -> None:
    first, second = (tls_program(tmp_path, name, static=True) for name in ("first", "second"))
    script = f"cp {first} {tmp_path}/tool; {tmp_path}/tool; cp {second} {tmp_path}/tool; {tmp_path}/tool"
    dropped: list[str] = []
    with discovering(
        ["sh", "-c", script], delay_s=DELAY_S, detach=lambda image: dropped.append(image.path)
    ) as run:
        assert run.command is not None
        assert run.command.wait() == 0
        assert run.attached.calls == [f"{tmp_path}/tool"] * 2
        assert dropped == [f"{tmp_path}/tool"]
        assert run.attached.times_ns[f"{tmp_path}/tool"] < begun_ns(loaded)[1]


def test_a_killed_one_is_forgotten(tmp_path: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    with discovering([str(program)], delay_s=1.0) as run:
        assert run.command is not None
        pid = run.command.pid
        until(lambda: is_stopped(pid))
        os.kill(pid, signal.SIGKILL)
        assert run.command.wait() == 128 + signal.SIGKILL
        assert list(run.bpf.maps["held"].items()) == []
        assert list(run.bpf.maps["launched"].items()) == []


def test_others_are_never_held(tmp_path: Path, loaded: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    with discovering(["sleep", "30"], delay_s=DELAY_S) as run:
        assert run.command is not None
        assert subprocess.run([program], check=False, timeout=20).returncode == 0
        assert run.attached.calls == []


def test_it_is_let_go_when_the_search_takes_too_long(tmp_path: Path, loaded: Path) -> None:
    program = tls_program(tmp_path, "program", static=True)
    told: list[str] = []
    # more than is looked at at once: it has to be searched
    os.truncate(program, 9 << 20)
    script = f"read line < {tmp_path / 'fifo'}; exec {program}"
    os.mkfifo(tmp_path / "fifo")
    with discovering(["sh", "-c", script], hold_limit_s=0.5, progress=told.append) as run:
        assert run.command is not None
        pool = run.discovery._surveyor._pool
        busy = [pool.submit(time.sleep, 3) for _ in range(2)]
        (tmp_path / "fifo").write_text("go\n")
        assert run.command.wait() == 0
        assert not any(future.done() for future in busy)
        assert any(f"process {run.command.pid} was let go after" in note for note in run.discovery.notes())
        assert any("was let go" in line for line in told)
        until(lambda: f"looking for TLS in {program} (9 MB)…" in told)
        until(lambda: run.attached.calls == [str(program)])


_SCRIPTS = {
    "bash": "bash -c '{0}; echo $?; {0} & wait $!; echo $?; ({0}); {0} | cat; echo $(({0}) 2>&1)done'",
    "make": "printf 'a: b\\n\\t{0}\\nb:\\n\\t{0}\\n' > {1}/Makefile; make -s -C {1}; echo $?",
    "python": 'python3 -c \'import subprocess, asyncio; print(subprocess.run(["{0}"]).returncode); '
    'print(asyncio.run(asyncio.create_subprocess_exec("{0}")) is not None)\'',
    "node": 'node -e \'require("child_process").spawn("{0}").on("exit", (c, s) => console.log(c, s))\'',
    "timeout": "timeout 20 {0}; echo $?",
    "xargs": "echo 1 2 | xargs -n 1 -P 2 {0}; echo $?",
    "setsid": "setsid -w {0}; echo $?",
    "job control": "bash -m -c '{0}; echo $?; {0} & wait $!; echo $?'",
    "a shell in a terminal": "script -qec 'bash -i -c \"{0}; echo $?; {0}; echo $?\"' /dev/null < /dev/null",
    "script": "script -qec '{0}; {0}' /dev/null < /dev/null; echo $?",
    "strace": "strace -qq -o /dev/null {0}; echo $?",
    "su": "su -s /bin/sh -c {0} nobody; echo $?",
}
# their children run on, which can be over before anybody has looked
_NOT_HELD = {"job control", "a shell in a terminal", "script", "strace", "su"}


@pytest.mark.parametrize("parent", _SCRIPTS)
def test_parents_do_not_notice(parent: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Each gives the output and status that it gives when it is not traced."""
    outputs = []
    for traced in (False, True):
        folder = tmp_path_factory.mktemp("parents")
        for above in (folder, *folder.parents[:2]):
            above.chmod(0o755)
        program = tls_program(folder, "program", static=True)
        if shutil.which(_SCRIPTS[parent].split()[0]) is None:
            pytest.skip(f"no {parent} here")
        command = ["sh", "-c", f"({_SCRIPTS[parent].format(program, folder)}) > {folder}/output"]
        if not traced:
            subprocess.run(command, check=True, timeout=30)
        else:
            with discovering(command, delay_s=0.1) as run:
                assert run.command is not None
                until(lambda: run.command is None or run.command.poll() is not None, 20)
                assert run.command.wait() == 0
                if parent not in _NOT_HELD:
                    assert run.attached.calls
                    assert run.discovery.notes() == []
        outputs.append((folder / "output").read_text().replace(str(folder), "FOLDER"))
    assert outputs[0] == outputs[1]


_TRACER = """
import sys, time
from tests.system.tracing import discovering
with discovering([sys.argv[1]], delay_s=60) as run:
    print(run.command.pid, flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_if_the_tracer_dies_everybody_is_let_go(tmp_path: Path, loaded: Path, number: signal.Signals) -> None:
    program = tls_program(tmp_path, "program", static=True)
    with subprocess.Popen(
        [sys.executable, "-c", _TRACER, program], cwd=ROOT, stdout=subprocess.PIPE, start_new_session=True
    ) as tracer:
        try:
            assert tracer.stdout is not None
            pid = int(tracer.stdout.readline())
            until(lambda: is_stopped(pid))
            time.sleep(0.3)
            os.killpg(tracer.pid, signal.SIGINT) if number == signal.SIGINT else None
            assert not loaded.exists()
        finally:
            tracer.send_signal(number)
    until(loaded.exists, 3)


def test_the_watchdog_survives_an_interrupt(tmp_path: Path) -> None:
    with discovering(["sleep", "30"]) as run:
        holder = run.discovery._holder
        assert holder is not None
        watchdog = holder._watchdog
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            watchdog.send_signal(number)
        time.sleep(0.1)
        assert watchdog.poll() is None
    assert watchdog.poll() == 0


def test_the_watchdog_ends_though_a_child_of_ours_has_its_pipe() -> None:
    with discovering(["sleep", "30"]) as run:
        holder = run.discovery._holder
        assert holder is not None
        with subprocess.Popen(["sleep", "30"], pass_fds=(holder._pipe,)) as child:
            try:
                with time_limit(5):
                    run.discovery.close()
                assert holder._watchdog.poll() == 0
            finally:
                child.kill()


def test_a_watchdog_that_cannot_read_the_map_does_not_say_that_it_watches() -> None:
    with open("/dev/null", "rb") as no_map:
        arguments = [hold_watchdog.__file__, "0", str(no_map.fileno()), "1"]
        done = subprocess.run(
            [sys.executable, "-I", "-S", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            pass_fds=(no_map.fileno(),),
            timeout=20,
            check=False,
        )
    assert done.returncode
    assert done.stdout == b""
