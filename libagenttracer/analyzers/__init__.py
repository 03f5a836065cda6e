"""What turns events into other events: fewer, merged, or derived ones. No I/O, no clock, no threads."""

from __future__ import annotations

from .base import Analyzer, Chain
from .lifetime import MinimumLifetime
from .repeats import RepeatMerger

__all__ = ["Analyzer", "Chain", "MinimumLifetime", "RepeatMerger"]
