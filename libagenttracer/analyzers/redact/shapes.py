"""Tokens that are known by their form, wherever they stand."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from .names import looks_random

__all__ = ["PREFIX_AT_END", "Span", "find_shapes"]


class Span(NamedTuple):
    """Where a secret stands.

    Attributes:
        start, end: its place.
        kind: for the replacement.
        quote: what has to be put around the replacement, as the secret had none.
    """

    start: int
    end: int
    kind: str
    quote: str = ""


_W = r"[A-Za-z0-9_\-]"
_A = r"[A-Za-z0-9]"
# kind, how it begins (a literal), how it goes on
_SHAPES = [
    ("anthropic", "sk-ant-", _W + "{20,}"),
    ("openrouter", "sk-or-", _W + "{20,}"),
    ("openai", "sk-", r"(?:proj|svcacct|admin|None)-" + _W + "{20,}"),
    ("api_key", "sk-", _W + "{20,}"),
    ("stripe", "sk_", rf"(?:live|test)_{_A}{{16,}}"),
    ("stripe", "rk_", rf"(?:live|test)_{_A}{{16,}}"),
    ("stripe", "whsec_", r"[A-Za-z0-9+/]{24,}={0,2}"),
    ("github", "gh", rf"[pousr]_{_A}{{30,}}"),
    ("github", "github_pat_", r"\w{30,}"),
    (
        "gitlab",
        "gl",
        rf"(?:pat|dt|rt|cbt|ptt|agent|oas|soat|ffct|imt|ft)-{_W}{{20,}}(?:\.\w{{2}}\.\w{{4,20}})?",
    ),
    ("slack", "xox", rf"[abeoprs](?:\.xox[bp])?-{_W}{{10,}}"),
    ("slack", "xapp-", _W + "{20,}"),
    ("aws_key_id", "A", r"(?:KIA|SIA)[A-Z0-9]{16}(?![A-Za-z0-9])"),
    ("google", "AIza", _W + "{35}(?!" + _W + ")"),
    ("google", "ya29.", r"[\w.\-]{20,}"),
    ("google", "GOCSPX-", _W + "{20,}"),
    ("huggingface", "hf_", _A + "{30,}"),
    ("huggingface", "api_org_", _A + "{30,}"),
    ("npm", "npm_", _A + "{36,}"),
    ("pypi", "pypi-", _W + "{50,}"),
    ("jwt", "eyJ", rf"{_W}{{10,}}\.[eE]?{_W}{{8,}}\.{_W}{{0,}}(?:\.{_W}{{1,}}\.{_W}{{1,}})?"),
    ("sendgrid", "SG.", rf"{_W}{{16,32}}\.{_W}{{32,}}"),
    ("twilio", "SK", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    ("mailgun", "key-", r"[0-9a-f]{32}(?![A-Za-z0-9])"),
    ("digitalocean", "do", r"[por]_v1_[0-9a-f]{40,}"),
    ("groq", "gsk_", _A + "{40,}"),
    ("xai", "xai-", _A + "{40,}"),
    ("replicate", "r8_", _A + "{30,}"),
    ("perplexity", "pplx-", _A + "{30,}"),
    ("tavily", "tvly-", _W + "{20,}"),
    ("databricks", "dapi", r"[0-9a-f]{32}(?:-\d)?(?![A-Za-z0-9])"),
    ("shopify", "shp", r"(?:at|ca|pa|ss)_[0-9a-fA-F]{32}"),
    ("linear", "lin_", rf"(?:api|oauth)_{_A}{{32,}}"),
    ("notion", "ntn_", _A + "{40,}"),
    ("vault", "hv", rf"[sbr]\.{_W}{{24,}}"),
    ("grafana", "gl", r"(?:sa|c)_[\w=]{32,}"),
    ("supabase", "sbp_", r"[0-9a-f]{40}"),
    ("postman", "PMAK-", r"[0-9a-f]{24}-[0-9a-f]{34}"),
    ("figma", "figd_", _W + "{32,}"),
    ("atlassian", "ATATT3", _W + "{40,}=?[0-9A-F]{0,8}"),
    ("age", "AGE-SECRET-KEY-1", r"[0-9A-Z]{50,}"),
    ("planetscale", "pscale_", rf"(?:tkn|oauth|pw)_{_W}{{32,}}"),
    ("sentry", "sntry", rf"[su]_{_W}{{32,}}"),
    ("doppler", "dp.", rf"(?:pt|st|ct|sa)\.(?:{_W}{{1,40}}\.)?{_A}{{40,}}"),
]


def _combined() -> re.Pattern[bytes]:
    """All shapes, those with the same first character together: that is what the search looks for."""
    groups: dict[str, list[str]] = defaultdict(list)
    for n, (_, prefix, rest) in enumerate(_SHAPES):
        groups[prefix[0]].append(f"(?P<n{n}>{re.escape(prefix[1:])}{rest})")
    return re.compile("|".join(f"{first}(?:{'|'.join(some)})" for first, some in groups.items()).encode())


_ANY = _combined()
_UNMISTAKABLE = {"anthropic", "github"}
_KINDS = {f"n{n}": kind for n, (kind, _, _) in enumerate(_SHAPES)}
# a text whose end may be the beginning of a token, longer than its prefix
PREFIX_AT_END = re.compile(
    r"(?<![A-Za-z0-9])(?:"
    + "|".join(re.escape(prefix) for prefix in dict.fromkeys(s[1] for s in _SHAPES) if len(prefix) > 2)
    + r"|gh[pousr]_|gl(?:pat|dt|rt)-|A[KS]IA|do[por]_v1_|hv[sbr]\.)[\w.\-+/=]*$"
)
_RUN_MIN = 20
_RUN_CHARS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-."
_TO_RUNS = bytes(97 if c in _RUN_CHARS else 32 for c in range(256))
_BEYOND = 64  # a few forms have other characters in them
_RUN = b"a" * _RUN_MIN
# what can stand before a token although it is a letter or digit: the end of an escape sequence
_ESCAPED = re.compile(rb"(?:\\[nrtbfv]|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\[[0-9;]{0,12}m)$")
_COLOUR = re.compile(rb"[0-9]{0,3}m")
_ESCAPES = {
    b"\\": re.compile(rb"[nrtbfv]|u[0-9A-Fa-f]{4}"),
    b"%": re.compile(rb"[0-9A-Fa-f]{2}"),
    b"[": _COLOUR,
    b";": _COLOUR,
}
_TELEGRAM = re.compile(rb"A[A-Za-z0-9_\-]{33,34}(?![A-Za-z0-9_\-])")
_TELEGRAM_ID = re.compile(rb"(?:^|[^0-9])([0-9]{8,10})(?::|%3[Aa])$")
_AWS_SECRET = re.compile(rb"(?<![A-Za-z0-9/+=])[A-Za-z0-9/+]{40}(?![A-Za-z0-9/+=])")
_AWS_NEAR = 200
_HEX = re.compile(rb"[0-9a-fA-F]*$")
_SOLID = re.compile(rb"[A-Za-z0-9]{16,}")


def find_shapes(data: bytes, stretches: Sequence[tuple[int, int]]) -> Iterator[Span]:
    """All tokens of known forms that begin in some stretches; linear in the length of the text."""
    runs = data.translate(_TO_RUNS)
    for start, stop in stretches:
        position = runs.find(_RUN, start, stop)
        while position >= 0:
            end = runs.find(b" ", position + _RUN_MIN)
            if end < 0:
                end = len(data)
            yield from _in_run(data, position, end)
            position = runs.find(_RUN, end, stop)


def _in_run(data: bytes, start: int, end: int) -> Iterator[Span]:
    at: Iterable[re.Match[bytes] | None]
    if (
        data.find(b"-", start, end) < 0
        and data.find(b"_", start, end) < 0
        and data.find(b".", start, end) < 0
    ):
        # as in base64: only at its beginning
        at = (_ANY.match(data, start), *_behind_escape(data, start))
    else:
        at = _ANY.finditer(data, start, end + _BEYOND)
    for found in at:
        if found is None or found.start() >= end:
            continue
        kind = _KINDS[found.lastgroup or ""]
        if kind not in _UNMISTAKABLE and _inside_word(data, found.start()):
            continue
        if kind == "api_key" and not _is_key(found[0]):
            continue
        yield Span(found.start(), found.end(), kind)
        if kind == "aws_key_id":
            yield from _aws_secrets(data, found)
    if data[start - 1 : start] in (b":", b"A", b"a"):
        yield from _telegram(data, start)


def _inside_word(data: bytes, start: int) -> bool:
    """Whether a letter or digit stands before a place, which is not the end of an escape sequence."""
    return data[start - 1 : start].isalnum() and not _ESCAPED.search(data, max(0, start - 16), start)


def _behind_escape(data: bytes, start: int) -> Iterable[re.Match[bytes] | None]:
    """A token that begins in a run, where this begins with the end of an escape sequence."""
    before = data[start - 1 : start]
    if before not in _ESCAPES:
        return ()
    rest = _ESCAPES[before].match(data, start)
    return (_ANY.match(data, rest.end()),) if rest else ()


def _is_key(token: bytes) -> bool:
    """Whether "sk-…" is a key, and not a name like sk-estimator-doc-link."""
    return any(looks_random(part.decode()) for part in _SOLID.findall(token))


def _aws_secrets(data: bytes, key_id: re.Match[bytes]) -> Iterator[Span]:
    """Secret keys have no form of their own; near a key's id a string of their length is one."""
    for found in _AWS_SECRET.finditer(data, max(0, key_id.start() - _AWS_NEAR), key_id.end() + _AWS_NEAR):
        if not _HEX.match(found[0]) and looks_random(found[0].decode()):
            yield Span(found.start(), found.end(), "aws_secret")


def _telegram(data: bytes, start: int) -> Iterator[Span]:
    token = _TELEGRAM.match(data, start)
    owner = _TELEGRAM_ID.search(data, max(0, start - 14), start)
    if token and owner:
        yield Span(owner.start(1), token.end(), "telegram")
