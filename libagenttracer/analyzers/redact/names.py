"""Which names say that a value is a credential, and which values can be one."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

__all__ = [
    "NameClass",
    "classify",
    "classify_option",
    "is_credential",
    "is_placeholder",
    "looks_random",
    "secret_header",
]


class NameClass(NamedTuple):
    """What a name says of its value.

    Attributes:
        kind: for the replacement.
        certain: whatever stands there is a credential; otherwise it has to look like one.
    """

    kind: str
    certain: bool


# what may follow the word that counts: password2, client-key-data; but not token_type, secret_name
_SUFFIX = (
    r"(?:[_.\-]?(?:\d{1,3}|value|confirm(?:ation)?|old|new|current|plain|text|data|b64|base64|pem|str))?$"
)
_CERTAIN = [
    ("password", r"pass(?:wor[dt]|wd|phrase|code)s?|pwd|[a-z0-9][_.\-]pass"),
    ("private_key", r"(?:private|signing|encryption|master|ssh|deploy|client|host)[_.\-]?keys?"),
    (
        "api_key",
        r"(?:api|access|account|subscription|app|auth|service|functions?|admin|license)[_.\-]?keys?",
    ),
    (
        "secret",
        r"secrets?(?:[_.\-]?(?:access)?[_.\-]?keys?)?|client[_.\-]?assertion|code[_.\-]?verifier",
    ),
    ("cookie", r"cookies?"),
    ("authorization", r"authorization"),
    (
        "token",
        r"[a-z0-9][_.\-]token|(?:access|refresh|id|auth|bearer|session|security|api|csrf|jwt)[_.\-]?tokens?",
    ),
]
_WEAK = [
    ("token", r"token|jwt|bearer|credentials?"),
    ("key", r"[a-z0-9][_.\-]?keys?"),
    ("auth", r"(?:^|[_.\-])auth"),
    ("password", r"(?:^|[_.\-])pass"),
    ("signature", r"x[_\-](?:amz|goog)[_\-](?:signature|credential)"),
]
_IN_QUERY = re.compile(r"(?:key|sig|signature|code|auth|hmac|assertion|token|secret|pass|pw)$")
_RULES = [
    (NameClass(kind, certain), re.compile(f"(?:{pattern}){_SUFFIX}"))
    for certain, table in ((True, _CERTAIN), (False, _WEAK))
    for kind, pattern in table
]
# counts and marks of language models, cursors, and keys that open nothing
_HARMLESS = re.compile(
    r"(?:^|[_.\-])(?:"
    r"(?:max|min|input|output|prompt|completion|total|cached?|read|creation|reasoning|audio|image|text|thinking"
    r"|budget|thoughts|candidates|count|num|new|accepted|rejected|prediction|remaining|limit|used|stop|special"
    r"|extra|added|eos|bos|pad|unk|cls|sep|mask|first|last|next|page|next_?page|continuation|sync|per|by|each"
    r"|start|end|decoder|encoder|cancel(?:lation)?|progress|change|resume|skip|delim(?:iter)?|string|lex|of|n|the"
    r"|identifier|operator|punctuation|keyword|top|batch|context|generated|draft|sampled?|free|estimated)"
    r"[_.\-]?tokens?"
    r"|(?:public|primary|foreign|cache|sort|partition|hash|row|idempotency|route|routing|surrogate|range|index"
    r"|group|map|dict|json|object|query|composite|unique|hot|shortcut|websocket|lookup|i18n|translation|dedupe?"
    r"|config|attr|prop|event|label|field|param|data|project|issue|parent|key|the|by|no|any|each|arrow)[_.\-]?keys?"
    r"|(?:by|com|single|first|second|multi|one|two|render|low|high|band|test)[_\-]?pass"
    r"|monkeys?|turkeys?|donkeys?|hockey|jockey)$"
)
_HEADERS = re.compile(
    r"authorization$|cookie2?$|(?:^|[-_])(?:token|secret|password|passwd|jwt|credentials?|signature|apikey|auth)"
    r"(?:$|[-_])|key$|auth-?token|accesstoken"
)
_HARMLESS_HEADERS = re.compile(
    r"^(?:sec-websocket-.*|idempotency-key|x-idempotency-key|surrogate-key|cache-key|x-cache-key"
    r"|access-control-.*|public-key-pins.*|.*ratelimit.*|.*-tokens|.*token-(?:count|limit|type|usage).*"
    r"|(?:www|proxy)-authenticate|signature-input|.*-key-id)$"
)
_PLACEHOLDER = re.compile(
    r"\[redacted:[a-z_]+:[0-9a-f]{8}|\$(?:\{|\(|[A-Z_][A-Z0-9_]*$)|\{\{|\{[\w.]*\}$|<[^>]*>$|%[sd]$|%\(|\*{3,}$|\.{3}$|x{4,}$"
    r"|(?:null|none|nil|true|false|undefined|string|str|text|number|int(?:eger)?|bool(?:ean)?|object|any|bytes"
    r"|optional|required|redacted|placeholder|n/a)$|(?:your|insert)[-_ ]",
    re.IGNORECASE,
)
_IDENTIFIER = re.compile(r"@?[A-Za-z_$][A-Za-z_$]*\d{0,2}(?:(?:\.|->|::|\?\.)[A-Za-z_$]\w*)*$")
_CAPITAL = re.compile(r"[A-Z]")
_CHANGES = re.compile(r"[a-z](?=[A-Z])|[A-Z](?=[a-z])")
_SOLID = re.compile(r"(?=[A-Za-z+/]{0,40}[0-9])(?=[0-9+/]{0,40}[A-Za-z])[A-Za-z0-9+/]{16,}")
_LETTER = re.compile(r"[A-Za-z]")
_SPACE = re.compile(r"\s")
_LOOKED_AT = 512  # characters of a value: more tell nothing new
_DIGIT = re.compile(r"[0-9]")


_NAME_MAX = 256  # characters: longer names are looked at from their end, and are not remembered


def classify(name: str, *, query: bool = False) -> NameClass | None:
    """What a name (of a JSON member, parameter, variable, option) says; nothing if it is harmless.

    Args:
        name: of any case, also camelCase.
        query: it is a parameter of a URL or form: there `key` and `sig` are credentials.
    """
    return _classify(name[-_NAME_MAX:], query=query)


@lru_cache(maxsize=4096)
def _classify(name: str, *, query: bool) -> NameClass | None:
    if not name.isupper():
        name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    name = name.lower()
    if query and _IN_QUERY.match(name):
        return NameClass(name, certain=False)
    if _HARMLESS.search(name):
        return None
    return next((found for found, pattern in _RULES if pattern.search(name)), None)


def classify_option(name: str) -> NameClass | None:
    """As `classify`, for the name of a command's option: --token and --pass have credentials behind them."""
    found = classify(name)
    return (
        found._replace(certain=True) if found is not None and found.kind in ("token", "password") else found
    )


def secret_header(name: str) -> str | None:
    """The kind of credential that a header (of any case) holds; nothing if it holds none."""
    return _secret_header(name) if len(name) <= _NAME_MAX else _secret_header.__wrapped__(name)


@lru_cache(maxsize=1024)
def _secret_header(name: str) -> str | None:
    name = name.lower()
    if not _HEADERS.search(name) or _HARMLESS_HEADERS.match(name):
        return None
    if name.endswith(("cookie", "cookie2")):
        return "cookie"
    if name.endswith("authorization"):
        return "authorization"
    found = classify(name)
    return found.kind if found is not None else "secret"


def is_placeholder(value: str) -> bool:
    """Whether it stands for a value: a variable, a template, a type, or what was redacted before."""
    return not value or _PLACEHOLDER.match(value) is not None


def looks_random(value: str) -> bool:
    """Whether it can be a key: 8 characters without spaces, of more than one sort, and no code or name."""
    if len(value) < 8 or _SPACE.search(value):
        return False
    value = value[:_LOOKED_AT]
    if len(value) >= 16:  # letters that change their case at random, as in no name
        capitals = len(_CAPITAL.findall(value))
        if 0.35 <= capitals / len(value) <= 0.65 and len(_CHANGES.findall(value)) * 3 >= len(value):
            return True
    return not _IDENTIFIER.match(value) and bool(_LETTER.search(value) and _DIGIT.search(value))


def is_credential(name: NameClass, value: str, *, exact: bool, quoted: bool) -> bool:
    """Whether a value behind such a name is one.

    Args:
        name: what the name says.
        value: decoded.
        exact: the place leaves no doubt that it is a name with its value (JSON, a form, a query, an
            option, an environment variable); otherwise it may be program text or prose.
        quoted: it stood in quotes.
    """
    if is_placeholder(value):
        return False
    if not name.certain:
        # names that end in "key" are many: no words with a number behind them, no dates
        return looks_random(value) and (name.kind != "key" or not exact or _SOLID.search(value) is not None)
    if name.kind == "password":
        spaced = any(c.isspace() for c in value)
        return exact or (quoted and len(value) >= 4 and not spaced) or looks_random(value)
    if exact:
        return name.kind == "private_key" or not any(c.isspace() for c in value)
    return looks_random(value)
