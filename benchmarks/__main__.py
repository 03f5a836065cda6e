"""The report: `python -m benchmarks [cost] [loss] [kernel] [sockets] [process] [decoding]` (as root).

cost     CPU time of the traced program for a pair of SSL_write and SSL_read: untraced, empty probes, traced
loss     from which rate on records are lost, with default settings
sockets  what it costs others that sockets are followed
kernel   how long the programs themselves run, by the kernel's own statistics
decoding what decoding HTTP, SSE and calls of models costs (needs no root)
process  processes, files and sockets: programs in the kernel, what all others pay, whole jobs

Everything that is compared is run in turn, so that a machine whose speed drifts does not decide.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from libagenttracer import SslRunner
from libagenttracer.binding import enable_program_stats

from . import decoding, process, sockets
from .workload import build_program, empty_probes, run, traced

ROUNDS = 5
# payload bytes, pairs, pairs a second: at most 100 MB/s of payload, both directions counted
COST_RUNS = ((64, 50_000, 0), (512, 50_000, 0), (16384, 4_500, 3_000), (1 << 20, 100, 45))
LOSS_RUNS = {
    512: (10_000, 20_000, 30_000, 40_000, 60_000, 80_000),
    16384: (1_000, 2_500, 5_000, 7_500, 10_000, 15_000),
    1 << 20: (25, 50, 75, 100, 150, 200),
}
LOSS_SECONDS = 5


class Report:
    """Runs the workload and prints."""

    def __init__(self, folder: Path) -> None:
        self._program = build_program(folder)
        self._output = folder / "trace.jsonl"

    def cost(self) -> None:
        print("CPU time (user + system) of the traced program per SSL_write+SSL_read pair, median, us")
        print(f"{'bytes':>8} {'untraced':>9} {'empty':>8} {'traced':>8} {'traced/empty':>13}  lost")
        for size, count, rate in COST_RUNS:
            arguments = self._arguments(size, count, rate)
            times: dict[str, list[float]] = {"untraced": [], "empty": [], "traced": []}
            lost = 0
            for _ in range(ROUNDS):
                times["untraced"].append(run(self._program, arguments)["cpu_ns_per_pair"])
                times["empty"].append(run(self._program, arguments, empty_probes)["cpu_ns_per_pair"])
                report, tracing = self._traced(arguments)
                times["traced"].append(report["cpu_ns_per_pair"])
                lost += tracing["lost"]
            middle = {name: statistics.median(values) / 1000 for name, values in times.items()}
            ratio = statistics.median(t / e for t, e in zip(times["traced"], times["empty"], strict=True))
            verdict = f"in {lost} runs: void" if lost else "nothing"
            print(
                f"{size:>8} {middle['untraced']:>9.2f} {middle['empty']:>8.2f} {middle['traced']:>8.2f} "
                f"{ratio:>13.3f}  {verdict}"
            )

    def loss(self) -> None:
        print(f"Losses in {LOSS_SECONDS} s of pairs at a rate, default settings, into a file")
        print(f"{'bytes':>8} {'pairs/s':>8} {'reached':>8} {'MB/s':>6}  lost")
        for size, rates in LOSS_RUNS.items():
            for rate in rates:
                report, tracing = self._traced(self._arguments(size, rate * LOSS_SECONDS, rate))
                reached = report["pairs"] / report["wall_ns"] * 1e9
                said = tracing["summary"].splitlines()[0].split("lost: ")[1]
                print(f"{size:>8} {rate:>8} {reached:>8.0f} {reached * size * 2 / 1e6:>6.0f}  {said}")
                if tracing["lost"]:
                    break

    def kernel(self) -> None:
        print("Run time of the programs in the kernel, ns a run (the kernel's own statistics)")
        print(f"{'bytes':>8}  program")
        fd = enable_program_stats()
        try:
            for size, count, rate in COST_RUNS:
                found: dict[str, Any] = {}

                @contextlib.contextmanager
                def around(pid: int, found: dict[str, Any] = found) -> Iterator[None]:
                    with SslRunner(pid=pid) as runner:
                        yield
                        assert runner._source is not None
                        found.update(runner._source.program_stats())

                run(self._program, self._arguments(size, min(count, 2000), rate), around)
                shown = [
                    f"{name} {stats.run_time_ns / stats.run_count:.0f}"
                    for name, stats in found.items()
                    if stats.run_count >= 100
                ]
                print(f"{size:>8}  {', '.join(shown)}")
        finally:
            os.close(fd)

    def process(self) -> None:
        process.report()

    def decoding(self) -> None:
        decoding.report()

    def sockets(self) -> None:
        sockets.report()

    def _arguments(self, size: int, count: int, rate: int) -> list[str]:
        bio = ["--bio-bytes", "2M"] if size > 65536 else []
        return ["--size", str(size), "--count", str(count), "--rate", str(rate), "--no-hash", "--text", *bio]

    def _traced(self, arguments: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        tracing: dict[str, Any] = {}

        @contextlib.contextmanager
        def around(pid: int) -> Iterator[None]:
            with traced(pid, output=self._output) as result:
                yield
            tracing.update(result)

        return run(self._program, arguments, around), tracing


def main() -> int:
    """The command line."""
    parts = ["cost", "kernel", "loss", "sockets", "process", "decoding"]
    chosen = sys.argv[1:] or parts
    if not set(chosen) <= set(parts):
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        report = Report(Path(folder))
        for name in chosen:
            getattr(report, name)()
            print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
