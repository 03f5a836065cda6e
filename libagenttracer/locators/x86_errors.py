"""Which functions report which errors: BoringSSL's and AWS-LC's OPENSSL_PUT_ERROR in x86-64 code.

The macro calls `ERR_put_error(library, 0, reason, __FILE__, __LINE__)`. Compilers change how functions begin
from version to version; the reasons and the distances between lines stay.
"""

from __future__ import annotations

from typing import NamedTuple

from .x86 import Code
from .x86_walk import ARGUMENTS, Walk

__all__ = ["ErrorCall", "Reporter", "error_reporters"]

_MAX_REFERENCES = 4096


class ErrorCall(NamedTuple):
    """An error that a function can report; `library` is -1 where it could not be told."""

    reason: int
    line: int
    library: int


class Reporter(NamedTuple):
    """A function that reports errors.

    Attributes:
        start: its address.
        errors: those that it can report with this file's name.
        walk: what else was met in it.
    """

    start: int
    errors: frozenset[ErrorCall]
    walk: Walk

    @property
    def reasons(self) -> frozenset[int]:
        """The reasons of its errors."""
        return frozenset(error.reason for error in self.errors)


def error_reporters(code: Code, file_name: int) -> list[Reporter]:
    """The functions that report errors with the file name at an address.

    Raises:
        DisassemblerMissing: capstone is not installed.
        LibraryError: code made to be slow to search.
    """
    references = code.references(file_name)[:_MAX_REFERENCES]
    starts = code.function_starts(references)
    found = []
    for start in sorted(set(starts.values())):
        walk = code.walk(start)
        errors = {error for call in walk.calls if (error := _error(call.arguments, file_name)) is not None}
        found.append(Reporter(start, frozenset(errors), walk))
    return found


def _error(arguments: dict[str, int], file_name: int) -> ErrorCall | None:
    """What a call reports, if it reports an error.

    Reason and line are the arguments before and after the file's name, wherever that is: optimisation of the
    whole program leaves out the argument that is always 0.
    """
    for number in range(1, len(ARGUMENTS) - 1):
        before, here, after = ARGUMENTS[number - 1 : number + 2]
        if arguments.get(here) == file_name and before in arguments and after in arguments:
            return ErrorCall(arguments[before], arguments[after], arguments.get("rdi", -1))
    return None
