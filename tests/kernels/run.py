#!/usr/bin/env python3
"""Runs a job on other kernels: Debian's, under QEMU without KVM.

    tests/kernels/run.py --job DIR [--kernel NAME ...] [--cache DIR]

For each row of matrix.txt the kernel is downloaded and booted over one Debian root image (with
Python 3.11), and `sh ./run.sh` runs as root in a copy of DIR. Emulated Python is ten times slower,
fork and exec fifty times: build on the host, and only test in the guest.

What the job puts into the folder $RESULTS comes back as CACHE/runs/KERNEL/results/. Its output is
in CACHE/runs/KERNEL/console.log, among the kernel's.

Each kernel gets one line: passed (run.sh ended with 0), FAILED, or UNAVAILABLE (it could not be
had). Exit status: 0 if all passed, 1 if not, 2 if nothing could be run.

To add an architecture: an entry in guest.ARCHES, rows in matrix.txt, and --job ARCH=DIR.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from debian import Problem, get_kernel, provide_host_packages
from guest import ARCHES, HOST_NEEDS, Guest, root_image

HERE = Path(__file__).resolve().parent
GUESTS_AT_ONCE = 2
TAIL_LINES = 50


@dataclass(frozen=True)
class Row:
    """One line of the matrix."""

    suite: str
    arch: str
    globs: str

    def __str__(self) -> str:
        return f"{self.suite} {self.arch} {self.globs}"


def read_matrix(wanted: list[str]) -> list[Row]:
    lines = (HERE / "matrix.txt").read_text().splitlines()
    rows = [Row(*line.split()) for line in lines if line.strip() and not line.startswith("#")]
    for name in wanted:
        if not any(name in str(row) for row in rows):
            raise Problem(f"no row of the matrix has {name!r} in it")
    return [row for row in rows if not wanted or any(name in str(row) for name in wanted)]


def read_jobs(arguments: list[str]) -> dict[str, Path]:
    """The job folder for each architecture."""
    jobs = {}
    for argument in arguments:
        arch, _, folder = argument.rpartition("=")
        job = Path(folder).resolve()
        if not (job / "run.sh").is_file():
            raise Problem(f"{job} has no run.sh")
        for name in ("results", "exit-status"):  # an old one could be taken for the guest's
            if (job / name).exists():
                raise Problem(f"{job} must not have {name!r}, which the guest makes")
        jobs[arch or "amd64"] = job
    return jobs


@contextmanager
def only_run(cache: Path) -> Iterator[None]:
    """Waits until no other run uses the cache."""
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("waiting for another run to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def report(verdict: str, kernel: str, seconds: float, detail: str) -> None:
    line = f"{verdict:<12} {kernel:<50} {seconds:4.0f} s"
    # In one piece, since guests end at the same time.
    sys.stdout.write("\n  ".join([line, *detail.splitlines()]) + "\n")
    sys.stdout.flush()


def test_kernel(name: str, guest: Guest, time_limit: float) -> bool:
    begin = time.monotonic()
    try:
        detail = guest.run(time_limit)
    except Problem as problem:
        detail = str(problem)
    verdict = "passed"
    if detail:
        verdict = "FAILED"
        text = guest.console.read_text(errors="replace") if guest.console.exists() else ""
        tail = text.replace("\r", "").splitlines()[-TAIL_LINES:]
        detail = "\n".join([detail, f"the end of {guest.console}:", *(f"| {line}" for line in tail)])
    report(verdict, name, time.monotonic() - begin, detail)
    return verdict == "passed"


def test_kernels(rows: list[Row], jobs: dict[str, Path], cache: Path, time_limit: float) -> int:
    """Tests all kernels; returns how many passed."""
    roots = {arch: root_image(arch, cache) for arch in {row.arch for row in rows}}
    results: dict[str, Future[bool]] = {}
    with ThreadPoolExecutor(GUESTS_AT_ONCE) as pool:
        for row in rows:  # one download at a time, since apt locks its lists
            begin = time.monotonic()
            try:
                release, kernel = get_kernel(row.suite, row.arch, row.globs, cache)
                if release in results:
                    raise Problem(f"only {release} can be had, which another row tests")
            except Problem as problem:
                report("UNAVAILABLE", str(row), time.monotonic() - begin, str(problem))
                continue
            folder = cache / "runs" / release
            guest = Guest(row.arch, kernel, roots[row.arch], jobs[row.arch], folder)
            name = f"{row.suite} {row.arch} {release}"
            results[release] = pool.submit(test_kernel, name, guest, time_limit)
    return sum(result.result() for result in results.values())


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--job",
        metavar="[ARCH=]DIR",
        action="append",
        required=True,
        help="folder with run.sh, for amd64 or ARCH",
    )
    parser.add_argument(
        "--kernel",
        metavar="NAME",
        action="append",
        default=[],
        help="only the matrix rows with NAME in them, such as 5.10",
    )
    parser.add_argument("--cache", type=Path, default=HERE.parents[1] / "build" / "kernels")
    parser.add_argument("--time-limit", type=float, default=400, help="seconds for each guest")
    options = parser.parse_args()
    os.environ["PATH"] += ":/usr/sbin:/sbin"  # not in every user's PATH; mke2fs is there
    cache: Path = options.cache.resolve()
    try:
        rows, jobs = read_matrix(options.kernel), read_jobs(options.job)
        needs = dict(HOST_NEEDS)
        for arch in {row.arch for row in rows}:
            if arch not in ARCHES or arch not in jobs:
                raise Problem(f"{arch} has no entry in ARCHES, or no --job")
            needs[ARCHES[arch].qemu] = ARCHES[arch].qemu_package
        with only_run(cache):
            provide_host_packages(needs)
            passed = test_kernels(rows, jobs, cache, options.time_limit)
    except Problem as problem:
        print(f"run.py: {problem}", file=sys.stderr)
        return 2
    print(f"{passed} passed, {len(rows) - passed} failed")
    return 0 if passed == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
