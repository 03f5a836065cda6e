"""What tracing processes, files and sockets costs: in the kernel, for everything else, and for whole jobs."""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from unittest import mock

from libagenttracer import ProcessRunner
from libagenttracer.binding import ProgramStats, enable_program_stats
from libagenttracer.runners import process_source
from libagenttracer.runners.process_decoder import CATEGORIES
from tests.workloads import job as job_workload

from . import job

__all__ = ["report"]

ROOT = Path(__file__).resolve().parent.parent
TRACER = [sys.executable, "-m", "libagenttracer", "process", "-m", "2", "--window", "0"]
ROUNDS = 5
# what is called, how often, and which program does the work
CALLS = {
    "open": (20_000, "file_exit", "file_open"),
    "rename": (10_000, "file_exit", "file_rename"),
    "kill": (50_000, "signal_exit", "signal_send"),
    "sendto": (20_000, "net_exit", "net_send"),
    "connect": (5_000, "net_exit", "net_connect, net_accept"),
}
TAX_CALLS = 1_000_000
TAX_SETS: dict[str, list[str] | None] = {**{name: [name] for name in CATEGORIES}, "default": None}
STORM = (2, 2000)
_MARK = "took"


def report() -> None:
    """Runs all of it, and prints the tables."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "file").touch()
        calls = _build(folder, ROOT / "benchmarks" / "calls.c")
        storm = _build(folder, ROOT / "tests" / "workloads" / "storm.c")
        parts: list[Callable[[], None]] = [
            functools.partial(kernel_of_calls, calls, folder),
            functools.partial(kernel_of_a_job, folder),
            functools.partial(tax, calls),
            functools.partial(fork_storm, storm, folder),
            job.run,
        ]
        for part in parts:
            part()
            print(flush=True)


def _build(folder: Path, source: Path) -> Path:
    program = folder / source.stem
    subprocess.run(["gcc", "-O2", "-pthread", "-o", program, source], check=True, timeout=60)
    return program


# --- the programs themselves ----------------------------------------------------------------------


@contextlib.contextmanager
def _statistics() -> Iterator[None]:
    fd = enable_program_stats()
    try:
        yield
    finally:
        os.close(fd)


def _programs_of(command: Sequence[str], events: Sequence[str] | None) -> tuple[dict[str, ProgramStats], int]:
    """Traces a command; the kernel's account of each program that ran, and how many records were lost."""
    found: dict[str, ProgramStats] = {}
    with ProcessRunner(command=command, events=events, window_s=0) as runner:
        for _ in runner.batches():
            source = runner._source
            if runner._reader is None or source is None:
                continue
            found.update(source.program_stats())
            for name, program in source._tracking.object.programs.items():
                found[name] = program.stats()
    lost = sum(count.records for count in runner.stats.lost.values())
    return {name: stats for name, stats in found.items() if stats.run_count}, lost


def kernel_of_calls(calls: Path, folder: Path) -> None:
    """One kind of call, so often that all else is small beside it."""
    print(
        "Run time of the program that tells of a call, in the kernel (its own statistics), and the CPU time"
    )
    print("of the whole call, ns")
    print(f"{'call':>8} {'program':>12} {'a run':>6}  {'untraced':>8} {'traced':>7}  lost  events")
    for kind, (count, program, events) in CALLS.items():
        command = [str(calls), kind, str(count), str(folder)]
        plain = statistics.median(_ns_of(command) for _ in range(ROUNDS))
        output = folder / "trace.jsonl"
        traced_ns, said = _traced_ns(command, output)
        with _statistics():
            programs, lost = _programs_of(["sh", "-c", f"exec {shlex.join(command)} >/dev/null"], None)
        if program not in programs:
            sys.exit("this part needs tracefs: mount -t tracefs tracefs /sys/kernel/tracing")
        stats = programs[program]
        lost_both = "some" if lost or "lost: nothing" not in said else "none"
        print(
            f"{kind:>8} {program:>12} {stats.run_time_ns / stats.run_count:>6.0f}  {plain:>8.0f} "
            f"{traced_ns:>7.0f}  {lost_both:>4}  {events}"
        )


def _ns_of(command: Sequence[str]) -> float:
    return float(subprocess.run(command, check=True, capture_output=True, timeout=120).stdout)


def _traced_ns(command: Sequence[str], output: Path) -> tuple[float, str]:
    """The same, traced by the command line; and what that says at its end."""
    output.unlink(missing_ok=True)
    line = [*TRACER, "-o", str(output), "--", *command]
    done = subprocess.run(line, check=True, capture_output=True, text=True, timeout=300)
    return float(done.stdout), done.stderr


def kernel_of_a_job(folder: Path) -> None:
    """A job of many short processes and files."""
    project = folder / "kernel-job"
    job_workload.generate(project, job.FILES)
    with _statistics():
        command = ["make", "-C", str(project), *job_workload.COMMAND[1:]]
        programs, lost = _programs_of(command, None)
    print(f"Programs in the kernel while a job of {job.FILES} C files runs, traced; runs for others included")
    print(f"{'program':>16} {'runs':>8} {'ns a run':>9} {'ms':>7}")
    for name, stats in sorted(programs.items(), key=lambda item: -item[1].run_time_ns):
        each = stats.run_time_ns / stats.run_count
        print(f"{name:>16} {stats.run_count:>8} {each:>9.0f} {stats.run_time_ns / 1e6:>7.2f}")
    print(f"  in all {sum(stats.run_time_ns for stats in programs.values()) / 1e6:.1f} ms; lost: {lost}")


# --- everybody else -------------------------------------------------------------------------------


def tax(calls: Path) -> None:
    """A process that is not traced, and calls that nobody asked for."""
    command = [str(calls), "getppid", str(TAX_CALLS)]
    print(
        "What every system call of a process that is not traced takes longer, ns (getppid; CPU time, medians"
    )
    print("of the differences within a round)")
    print(f"{'events':>10} {'untraced':>9} {'tracefs':>8} {'without':>8}")
    for name, events in TAX_SETS.items():
        plain: list[float] = []
        more: dict[bool, list[float]] = {True: [], False: []}
        for index in range(ROUNDS):
            before = _ns_of(command)
            plain.append(before)
            for tracefs in (True, False) if index % 2 else (False, True):
                with _attached(events, tracefs=tracefs):
                    during = _ns_of(command)
                more[tracefs].append(during - before)
        off = name == "io"  # which needs tracefs
        without = "off" if off else f"{statistics.median(more[False]):.1f}"
        print(
            f"{name:>10} {statistics.median(plain):>9.1f} {statistics.median(more[True]):>8.1f} {without:>8}",
            flush=True,
        )


@contextlib.contextmanager
def _attached(events: Sequence[str] | None, *, tracefs: bool) -> Iterator[None]:
    """Traces a process that only sleeps."""
    sleeper = subprocess.Popen(["sleep", "600"])
    try:
        with (
            mock.patch.object(process_source, "has_tracefs", return_value=tracefs),
            ProcessRunner(pid=sleeper.pid, events=events),
        ):
            yield
    finally:
        sleeper.kill()
        sleeper.wait()


# --- many processes -------------------------------------------------------------------------------


def fork_storm(storm: Path, folder: Path) -> None:
    """Nothing but fork, exec, exit and wait, on both cores."""
    parents, count = STORM
    output = folder / "trace.jsonl"
    ways: dict[str, list[str]] = {
        "untraced": [],
        "lives": [*TRACER, "-o", str(output), "--events", "fork,exec,exit", "--"],
        "default": [*TRACER, "-o", str(output), "--"],
    }
    walls: dict[str, list[float]] = {name: [] for name in ways}
    busy: dict[str, list[float]] = {name: [] for name in ways}
    lossy = dict.fromkeys(ways, 0)
    names = list(ways)
    for index in range(ROUNDS):
        for name in names[index % len(names) :] + names[: index % len(names)]:
            output.unlink(missing_ok=True)
            wall_s, cpu_s, said = _storm_s(ways[name], storm, folder)
            walls[name].append(wall_s)
            busy[name].append(cpu_s)
            lossy[name] += bool(ways[name]) and "lost: nothing" not in said
    print(
        f"{count} times fork, exec of true, exit and wait, by {parents} processes; {ROUNDS} rounds, medians"
    )
    print("(CPU: user and system time of these processes; wall: the tracer wants its share of the cores too)")
    print(f"{'':>10} {'CPU us':>7} {'ratio':>6} {'least':>6} {'most':>6}  {'wall us':>7} {'ratio':>6}  lossy")
    for name in ways:
        ratios = _ratios(busy[name], busy["untraced"])
        wall_ratio = statistics.median(_ratios(walls[name], walls["untraced"]))
        cpu_us, wall_us = (statistics.median(taken[name]) / count * 1e6 for taken in (busy, walls))
        print(
            f"{name:>10} {cpu_us:>7.0f} {statistics.median(ratios):>6.3f} {min(ratios):>6.3f} "
            f"{max(ratios):>6.3f}  {wall_us:>7.0f} {wall_ratio:>6.3f}  {lossy[name]}"
        )


def _ratios(some: Sequence[float], untraced: Sequence[float]) -> list[float]:
    return [taken / plain for taken, plain in zip(some, untraced, strict=True)]


def _storm_s(prefix: Sequence[str], storm: Path, folder: Path) -> tuple[float, float, str]:
    """Wall and CPU time by the shell: what the tracer takes to begin and end is not in it."""
    parents, count = STORM
    line = shlex.join([str(storm), str(parents), str(count), "--out", str(folder / "truth.jsonl")])
    script = f"TIMEFORMAT='{_MARK} %R %U %S'; time {line}"
    command = [*prefix, "bash", "-c", script]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    (numbers,) = (text.split()[1:] for text in done.stderr.splitlines() if text.startswith(_MARK))
    wall_s, user_s, system_s = map(float, numbers)
    return wall_s, user_s + system_s, done.stderr
