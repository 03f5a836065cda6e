"""What turns events into other events: fewer, merged, or derived ones. No I/O, no clock, no threads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import load_name
from .base import Analyzer, Chain

if TYPE_CHECKING:
    from .chunks import ChunkMerger
    from .decoding import decoders
    from .endpoints import EndpointFilter
    from .filters import FilterAnalyzer
    from .http import HttpAnalyzer, Limits
    from .lifetime import MinimumLifetime
    from .llm import LlmAnalyzer
    from .mcp import McpAnalyzer
    from .redact import Redactor
    from .repeats import RepeatMerger
    from .select import Hide, HideRecorded
    from .sse import SseMerger

__all__ = [
    "Analyzer",
    "Chain",
    "ChunkMerger",
    "EndpointFilter",
    "FilterAnalyzer",
    "Hide",
    "HideRecorded",
    "HttpAnalyzer",
    "Limits",
    "LlmAnalyzer",
    "McpAnalyzer",
    "MinimumLifetime",
    "Redactor",
    "RepeatMerger",
    "SseMerger",
    "decoders",
]

# imported when they are first used: parsers and codecs cost time, and most runs need few of them
_HOMES = {
    "chunks": ("ChunkMerger",),
    "decoding": ("decoders",),
    "endpoints": ("EndpointFilter",),
    "filters": ("FilterAnalyzer",),
    "http": ("HttpAnalyzer", "Limits"),
    "lifetime": ("MinimumLifetime",),
    "llm": ("LlmAnalyzer",),
    "mcp": ("McpAnalyzer",),
    "redact": ("Redactor",),
    "repeats": ("RepeatMerger",),
    "select": ("Hide", "HideRecorded"),
    "sse": ("SseMerger",),
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOMES, name)
