"""Runs the traced program of the benchmarks: a TLS client and server in one process, over memory."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from libagenttracer.binding import Object, ObjectSpec
from libagenttracer.locators import Image
from libagenttracer.system.places import system_libraries

ROOT = Path(__file__).resolve().parent.parent
LIBSSL = next(path for path in system_libraries() if path.endswith("libssl.so.3"))
_CALLED = ("SSL_read", "SSL_write")
Around = Callable[[int], AbstractContextManager[Any]]


def build_program(folder: Path) -> Path:
    """Compiles the workload."""
    program = folder / "tls_pair"
    source = ROOT / "tests" / "workloads" / "tls_pair.c"
    subprocess.run(
        ["gcc", "-O2", "-pthread", "-o", program, source, "-lssl", "-lcrypto"], check=True, timeout=60
    )
    return program


def run(program: Path, arguments: list[str], around: Around | None = None) -> dict[str, Any]:
    """One run; the traffic begins when `around(pid)` has been entered. Returns what the program reports."""
    process = subprocess.Popen(
        [program, "--wait", "--hold", *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout.readline()  # READY
    with around(process.pid) if around else contextlib.nullcontext():
        process.stdin.write("\n")
        process.stdin.flush()
        text = ""
        for line in process.stdout:
            text += line
            if line.endswith("]}\n"):  # then it waits
                break
        report: dict[str, Any] = json.loads(text)
    process.communicate("\n", timeout=60)
    return report


@contextlib.contextmanager
def empty_probes(pid: int) -> Iterator[Object]:
    """One entry and one return probe whose program is `return 0`, on the functions that are called."""
    image = Image(Path(LIBSSL).read_bytes(), path=LIBSSL, machine=os.uname().machine)
    points = {name: image.offset_of(address) for name, address in image.symbols(_CALLED).items()}
    with empty_object().load() as loaded:
        for function in _CALLED:
            for name, returns in (("on_entry", False), ("on_return", True)):
                offset = points[function]
                assert offset is not None
                loaded.programs[name].attach_uprobe(LIBSSL, offset=offset, returns=returns, pid=pid)
        yield loaded


def empty_object() -> ObjectSpec:
    """Compiles and opens empty.bpf.c (needs clang)."""
    import os

    arch = {"x86_64": "x86", "aarch64": "arm64"}[os.uname().machine]
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "empty.bpf.o"
        subprocess.run(
            [
                *["clang", "-O2", "-g", "-target", "bpf", "-mcpu=v3", f"-D__TARGET_ARCH_{arch}"],
                *[f"-I{ROOT}/bpf", "-c", str(Path(__file__).parent / "empty.bpf.c"), "-o", str(target)],
            ],
            check=True,
            timeout=60,
        )
        return ObjectSpec(target.read_bytes(), name="empty")


@contextlib.contextmanager
def traced(pid: int, *, output: Path, ring: str = "") -> Iterator[dict[str, Any]]:
    """The command line traces the process into a file; afterwards the dict holds its summary."""
    command = [
        str(ROOT / ".venv/bin/python"),
        "-m",
        "libagenttracer",
        "ssl",
        "-p",
        str(pid),
        "-o",
        str(output),
    ]
    if ring:
        command += ["--ring-size", ring]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert tracer.stderr is not None
    result: dict[str, Any] = {"pid": tracer.pid, "ready": tracer.stderr.readline()}
    try:
        yield result
    finally:
        tracer.send_signal(2)
        result["summary"] = tracer.communicate(timeout=120)[1]
        result["lost"] = "lost: nothing" not in result["summary"]
