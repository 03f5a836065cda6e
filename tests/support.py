"""What several tests use."""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import os
import pickle
import signal
import struct
import subprocess
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

import build_bpf

__all__ = [
    "ROOT",
    "Target",
    "become_nobody",
    "compile_bpf",
    "compile_library",
    "file_offsets",
    "in_child",
    "time_limit",
    "u32",
    "u64",
    "with_tracefs",
]

ROOT = Path(build_bpf.__file__).resolve().parent
NOBODY = 65534
_CLONE_NEWNS, _MS_REC, _MS_PRIVATE = 0x20000, 0x4000, 1 << 18
codecs.lookup("ascii")  # loads it: nobody may be unable to read Python's own files
Result = TypeVar("Result")


def u32(number: int) -> bytes:
    return struct.pack("<I", number)


def u64(number: int) -> bytes:
    return struct.pack("<Q", number)


def compile_bpf(name: str, directory: Path) -> bytes:
    """Compiles tests/bpf/NAME.bpf.c as build_bpf.py would, for this machine."""
    clang = build_bpf.tool("clang clang-19 clang-16 clang-15 clang-14", "CLANG")
    machine = build_bpf.ARCHITECTURES[{"aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)]
    output = directory / f"{name}.bpf.o"
    command = [clang, *build_bpf.FLAGS, "-Wno-unused-parameter", f"-D__TARGET_ARCH_{machine}", "-Ibpf"]
    subprocess.run([*command, "-c", f"tests/bpf/{name}.bpf.c", "-o", str(output)], cwd=ROOT, check=True)
    return output.read_bytes()


def compile_library(directory: Path) -> Path:
    """Compiles tests/bpf/target.c into a shared library."""
    output = directory / "libtarget.so"
    source = ROOT / "tests" / "bpf" / "target.c"
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"]
    subprocess.run([*command, "-o", str(output), str(source)], check=True)
    return output


def file_offsets(path: Path) -> dict[str, int]:
    """Where in the file each defined function of a library begins, by what readelf says."""
    headers = subprocess.run(["readelf", "-lW", path], capture_output=True, text=True, check=True).stdout
    loads = [
        [int(number, 16) for number in line.split()[1:5]]
        for line in headers.splitlines()
        if line.split()[:1] == ["LOAD"]
    ]
    symbols = subprocess.run(
        ["readelf", "-sW", "--dyn-syms", path], capture_output=True, text=True, check=True
    ).stdout
    offsets = {}
    for line in symbols.splitlines():
        fields = line.split()
        if len(fields) < 8 or fields[3] != "FUNC" or fields[6] == "UND":
            continue
        address = int(fields[1], 16)
        for offset, virtual, _, size in loads:
            if virtual <= address < virtual + size:
                offsets[fields[7].split("@")[0]] = address - virtual + offset
    return offsets


@dataclass(frozen=True)
class Target:
    """The library of tests/bpf/target.c, whose functions the tests call and probe."""

    path: Path
    library: ctypes.CDLL

    def add(self, a: int, b: int) -> int:
        function = self.library.target_add
        function.argtypes, function.restype = [ctypes.c_uint64, ctypes.c_uint64], ctypes.c_uint64
        return int(function(a, b))

    def multiply(self, a: int, b: int) -> int:
        function = self.library.target_multiply
        function.argtypes, function.restype = [ctypes.c_uint64, ctypes.c_uint64], ctypes.c_uint64
        return int(function(a, b))

    def emit(self, data: bytes, action: int = 0) -> None:
        self.library.target_emit(data, len(data), action)

    def emit_many(self, data: bytes, lengths: Sequence[int]) -> None:
        assert sum(lengths) <= len(data)
        self.library.target_emit_many(data, (ctypes.c_uint32 * len(lengths))(*lengths), len(lengths))

    def stall(self) -> None:
        self.library.target_stall()


def become_nobody() -> None:
    """Gives up all privileges; only in a child process."""
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)


def in_child(function: Callable[[], Result]) -> Result:
    """Runs a function in a forked child and gives what it returns.

    An exception in it, or its death by a signal, fails the test: so a crash is seen and survived.
    """
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                answer: tuple[bool, object] = (True, function())
            except BaseException:
                answer = (False, traceback.format_exc())
            with os.fdopen(write_end, "wb") as pipe:
                pickle.dump(answer, pipe)
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        raw = pipe.read()
    status = os.waitpid(pid, 0)[1]
    killed = signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else ""
    assert not killed, f"the child was killed by {killed}"
    succeeded, value = pickle.loads(raw)
    assert succeeded, f"in the child:\n{value}"
    return value  # type: ignore[no-any-return]


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Fails if its block takes longer: a parser that never ends should not stop the whole run."""

    def too_long(number: int, frame: object) -> None:
        pytest.fail(f"not done after {seconds} s")  # a BaseException: no handler swallows it

    before = signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def with_tracefs() -> None:
    """Mounts tracefs where it is not, for this process and its children alone."""
    if os.path.exists("/sys/kernel/tracing/events"):
        return
    libc = ctypes.CDLL(None, use_errno=True)
    for done in (
        libc.unshare(_CLONE_NEWNS),
        libc.mount(None, b"/", None, _MS_REC | _MS_PRIVATE, None),
        libc.mount(b"tracefs", b"/sys/kernel/tracing", b"tracefs", 0, None),
    ):
        assert done == 0, os.strerror(ctypes.get_errno())
