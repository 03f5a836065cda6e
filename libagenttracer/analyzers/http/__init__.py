"""HTTP out of a connection's bytes: all versions, and WebSocket."""

from __future__ import annotations

from .analyzer import HttpAnalyzer
from .limits import Limits

__all__ = ["HttpAnalyzer", "Limits"]
