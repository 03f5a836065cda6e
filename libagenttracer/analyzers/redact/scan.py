"""Finds all secrets in a text."""

from __future__ import annotations

import re
from bisect import bisect_right
from urllib.parse import unquote

from .names import is_placeholder
from .pairs import find_pairs, unescaped
from .shapes import Span, find_shapes

__all__ = ["find", "normalised"]

_USERINFO = re.compile(rb"[^\s/?#\"'<>@:\\\[]{0,128}:(?P<password>[^\s\"'<>@\\/]{1,512})@")
_PEM = re.compile(rb"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(rb"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----")
_PEM_BODY = re.compile(rb"(?:[A-Za-z0-9+/=\s:,\-]|\\+[rn])*")
_BLOB_MIN = 1024
_BLOB_EDGE = 128  # at its ends it is looked at
_IN_BLOB = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_TO_BLOBS = bytes(97 if c in _IN_BLOB else 32 for c in range(256))
_BLOB = b"a" * _BLOB_MIN
# escapes of what needs none: then tokens and names can be hidden in them
_BEFORE, _BEHIND = 256, 2048  # bytes around them that are looked at
_JSON_ESCAPE = re.compile(rb"\\+u00([2-7][0-9A-Fa-f])")
_PERCENT = re.compile(rb"%(2[DdEe]|3[0-9AaDd]|[46][1-9A-Fa-f]|[57][0-9AaFf])")


def find(data: bytes) -> list[Span]:
    """The secrets in a text, in order, none overlapping another.

    Args:
        data: the text; of one that is not ASCII each character may be one byte of any value.
    """
    spans = _find_plain(data)
    if b"\\u00" in data:
        spans += _find_decoded(data, _JSON_ESCAPE)
    if b"%" in data:
        spans += _find_decoded(data, _PERCENT)
    if len(spans) > 1:
        return _merged(spans)
    return spans


def _find_plain(data: bytes) -> list[Span]:
    stretches = _without_blobs(data)
    spans = [*find_shapes(data, stretches), *find_pairs(data, stretches)]
    if b"://" in data:
        spans += _in_urls(data)
    if b"PRIVATE KEY" in data:
        spans += _pem_blocks(data)
    return spans


def _without_blobs(data: bytes) -> list[tuple[int, int]]:
    """All but the inside of what is long and in base64, as images are: no credential begins there."""
    if len(data) < _BLOB_MIN:
        return [(0, len(data))]
    stretches = []
    done = 0
    blobs = data.translate(_TO_BLOBS)
    position = blobs.find(_BLOB)
    while position >= 0:
        end = blobs.find(b" ", position + _BLOB_MIN)
        if end < 0:
            end = len(data)
        stretches.append((done, position + _BLOB_EDGE))
        done = end - _BLOB_EDGE
        position = blobs.find(_BLOB, end)
    return [*stretches, (done, len(data))]


def _merged(spans: list[Span]) -> list[Span]:
    spans.sort(key=lambda span: (span.start, -span.end))
    merged = [spans[0]]
    for span in spans[1:]:
        last = merged[-1]
        if span.start >= last.end:
            merged.append(span)
        elif span.end > last.end:
            merged[-1] = Span(last.start, span.end, last.kind)
    return merged


def _in_urls(data: bytes) -> list[Span]:
    """Passwords before the host (RFC 3986, 3.2.1)."""
    spans = []
    position = data.find(b"://")
    while position >= 0:
        found = _USERINFO.match(data, position + 3)
        if found and not is_placeholder(found["password"].decode("latin-1")):
            spans.append(Span(*found.span("password"), "password"))
        position = data.find(b"://", position + 3)
    return spans


def _pem_blocks(data: bytes) -> list[Span]:
    """Private keys in PEM (RFC 7468), to the end of what can be one where it is cut off."""
    spans = []
    end = _PEM_END.search(data)
    found = _PEM.search(data)
    while found:
        if end and end.start() < found.end():
            end = _PEM_END.search(data, found.end())
        stop = end.start() if end else _PEM_BODY.match(data, found.end()).end()  # type: ignore[union-attr]
        if stop > found.end() and not is_placeholder(data[found.end() : stop].decode("latin-1")):
            spans.append(Span(found.end(), stop, "private_key"))
        found = _PEM.search(data, max(stop, found.end()))
    return spans


def _find_decoded(data: bytes, escape: re.Pattern[bytes]) -> list[Span]:
    """What is seen only when escape sequences are replaced by the character that they stand for."""
    spans: list[Span] = []
    first = escape.search(data)
    while first:  # a stretch with escapes in it that are not far apart
        stretch = max(0, first.start() - _BEFORE)
        parts: list[bytes] = []
        borders, shifts = [0], [stretch]  # where escapes end in the decoded text, and how far off it is then
        done, length = stretch, 0
        found: re.Match[bytes] | None = first
        while found and found.start() < done + _BEHIND:
            parts += (data[done : found.start()], bytes.fromhex(found[1].decode()))
            length += found.start() - done + 1
            done = found.end()
            borders.append(length)
            shifts.append(done - length)
            found = escape.search(data, done)
        parts.append(data[done : done + _BEHIND])
        for span in _find_plain(b"".join(parts)):
            start, end = (at + shifts[bisect_right(borders, at) - 1] for at in (span.start, span.end))
            spans.append(span._replace(start=start, end=end))
        first = found
    return spans


def normalised(secret: bytes) -> bytes:
    """A secret without the escape sequences of where it stood: the same for all places."""
    for _ in range(4):
        if b"\\" not in secret and b"%" not in secret:
            break
        text = secret.decode("utf-8", "surrogateescape")
        decoded = unquote(unescaped(text), errors="surrogateescape") if "%" in text else unescaped(text)
        changed = decoded.encode("utf-8", "replace" if _lone(decoded) else "surrogateescape")
        if changed == secret:
            break
        secret = changed
    return secret


def _lone(text: str) -> bool:
    """Whether it has surrogates that stand for no byte."""
    return any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in text)
