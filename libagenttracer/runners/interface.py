"""What the privileged half of a tracer hands to the half that sees payload. Nothing else passes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["ConnectionTotals", "LibraryCoverage", "LibraryTable", "LossCount", "StackCoverage"]


_INDEX_MASK = 0xFFFF


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

    def set(self, index: int, path: str) -> None:
        """A library gets an index: a new one, or that of one that has gone."""
        if index == len(self.paths):
            self.paths.append(path)
        else:
            self.paths[index] = path

    def name(self, index: int) -> str:
        """The path of a library, "" where it is not known."""
        index &= _INDEX_MASK  # the other bits are flags
        if not self.indexed:
            return self.paths[0] if len(self.paths) == 1 else ""
        return self.paths[index] if index < len(self.paths) else ""


@dataclass
class StackCoverage:
    """A TLS stack in an image.

    Attributes:
        stack: "openssl", "boringssl", "gnutls", "nss", "go", "aws-lc", "ring", "java", …
        version: "" where it cannot be told.
        method: how it was found.
        confidence: "certain", or "likely" where something had to be assumed.
        points: offset in the file by role; of a role with several places, the last one.
        notes: what to know about it.
        reason: why it cannot be probed, "" if it is.
        advice: what to do about that.
    """

    stack: str
    version: str = ""
    method: str = ""
    confidence: str = "certain"
    points: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    reason: str = ""
    advice: str = ""

    @property
    def title(self) -> str:
        """What it is called, for people: "openssl 3.0.17", "go1.22.3"."""
        named = self.version.startswith(self.stack)
        return self.version if named else f"{self.stack} {self.version}".rstrip()


@dataclass
class LibraryCoverage:
    """What became of one library or executable.

    Attributes:
        path: its file.
        hits: calls seen so far by function, those of unwanted processes included.
        problem: why it could not be probed, "" if it is.
        stacks: what is in it.
        build_id: in hexadecimal, "" without.
        pids: processes seen to map it (some, if there are many).
    """

    path: str
    hits: dict[str, int] = field(default_factory=dict)
    problem: str = ""
    stacks: list[StackCoverage] = field(default_factory=list)
    build_id: str = ""
    pids: list[int] = field(default_factory=list)
