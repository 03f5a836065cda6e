"""What it costs that the sockets of TLS connections are followed: traced processes, and all others."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from libagenttracer import SslRunner

SIZES = (64, 4096, 65536)
PAIRS = {64: 200_000, 4096: 100_000, 65536: 20_000}
ROUNDS = 7


@contextlib.contextmanager
def _tracing(comm: str) -> Iterator[None]:
    with SslRunner(comm=comm):
        yield


def _run(program: Path, size: int) -> float:
    command = [str(program), str(size), str(PAIRS[size])]
    return float(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)


def report() -> None:
    """A write and a read over loopback TCP: not traced, while others are traced, and traced."""
    print("A write and a read of plain TCP over loopback, median, ns: without a tracer, while another")
    print("process is traced, and traced itself")
    print(f"{'bytes':>8} {'without':>8} {'others':>8} {'traced':>8}  others/without  traced/without")
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "lat_tcp_pair"
        source = Path(__file__).with_name("tcp_pair.c")
        subprocess.run(["gcc", "-O2", "-o", program, source], check=True, timeout=60)
        for size in SIZES:
            found: dict[str, list[float]] = {"": [], "lat_nobody": [], program.name: []}
            for _ in range(ROUNDS):  # in turn: the machine's speed drifts
                for comm, times in found.items():
                    with _tracing(comm) if comm else contextlib.nullcontext():
                        times.append(_run(program, size))
            without, others, traced = (statistics.median(times) for times in found.values())
            print(
                f"{size:>8} {without:>8.0f} {others:>8.0f} {traced:>8.0f}"
                f"  {others / without:>14.3f}  {traced / without:>14.3f}"
            )
