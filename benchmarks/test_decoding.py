"""The steps from records to decoded events, each alone; run with --benchmark-only."""

from __future__ import annotations

from typing import Any

from libagenttracer.analyzers import Analyzer, ChunkMerger, HttpAnalyzer, LlmAnalyzer, SseMerger
from libagenttracer.events import Event

from .decoding import anthropic_stream, http_exchanges, run_chain, sse_parts


def test_merge_chunks(benchmark: Any) -> None:
    events = http_exchanges(1000)
    assert benchmark(lambda: run_chain([ChunkMerger()], events))


def test_http1_exchanges(benchmark: Any) -> None:
    pieces = run_chain([ChunkMerger()], http_exchanges(1000))
    assert len(benchmark(lambda: run_chain([HttpAnalyzer()], pieces))) == 3000


def test_sse_events(benchmark: Any) -> None:
    parts = sse_parts(1000)
    assert len(benchmark(lambda: run_chain([SseMerger()], parts))) == 1001


def test_llm_stream(benchmark: Any) -> None:
    events = anthropic_stream()

    def call() -> list[Event]:
        chain: list[Analyzer] = [ChunkMerger(), HttpAnalyzer(), SseMerger(each=False), LlmAnalyzer()]
        return run_chain(chain, events)

    found = benchmark(call)
    assert found[-1].event_type == "llm_call"
