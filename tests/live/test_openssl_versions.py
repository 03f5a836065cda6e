"""OpenSSL 1.1 and 3.3 and later, as wheels bundle them under names of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from libagenttracer import SslData

from ..workloads.bundled_openssl import WHEELS, Wheel, compile_tls_pair, fetch
from .tracing import check_pair, pair, read, tracer

CACHE = Path(__file__).resolve().parents[2] / "build" / "wheels"


@pytest.mark.parametrize("wheel", WHEELS, ids=lambda wheel: f"{wheel.requirement}")
@pytest.mark.parametrize("ex", [False, True], ids=["plain", "ex"])
def test_bundled_library(wheel: Wheel, ex: bool, tmp_path: Path) -> None:
    bundled = fetch(wheel, CACHE)
    program = compile_tls_pair(tmp_path / "tls_pair", bundled)
    output = tmp_path / "trace.jsonl"
    arguments = ["--size", "5000", "--count", "40", "--both", *(["--ex"] if ex else [])]
    with pair(program, *arguments) as running, tracer(running.pid, output) as tracing:
        report = running.go()
    events = read(output)
    check_pair(report, events)
    data = [event for event in events if isinstance(event, SslData)]
    assert {event.library for event in data} == {str(bundled.libssl.resolve())}
    # in 3.3 SSL_write_ex jumps into SSL_write_ex2: the call that the program made is the one shown
    assert {event.function for event in data} == (
        {"SSL_write_ex", "SSL_read_ex"} if ex else {"SSL_write", "SSL_read"}
    )
    if ex:
        assert ("SSL_write_ex2" in tracing["summary"]) == wheel.write_ex2
