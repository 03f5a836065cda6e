"""A small ring and a reader that stands still: what is missing is counted, and shows at its place."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from libagenttracer import Loss, SslData, SslRunner, replay

from .tracing import check_pair, pair, read, streams, tracer


@pytest.mark.parametrize("size", [512, 16384, 200_000])
def test_captured_and_lost_is_sent(size: int, tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    count = 2000 if size < 100_000 else 200
    with pair(
        tls_pair, "--size", str(size), "--count", str(count), "--rate", "1000", "--bio-bytes", "1M"
    ) as running:
        with tracer(running.pid, output, "--ring-size", "64K") as tracing:
            running.start()
            time.sleep(0.3)
            os.kill(tracing["process"].pid, signal.SIGSTOP)
            time.sleep(1)
            os.kill(tracing["process"].pid, signal.SIGCONT)
            report = running.report()
        assert tracing["status"] == 0
    events = read(output)
    lost = [event for event in events if isinstance(event, Loss)]
    assert lost, "the ring did not fill: the test shows nothing"
    assert all(event.cause == "ring_full" and event.connection_id for event in lost)
    check_pair(report, events, losses=True)
    if size <= 4096:  # one record for each call
        captured = sum(isinstance(event, SslData) for event in events)
        assert captured + sum(event.count for event in lost) == report["write_calls"] + report["read_calls"]
    assert f"ring_full {sum(event.count for event in lost)} " in tracing["summary"]


def test_gap_in_the_middle_is_where_it_belongs(tls_pair: Path, tmp_path: Path) -> None:
    """What comes behind a gap is again what was sent there."""
    output, whole = tmp_path / "trace.jsonl", tmp_path / "whole.jsonl"
    arguments = ["--size", "512", "--count", "3000", "--rate", "2000", "--seed", "7"]
    with pair(tls_pair, *arguments) as running, tracer(running.pid, whole):
        complete = running.go()
    with pair(tls_pair, *arguments) as running:
        with tracer(running.pid, output, "--ring-size", "64K") as tracing:
            running.start()
            time.sleep(0.2)
            os.kill(tracing["process"].pid, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(tracing["process"].pid, signal.SIGCONT)
            running.report()
    assert complete["pairs"] == 3000
    truth = {name[1]: stream for name, stream in streams(read(whole)).items()}
    checked = 0
    for event in read(output):
        if isinstance(event, SslData):
            expected = truth[event.direction].content[event.offset : event.offset + event.data_len]
            assert event.payload == bytes(expected)
            checked += 1
    assert 0 < checked < 6000


def test_loss_at_the_end_is_told_while_running(tls_pair: Path) -> None:
    """No later record shows the gap: it is found by the kernel's own count of the connection."""
    with pair(tls_pair, "--size", "4096", "--count", "200") as running:
        runner = SslRunner(pid=running.pid, ring_bytes=65536)
        with runner:
            running.go()  # nobody reads meanwhile
            events, end_s = [], time.monotonic() + 10
            for batch in runner.batches():
                events += batch
                if (
                    sum(event.count for event in events if isinstance(event, Loss))
                    and time.monotonic() > end_s - 6
                ):
                    break
                assert time.monotonic() < end_s
            lost = sum(event.count for event in events if isinstance(event, Loss))
            captured = sum(isinstance(event, SslData) for event in events)
            assert captured + lost == 400
            assert runner.stats.lost["ring_full"].records == lost


def test_replay_keeps_losses(tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with pair(tls_pair, "--size", "4096", "--count", "500") as running:
        with tracer(running.pid, output, "--ring-size", "32K") as tracing:
            os.kill(tracing["process"].pid, signal.SIGSTOP)
            running.go()
            os.kill(tracing["process"].pid, signal.SIGCONT)
    kinds = {event.event_type for event in replay(output)}
    assert kinds == {"ssl_data", "loss"}
