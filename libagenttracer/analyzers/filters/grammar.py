"""The grammar of filters, and their errors with the place."""

from __future__ import annotations

from functools import lru_cache

from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken

from ...errors import FilterError

__all__ = ["parse"]

GRAMMAR = r"""
start: either
?either: both (OR both)*
?both: inverted (AND inverted)*
?inverted: NOT inverted -> negation
    | comparison
?comparison: field COMPARISON literal -> compare
    | field MATCHING string -> match
    | field NOT? IN list -> member
    | field -> truth
    | EXISTS field -> exists
    | "(" either ")"
field: NAME ("[" (STRING | INTEGER) "]")*
?literal: string | number | constant
string: STRING
number: INTEGER | FLOAT
constant: TRUE | FALSE | NULL
list: "[" [literal ("," literal)* ","?] "]" | "(" literal ("," literal)* ","? ")"

COMPARISON: "==" | "!=" | "<=" | ">=" | "<" | ">"
MATCHING: "~" | "!~" | WORD_MATCHING
WORD_MATCHING: /(contains|startswith|endswith)\b/
OR.2: /or\b/ | "||"
AND.2: /and\b/ | "&&"
NOT.2: /not\b/ | /!(?![=~])/
IN.2: /in\b/
EXISTS.2: /exists\b/
TRUE.2: /true\b/
FALSE.2: /false\b/
NULL.2: /null\b/
NAME: /(?!(?:and|or|not|in|exists|true|false|null)\b)[A-Za-z_]\w*(\.[A-Za-z_]\w*)*/
STRING: /"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'/s
FLOAT.2: /-?\d+\.\d+(e[+-]?\d+)?/i
INTEGER: /-?\d+/
%ignore /\s+/
"""
LENGTH_MAX = 16_384
NESTING_MAX = 200


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(GRAMMAR, parser="lalr", propagate_positions=True)


def parse(text: str) -> Tree[Token]:
    """The syntax tree of a filter.

    Raises:
        FilterError: it is no expression.
    """
    if len(text) > LENGTH_MAX:
        raise FilterError(text, LENGTH_MAX, f"longer than {LENGTH_MAX} characters")
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        raise _explained(text, error) from None
    depth = sum(
        1 for token in tree.scan_values(lambda value: isinstance(value, Token) and value.type == "NOT")
    )
    if depth + text.count("(") > NESTING_MAX:
        raise FilterError(text, 0, "too deeply nested")
    return tree


def _explained(text: str, error: UnexpectedInput) -> FilterError:
    position = error.pos_in_stream if error.pos_in_stream is not None else len(text)
    if isinstance(error, UnexpectedToken) and error.token.type == "$END":
        return FilterError(text, len(text), "unexpected end" if text.strip() else "it is empty")
    if isinstance(error, UnexpectedCharacters):
        if text[position] in "\"'":
            return FilterError(text, position, "the string does not end")
        if text[position] == "=":
            return FilterError(text, position, "unexpected '=': equality is ==")
        return FilterError(text, position, f"unexpected {text[position]!r}")
    assert isinstance(error, UnexpectedToken)
    return FilterError(text, position, f"unexpected {error.token.value!s}")
