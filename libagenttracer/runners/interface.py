"""What the privileged half of a tracer hands to the half that sees payload. Nothing else passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["ConnectionTotals", "LibraryCoverage", "LibraryTable", "LossCount"]


class LossCount(NamedTuple):
    """Losses of one cause: records, and bytes of payload in them."""

    records: int
    bytes: int


@dataclass(frozen=True)
class ConnectionTotals:
    """What the kernel counted on a connection, delivered or not."""

    tgid: int
    ssl: int
    generation_ns: int
    read_bytes: int
    read_records: int
    written_bytes: int
    written_records: int


class LibraryTable:
    """The probed libraries by the index that records carry.

    Attributes:
        paths: grows while more are found.
        indexed: whether records carry an index (attach cookies, Linux 5.15). Without it a library's
            name is known only if there is a single one.
    """

    def __init__(self, paths: list[str] | None = None, *, indexed: bool = True) -> None:
        self.paths = paths or []
        self.indexed = indexed

    def name(self, index: int) -> str:
        """The path of a library, "" where it is not known."""
        if not self.indexed:
            return self.paths[0] if len(self.paths) == 1 else ""
        return self.paths[index] if index < len(self.paths) else ""


@dataclass
class LibraryCoverage:
    """What became of one library.

    Attributes:
        path: its file.
        hits: calls seen so far by function, those of unwanted processes included.
        problem: why it could not be probed, "" if it is.
    """

    path: str
    hits: dict[str, int] = field(default_factory=dict)
    problem: str = ""
