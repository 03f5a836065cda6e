"""Where events go: JSON Lines, and text for people."""

from __future__ import annotations

from .jsonl import JsonLines
from .text import Text

__all__ = ["JsonLines", "Text"]
