"""Calls of language models out of HTTP exchanges."""

from __future__ import annotations

from .analyzer import LlmAnalyzer
from .base import Api, Draft, StreamReader

__all__ = ["Api", "Draft", "LlmAnalyzer", "StreamReader"]
