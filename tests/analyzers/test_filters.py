"""Filters choose events by their fields, and say where an expression is wrong."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers.filters import FilterAnalyzer, compile_filter
from libagenttracer.analyzers.filters.fields import ALIASES, field_names, getters
from libagenttracer.errors import AgentTracerError, FilterError
from libagenttracer.events import Event, HttpResponse, LlmCall, Loss, UnknownEvent, event_types, from_json

from .build import exec_, open_, run

HEAD: dict[str, Any] = {"id": "1", "timestamp_ns": 5_000_000, "source": "ssl"}
WHO: dict[str, Any] = {"pid": 7, "comm": "agent", "exe": "/usr/bin/agent", "connection_id": "c"}


def response(**fields: Any) -> HttpResponse:
    own: dict[str, Any] = {
        **{"direction": "read", "version": "1.1", "body": b"hello \xff", "last_byte_ns": 2, "status": 200},
        "headers": [("Content-Type", "text/html"), ("Via", "a"), ("via", "b")],
    }
    return HttpResponse(**{**HEAD, **WHO, **own, **fields})


def call(**fields: Any) -> LlmCall:
    own: dict[str, Any] = {
        **{"provider_name": "openai", "operation_name": "chat", "api": "openai.chat", "status": 429},
        **{"request_model": "gpt-x", "input_tokens": 10, "finish_reasons": ["stop", "length"]},
        "tool_calls": [{"id": "1", "name": "bash", "arguments": {"cmd": "ls -l"}}],
    }
    return LlmCall(**{**HEAD, **WHO, **own, **fields})


def loss(**fields: Any) -> Loss:
    return Loss(**HEAD, **{"cause": "ring_full", "count": 1, "lost_bytes": 0, **fields})


def matched(text: str) -> str:
    """Which of the events match: r(esponse), l(lm call), o(pen), e(xec)."""
    events = {
        "r": response(),
        "l": call(),
        "o": open_(1, path="/etc/passwd"),
        "e": exec_(1, 5, "sh", "-c", "ls"),
    }
    matches = compile_filter(text)
    return "".join(name for name, event in events.items() if matches(event))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http.status == 200", "r"),
        ("not http.status == 200", "loe"),
        ("http.status != 200", "l"),
        ("http.status in [200, 429]", "rl"),
        ("http.status in (429,)", "l"),
        ("http.status not in [200]", "l"),
        ("status >= 400", "l"),
        ("status < 200.5", "r"),
        ('llm.model ~ "gpt" and not http.status == 200', "l"),
        ('llm.model ~ "^gpt-.$"', "l"),
        ('llm.model ~ "(?i)GPT"', "l"),
        ("gen_ai.request.model startswith 'gpt'", "l"),
        ("llm.request_model endswith 'x'", "l"),
        ("gen_ai.usage.input_tokens > 9 && llm.input_tokens <= 10", "l"),
        ("llm.response_model == null", "l"),
        ("llm.response_model != 'x'", "l"),
        ("llm.request_model == null", ""),
        ("llm.response_model ~ ''", ""),
        ("llm.response_model", ""),
        ("exists llm.response_model", ""),
        ("exists llm.request_model", "l"),
        ("llm.tool == 'bash'", "l"),
        ("llm.tool_calls[0]['arguments']['cmd'] ~ '^ls'", "l"),
        ("llm.tool_calls[1]['arguments'] == null", "l"),
        ("llm.finish_reason == 'length'", "l"),
        ("llm.finish_reasons != 'length'", ""),
        ("llm.finish_reasons contains 'stop'", "l"),
        ("llm.finish_reasons contains 'sto'", ""),
        ("http.header['content-type'] ~ 'html'", "r"),
        ('http.header["CONTENT-TYPE"] == "text/html"', "r"),
        ("http.header['via'] == 'b'", "r"),
        ("exists http.header['x']", ""),
        ("http.body contains 'hello'", "r"),
        ("http.body ~ 'hel+o \ufffd'", "r"),
        ("file.path startswith '/etc/'", "o"),
        ("path ~ 'passwd$' || process.args == '-c'", "oe"),
        ("args contains 'ls'", "e"),
        ("process.comm == 'p5'", "oe"),
        ("comm in ('agent', 'p5') and not file.path", "rle"),
        ("event_type == 'llm_call' or type == 'http_response'", "rl"),
        ("event_type ~ '^(file|process)_'", "oe"),
        ("incomplete", ""),
        ("incomplete == false", "rl"),
        ("exists incomplete", "rl"),
        ("!incomplete and !(pid == 7)", "oe"),
        ("not not pid == 7", "rl"),
        ("pid == 7 and status == 200 or path == '/etc/passwd'", "ro"),
        ("pid == 7 and (status == 200 or path == '/etc/passwd')", "r"),
        ("timestamp == 5", "rl"),
        ("pid\n==\t7", "rl"),
        ("path == \"/etc/\\\"\" or comm == 'it\\'s'", ""),
        ("result == -1", ""),
    ],
)
def test_what_matches(text: str, expected: str) -> None:
    assert matched(text) == expected


def test_each_alias_and_group_has_events() -> None:
    for name in ALIASES:
        assert getters(name), name
    for name in field_names() - {"http.header"}:
        compile_filter(name)


def test_no_getter_raises() -> None:
    """Not even for the events of other classes."""
    events: list[Event] = [response(), call(), open_(1), exec_(1, 2), loss()]
    for name in field_names() - {"http.header"}:
        matches = compile_filter(f"{name} == null")
        for event in events:
            matches(event)


def test_an_event_of_an_unknown_type_has_its_type() -> None:
    line = b'{"id":"1","timestamp":0,"timestamp_ns":1,"source":"x","event_type":"new_thing","data":{"a":1}}'
    event = from_json(line)
    assert isinstance(event, UnknownEvent)
    assert compile_filter("event_type == 'new_thing'")(event)
    assert not compile_filter("pid == 1")(event)


@pytest.mark.parametrize(
    ("text", "position", "message"),
    [
        ("llm.model ~", 11, "unexpected end"),
        ("pid ==   ", 9, "unexpected end"),
        ("", 0, "it is empty"),
        ("   ", 3, "it is empty"),
        ("(pid == 1", 9, "unexpected end"),
        ("pid == 1)", 8, "unexpected )"),
        ("pid = 1", 4, "unexpected '=': equality is =="),
        ("pid == 1 and and comm", 13, "unexpected and"),
        ("comm == 'x", 8, "the string does not end"),
        ("pid @ 1", 4, "unexpected '@'"),
        ("pid in [1", 9, "unexpected end"),
        ("pid == 1\nand nothing_like_it", 13, "no event has a field nothing_like_it"),
        ("pid == 1 or http.staus == 1", 12, "no event has a field http.staus; is it http.status or"),
        ("pid == '7'", 0, "pid is a number: leave out the quotes"),
        ("pid in [1, '7']", 0, "pid is a number: leave out the quotes"),
        ("comm == 7", 0, "comm is a text: put the value in quotes"),
        ("pid ~ '7'", 4, "pid is a number: ~ is for text"),
        ("comm ~ '(x'", 8, "bad regular expression: missing ), unterminated subpattern"),
        ("comm ~ 'ab[z-a]'", 11, "bad regular expression: bad character range z-a"),
        ("incomplete < true", 11, "< goes with numbers and strings"),
        ("http.header == 'x'", 11, 'a name is missing: http.header["content-type"]'),
        ("!" * 201 + "pid", 0, "too deeply nested"),
        ("pid == " + "1" * 20_000, 16_384, "longer than 16384 characters"),
    ],
)
def test_what_is_wrong_and_where(text: str, position: int, message: str) -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter(text)
    assert (caught.value.position, caught.value.expression) == (position, text)
    assert caught.value.message.startswith(message)
    assert isinstance(caught.value, ValueError)
    assert isinstance(caught.value, AgentTracerError)


def test_the_mark_stands_below_the_place() -> None:
    with pytest.raises(FilterError) as caught:
        compile_filter("llm.model ~")
    assert str(caught.value) == "bad filter: unexpected end\n  llm.model ~\n             ^"
    with pytest.raises(FilterError) as caught:
        compile_filter("pid == 1 and\n\tfoo and pid")
    lines = str(caught.value).splitlines()
    assert lines[1:] == ["   foo and pid", "   ^"]


def test_include_and_exclude() -> None:
    events = [response(), call(), open_(1)]
    analyzer = FilterAnalyzer("exists pid and not file.path", "http.status == 429")
    assert run(analyzer, events) == events[:1]
    assert analyzer.filtered == 2
    assert run(FilterAnalyzer(), events) == events


def test_losses_pass_unless_they_are_named() -> None:
    events = [loss(), call()]
    assert run(FilterAnalyzer("http.status == 1"), events) == events[:1]
    assert run(FilterAnalyzer(exclude="not http.status == 1"), events) == events[:1]
    assert run(FilterAnalyzer(exclude="event_type == 'loss'"), events) == events[1:]
    assert run(FilterAnalyzer(exclude="loss.cause ~ 'ring'"), events) == events[1:]
    assert run(FilterAnalyzer(exclude="loss.cause ~ 'map'"), events) == events


WORDS = st.sampled_from(
    [
        *(
            "pid",
            "comm",
            "http.status",
            "llm.model",
            "foo",
            "and",
            "or",
            "not",
            "in",
            "exists",
            "(",
            ")",
            "[",
        ),
        *(
            "]",
            ",",
            "==",
            "!=",
            "<",
            "~",
            "!~",
            "'a'",
            '"',
            "'",
            "1",
            "-2.5",
            "true",
            "null",
            "&&",
            "!",
            "\n",
        ),
        *("contains", "\\", "\x00", "é", "http.header", "['via']", "llm.tool_calls[0]"),
    ]
)


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=30))
def test_whatever_is_written_is_a_filter_or_an_error_with_a_place(text: str) -> None:
    wrong: FilterError | None = None
    try:
        matches = compile_filter(text)
    except FilterError as error:
        wrong = error
    if wrong is not None:
        assert 0 <= wrong.position <= len(text)
        assert str(wrong).splitlines()[-1].strip() == "^"
        return
    for event in (response(), call(), open_(1), loss()):
        assert matches(event) in (True, False)


@given(st.text(max_size=20))
def test_any_text_can_be_written_as_a_string(text: str) -> None:
    written = text.replace("\\", "\\\\").replace('"', '\\"')
    assert compile_filter(f'llm.request_model == "{written}"')(call(request_model=text))


def test_event_types_are_all_covered() -> None:
    for name, cls in event_types().items():
        assert cls in getters("id"), name
