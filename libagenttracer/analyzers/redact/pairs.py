"""Credentials behind a name that says so, in any text: JSON at any depth of quoting, forms, queries, headers,
options, environment variables, program text.

Places are looked for in the text as it is, escape sequences and all, so that all else stays as it was, and
text that is cut off or malformed is read too. `\\"` after n backslashes is a quote of the depth at which n is
2**depth - 1; a value in quotes ends at the next quote of its own depth, or where a less deep one ends.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator, Sequence

from .names import NameClass, classify, classify_option, is_credential, looks_random
from .shapes import Span

__all__ = ["OPEN_PAIR", "cookie_values", "find_pairs", "scheme_and_secret", "unescaped"]

VALUE_MAX = 65_536
_WORDS = rb"(?:pass|pwd|secret|token|key|auth|cred|cookie|sig|jwt|code|bearer|assertion|verifier)"
_PAIR = re.compile(
    _WORDS + rb"[\w.\-]{0,40}(?:"
    rb"(?P<quote>\\{0,15}[\"'`])?\]?[ \t]{0,8}(?P<sep>=>|:=|[:=](?![:=]))[ \t]{0,8}"
    rb"|\\{0,15}[\"'][ \t]{0,4},\s{0,20}\\{0,15}[\"']value\\{0,15}[\"'][ \t]{0,4}:\s{0,8}"
    rb"|(?P<form>\"\r?\n(?:[\w\-]{1,40}:[^\r\n]{0,200}\r?\n){0,4}\r?\n)"  # multipart/form-data
    rb"|(?P<tag>>)(?=[^<>\s]{1,512}</)"
    rb"|(?P<flag>[ \t]{1,8})(?=\S))"
)
_SEPARATOR = re.compile(rb"[=:>\"' ]")
_NAME_MAX = 64
_MARK = b"[redacted:"
_IN_NAME = bytes(97 if c in b"_-." or (chr(c).isalnum() and c < 128) else 32 for c in range(256))
_BEARER = re.compile(rb"bearer[ \t]{1,8}(?P<value>[\w.~+/=\-]{16,})", re.IGNORECASE)
_LOGIN = re.compile(
    rb" -(?:u|-(?:proxy-)?user)[ =\t]{1,4}\\{0,15}[\"']?([^\s:\"'\\$\[]{1,128}):([^\s\"'\\]{1,256})"
)
_QUOTE = re.compile(rb"(\\*)([\"'`])")
_BARE = re.compile(rb"[^\s\"'`<>(){}\[\],;&|\\]{1,4096}")
_WORD = re.compile(rb"[^\s\"'`<>\\]{1,4096}(?<![,;)\]}])")
_IN_QUERY = re.compile(rb"[^\s\"'`<>&#\\]{1,4096}")
_LINE = re.compile(rb"[^\r\n\"'`\\]{1,8192}")
_CODE = re.compile(rb"[A-Za-z_][\w.]{0,80}[(\[]")
_SHORT_LINE = re.compile(rb"[^\r\n\"'`\\]{1,256}")
_NUMBER = re.compile(rb"-?\d{1,40}(?=\s*[,}\]])")
_ITEM = re.compile(rb"[\s,]{0,200}(\\*)(\")")
_SCHEME = re.compile(r"\s*([A-Za-z][\w\-]{0,31})[ \t]+(?=\S)")
_SIMPLE = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_ESCAPE = re.compile(r"\\(?:u([0-9A-Fa-f]{4})|(.))", re.DOTALL)
_COOKIE = re.compile(r"(?:^|;)\s*([^=;\s]{1,256})=\"?([^;\"]*)")
_ATTRIBUTES = {"path", "domain", "expires", "max-age", "samesite", "priority", "version"}
# a text that ends in a name whose value may still come, or be incomplete
OPEN_PAIR = re.compile(
    r"(?:pass|pwd|secret|token|key|auth|cred|cookie|sig|jwt|code|assertion|verifier)[\w.\-]{0,40}"
    r"\\{0,15}[\"'`]?\]?\s{0,8}(?:(?:=>|:=|[:=])\s{0,8}(?:(?:bearer|basic|token)\s{0,8})?"
    r"(?:\\{0,15}(?:\"[^\"]*|'[^']*)|[^\s\"'`;&]*)$|,[^:]{0,40}:?\s{0,8}\\*\"?(?![^\"]*\")|$)"
    r"|bearer\s{1,8}\S*$|--[\w\-]{1,40}\s{1,8}\S*$|\s(?:-u|--user)\s{1,8}\S*$"
    r"|A[KS]IA[A-Z0-9]{16}[\s\S]{0,200}$",
    re.IGNORECASE,
)


def unescaped(text: str) -> str:
    """With the escape sequences of JSON replaced."""

    def character(match: re.Match[str]) -> str:
        if match[1]:
            return chr(int(match[1], 16))
        return _SIMPLE.get(match[2], match[2])

    return _ESCAPE.sub(character, text)


def find_pairs(data: bytes, stretches: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """All credentials whose name stands in some stretches; linear in the length of the text."""
    if not _SEPARATOR.search(data):
        return  # as in names of files
    low = data.lower()
    position = 0
    for start, stop in stretches:
        position = max(position, start)
        while found := _PAIR.search(low, position, stop):
            position = found.end()
            for span in _behind(data, found):
                yield span
                position = max(position, span.end)
    if b"bearer" in low:
        for found in _BEARER.finditer(data):
            yield Span(*found.span("value"), "token")
    if (b" -u" in data or b" --" in data) and (b"curl" in data or b"http" in data):
        for found in _LOGIN.finditer(data):
            if not found[2].isdigit() and not found[2].startswith(_MARK):
                yield Span(*found.span(2), "password")


def _behind(data: bytes, found: re.Match[bytes]) -> Iterator[Span]:
    """The credentials behind one name."""
    before = data[max(0, found.start() - _NAME_MAX) : found.start()].translate(_IN_NAME)
    start = found.start() - len(before) + before.rfind(b" ") + 1
    quote, flag = found["quote"], found["flag"]
    name_end = found.start("quote") if quote else found.start("flag") if flag else found.end()
    for at in ("sep", "form", "tag"):
        if not quote and found[at]:
            name_end = min(name_end, found.start(at))
    raw = data[start:name_end]
    option = raw.startswith(b"--")
    if flag and not option:
        return
    preceding = data[start - 1 : start] if start else b""
    if data[max(0, start - len(_MARK)) : start] == _MARK:
        return
    if found["form"] and data[max(0, start - 6) : start] != b'name="':
        return
    if (
        found["sep"]
        and not quote
        and preceding in (b'"', b"'")
        and data[found.end() : found.end() + 1] == preceding
    ):
        return  # the quote ends what the name stands in
    if preceding == b"\\" and raw[:1] in b"nrt":
        raw = raw[1:]
    if preceding == b"%":
        raw = raw[2:]
    name = raw.decode("ascii", "replace").strip("-._\"' ,")
    value_word = found["sep"] is None and not flag and not found["form"] and not found["tag"]
    if value_word:
        name = name.partition('"')[0].partition("\\")[0].partition("'")[0]
    equals = found["sep"] == b"="
    tight = equals and data[found.end() - 1 : found.end()] == b"="
    query = tight and preceding in (b"", b"?", b"&", b";")
    meaning = classify_option(name) if option else classify(name, query=query)
    if meaning is None:
        return
    exact = bool(
        (quote and found["sep"] != b"=")
        or query
        or value_word
        or (option and not quote)
        or found["form"]
        or found["tag"]
        or (meaning.kind == "cookie" and preceding in (b"", b"\n", b'"', b"'") and found["sep"] == b":")
        or (tight and name.isupper())
    )
    in_json = bool(quote) or value_word
    yield from _values(
        data, found.end(), meaning, exact=exact, query=query, in_json=in_json, quote=quote or b'"'
    )


def _values(
    data: bytes, position: int, name: NameClass, *, exact: bool, query: bool, in_json: bool, quote: bytes
) -> Iterator[Span]:
    """What stands at a position, behind a name."""
    opening = _QUOTE.match(data, position)
    if opening:
        start, end = opening.end(), _closing(data, opening.end(), opening)
        yield from _checked(data, start, end, name, exact=exact, quoted=True)
        return
    if in_json and data[position : position + 1] == b"[":
        yield from _listed(data, position + 1, name)
        return
    if in_json and name.kind == "password" and (number := _NUMBER.match(data, position)):
        yield Span(*number.span(), name.kind, quote.decode())
        return
    if in_json and data[position : position + 1] in b"{[tfn0123456789":
        return
    if in_json:
        exact = False  # names in quotes have values in quotes; this is prose
    if name.kind in ("authorization", "cookie"):
        form = _LINE if exact or name.kind == "authorization" else _SHORT_LINE
    elif query:
        form = _IN_QUERY
    else:
        form = _WORD if name.kind == "password" else _BARE
    value = form.match(data, position)
    if value is None:
        return
    if not query and (_CODE.match(data, position) or data[value.end() : value.end() + 1] in (b"(", b"[")):
        return  # a call or an item, not a value
    yield from _checked(data, *value.span(), name, exact=exact, quoted=False)


def _listed(data: bytes, position: int, name: NameClass) -> Iterator[Span]:
    """Strings of a JSON array."""
    for _ in range(256):
        opening = _ITEM.match(data, position)
        if not opening:
            return
        end = _closing(data, opening.end(), opening)
        yield from _checked(data, opening.end(), end, name, exact=True, quoted=True)
        position = end + len(opening[1]) + 1


def _closing(data: bytes, start: int, opening: re.Match[bytes]) -> int:
    """Where a value in quotes ends; where it is cut off, the end of the text."""
    quote, depth = opening[2], len(opening[1])
    limit = min(len(data), start + VALUE_MAX)
    position = start
    while True:
        position = data.find(quote, position, limit)
        if position < 0:
            return limit
        slashes = position
        while slashes > start and data[slashes - 1] == 0x5C:
            slashes -= 1
        count = position - slashes
        if count % (2 * (depth + 1)) == depth:
            return position - depth
        if count < depth:
            return slashes
        position += 1


def _checked(
    data: bytes, start: int, end: int, name: NameClass, *, exact: bool, quoted: bool
) -> Iterator[Span]:
    if end <= start:
        return
    raw = data[start:end].decode("latin-1")
    if name.kind == "authorization":
        for a, b in scheme_and_secret(raw, exact=exact or quoted):
            yield Span(start + a, start + b, "authorization")
    elif name.kind == "cookie":
        for a, b in cookie_values(raw):
            if exact or looks_random(raw[a:b]):
                yield Span(start + a, start + b, "cookie")
    elif is_credential(name, unescaped(raw) if quoted else raw, exact=exact, quoted=quoted):
        yield Span(start, end, name.kind)


def scheme_and_secret(value: str, *, exact: bool = True) -> Iterator[tuple[int, int]]:
    """What is secret in the value of an Authorization header: all behind the scheme (RFC 9110, 11.6.2).

    Args:
        exact: it is a header for sure; otherwise it has to have a scheme, and something long behind it.
    """
    scheme = _SCHEME.match(value)
    start = scheme.end() if scheme else 0
    secret = value[start:].rstrip()
    if not secret or secret.startswith(("[redacted:", "$", "{", "<")):
        return
    if exact or (scheme is not None and len(secret) >= 8 and " " not in secret):
        yield start, start + len(secret)


def basic_password(secret: str) -> str | None:
    """The password in the credentials of Basic authentication (RFC 7617)."""
    try:
        _, colon, password = base64.b64decode(secret, validate=True).decode("latin-1").partition(":")
    except (binascii.Error, ValueError):
        return None
    return password if colon and password else None


def cookie_values(value: str) -> Iterator[tuple[int, int]]:
    """What is secret in Cookie and Set-Cookie (RFC 6265): the values; the names and attributes are not."""
    for n, pair in enumerate(_COOKIE.finditer(value)):
        if (n and pair[1].lower() in _ATTRIBUTES) or not pair[2] or pair[2].startswith("[redacted:"):
            continue
        yield pair.start(2), pair.end(2)
