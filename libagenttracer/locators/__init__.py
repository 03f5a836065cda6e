"""Where to probe in an ELF image: one module for each TLS stack. Pure: bytes in, probe points out.

An image is what anybody may have made of it: it costs bounded time and memory, and a doubtful finding is not
probed but reported.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from ..errors import DisassemblerMissing, LibraryError
from . import aws_lc, boringssl, gnutls, go, managed, nss, openssl, ring
from .base import Found, NotReachable, ProbePoint
from .elf import Image

__all__ = [
    "INSTALL_CAPSTONE",
    "LOCATORS",
    "Found",
    "Image",
    "NotReachable",
    "ProbePoint",
    "locate_all",
]

Locator = Callable[[Image], Found | NotReachable | None]

# by the stack that each looks for; cheap ones first
LOCATORS: tuple[tuple[str, Locator], ...] = (
    ("gnutls", gnutls.locate),
    ("nss", nss.locate),
    ("java", managed.locate),
    ("go", go.locate),
    ("openssl", openssl.locate),
    ("boringssl", boringssl.locate),
    ("aws-lc", aws_lc.locate),
    ("ring", ring.locate),
)
INSTALL_CAPSTONE = "install capstone: pip install capstone"  # the advice where it is needed and missing
# what a broken file can lead to in code that computes with its numbers
_BROKEN = (ArithmeticError, LookupError, ValueError, struct.error)


def locate_all(image: Image) -> list[Found | NotReachable]:
    """All TLS stacks in an image; empty if there is none.

    Raises:
        LibraryError: an image that cannot be believed.
    """
    found: list[Found | NotReachable] = []
    for stack, locate in LOCATORS:
        try:
            result = locate(image)
        except DisassemblerMissing as error:
            result = NotReachable(stack, error.reason, INSTALL_CAPSTONE)
        except LibraryError:
            raise
        except _BROKEN as error:
            raise LibraryError(image.path, f"cannot be read as an ELF file ({error})") from error
        if result is not None:
            found.append(result)
    return found
