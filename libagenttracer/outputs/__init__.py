"""Where events go: JSON Lines, HAR, text for people, and the tree of processes."""

from __future__ import annotations

from .chain import FileLogger, OutputAnalyzer
from .har import Har
from .jsonl import JsonLines
from .rotation import RotatingJsonLines
from .text import Text
from .tree import ProcessTree

__all__ = ["FileLogger", "Har", "JsonLines", "OutputAnalyzer", "ProcessTree", "RotatingJsonLines", "Text"]
