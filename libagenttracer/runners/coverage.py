"""What became of the images that were looked at, for people and for the report."""

from __future__ import annotations

from ..system.seen import SeenImage
from .interface import LibraryCoverage, StackCoverage

__all__ = ["coverage_of"]


def coverage_of(seen: SeenImage, hits: dict[str, int]) -> LibraryCoverage:
    """An image as the report shows it.

    Args:
        seen: what discovery knows.
        hits: calls seen, by function.
    """
    stacks = [
        StackCoverage(
            item.stack,
            item.version,
            item.method,
            item.confidence,
            {point.function: point.offset for point in item.points},
            list(item.notes),
        )
        for item in seen.found
    ] + [StackCoverage(item.stack, reason=item.reason, advice=item.advice) for item in seen.not_reachable]
    problem = seen.reason
    if not problem and not seen.found:
        problem = "; ".join(item.reason for item in seen.not_reachable)
    if seen.state == "searching":
        problem = "still being searched"
    return LibraryCoverage(seen.path, hits, problem, stacks, seen.build_id, sorted(seen.pids))
