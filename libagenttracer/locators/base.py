"""What every locator gives: places to probe, or why there are none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["Found", "NotReachable", "ProbePoint"]


class ProbePoint(NamedTuple):
    """A place to probe.

    Attributes:
        function: its role ("SSL_read"): says which programs belong there, and so what its arguments are.
            A function that carries another name but takes the same arguments has the same role.
        offset: bytes from the file's start (uprobes take these, not virtual addresses).
    """

    function: str
    offset: int


@dataclass(frozen=True)
class Found:
    """A TLS stack that can be probed.

    Attributes:
        stack: "openssl", "boringssl", "gnutls", "nss", "go", "aws-lc" or "ring".
        points: where to probe.
        method: how it was found, for people: "symbols", "error calls", ...
        version: "3.0.17", "go1.22.3"; "" where it cannot be told.
        confidence: "likely" where something that cannot be checked in the file had to be assumed.
        notes: what the user should know, such as "only application data".
    """

    stack: str
    points: tuple[ProbePoint, ...]
    method: str
    version: str = ""
    confidence: Literal["certain", "likely"] = "certain"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class NotReachable:
    """A TLS stack is there but cannot be probed, or only a guess could say where.

    Attributes:
        stack: as of `Found`, or "java", "erlang", "unknown".
        reason: why, in one line.
        advice: what the user can do; "" if nothing is known.
    """

    stack: str
    reason: str
    advice: str = ""
