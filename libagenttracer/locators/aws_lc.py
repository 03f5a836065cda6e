"""AWS-LC's ciphers below rustls: EVP_AEAD_CTX_seal and its kin, by symbols or by the errors they report.

rustls encrypts and decrypts each TLS record with one call of these. AWS-LC and BoringSSL have them in common:
where their own TLS is in the image as well, the functions belong to that and are not reported here.
EVP_AEAD_CTX_open does its work with EVP_AEAD_CTX_open_gather, a part of it or a function that it calls. Where
it is called only that is reported: one place to probe is enough, and every record is seen once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..errors import DisassemblerMissing
from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .elf_tables import find_all
from .rustls_marks import has_rustls, stated_crate_version
from .x86 import Code
from .x86_errors import Reporter, error_reporters

__all__ = ["locate"]

_ROLES = {
    "EVP_AEAD_CTX_seal": "aead_seal",
    "EVP_AEAD_CTX_seal_scatter": "aead_seal_scatter",
    "EVP_AEAD_CTX_open": "aead_open",
    "EVP_AEAD_CTX_open_gather": "aead_open_gather",
}
_NEEDED = {"aead_seal", "aead_open"}
_FILE = "crypto/fipsmodule/cipher/aead.c"
_TLS_FILE = "ssl/ssl_lib.cc"
_OWN_FOLDER = "/aws-lc/"  # how the build of the crate aws-lc-sys names the folder of the sources
_PREFIX = re.compile(rb"aws_lc_[0-9a-z_]{1,40}\Z")  # of its symbols; it has the version in it
_MAX_NAMES = 64
# ERR_LIB_CIPHER in openssl/err.h; the reasons in openssl/cipher.h
_LIBRARY_CIPHER = 30
_BAD_DECRYPT, _BUFFER_TOO_SMALL, _NOT_IMPLEMENTED, _INVALID_OPERATION, _ALIASES_INPUT, _TOO_LARGE = (
    101,
    103,
    104,
    112,
    115,
    117,
)
# for each role the reasons that it has, and those that it must not have: it can be a part of another one
_REASONS = {
    "aead_seal": ({_TOO_LARGE, _BUFFER_TOO_SMALL, _ALIASES_INPUT}, {_BAD_DECRYPT}),
    "aead_seal_scatter": ({_ALIASES_INPUT, _INVALID_OPERATION}, {_TOO_LARGE, _BAD_DECRYPT}),
    "aead_open": ({_ALIASES_INPUT, _BAD_DECRYPT}, {_TOO_LARGE}),
    "aead_open_gather": ({_ALIASES_INPUT, _NOT_IMPLEMENTED}, {_TOO_LARGE, _BAD_DECRYPT}),
}
_ADVICE = "report which program this is"
_NOTES = ("TLS records are seen at the cipher: only application data is reported",)


def locate(image: Image) -> Found | NotReachable | None:
    """The functions to probe in an image with AWS-LC below rustls, None if it is not there.

    Raises:
        LibraryError: an image that cannot be believed, or code made to be slow to search.
        DisassemblerMissing: there are no symbols, and capstone is not installed.
    """
    rustls = has_rustls(image)
    if (found := _by_symbols(image, rustls)) is not None:
        return found
    names = _file_names(image, rustls)
    if not names:
        return None
    if image.machine != "x86_64":
        return NotReachable(
            "aws-lc",
            f"it has no symbols, and without them it can be found in x86_64 code only, not {image.machine}",
        )
    return _by_errors(image, names, rustls)


def _by_symbols(image: Image, rustls: bool) -> Found | None:
    if not rustls and _has_own_tls(image, _OWN_FOLDER):
        return None
    points: list[ProbePoint] = []
    for prefix in _symbol_prefixes(image):
        if not prefix and not rustls:  # a libcrypto: the library beside it is where to probe
            continue
        symbols = image.symbols(prefix + name for name in _ROLES)
        found = {role: symbols[prefix + name] for name, role in _ROLES.items() if prefix + name in symbols}
        if found.keys() >= _NEEDED:
            points += _points(image, found)
    return _found(image, points, "symbols", rustls) if points else None


def _symbol_prefixes(image: Image) -> list[str]:
    """What stands before the names of its symbols."""
    found = set()
    for at in _first(find_all(image.data, b"EVP_AEAD_CTX_seal\0", 0, len(image.data))):
        before = image.data[max(0, at - 64) : at]
        match = _PREFIX.search(before)
        if match:
            found.add(match[0].decode("ascii"))
        elif before.endswith(b"\0"):
            found.add("")
    return sorted(found)


def _first(places: Iterable[int]) -> list[int]:
    return [at for _, at in zip(range(_MAX_NAMES), places, strict=False)]


def _points(image: Image, found: dict[str, int]) -> list[ProbePoint]:
    """The places to probe among the functions at some addresses."""
    if {"aead_open", "aead_open_gather"} <= found.keys() and image.machine == "x86_64":
        try:
            calls = Code(image).walk(found["aead_open"]).calls
        except DisassemblerMissing:  # both are probed then, and the inner call is left out when it happens
            calls = []
        if any(call.target == found["aead_open_gather"] for call in calls):
            found = {role: address for role, address in found.items() if role != "aead_open"}
    offsets = ((role, image.code_offset_of(address)) for role, address in found.items())
    return [ProbePoint(role, offset) for role, offset in offsets if offset is not None]


def _found(image: Image, points: Iterable[ProbePoint], method: str, rustls: bool) -> Found:
    version = stated_crate_version(image, "aws-lc-rs")
    return Found("aws-lc", tuple(points), method, version, "certain" if rustls else "likely", _NOTES)


def _has_own_tls(image: Image, folder: str) -> bool:
    """Whether the TLS library of the same sources is in the image."""
    return any(text.endswith(folder + _TLS_FILE) for _, text in image.strings_ending(_TLS_FILE))


def _file_names(image: Image, rustls: bool) -> list[int]:
    """The addresses of the source file's names that a copy without a TLS library of its own has."""
    found = []
    for address, text in image.strings_ending(_FILE)[:_MAX_NAMES]:
        folder = text[: -len(_FILE)]
        if (rustls or folder.endswith(_OWN_FOLDER)) and not _has_own_tls(image, folder):
            found.append(address)
    return found


def _by_errors(image: Image, names: Iterable[int], rustls: bool) -> Found | NotReachable | None:
    code = Code(image)
    copies = [reporters for name in names if (reporters := error_reporters(code, name))]
    if not copies:
        return None  # a text that no code refers to
    points: list[ProbePoint] = []
    for reporters in copies:
        starts = {role: [item.start for item in reporters if _is(item, role)] for role in _ROLES.values()}
        found = {role: places[0] for role, places in starts.items() if places}
        doubtful = code.doubtful_starts(found.values())
        for function, role in _ROLES.items():
            if len(starts[role]) > 1 or found.get(role) in doubtful:
                return NotReachable(
                    "aws-lc",
                    f"more than one function, or only a part of one, reports the errors of {function}",
                    _ADVICE,
                )
        if not found.keys() >= _NEEDED:
            return NotReachable(
                "aws-lc",
                "no functions report the errors of EVP_AEAD_CTX_seal and EVP_AEAD_CTX_open",
                _ADVICE,
            )
        points += _points(image, found)
    return _found(image, points, "error calls", rustls)


def _is(reporter: Reporter, role: str) -> bool:
    """Whether a function reports the errors of a role."""
    reasons = {error.reason for error in reporter.errors if error.library in (_LIBRARY_CIPHER, -1)}
    needed, forbidden = _REASONS[role]
    return needed <= reasons and not forbidden & reasons
