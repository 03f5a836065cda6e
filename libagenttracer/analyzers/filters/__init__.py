"""One language of expressions that choose events, by any of their fields."""

from __future__ import annotations

from .analyzer import FilterAnalyzer
from .compile import compile_filter

__all__ = ["FilterAnalyzer", "compile_filter"]
