"""OpenSSL 3 linked in without symbols, on x86-64: its functions are known by their own names.

`ERR_raise` calls `ERR_set_debug(__FILE__, __LINE__, __func__)`, so that the name of each function that can
report an error stands in the file, and only that function's code refers to it, or code that it was inlined
into. `ssl_write_internal` and `ssl_read_internal` do the work for all functions that write and read:

    SSL_write(s, buf, int num) = ssl_write_internal(s, buf, num, &written)
    SSL_write_ex(s, buf, size_t num, size_t *written) = the same
    SSL_write_ex2(s, buf, size_t num, uint64_t flags, size_t *written) = the same with flags, from 3.3 on
    SSL_read, SSL_read_ex: likewise ssl_read_internal(s, buf, num, size_t *read)

So each function that names one of these is probed: ssl_write_internal itself has the arguments of
SSL_write_ex, or from 3.3 on of SSL_write_ex2. What it was inlined into has those of SSL_write if it names
that too. Else the fifth argument tells, which only SSL_write_ex2 and its like use.
"""

from __future__ import annotations

import re

from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .x86 import Code
from .x86_walk import Walk

__all__ = ["MARKS", "locate_stripped"]

_WRITE, _READ = "ssl_write_internal", "ssl_read_internal"
MARKS = (_WRITE, _READ)
# how many functions may name it: SSL_do_handshake becomes a part of SSL_connect and SSL_accept, which have
# its argument; a function that SSL_new became a part of has another one
_OTHERS = {"SSL_do_handshake": 3, "SSL_new": 1, "SSL_sendfile": 1}
_FILE_ARGUMENT, _LINE_ARGUMENT, _NAME_ARGUMENT, _FIFTH_ARGUMENT = "rdi", "rsi", "rdx", "r8"
_MOST_LINES = 100_000
_FLAGS_SINCE = (3, 3)
_MOST_FUNCTIONS = 12  # those named above, and a few more that they may be inlined into
_NUMBER = re.compile(r"(\d+)\.(\d+)")


def locate_stripped(image: Image, version: str) -> Found | NotReachable | None:
    """The functions to probe; None if the names are there but nothing reports errors with them.

    Args:
        image: for x86-64, with at least one of `MARKS` in it.
        version: OpenSSL's, "" if that is not known.

    Raises:
        LibraryError: code made to be slow to search.
        DisassemblerMissing: capstone is not installed.
    """
    code = Code(image)
    texts = {name: image.strings(name) for name in (*MARKS, *_OTHERS, "SSL_write", "SSL_read")}
    names = {address: name for name, addresses in texts.items() for address in addresses}
    places = code.references(*(address for name in (*MARKS, *_OTHERS) for address in texts[name]))
    starts = sorted(set(code.function_starts(places).values()))
    functions = {start: code.walk(start) for start in starts}
    carried = {start: _names_carried(walk, names) for start, walk in functions.items()}
    if not any(carried.values()):
        return None
    found = _data_functions(functions, carried)
    others = _others(carried)
    doubtful = code.doubtful_starts(start for _, start in (*found, *others))
    doubtful.update(start for start in starts if image.function_at(start) is None)
    problem = _problem(found, doubtful, version)
    if problem:
        return NotReachable("openssl", problem, "report which program this is")
    points = (
        (role, image.code_offset_of(start)) for role, start in (*found, *others) if start not in doubtful
    )
    return Found(
        "openssl",
        tuple(ProbePoint(role, offset) for role, offset in points if offset is not None),
        "function names in strings",
        version,
    )


def _names_carried(walk: Walk, names: dict[int, str]) -> frozenset[str]:
    """The names with which a function reports errors: third arguments behind a line number."""
    return frozenset(
        names[text]
        for call in walk.calls
        if (text := call.arguments.get(_NAME_ARGUMENT, 0)) in names
        and _FILE_ARGUMENT in call.arguments
        and 0 < call.arguments.get(_LINE_ARGUMENT, 0) < _MOST_LINES
    )


def _data_functions(functions: dict[int, Walk], carried: dict[int, frozenset[str]]) -> list[tuple[str, int]]:
    """Role and address of each function that reads or writes."""
    found = []
    for start, names in carried.items():
        if _READ in names:
            found.append(("SSL_read" if "SSL_read" in names else "SSL_read_ex", start))
        elif _WRITE in names and "SSL_write" in names:
            found.append(("SSL_write", start))
        elif _WRITE in names:
            has_flags = functions[start].uses(_FIFTH_ARGUMENT)
            found.append(("SSL_write_ex2" if has_flags else "SSL_write_ex", start))
    return found


def _problem(found: list[tuple[str, int]], doubtful: set[int], version: str) -> str:
    """Why these functions should not be probed, "" if they can be."""
    roles = {role for role, _ in found}
    match = _NUMBER.match(version)
    has_flags = "SSL_write_ex2" in roles
    problem = ""
    if not any(role.startswith("SSL_read") for role in roles) or len(found) > _MOST_FUNCTIONS:
        problem = "the functions that read cannot be found in it by their names"
    elif not any(role.startswith("SSL_write") for role in roles):
        problem = "the functions that write cannot be found in it by their names"
    elif any(start in doubtful for _, start in found):
        problem = "where its functions begin cannot be told from its unwinding information"
    elif match and ((int(match[1]), int(match[2])) >= _FLAGS_SINCE) != has_flags:
        problem = f"its functions do not take the arguments that those of OpenSSL {version} take"
    return problem


def _others(carried: dict[int, frozenset[str]]) -> list[tuple[str, int]]:
    """What else can be told for certain: the functions that begin a handshake, SSL_new, SSL_sendfile."""
    found = []
    for name, most in _OTHERS.items():
        starts = [start for start, names in carried.items() if name in names]
        if len(starts) <= most:
            found += [(name, start) for start in starts]
    return found
