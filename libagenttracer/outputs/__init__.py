"""Where events go: JSON Lines, text for people, and the tree of processes."""

from __future__ import annotations

from .jsonl import JsonLines
from .text import Text
from .tree import ProcessTree

__all__ = ["JsonLines", "ProcessTree", "Text"]
