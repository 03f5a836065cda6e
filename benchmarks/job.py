"""What tracing costs a job of many short processes and files: 60 small C files, compiled by make -j1.

`run(times)` prints the wall time of the job untraced, traced (`process -m 2 -o FILE -- make`), and under
`strace -f -o /dev/null`: medians, and the medians of the ratios to the untraced run of the same round. The
three are run in turn, in another order each time. "job only" leaves out what the tracer takes for `-- true`.
"""

from __future__ import annotations

import json
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tests.workloads import job

__all__ = ["run"]

FILES = 60
_MARK = "job-took"
TRACER = [sys.executable, "-m", "libagenttracer", "process", "-m", "2"]


class _Job:
    def __init__(self, folder: Path) -> None:
        self._project, self._trace = folder / "project", folder / "trace.jsonl"
        self.summary = ""
        job.generate(self._project, FILES)

    def untraced(self) -> float:
        return self._wall_s([])

    def traced(self) -> float:
        self._trace.unlink(missing_ok=True)
        return self._wall_s([*TRACER, "-o", str(self._trace), "--"])

    def strace(self) -> float:
        return self._wall_s(["strace", "-f", "-o", "/dev/null", "--"])

    def start_s(self) -> float:
        """What the tracer takes to begin and end, with a command that does nothing."""
        began_s = time.perf_counter()
        subprocess.run([*TRACER, "-o", str(self._trace), "--", "true"], check=True, capture_output=True)
        return time.perf_counter() - began_s

    def events(self) -> Counter[str]:
        """Of the last traced run."""
        counts: Counter[str] = Counter()
        with open(self._trace, encoding="utf-8") as file:
            for line in file:
                counts[json.loads(line)["event_type"]] += 1
        return counts

    def _wall_s(self, prefix: list[str]) -> float:
        job.clean(self._project)
        # the shell measures, so that what the tracer takes to begin and end is not in it
        script = f"TIMEFORMAT='{_MARK} %R'; time {shlex.join(job.COMMAND)}"
        done = subprocess.run(
            [*prefix, "bash", "-c", script],
            cwd=self._project,
            capture_output=True,
            text=True,
            check=True,
            timeout=600,
        )
        (wall,) = (line.split()[1] for line in done.stderr.splitlines() if line.startswith(_MARK))
        wall_s = float(wall)
        assert (self._project / "job").exists()
        if prefix[:1] == TRACER[:1]:
            self.summary = done.stderr
        return wall_s


def run(times: int = 5) -> None:
    """Runs each of them so often, and prints the table."""
    with tempfile.TemporaryDirectory() as folder:
        work = _Job(Path(folder))
        ways: list[tuple[str, Callable[[], float]]] = [
            ("untraced", work.untraced),
            ("traced", work.traced),
            ("strace", work.strace),
        ]
        work.untraced()  # what it reads is in memory from here on
        rounds: list[dict[str, float]] = []
        lossy = 0
        for index in range(times):
            turn = ways[index % len(ways) :] + ways[: index % len(ways)]
            rounds.append({name: measure() for name, measure in turn})
            lossy += "lost: nothing" not in work.summary
        start_s = statistics.median(work.start_s() for _ in range(times))
        work.traced()
        counts = work.events()
    print(f"Wall time of a job of {FILES} C files (make -j1), {times} rounds, medians")
    print(f"{'':>10} {'s':>7} {'ratio':>7} {'least':>7} {'most':>7}")
    for name in ("untraced", "traced", "strace"):
        ratios = [times_s[name] / times_s["untraced"] for times_s in rounds]
        middle = statistics.median(times_s[name] for times_s in rounds)
        ratio = f"{statistics.median(ratios):>7.3f} {min(ratios):>7.3f} {max(ratios):>7.3f}"
        print(f"{name:>10} {middle:>7.3f} {ratio}")
    shown = ", ".join(f"{name} {count}" for name, count in counts.most_common())
    print(f"  the tracer's start and end, which are not in it: {start_s:.3f} s")
    print(f"  something was lost in {lossy} of {times} runs")
    print(f"  events: {shown}")
