"""Filters become functions."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from lark import Token, Transformer, v_args
from lark.exceptions import VisitError

from ...errors import FilterError
from ...events import Event
from .fields import Getters, getters, suggestions, value_kind
from .grammar import parse

__all__ = ["Compiled", "compile_filter", "compile_with_fields"]

Predicate = Callable[[Event], bool]
Test = Callable[[Any], bool]
_ORDERS: dict[str, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'"}
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


class Compiled(NamedTuple):
    """A filter as a function, and the names of the fields that it uses."""

    matches: Predicate
    fields: frozenset[str]


class _Field(NamedTuple):
    name: str
    getters: Getters
    position: int


def compile_filter(text: str) -> Predicate:
    """Makes a function of a filter expression (docs/filters.md).

    Args:
        text: for instance `llm.model ~ "gpt" and not http.status == 200`.

    Returns:
        A function that tells whether an event matches. It never raises.

    Raises:
        FilterError: the expression cannot be read, names a field that no event has, or has a bad regular
            expression; the message shows the place.
    """
    return compile_with_fields(text).matches


def compile_with_fields(text: str) -> Compiled:
    """As `compile_filter`."""
    maker = _Maker(text)
    try:
        matches: Predicate = maker.transform(parse(text))
    except VisitError as error:
        raise error.orig_exc from None
    return Compiled(matches, frozenset(maker.names))


@v_args(inline=True)
class _Maker(Transformer[Token, Any]):
    """Makes functions of the syntax tree, from its leaves up."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        self.names: set[str] = set()

    def start(self, predicate: Predicate) -> Predicate:
        return predicate

    def either(self, *parts: Any) -> Predicate:
        some = [part for part in parts if not isinstance(part, Token)]
        if len(some) == 2:
            first, second = some
            return lambda event: first(event) or second(event)
        return lambda event: any(part(event) for part in some)

    def both(self, *parts: Any) -> Predicate:
        some = [part for part in parts if not isinstance(part, Token)]
        if len(some) == 2:
            first, second = some
            return lambda event: first(event) and second(event)
        return lambda event: all(part(event) for part in some)

    def negation(self, _: Token, predicate: Predicate) -> Predicate:
        return lambda event: not predicate(event)

    def field(self, name: Token, *subscripts: Token) -> _Field:
        found = getters(str(name))
        if not found:
            like = suggestions(str(name))
            hint = f"; is it {' or '.join(like)}?" if like else ""
            raise FilterError(self._text, name.start_pos or 0, f"no event has a field {name}{hint}")
        self.names.add(str(name))
        if subscripts:
            keys = [int(key) if key.type == "INTEGER" else self._unquoted(key) for key in subscripts]
            if name == "http.header":
                keys[0] = str(keys[0]).lower()
            found = {cls: _subscripted(getter, keys) for cls, getter in found.items()}
        elif name == "http.header":
            raise FilterError(self._text, name.end_pos or 0, 'a name is missing: http.header["content-type"]')
        return _Field(f"{name}[]" if subscripts else str(name), found, name.start_pos or 0)

    def string(self, token: Token) -> Token:
        return token

    def number(self, token: Token) -> float:
        return int(token) if token.type == "INTEGER" else float(token)

    def constant(self, token: Token) -> bool | None:
        return {"TRUE": True, "FALSE": False, "NULL": None}[token.type]

    def list(self, *items: Any) -> list[Any]:
        return [self._value(item) for item in items if item is not None or len(items) > 1]

    def compare(self, field: _Field, sign: Token, literal: Any) -> Predicate:
        value = self._value(literal)
        self._check_kind(field, value)
        if sign in ("==", "!="):
            equal = _predicate(field, _equality(value), null=value is None)
            if sign == "==":
                return equal
            return _both(_predicate(field, lambda _: True, null=True), equal)
        if not isinstance(value, (int, float, str)) or isinstance(value, bool):
            raise FilterError(self._text, sign.start_pos or 0, f"{sign} goes with numbers and strings")
        return _predicate(field, _order(_ORDERS[sign], value))

    def match(self, field: _Field, sign: Token, literal: Token) -> Predicate:
        value = self._unquoted(literal)
        if value_kind(field.name) == "number":
            raise FilterError(
                self._text, sign.start_pos or 0, f"{field.name} is a number: {sign} is for text"
            )
        if sign in ("~", "!~"):
            try:
                search = re.compile(value).search
            except re.error as error:
                at = (literal.start_pos or 0) + 1 + (error.pos or 0)
                raise FilterError(self._text, at, f"bad regular expression: {error.msg}") from None
            found = _predicate(field, lambda text: isinstance(text, str) and search(text) is not None)
            if sign == "~":
                return found
            return _both(_predicate(field, lambda _: True, null=True), found)
        if sign == "contains":
            return _predicate(field, _containing(value), whole=True)
        if sign == "startswith":
            return _predicate(field, lambda text: isinstance(text, str) and text.startswith(value))
        return _predicate(field, lambda text: isinstance(text, str) and text.endswith(value))

    def member(self, field: _Field, *rest: Any) -> Predicate:
        *signs, values = rest
        for value in values:
            self._check_kind(field, value)
        tests = [_equality(value) for value in values]
        found = _predicate(field, lambda item: any(test(item) for test in tests), null=None in values)
        if len(signs) == 1:
            return found
        return _both(_predicate(field, lambda _: True, null=True), found)

    def truth(self, field: _Field) -> Predicate:
        return _predicate(field, bool, whole=True)

    def exists(self, _: Token, field: _Field) -> Predicate:
        return _predicate(field, lambda _: True, whole=True)

    def _value(self, literal: Any) -> Any:
        return self._unquoted(literal) if isinstance(literal, Token) else literal

    def _unquoted(self, token: Token) -> str:
        """The text of a string: what is no escape stays, as backslashes in regular expressions."""
        return _ESCAPE.sub(lambda found: _ESCAPES.get(found[1], found[0]), token[1:-1])

    def _check_kind(self, field: _Field, value: Any) -> None:
        """A comparison that can never be true is an error."""
        kind = value_kind(field.name)
        if kind == "number" and isinstance(value, str):
            raise FilterError(self._text, field.position, f"{field.name} is a number: leave out the quotes")
        if kind == "text" and isinstance(value, (int, float)):
            raise FilterError(self._text, field.position, f"{field.name} is a text: put the value in quotes")


def _subscripted(getter: Callable[[Any], Any], keys: list[str | int]) -> Callable[[Any], Any]:
    def get(event: Any) -> Any:
        value = getter(event)
        for key in keys:
            try:
                value = value[key]
            except (LookupError, TypeError):
                return None
        return value

    return get


def _both(first: Predicate, second: Predicate) -> Predicate:
    """The first, and not the second."""
    return lambda event: first(event) and not second(event)


def _predicate(field: _Field, test: Test, *, null: bool = False, whole: bool = False) -> Predicate:
    """Whether an event has the field, and its value passes a test.

    Args:
        field: which.
        test: of the value; of a list one item has to pass it.
        null: null is tested too; otherwise it is as if there were no such field.
        whole: lists are tested as they are.
    """
    find = field.getters.get

    def matches(event: Event) -> bool:  # noqa: PLR0911
        getter = find(type(event))
        if getter is None:
            return False
        value = getter(event)
        if value is None:
            return null and test(None)
        if isinstance(value, (str, int)):
            return test(value)
        if isinstance(value, bytes):
            return test(value.decode("utf-8", "replace"))
        if isinstance(value, (list, tuple)) and not whole:
            for item in value:  # noqa: SIM110 (any() takes twice as long)
                if test(item):
                    return True
            return False
        return test(value)

    return matches


def _equality(wanted: Any) -> Test:
    if wanted is None or isinstance(wanted, bool):
        return lambda value: value is wanted
    return lambda value: bool(value == wanted) and not isinstance(value, bool)


def _order(compare: Callable[[Any, Any], bool], wanted: Any) -> Test:
    kinds = (str,) if isinstance(wanted, str) else (int, float)
    return lambda value: isinstance(value, kinds) and compare(value, wanted)


def _containing(wanted: str) -> Test:
    """A text has it in it; a list has it as an item; an object has it as a name."""
    return lambda value: isinstance(value, (str, list, tuple, dict)) and wanted in value
