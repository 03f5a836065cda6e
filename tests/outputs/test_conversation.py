"""Calls of models as a conversation: each message once, long ones cut, and nothing reaches the terminal."""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from libagenttracer.events import LlmCall
from libagenttracer.outputs import Text
from libagenttracer.outputs import conversation as module
from libagenttracer.outputs.wrapping import wrapped

from ..events.strategies import KERNEL_TEXTS, TEXTS
from .build import llm_call, text_message
from .test_http_text import JSON
from .test_text import CONTROLS

NOWHERE = open(os.devnull, "w")  # noqa: SIM115
Parts = list[dict[str, Any]]
HEAD = re.compile(r"\d\d:\d\d:\d\d\.\d{3} ")


def plain(text: str) -> str:
    return re.sub("\x1b\\[[0-9;]*m", "", text)


def lines(call: LlmCall, output: Text | None = None) -> list[str]:
    """A call's lines without its first one."""
    return plain((output or Text(NOWHERE, width=80)).format(call)).splitlines()[1:]


def answer(*parts: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    return {"role": "assistant", "parts": list(parts), "finish_reason": reason}


def said(text: str) -> dict[str, Any]:
    return {"type": "text", "content": text}


ASKED = text_message("user", "What is the weather in Paris?")
CALLED: dict[str, Any] = {
    "type": "tool_call", "id": "c1", "name": "get_weather", "arguments": {"city": "Paris", "days": 3}
}  # fmt: skip
GAVE = {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "20 °C\nsunny"}]}
SYSTEM = [said("You are helpful.")]


def first(**changes: Any) -> LlmCall:
    fields = {
        "conversation_id": "c", "system_instructions": SYSTEM, "messages": [ASKED], "streaming": True,
        "output_messages": [answer({"type": "reasoning", "content": "Hm."}, said("I look."), CALLED)],
        "finish_reasons": ["tool_calls"], "input_tokens": 1234, "cache_read_input_tokens": 1000,
        "output_tokens": 56, "reasoning_output_tokens": 20, "time_to_first_token_ms": 320.0,
        "duration_ms": 1200.0, "tokens_per_second": 63.64, "response_model": "gpt-test-2025",
    }  # fmt: skip
    return llm_call(0, **{**fields, **changes})


def second(**changes: Any) -> LlmCall:
    fields = {
        "conversation_id": "c", "system_instructions": SYSTEM,
        "messages": [ASKED, {"role": "assistant", "parts": [said("I look. "), CALLED]}, GAVE],
        "output_messages": [answer(said("It is sunny."))],
    }  # fmt: skip
    return llm_call(1, **{**fields, **changes})


def test_a_call() -> None:
    text = Text(NOWHERE, width=100).format(first())
    assert HEAD.match(text)
    assert text.splitlines()[0][13:] == ("python[1234]      openai  gpt-test → gpt-test-2025  chat  streamed")
    assert text.splitlines()[1:] == [
        "  system     You are helpful.",
        "  user       What is the weather in Paris?",
        "  thinking   Hm.",
        "  assistant  I look.",
        '  call       get_weather(city="Paris", days=3)',
        "  done       tool_calls; 1,234 in (1,000 cached), 56 out (20 reasoning) tokens; first token 320 ms,",
        "             1.2 s, 63.6 tok/s",
    ]


def test_only_what_is_new_is_shown() -> None:
    output = Text(NOWHERE, width=80)
    output.format(first())
    assert lines(second(), output) == [
        "  … 2 earlier messages",
        "  tool       20 °C",
        "             sunny",
        "  assistant  It is sunny.",
    ]
    again = llm_call(conversation_id="c", system_instructions=[said("Now be terse.")], messages=[ASKED])
    assert lines(again, output) == ["  system     Now be terse.", "  … 1 earlier message"]


def test_another_conversation_and_none_are_shown_whole() -> None:
    output = Text(NOWHERE, width=80)
    output.format(first())
    for conversation_id in ("d", None, None):
        shown = lines(second(conversation_id=conversation_id), output)
        assert shown[:3] == [
            "  system     You are helpful.",
            "  user       What is the weather in Paris?",
            "  assistant  I look.",
        ]


def test_a_history_that_was_changed_is_shown_from_there_on() -> None:
    output = Text(NOWHERE, width=80)
    output.format(first())
    changed = second(messages=[ASKED, text_message("assistant", "No."), GAVE])
    assert lines(changed, output)[:3] == ["  … 1 earlier message", "  assistant  No.", "  tool       20 °C"]


def test_a_history_whose_beginning_was_dropped() -> None:
    output = Text(NOWHERE, width=80)
    output.format(first())
    output.format(second())
    later = second(messages=[GAVE, text_message("assistant", "It is sunny."), text_message("user", "Ok")])
    assert lines(later, output)[:2] == ["  … 2 earlier messages", "  user       Ok"]


def test_the_same_words_again_are_new() -> None:
    output = Text(NOWHERE, width=80)
    ok = text_message("user", "ok")
    output.format(llm_call(conversation_id="c", messages=[ok], output_messages=[answer(said("yes?"))]))
    history = [ok, text_message("assistant", "yes?"), ok]
    assert lines(llm_call(conversation_id="c", messages=history), output) == [
        "  … 2 earlier messages",
        "  user       ok",
    ]


def test_the_same_words_of_another_are_new() -> None:
    output = Text(NOWHERE, width=80)
    output.format(llm_call(conversation_id="c", messages=[text_message("user", "ok")]))
    [line] = lines(llm_call(conversation_id="c", messages=[text_message("assistant", "ok")]), output)
    assert line == "  assistant  ok"


def test_a_long_history_that_was_never_seen() -> None:
    messages = [text_message("user", f"message {number}") for number in range(100)]
    shown = lines(llm_call(messages=messages))
    assert shown[:2] == ["  … 80 earlier messages, 80 of them not shown", "  user       message 80"]
    assert len(shown) == 21
    assert len(lines(llm_call(messages=messages), Text(NOWHERE, extra=True))) == 101


def test_long_texts_are_cut_and_say_how_much_is_missing() -> None:
    long = "word " * 1000
    call = llm_call(
        system_instructions=[said(long)], messages=[text_message("user", "é" * 1500)],
        output_messages=[answer(said(long), {**CALLED, "arguments": {"text": long}})],
    )  # fmt: skip
    text = " ".join(line.strip() for line in lines(call))
    assert re.findall(r"\[\+(.*?)\]", text) == ["4.6 KiB", "1000 B", "2.9 KiB", "4.4 KiB"]
    whole = plain(Text(NOWHERE, extra=True, width=80).format(call))
    assert "[+" not in whole
    assert whole.count("word") == 3000


def test_an_error_and_limits_are_red() -> None:
    call = llm_call(
        status=429, error_type="rate_limit_error", error_message="Slow down.", incomplete=True, reason="gap",
        rate_limit={"retry-after": "3", "x-ratelimit-remaining-requests": "0"},
    )  # fmt: skip
    assert lines(call) == [
        "  error      429 rate_limit_error Slow down.",
        "  limits     retry-after 3, x-ratelimit-remaining-requests 0",
        "  incomplete gap",
    ]
    colored = Text(NOWHERE, color=True).format(call)
    assert "\x1b[31m429 rate_limit_error Slow down.\x1b[0m" in colored
    assert "\x1b[31mgap\x1b[0m" in colored
    assert lines(llm_call(status=500)) == ["  error      500"]
    assert lines(llm_call(status=200, rate_limit={"retry-after": "3"})) == []
    assert "\x1b" not in Text(NOWHERE).format(call)


def test_extra_says_where_it_went_and_how() -> None:
    call = first(
        temperature=0.5, max_tokens=100, tool_definitions=[{}, {}], server_address="api.example.com",
        server_port=443, rate_limit={"x-ratelimit-remaining-requests": "9"}, llm_response_id="r1",
    )  # fmt: skip
    shown = lines(call, Text(NOWHERE, extra=True))
    assert shown[0] == (
        "  openai.chat  api.example.com:443  temperature 0.5  max_tokens 100  2 tools offered  conversation c"
        "  response r1"
    )
    assert shown[-1] == "  limits     x-ratelimit-remaining-requests 9"


def test_parts_of_all_kinds() -> None:
    parts: Parts = [
        {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "x" * 2048},
        {"type": "uri", "modality": "image", "uri": "https://x.org/a.png"},
        {"type": "server_thing", "a": 1},
        {"type": "tool_call_response", "id": "1", "response": [{"type": "text", "text": "a"}, "b"]},
        {"type": "tool_call_response", "id": "2", "response": {"ok": True}},
        {"type": "tool_call", "id": "3", "name": None, "arguments": "{not json"},
        {"type": "reasoning", "content": ""},
    ]
    assert lines(llm_call(messages=[{"role": "user", "parts": parts}, text_message("critic", "Bad.")])) == [
        "  user       [image/png, 2.0 KiB]",
        "  user       [image, https://x.org/a.png]",
        '  user       [server_thing] {"a": 1}',
        "  tool       a",
        "             b",
        '  tool       {"ok": true}',
        "  call       ?({not json)",
        "  critic     Bad.",
    ]
    bare = llm_call(tool_calls=[{"id": "1", "name": "f", "arguments": None}])
    assert lines(bare) == ["  call       f()"]


def test_no_line_of_a_text_looks_like_a_call() -> None:
    spoof = "x\n12:00:00.000 bash[1]  openai  gpt  chat\r\n12:00:00.000 y\u2028z"
    call = llm_call(
        messages=[text_message("user", spoof)], request_model=spoof, comm=spoof, error_message=spoof,
        finish_reasons=[spoof], rate_limit={spoof: spoof}, reason=spoof, incomplete=True,
    )  # fmt: skip
    for width in (None, 80):
        text = Text(NOWHERE, width=width, extra=True).format(call)
        assert len(HEAD.findall("\n".join(line[:13] for line in text.splitlines()))) == 1


def test_values_that_cannot_be_shown() -> None:
    deep: Any = "end"
    for _ in range(100_000):
        deep = [deep]
    parts = [
        {"type": deep, "content": deep},
        {"type": "text", "content": deep},
        {**CALLED, "arguments": deep},
    ]
    shown = lines(llm_call(conversation_id="c", messages=[{"role": deep, "parts": parts}]))
    assert len(shown) == 3
    assert all("(cannot be shown)" in line for line in shown)
    while isinstance(deep, list):  # or Python's own destruction of it goes too deep
        deep = deep[0]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_REMEMBERED", 50)
    conversation = module.Conversation(False, lambda color, text: text)
    messages = [text_message("user", str(number)) for number in range(10)]
    for number in range(30):
        conversation.text(llm_call(conversation_id=str(number % 7), messages=messages[: number % 11]))
        assert conversation._remembered == sum(len(seen) + 1 for _, seen in conversation._seen.values()) <= 50
    conversation.text(llm_call(conversation_id="big", messages=messages * 6))
    assert conversation._remembered == 0


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "role": JSON | st.sampled_from(["user", "assistant", "tool"]),
            "parts": JSON
            | st.lists(
                JSON
                | st.fixed_dictionaries(
                    {
                        "type": st.sampled_from(
                            ["text", "tool_call", "reasoning", "tool_call_response", "blob"]
                        )
                    },
                    optional=dict.fromkeys(("content", "name", "arguments", "response", "id"), JSON),
                ),
                max_size=3,
            ),
        },
    ),
    max_size=3,
)
CALLS = st.builds(
    llm_call, comm=KERNEL_TEXTS, provider_name=TEXTS, operation_name=TEXTS, api=TEXTS,
    request_model=st.none() | TEXTS, response_model=st.none() | TEXTS, llm_response_id=st.none() | TEXTS,
    conversation_id=st.none() | TEXTS, messages=MESSAGES, output_messages=MESSAGES,
    system_instructions=st.lists(st.dictionaries(KERNEL_TEXTS, JSON, max_size=2), max_size=2),
    tool_calls=st.lists(st.dictionaries(KERNEL_TEXTS, JSON, max_size=2), max_size=2),
    finish_reasons=st.lists(TEXTS, max_size=2), error_type=st.none() | TEXTS,
    error_message=st.none() | KERNEL_TEXTS, status=st.none() | st.integers(0, 999),
    rate_limit=st.dictionaries(TEXTS, TEXTS, max_size=2), incomplete=st.booleans(), reason=st.none() | TEXTS,
    server_address=st.none() | TEXTS, input_tokens=st.none() | st.integers(),
    time_to_first_token_ms=st.none() | st.floats(), tokens_per_second=st.none() | st.floats(),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(call=CALLS)
def test_no_call_can_control_the_terminal(call: LlmCall) -> None:
    for output in (Text(NOWHERE, color=True, width=60), Text(NOWHERE, extra=True, width=40), Text(NOWHERE)):
        for _ in range(2):  # the second time it has a history
            text = plain(output.format(call))
            assert not CONTROLS.search(text), text
            assert all(line.startswith("  ") for line in text.splitlines()[1:])
            assert text.endswith("\n")


def columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text)


PRINTABLE = st.text(
    st.characters(exclude_categories=["C", "Zl", "Zp"]) | st.sampled_from(" \nあ"), max_size=300
)


@given(text=PRINTABLE, width=st.integers(2, 40))
def test_wrapping_keeps_the_width_and_the_text(text: str, width: int) -> None:
    broken = list(wrapped(text, width))
    assert all(columns(line) <= width for line in broken)
    assert "".join(broken).replace(" ", "") == text.replace("\n", "").replace(" ", "")
    assert list(wrapped(text, None)) == text.split("\n")


def test_wrapping_breaks_at_blanks_and_keeps_indentation() -> None:
    assert list(wrapped("one two three", 8)) == ["one two", "three"]
    assert list(wrapped("    abcdefgh ij", 8)) == ["    abcd", "efgh ij"]
    assert list(wrapped("", 8)) == [""]
    assert list(wrapped("\ta", 8)) == ["    a"]


def test_wrapping_a_huge_line_takes_no_time() -> None:
    assert sum(1 for _ in wrapped("x" * (4 << 20), 100)) == (4 << 20) // 100 + 1
