"""What is missing from the stream, and what failed."""

from __future__ import annotations

from typing import Literal

from .base import Event, event_type

__all__ = ["AnalyzerFailure", "Loss"]


@event_type("loss")
class Loss(Event, frozen=True, gc=False):
    """Something was seen by the kernel but is not in the stream.

    One event for each gap in a connection, at its place; what cannot be tied to a connection follows
    later. The counts of all `loss` events together are the kernel's own.

    Attributes:
        cause: "ring_full" (the reader was too slow: a larger ring helps), "read_fault", "truncated",
            "map_full", "missed_return"; of processes also "io_uring" (`count` calls that were made that
            way cannot be seen), "compat" (32-bit programs that were started),
            "compat_call" (32-bit calls of 64-bit programs), "held_back_full" (events of a young process
            that were held back, and given up for lack of room), "not_run" (a program of the tracer was not
            run, as it was running on that CPU already: it may have been for a process that nobody asked
            for; `kind` names the program).
        count: records that are missing; for "ring_full" each would have been one event.
        lost_bytes: bytes of payload in them, as far as known.
        pid, comm, connection_id, direction: whose, where known.
        offset: bytes of this connection and direction before the gap.
        kind: the `event_type` that the records would have given, where known.
    """

    cause: str
    count: int
    lost_bytes: int
    pid: int | None = None
    comm: str | None = None
    connection_id: str | None = None
    direction: Literal["read", "write"] | None = None
    offset: int | None = None
    kind: str | None = None


@event_type("analyzer_failure")
class AnalyzerFailure(Event, frozen=True, gc=False):
    """An analyzer raised an exception, and is skipped from now on.

    Attributes:
        analyzer: its class.
        error: type and message of the exception.
        place: file and line.
    """

    analyzer: str
    error: str
    place: str
