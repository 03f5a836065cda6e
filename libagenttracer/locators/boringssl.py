"""BoringSSL, which is always linked in: by its symbols, or by the errors that its functions report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .x86 import Code
from .x86_errors import Reporter, error_reporters

__all__ = ["has_own_marks", "locate"]

_FILE = "ssl_lib.cc"
# in BoringSSL and its descendant AWS-LC, never in OpenSSL or LibreSSL
_OWN_SYMBOLS = ("SSL_CTX_set_grease_enabled", "SSL_CTX_set_custom_verify", "SSL_get_peer_full_cert_chain")
_FUNCTIONS = (
    "SSL_read",
    "SSL_write",
    "SSL_do_handshake",
    "SSL_connect",
    "SSL_accept",
    "SSL_new",
    "SSL_clear",
    "SSL_free",
)
# ERR_LIB_SSL in openssl/err.h; the reasons in openssl/err.h and openssl/ssl.h
_LIBRARY_SSL = 16
_NOT_CALLED = 66  # ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED: of those that must not be called for QUIC
_BAD_LENGTH, _CONNECTION_TYPE_NOT_SET, _NULL_CONTEXT, _HANDSHAKE_FAILURE, _UNINITIALIZED = (
    111,
    134,
    185,
    215,
    226,
)
_WRITE_ORDER = (_NOT_CALLED, _UNINITIALIZED, _HANDSHAKE_FAILURE, _BAD_LENGTH)
_WRITE = frozenset(_WRITE_ORDER)
_WRITE_LINES = (
    0,
    5,
    20,
    26,
)  # of the same, relative to the first; where they differ, the match is less certain
_PEEK_BEFORE_WRITE = range(10, 40)  # how many lines SSL_peek's error is before SSL_write's first
_MOST_HANDSHAKES = 3  # SSL_do_handshake, and SSL_connect and SSL_accept where it is part of them


def locate(image: Image) -> Found | NotReachable | None:
    """The functions to probe in an image with BoringSSL in it, None if it is not.

    SSL_write is the function that reports four certain errors. SSL_read consists of SSL_peek, whose error is
    the last one of its kind before those, and of forgetting what was read: so it writes to memory, and
    SSL_peek does not.

    Raises:
        LibraryError: as of `Image.symbols`, or code made to be slow to search.
        DisassemblerMissing: there are no symbols, and capstone is not installed.
    """
    symbols = image.symbols(_FUNCTIONS)
    names = image.strings_ending(_FILE)
    if {"SSL_read", "SSL_write"} <= symbols.keys() and has_own_marks(image):
        return Found(
            "boringssl", _points(image, ((name, symbols.get(name)) for name in _FUNCTIONS)), "symbols"
        )
    if not names:
        return None
    if image.machine != "x86_64":
        return NotReachable(
            "boringssl",
            f"it has no symbols, and without them it can be found in x86_64 code only, not {image.machine}",
        )
    return _locate_by_errors(image, [address for address, _ in names])


def has_own_marks(image: Image) -> bool:
    """Whether functions of OpenSSL's names in an image are BoringSSL's, or those of AWS-LC."""
    return bool(image.symbols(_OWN_SYMBOLS) or image.strings_ending(_FILE))


def _points(image: Image, functions: Iterable[tuple[str, int | None]]) -> tuple[ProbePoint, ...]:
    offsets = ((name, image.code_offset_of(address)) for name, address in functions if address is not None)
    return tuple(ProbePoint(name, offset) for name, offset in offsets if offset is not None)


def _locate_by_errors(image: Image, names: Sequence[int]) -> Found | NotReachable | None:
    code = Code(image)
    copies = [reporters for name in names if (reporters := error_reporters(code, name))]
    if not copies:
        return None  # a text that no code refers to
    points: list[ProbePoint] = []
    notes: list[str] = []
    certain = True
    for reporters in copies:
        found = _functions(reporters)
        doubtful = code.doubtful_starts(item.start for _, item in found)
        found = [(role, item) for role, item in found if item.start not in doubtful]
        write = next((item for role, item in found if role == "SSL_write"), None)
        if write is None:
            return NotReachable(
                "boringssl",
                "none of its functions, or more than one, reports the errors of SSL_write",
                "if it is used for QUIC only there is no SSL_write; else report which program this is",
            )
        certain &= _lines(write) == _WRITE_LINES
        if all(role != "SSL_read" for role, _ in found):
            notes.append("only what is sent: SSL_read cannot be told from other functions")
        points += _points(image, ((role, item.start) for role, item in found))
    confidence: Literal["certain", "likely"] = "certain" if certain else "likely"
    return Found("boringssl", tuple(points), "error calls", confidence=confidence, notes=tuple(notes))


def _functions(reporters: Sequence[Reporter]) -> list[tuple[str, Reporter]]:
    """Those that can be told by their errors, with their roles; none of a role that several could have."""
    found: list[tuple[str, Reporter]] = []
    # SSL_do_handshake may be a part of it
    writers = [item for item in reporters if _errors(item).keys() - {_CONNECTION_TYPE_NOT_SET} == _WRITE]
    if len(writers) == 1:
        found.append(("SSL_write", writers[0]))
        readers = _readers(reporters, _errors(writers[0])[_NOT_CALLED])
        found += [("SSL_read", item) for item in readers if len(readers) == 1]
    handshakes = _alone(reporters, _CONNECTION_TYPE_NOT_SET)
    if (
        len(handshakes) <= _MOST_HANDSHAKES
        and len({error.line for item in handshakes for error in item.errors}) == 1
    ):
        found += [("SSL_do_handshake", item) for item in handshakes]
    new = _alone(reporters, _NULL_CONTEXT)
    return [*found, *(("SSL_new", item) for item in new if len(new) == 1)]


def _errors(reporter: Reporter) -> dict[int, int]:
    """The lowest line for each reason of the SSL library that a function reports."""
    found: dict[int, int] = {}
    for reason, line, library in sorted(reporter.errors, reverse=True):
        if library in (_LIBRARY_SSL, -1):
            found[reason] = line
    return found


def _lines(write: Reporter) -> tuple[int, ...]:
    errors = _errors(write)
    return tuple(errors[reason] - errors[_NOT_CALLED] for reason in _WRITE_ORDER)


def _readers(reporters: Iterable[Reporter], write_line: int) -> list[Reporter]:
    """SSL_read, when SSL_peek is a part of it: both report SSL_peek's error, one of them writes to memory."""
    lone: dict[int, list[Reporter]] = {}
    for item in _alone(reporters, _NOT_CALLED):
        line = min(error.line for error in item.errors)
        if write_line - line in _PEEK_BEFORE_WRITE:
            lone.setdefault(line, []).append(item)
    return [item for item in lone[max(lone)] if item.walk.stores] if lone else []


def _alone(reporters: Iterable[Reporter], reason: int) -> list[Reporter]:
    """The functions that report nothing else."""
    return [item for item in reporters if item.reasons == {reason} and _errors(item).keys() == {reason}]
