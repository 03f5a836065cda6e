"""ring 0.17 below rustls: the functions of its ciphers, found by the tables that point to them.

ring describes each cipher by a constant (`ring::aead::Algorithm`): three functions, which set up a key,
encrypt and decrypt, the length of the key, and the cipher's number. AES-128 and AES-256 share the last two.
Nothing else looks like this pair of constants, whatever the compiler made of the functions themselves. How
these take their arguments is up to the compiler too, so that it is read from their code: both look first at
what kind of key they got, and encrypting reads one word of the caller's stack, decrypting two.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .ring_arguments import ArgumentReader, Arguments
from .rustls_marks import has_rustls, stated_crate_version

__all__ = ["locate"]

_AES_128, _AES_256, _CHACHA20_POLY1305 = (0, 16), (1, 32), (2, 32)  # number and length of the key in bytes
# the longest text that one nonce is good for, which the constants held up to ring 0.17.7
_LIMITS = (16 * ((1 << 32) - 2), 64 * ((1 << 32) - 1))
_WORD = 8
_CONSTANT = struct.Struct("<QQQ")  # what follows the functions; the last word only with a limit
_AT_FIXED_PLACE = re.compile(
    rb"(?=((?:[^\0]...\0{4}|.[^\0]..\0{4}|..[^\0].\0{4}){3})[\x10\x20]\0{7}.{5}\0{3})", re.DOTALL
)
_MAX_POINTERS, _MAX_CONSTANTS, _MOST_PAIRS = 1 << 23, 4096, 8
_SOURCES = "src/aead/"
_SEAL = Arguments("rsi", frozenset((1,)))
_OPEN = Arguments("rsi", frozenset((1, 2)))
_ADVICE = "report which program this is"
_NOTES = ("TLS records are seen at the cipher: only application data is reported",)


_Pair = tuple[int, int]  # the addresses of two functions: one encrypts, one decrypts


class _Algorithm(NamedTuple):
    """A constant that describes a cipher: the addresses of its functions, and which cipher it is."""

    init: int
    seal: int
    open: int
    cipher: tuple[int, int]


def locate(image: Image) -> Found | NotReachable | None:
    """The functions to probe in an image with rustls that can use ring, None if there is none.

    Raises:
        LibraryError: an image that cannot be believed.
        DisassemblerMissing: capstone is not installed.
    """
    if not has_rustls(image):
        return None
    aes, others = _pairs(_constants(image) if image.machine == "x86_64" else ())
    few = len(aes) + len(others) <= _MOST_PAIRS
    points, known = _points(image, aes, others) if few else ([], False)
    if known:
        version = stated_crate_version(image, "ring", _SOURCES)
        return Found("ring", tuple(points), "cipher descriptions", version, "certain", _NOTES)
    if not aes and not _has_ciphers(image):
        return None
    if image.machine != "x86_64":
        reason, advice = f"it can be found in x86_64 code only, not {image.machine}", ""
    elif not aes:
        reason, advice = "the constants that describe its ciphers are not as expected", _ADVICE
    elif not few:
        reason, advice = "too many constants look as if they described its ciphers", _ADVICE
    else:
        reason, advice = "its functions do not take their arguments as expected", _ADVICE
    return NotReachable("ring", reason, advice)


def _has_ciphers(image: Image) -> bool:
    """Whether the names of the sources of its ciphers are in the image."""
    return any(
        re.search(rb"/ring-0\.17\.\d{1,4}/\Z", image.data[max(0, at - 24) : at]) is not None
        for at in image.find(_SOURCES.encode(), limit=_MAX_CONSTANTS)
    )


def _constants(image: Image) -> Iterator[_Algorithm]:
    """What may be descriptions of ciphers."""
    found = _moving_constants(image) if image.position_independent else _fixed_constants(image)
    for number, item in enumerate(found):
        if number == _MAX_CONSTANTS:
            return
        yield item


def _moving_constants(image: Image) -> Iterator[_Algorithm]:
    """Those in an image that can lie anywhere: three pointers that move with it, side by side."""
    code = image.code()
    begin, end = code.address, code.address + code.size_bytes
    pointers: dict[int, int] = {}
    for _, (place, target) in zip(range(_MAX_POINTERS), image.relative_relocations(), strict=False):
        if begin <= target < end:
            pointers[place] = target
    for place, init in pointers.items():
        seal, opens = pointers.get(place + _WORD), pointers.get(place + 2 * _WORD)
        if seal is None or opens is None or place + 3 * _WORD in pointers:
            continue
        cipher = _cipher(image.read(place + 3 * _WORD, _CONSTANT.size))
        if cipher is not None:
            yield _Algorithm(init, seal, opens, cipher)


def _fixed_constants(image: Image) -> Iterator[_Algorithm]:
    """Those in an image that has a fixed place: three addresses of code side by side."""
    code = image.code()
    begin, end = code.address, code.address + code.size_bytes
    for segment in image.segments:
        if segment.executable:
            continue
        first, last = segment.offset, segment.offset + segment.file_bytes
        for match in _AT_FIXED_PLACE.finditer(image.data, first, last):
            init, seal, opens = struct.unpack("<3Q", match[1])
            cipher = _cipher(image.data[match.end(1) : min(match.end(1) + _CONSTANT.size, last)])
            if cipher is not None and begin <= min(init, seal, opens) and max(init, seal, opens) < end:
                yield _Algorithm(init, seal, opens, cipher)


def _cipher(words: bytes) -> tuple[int, int] | None:
    """Which cipher a description is about, by what follows its functions; None if it is no description."""
    key_bytes, number, more = _CONSTANT.unpack(words.ljust(_CONSTANT.size, b"\0"))
    cipher = (more & 0xFF if number in _LIMITS else number & 0xFF), key_bytes
    return cipher if cipher in (_AES_128, _AES_256, _CHACHA20_POLY1305) else None


def _pairs(constants: Iterable[_Algorithm]) -> tuple[set[_Pair], set[_Pair]]:
    """The functions that encrypt and decrypt, by the constants: of AES, and what may be of ChaCha20-Poly1305.

    The first are those that the constants for both lengths of keys have in common.
    """
    by_cipher: dict[tuple[int, int], set[_Pair]] = {}
    for item in constants:
        if len({item.init, item.seal, item.open}) == 3:
            by_cipher.setdefault(item.cipher, set()).add((item.seal, item.open))
    aes = by_cipher.get(_AES_128, set()) & by_cipher.get(_AES_256, set())
    return aes, by_cipher.get(_CHACHA20_POLY1305, set()) if aes else set()


def _points(image: Image, aes: set[_Pair], others: set[_Pair]) -> tuple[list[ProbePoint], bool]:
    """The places to probe, and whether all that there must be take their arguments as expected.

    Some other table can look like the one constant for ChaCha20-Poly1305, but not its functions too.
    """
    reader = ArgumentReader(image, {address for pair in aes | others for address in pair}) if aes else None
    points = []
    expected: set[_Pair] = set()
    for pair in sorted(aes | others):
        offsets = [image.code_offset_of(address) for address in pair]
        if reader and [reader.arguments(address) for address in pair] == [_SEAL, _OPEN]:
            expected.add(pair)
            names = zip(("ring_seal", "ring_open"), offsets, strict=True)
            points += [ProbePoint(name, offset) for name, offset in names if offset is not None]
    known = bool(aes) and aes <= expected and (not others or not others.isdisjoint(expected))
    return points, known
