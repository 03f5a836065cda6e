"""Leaves out the events that nobody asked for."""

from __future__ import annotations

from collections.abc import Iterable

from ...events import AnalyzerFailure, Event, Loss
from .compile import compile_with_fields

__all__ = ["FilterAnalyzer"]


class FilterAnalyzer:
    """Lets those events pass that one filter expression includes and another does not exclude.

    `loss` and `analyzer_failure` always pass, so that nothing is lost silently, unless `exclude` matches them
    and asks for `event_type` or a field of the group `loss`.

    Args:
        include: what passes; everything if it is not given.
        exclude: what does not pass.

    Attributes:
        filtered: events that were left out.

    Raises:
        FilterError: an expression is wrong.
    """

    must_run = True  # nothing that was not asked for may pass

    def __init__(self, include: str | None = None, exclude: str | None = None) -> None:
        self._include = compile_with_fields(include).matches if include is not None else None
        excluded = compile_with_fields(exclude) if exclude is not None else None
        self._exclude = excluded.matches if excluded else None
        self._exclude_loss = excluded is not None and any(
            name in ("event_type", "type") or name.startswith("loss.") for name in excluded.fields
        )
        self.filtered = 0

    def feed(self, event: Event) -> Iterable[Event]:
        """Takes the next event; gives it if it is wanted."""
        if isinstance(event, (Loss, AnalyzerFailure)):
            out = self._exclude_loss and self._exclude is not None and self._exclude(event)
        else:
            out = (self._include is not None and not self._include(event)) or (
                self._exclude is not None and self._exclude(event)
            )
        if out:
            self.filtered += 1
            return ()
        return (event,)

    def tick(self, now_ns: int) -> Iterable[Event]:
        """Nothing is held back."""
        return ()

    def flush(self) -> Iterable[Event]:
        """Nothing is held back."""
        return ()
