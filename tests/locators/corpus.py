"""Holds what the locators find without symbols against the symbols of the same file.

    python -m tests.locators.corpus FILE...

Give it programs and libraries that have OpenSSL or BoringSSL linked in, with or without symbols. Prints two
lines for each; the exit status is 1 if any function was located where it is not.
"""

from __future__ import annotations

import mmap
import os
import resource
import sys
import time
from collections.abc import Sequence

from libagenttracer.errors import LibraryError
from libagenttracer.locators import boringssl, openssl
from libagenttracer.locators.base import Found, NotReachable
from libagenttracer.locators.elf import Image
from libagenttracer.locators.x86 import Code

from .images import wiped

__all__ = ["compare", "main"]

# by which symbols a function that is located by its errors can go
_INTERNAL = {
    "SSL_read_ex": ("SSL_read_ex", "ssl_read_internal"),
    "SSL_write_ex": ("SSL_write_ex", "ssl_write_internal"),
    "SSL_write_ex2": ("SSL_write_ex2", "ssl_write_internal"),
    "SSL_do_handshake": ("SSL_do_handshake", "SSL_connect", "SSL_accept"),
}


def compare(image: Image, *, unwinding: bool = True) -> tuple[Found | NotReachable | None, list[str]]:
    """What is located in a copy without symbols, and what is wrong about it by the symbols of the image.

    Args:
        image: with symbols, else nothing can be wrong.
        unwinding: whether the copy has its unwinding information, which tells where functions begin.
    """
    copy = wiped(image, unwinding=unwinding)
    result = openssl.locate(copy) or boringssl.locate(copy)
    if not isinstance(result, Found):
        return result, []
    truth = image.symbols({name for point in result.points for name in _names(point.function)})
    code = Code(image)
    wrong = []
    for role, offset in result.points:
        address = image.address_of(offset) or 0
        known = {truth[name] for name in _names(role) if name in truth}
        if (
            truth
            and address not in known
            and not known & set(code.function_starts(code.callers(address)).values())
        ):
            wrong.append(f"{role} at {offset:#x}")
    return result, wrong


def _names(role: str) -> tuple[str, ...]:
    return _INTERNAL.get(role, (role,))


def main(paths: Sequence[str]) -> int:
    """Compares all files; 1 if anything is wrong."""
    failed = 0
    for path in paths:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
            try:
                image = Image(data, path=path, machine=os.uname().machine)
                for unwinding in (True, False):
                    text, wrong = _line(image, unwinding)
                    print(f"{path}{'' if unwinding else ' (no unwinding)'}: {text}", flush=True)
                    failed |= wrong
            except LibraryError as error:
                print(error)
    print(f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")
    return int(failed)


def _line(image: Image, unwinding: bool) -> tuple[str, bool]:
    began = time.monotonic()
    known = len(image.symbols(["SSL_read", "SSL_write"])) == 2
    result, wrong = compare(image, unwinding=unwinding)
    text = "none" if result is None else f"{result.stack}: "
    if isinstance(result, Found):
        places = " ".join(f"{point.function}={point.offset:#x}" for point in result.points)
        text += f"{result.version} ({result.confidence}) {places}"
    elif result is not None:
        text += result.reason
    verdict = f"WRONG: {', '.join(wrong)}" if wrong else "as its symbols say" if known else "no symbols"
    return f"{text}: {verdict}; {time.monotonic() - began:.1f} s", bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
