"""What each API of a language model must stand: any JSON anywhere, in the words of the API itself."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.analyzers.llm.base import Api, Draft
from libagenttracer.events import LlmCall, from_json, to_json

_NUMBERS = [
    0,
    1,
    3,
    -1,
    9_999,
    10_000,
    2**31,
    2**63,
    2**64,
    10**30,
    0.5,
    1e300,
    float("nan"),
    float("inf"),
    True,
]


def as_event(draft: Draft) -> LlmCall:
    """The event that a draft becomes; it can be written, and read back as it was."""
    names = {field.name for field in fields(Draft)} & set(LlmCall.__struct_fields__)
    call = LlmCall(
        id="0" * 8,
        timestamp_ns=1,
        source="ssl",
        pid=1,
        comm="x",
        exe="/x",
        connection_id="c",
        **{name: getattr(draft, name) for name in names},
    )
    read = from_json(to_json(call))
    assert isinstance(read, LlmCall)
    return read


def assert_stands(api: Api, paths: list[str], words: list[str]) -> None:
    """Nothing raises, and what comes out is an event of the right types."""
    scalars = st.one_of(st.none(), st.sampled_from(_NUMBERS), st.sampled_from(words), st.text(max_size=3))
    keys = st.sampled_from(words)
    values = st.recursive(
        scalars,
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(keys, inner, max_size=5),
            st.builds(
                lambda kind, rest: {**rest, "type": kind}, keys, st.dictionaries(keys, inner, max_size=4)
            ),
        ),
        max_leaves=15,
    )

    @settings(max_examples=50, deadline=None)
    @given(
        st.sampled_from(paths), values, values, st.lists(st.tuples(keys | st.just(""), values), max_size=12)
    )
    def stands(path: str, request: Any, response: Any, stream: list[tuple[str, Any]]) -> None:
        asked: dict[str, Any] = request if isinstance(request, dict) else {"messages": request}
        assert api.recognises(path, asked) in (True, False)
        draft = Draft()
        api.read_request(path, asked, draft)
        api.read_response(response, draft)
        as_event(draft)
        draft = Draft()
        reader = api.stream(draft)
        for at_ns, (event, data) in enumerate(stream, 1):
            reader.item(at_ns, event, data)
        reader.end()
        as_event(draft)
        said = bool(draft.reasons) or draft.error_message is not None or draft.error_type is not None
        assert said or stream, "an empty stream is not complete"

    stands()


def words_of(value: Any, *more: str) -> list[str]:
    """The names and short strings in examples, and those that parts of messages have."""
    return sorted({*_words(value), *more, "type", "message", "tool_call", "blob", "text", "content"})


def _words(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [word for key, item in value.items() for word in (key, *_words(item))]
    if isinstance(value, list):
        return [word for item in value for word in _words(item)]
    return [value] if isinstance(value, str) and len(value) < 25 and " " not in value else []
