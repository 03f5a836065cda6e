"""Replaces secrets in texts, bytes, JSON values, headers and arguments."""

from __future__ import annotations

import re
from collections.abc import Iterable
from hashlib import blake2b
from typing import Any, TypeVar

from .names import NameClass, classify, classify_option, is_credential, is_placeholder, secret_header
from .pairs import basic_password, cookie_values, scheme_and_secret
from .scan import find, normalised
from .shapes import Span

__all__ = ["Scrubber"]

Text = TypeVar("Text", str, bytes)
DEPTH_MAX = 150
_SHORT = 6  # what is shorter holds no secret and its name
_OPTION = re.compile(r"--?([A-Za-z][\w.\-]*)(=?)(.*)", re.DOTALL)
_LOGIN_OPTIONS = {"-u", "--user", "--proxy-user", "-U"}
_LOGIN = re.compile(r"([^\s:]{0,128}):(\S{1,512})")
_BASIC = re.compile(r"\s*basic\s", re.IGNORECASE)


class Scrubber:
    """Replaces each secret by `[redacted:KIND:FINGERPRINT]`; what has none is returned as it is, unchanged.

    The fingerprint is a keyed BLAKE2b hash (RFC 7693) of the secret without the escape sequences of its
    place, 8 hexadecimal digits: the same for the same secret, and it tells nothing without the key.

    Args:
        key: 1 to 64 bytes.

    Attributes:
        count: secrets that were replaced.

    Raises:
        ValueError: the key is empty or too long.
    """

    def __init__(self, key: bytes) -> None:
        if not 1 <= len(key) <= 64:
            raise ValueError("the key must have 1 to 64 bytes")
        self._key = key
        self.count = 0

    def mark(self, kind: str, secret: bytes) -> str:
        """What stands for a secret."""
        self.count += 1
        if kind == "private_key":  # its lines may be broken in any way
            secret = b"".join(normalised(secret).split())
        digest = blake2b(normalised(secret), digest_size=4, key=self._key).hexdigest()
        return f"[redacted:{kind}:{digest}]"

    def text(self, text: str) -> str:
        """A text of any sort."""
        if len(text) < _SHORT:
            return text
        spans = find(text.encode("ascii", "replace"))
        return self.replace(text, spans) if spans else text

    def data(self, data: bytes) -> bytes:
        """Bytes that may be text."""
        spans = find(data) if len(data) >= _SHORT else None
        if not spans:
            return data
        return self.replace(data.decode("latin-1"), spans, "latin-1").encode("latin-1")

    def replace(self, text: str, spans: Iterable[Span], encoding: str = "utf-8") -> str:
        """A text with the secrets at given places replaced."""
        parts: list[str] = []
        done = 0
        for start, end, kind, quote in spans:
            parts += (text[done:start], quote, self._of(text[start:end], kind, encoding), quote)
            done = end
        parts.append(text[done:])
        return "".join(parts)

    def _of(self, secret: str, kind: str, encoding: str) -> str:
        if kind == "authorization":
            password = basic_password(secret)
            if password is not None:
                kind, secret = "password", password
            else:
                kind = "token"
        return self.mark(kind, secret.encode(encoding, "surrogatepass"))

    def value(self, value: Any, name: str = "", depth: int = 0) -> Any:
        """A JSON value.

        Args:
            value: it; what is changed is copied.
            name: of the member that it is.
            depth: how deep it lies; what lies too deep is not looked at, but left out.
        """
        if isinstance(value, str):
            meaning = classify(name) if name and value else None
            return self._named(value, meaning) if meaning is not None else self.text(value)
        if isinstance(value, dict):
            return self._members(value, depth)
        if isinstance(value, (list, tuple)):
            if depth >= DEPTH_MAX:
                return "[left out: nested too deeply]"
            items = [self.value(item, name, depth + 1) for item in value]
            unchanged = all(new is old for new, old in zip(items, value, strict=True))
            return value if unchanged else items
        if isinstance(value, (int, float)) and not isinstance(value, bool) and name:
            meaning = classify(name)
            if meaning is not None and meaning.certain and meaning.kind == "password":
                return self.mark(meaning.kind, str(value).encode())
        return value

    def _members(self, members: dict[Any, Any], depth: int) -> Any:
        if depth >= DEPTH_MAX:
            return "[left out: nested too deeply]"
        pair = members.get("name", members.get("key")) if "value" in members else None
        changed: dict[Any, Any] = {}
        same = True
        for key, item in members.items():
            name = pair if key == "value" and isinstance(pair, str) else key
            new = self.value(item, name if isinstance(name, str) else "", depth + 1)
            new_key = self.text(key) if isinstance(key, str) and len(key) > 16 else key
            same = same and new is item and new_key is key
            changed[new_key] = new
        return members if same else changed

    def _named(self, value: str, name: NameClass) -> str:
        if name.kind == "authorization":
            return self._cut(value, scheme_and_secret(value), name.kind)
        if name.kind == "cookie":
            return self._cut(value, cookie_values(value), name.kind)
        scrubbed = self.text(value)
        if scrubbed is not value or not is_credential(name, value, exact=True, quoted=True):
            return scrubbed
        return self.mark(name.kind, value.encode("utf-8", "surrogatepass"))

    def _cut(self, value: str, places: Iterable[tuple[int, int]], kind: str) -> str:
        spans = [Span(start, end, kind) for start, end in places]
        return self.replace(value, spans) if spans else self.text(value)

    def headers(self, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Headers; their names stay."""
        new = [(name, self.header(name, value)) for name, value in headers]
        return headers if all(a[1] is b[1] for a, b in zip(new, headers, strict=True)) else new

    def header(self, name: str, value: str) -> str:
        """A header's value. Of Authorization the scheme stays, of cookies the names."""
        kind = secret_header(name)
        if kind is None or not value.strip():
            return self.text(value)
        if kind == "authorization":
            return self._cut(value, scheme_and_secret(value), kind)
        if kind == "cookie":
            return self._cut(value, cookie_values(value), kind)
        if is_placeholder(value):
            return value
        return self.mark(kind, value.strip().encode("utf-8", "surrogatepass"))

    def arguments(self, arguments: list[str]) -> list[str]:
        """The arguments of a program."""
        new: list[str] = []
        expected: NameClass | None = None
        login = False
        for argument in arguments:
            if expected is not None and not argument.startswith("--"):
                new.append(self._named(argument, expected))
                expected = None
                continue
            if login:
                login = False
                user = _LOGIN.fullmatch(argument)
                if user and not user[2].isdigit():
                    new.append(f"{user[1]}:{self.mark('password', user[2].encode('utf-8', 'surrogatepass'))}")
                    continue
            expected, login = None, argument in _LOGIN_OPTIONS
            option = _OPTION.fullmatch(argument)
            meaning = classify_option(option[1]) if option and not login else None
            if option and meaning is not None and option[2]:
                named = self._named(option[3], meaning)
                new.append(argument if named is option[3] else argument[: option.start(3)] + named)
                continue
            if meaning is not None and option and argument.startswith("--"):
                expected = meaning
            new.append(self.text(argument))
        return arguments if all(a is b for a, b in zip(new, arguments, strict=True)) else new
