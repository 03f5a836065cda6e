"""Much and fast: nothing may be missing with the default settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from libagenttracer import Loss

from .tracing import check_pair, pair, pss_kib, read, tracer

RUNS = {
    "many small": ["--size", "512", "--count", "200000"],
    "one of 16 MiB": ["--size", "16M", "--count", "1", "--bio-bytes", "17M"],
    "one of 16 MiB, retried": ["--size", "16M", "--count", "1"],
    "300 of 1 MiB": ["--size", "1M", "--count", "300", "--rate", "25", "--bio-bytes", "2M"],
    "64 connections": [
        "--size",
        "512",
        "--count",
        "75000",
        "--rate",
        "7500",
        "--threads",
        "8",
        "--connections",
        "8",
    ],
}
MAX_PSS_KIB = 100 * 1024


@pytest.mark.parametrize("name", RUNS)
def test_everything_is_there(name: str, tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with pair(tls_pair, *RUNS[name]) as running:
        with tracer(running.pid, output) as tracing:
            report = running.go()
            memory_kib = pss_kib(tracing["process"].pid)
        assert tracing["status"] == 0
    assert "lost: nothing" in tracing["summary"]
    events = read(output)
    assert not any(isinstance(event, Loss) for event in events)
    check_pair(report, events)
    assert memory_kib <= MAX_PSS_KIB
    output.unlink()


@pytest.mark.parametrize(
    "size", [1, 127, 128, 129, 512, 513, 8192, 16384, 16385, 49152, 49153, 65536, 65537, 200_000]
)
def test_every_size_class(size: int, tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with (
        pair(tls_pair, "--size", str(size), "--count", "7", "--ex", "--both", "--bio-bytes", "1M") as running,
        tracer(running.pid, output),
    ):
        report = running.go()
    check_pair(report, read(output))


def test_retries_are_shown_once(tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with pair(tls_pair, "--size", "300000", "--count", "5", "--bio-bytes", "20000") as running:
        with tracer(running.pid, output):
            report = running.go()
    assert report["write_retries"] > 5
    check_pair(report, read(output))
