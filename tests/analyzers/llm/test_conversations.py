"""Calls of one conversation get one id, and others another."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.analyzers.llm.base import Draft
from libagenttracer.analyzers.llm.conversations import Conversations
from libagenttracer.events import derived_id

Message = dict[str, Any]


def said(role: str, *texts: str, **more: Any) -> Message:
    return {"role": role, "parts": [{"type": "text", "content": text} for text in texts], **more}


def asks(call_id: str | None, name: str = "ls", arguments: Any = None) -> Message:
    call = {"type": "tool_call", "id": call_id, "name": name, "arguments": arguments or {}}
    return {"role": "assistant", "parts": [call]}


def gave(call_id: str | None, response: Any) -> Message:
    return {"role": "tool", "parts": [{"type": "tool_call_response", "id": call_id, "response": response}]}


class Run:
    """Sends calls, each with its own id."""

    def __init__(self, **options: Any) -> None:
        self.conversations = Conversations(**options)
        self.number = 0

    def call(self, history: list[Message], *answers: Message, pid: int = 7, **changes: Any) -> str | None:
        self.number += 1
        draft = Draft(
            **{"provider_name": "openai", "api": "openai.chat", **changes},
            messages=deepcopy(history),
            output_messages=[*answers],
        )
        return self.conversations.id_of(draft, f"call{self.number}", pid)


HI, HELLO = said("user", "Hi"), said("assistant", "Hello!")


def test_a_history_that_goes_on() -> None:
    run = Run()
    history = [HI]
    ids = set()
    for number in range(4):
        answer = asks(f"c{number}")
        ids.add(
            run.call(history, answer, system_instructions=[{"type": "text", "content": f"It is {number}"}])
        )
        history += [answer, gave(f"c{number}", "a b")]
    assert ids == {derived_id("call1", "conversation")}


def test_the_same_beginning_is_not_enough() -> None:
    run = Run()
    ids = [run.call([HI], asks(f"c{number}")) for number in range(3)]
    assert len({*ids}) == 3
    for number in (1, 0, 2):
        history = [HI, asks(f"c{number}"), gave(f"c{number}", "same")]
        assert run.call(history, said("assistant", "Done")) == ids[number]
    assert run.call([HI]) not in ids
    assert run.call([said("user", "Hi", "again")], HELLO) not in ids


def test_what_does_not_matter() -> None:
    first = [{"type": "reasoning", "content": "Hm."}, {"type": "text", "content": "Hello! \n"}]
    first += [{"type": "tool_call", "id": "c", "name": "f", "arguments": ""}]
    told = [said("assistant", "", "Hello!"), asks("c", "f"), said("user", "More\n")]
    run = Run()
    begun = run.call([HI], {"role": "assistant", "parts": first, "finish_reason": "stop"})
    assert run.call([HI, *told], HELLO) == begun
    order = Run()
    begun = order.call([HI], asks("c", "f", {"a": 1, "b": [2]}))
    assert order.call([HI, asks("c", "f", {"b": [2], "a": 1}), gave("c", 1)]) == begun


@pytest.mark.parametrize(
    "told",
    [
        [HI, said("assistant", "Hello?"), said("user", "More")],
        [HI, said("user", "Hello!"), said("user", "More")],
        [said("user", "Hey"), HELLO, said("user", "More")],
        [HELLO, HI, said("user", "More")],
        [HI, said("user", "More")],
    ],
)
def test_what_does(told: list[Message]) -> None:
    run = Run()
    assert run.call(told) != run.call([HI], HELLO)
    assert run.call(told) != derived_id("call2", "conversation")


def test_each_choice_can_be_continued() -> None:
    run = Run()
    answers = [said("assistant", word) for word in "abc"]
    begun = run.call([HI], *answers)
    for answer in answers:
        assert run.call([HI, answer, said("user", "More")], HELLO) == begun


def test_providers_and_apis_are_kept_apart() -> None:
    run = Run()
    begun = run.call([HI], HELLO)
    told = [HI, HELLO, said("user", "More")]
    assert run.call(told, provider_name="groq") != begun
    assert run.call(told, api="anthropic.messages") != begun
    assert run.call(told) == begun


def test_agents_whose_calls_end_alike() -> None:
    """The same process goes on, and of one process's the one that did not yet."""
    run = Run()
    told = [HI, HELLO, said("user", "More")]
    first, second = run.call([HI], HELLO, pid=1), run.call([HI], HELLO, pid=2)
    assert first != second
    assert (run.call(told, pid=2), run.call(told, pid=1), run.call(told, pid=2)) == (second, first, second)
    run = Run()
    both = {run.call([HI], HELLO), run.call([HI], HELLO)}
    assert len(both) == 2
    assert {run.call(told, asks("a")), run.call(told, asks("b"))} == both


def test_a_call_that_is_made_again() -> None:
    run = Run()
    begun = run.call([HI], HELLO)
    told = [HI, HELLO, said("user", "More")]
    assert {run.call(told) for _ in range(3)} == {begun}  # failed twice


def test_answers_that_the_provider_keeps() -> None:
    run = Run()
    begun = run.call([HI], HELLO, llm_response_id="r1")
    more = [said("user", "More")]
    assert run.call(more, HELLO, previous_response_id="r1", llm_response_id="r2") == begun
    assert run.call(more, HELLO, previous_response_id="r2") == begun
    assert run.call(more, HELLO, previous_response_id="r2", provider_name="other") != begun
    assert run.call([*more, HELLO, said("user", "?")]) != begun  # what was sent then was not all
    unknown = run.call(more, HELLO, previous_response_id="r9", llm_response_id="r10")
    assert unknown == derived_id(f"call{run.number}", "conversation")
    assert run.call(more, HELLO, conversation_id="conv_1", llm_response_id="r11") == "conv_1"
    assert run.call(more, HELLO, previous_response_id="r11") == "conv_1"


def test_what_has_no_conversation() -> None:
    run = Run()
    assert run.call([HI], operation_name="embeddings") is None
    assert run.call([]) is None


def test_memory_is_bounded() -> None:
    run = Run(max_ends=3)
    ids = [run.call([said("user", str(number))], HELLO) for number in range(5)]
    for number, kept in enumerate([False, False, True, True, True]):
        history = [said("user", str(number)), HELLO, said("user", "More")]
        assert (run.call(history) == ids[number]) is kept
    run = Run()
    for number in range(50):
        run.call([HI], *[HELLO] * 50, pid=number)
    assert sum(map(len, run.conversations._ends.values())) <= 8
    with pytest.raises(ValueError, match="max_ends"):
        Conversations(0)


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("ab")), max_size=12))
def test_interleaved_conversations_stay_apart(steps: list[tuple[int, str]]) -> None:
    """Each begins with the same message, and tools give the same; only the ids of calls differ."""
    run = Run()
    histories: dict[int, list[Message]] = {who: [HI] for who in range(3)}
    ids: dict[int, str | None] = {}
    for number, (who, word) in enumerate(steps):
        answer = asks(f"{number}")
        given_id = run.call(histories[who], answer)
        assert ids.setdefault(who, given_id) == given_id
        histories[who] += [answer, gave(f"{number}", word)]
    assert len({*ids.values()}) == len(ids)
