"""Finds the calls that belong to one conversation: those whose history goes on where an earlier call ended.

No call says which conversation it belongs to, but most APIs have the whole history sent each time. So a
hash runs over a call's messages, part by part; what it is behind the answer is kept, and a later call whose
history has the same value somewhere continues that call. How parts are grouped into messages does not matter,
nor do white space around texts, reasoning (seldom sent back) and system prompts (which change). A first
message alone ties nothing together: many agents begin with the same one.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import msgspec

from ...events import derived_id
from .base import Draft

__all__ = ["Conversations"]

_encode = msgspec.json.Encoder(order="deterministic").encode
_OPERATIONS = ("chat", "generate_content")
_MAX_SAME = 8  # calls that ended alike, and choices of one answer
_MAX_ID = 1024  # characters of an id that is kept: some are the client's
_Hash = bytes


@dataclass
class _End:
    """A call that others may continue."""

    conversation_id: str
    pid: int
    continued: bool = False


class Conversations:
    """Gives calls the id of their conversation. Calls have to come in the order in which they ended.

    Args:
        max_ends: how many ends of calls are kept; the one that was not used for the longest time goes first.

    Raises:
        ValueError: `max_ends` is not positive.
    """

    def __init__(self, max_ends: int = 16384) -> None:
        if max_ends < 1:
            raise ValueError(f"max_ends is not positive: {max_ends}")
        self._max_ends = max_ends
        self._ends: OrderedDict[_Hash, list[_End]] = OrderedDict()

    def id_of(self, draft: Draft, call_id: str, pid: int) -> str | None:
        """The id of the conversation of a call that is over; None if it is no chat.

        A new one's id follows from that of its first call. If several calls ended alike, one of the same
        process is continued, and one that was not continued before.

        Args:
            call_id: of the `llm_call`.
            pid: the process that made or served it.
        """
        if draft.operation_name not in _OPERATIONS or not (draft.messages or draft.output_messages):
            return draft.conversation_id
        kind = (draft.provider_name, draft.api)
        # the provider has the history, or a part of it: what was sent is not all
        stored = draft.previous_response_id is not None or draft.conversation_id is not None
        hashes: list[_Hash] = []
        if not stored:
            hashes = list(_hashes(_hash(*kind), draft.messages))
        conversation_id = draft.conversation_id
        if conversation_id is None and draft.previous_response_id is not None:
            conversation_id = self._continued(_hash(*kind, draft.previous_response_id), pid)
        for value in reversed(hashes):
            if conversation_id is None:
                conversation_id = self._continued(value, pid)
        if conversation_id is None:
            conversation_id = derived_id(call_id, "conversation")
        if draft.llm_response_id:
            self._add(_hash(*kind, draft.llm_response_id), conversation_id, pid)
        if hashes:
            for message in draft.output_messages[:_MAX_SAME]:
                behind = [hashes[-1], *_hashes(hashes[-1], [message])]
                if len(behind) > 1:
                    self._add(behind[-1], conversation_id, pid)
        return conversation_id

    def _continued(self, key: _Hash, pid: int) -> str | None:
        ends = self._ends.get(key)
        if ends is None:
            return None
        self._ends.move_to_end(key)
        end = max(ends, key=lambda end: (end.pid == pid, not end.continued))
        end.continued = True
        return end.conversation_id

    def _add(self, key: _Hash, conversation_id: str, pid: int) -> None:
        if len(conversation_id) > _MAX_ID:
            return
        ends = self._ends.setdefault(key, [])
        self._ends.move_to_end(key)
        ends[:] = [end for end in ends if (end.conversation_id, end.pid) != (conversation_id, pid)]
        ends.append(_End(conversation_id, pid))
        del ends[:-_MAX_SAME]
        if len(self._ends) > self._max_ends:
            self._ends.popitem(last=False)


def _hash(*values: Any) -> _Hash:
    return blake2b(_encode(values), digest_size=16).digest()


def _hashes(start: bytes, messages: Iterable[dict[str, Any]]) -> Iterator[_Hash]:
    """The hash behind each part. Texts that follow one another count as one: answers come in pieces."""
    value = start
    texts: _Texts | None = None
    for message in messages:
        role = message.get("role")
        for part in message.get("parts", ()):
            content = part.get("content")
            if part.get("type") == "text" and isinstance(content, str):
                if texts is None or texts.role != role:
                    texts = _Texts(value, role)
                if texts.add(content):
                    value = texts.hash()
                    yield value
                continue
            said = _said(part)
            if said is not None:
                texts = None
                value = blake2b(value + _encode((role, said)), digest_size=16).digest()
                yield value


class _Texts:
    """Texts of one role in a row; white space around them does not count."""

    def __init__(self, before: _Hash, role: Any) -> None:
        self.role = role
        self._hash = blake2b(before + _encode((role, "text")), digest_size=16)
        self._begun = False
        self._space: list[str] = []

    def add(self, text: str) -> bool:
        """Takes the next one; whether it says anything."""
        said = text.strip()
        if not said:
            if self._begun:
                self._space.append(text)
            return False
        before = "".join(self._space) + text[: text.index(said)] if self._begun else ""
        self._space = [text[text.index(said) + len(said) :]]
        self._begun = True
        self._hash.update((before + said).encode("utf-8", "surrogatepass"))
        return True

    def hash(self) -> _Hash:
        """Behind what was taken so far."""
        return self._hash.copy().digest()


def _said(part: dict[str, Any]) -> Any:
    """What counts of a part; None: nothing."""
    kind = part.get("type")
    if kind == "text":
        return part.get("content")
    if kind == "reasoning":
        return None
    if kind == "tool_call":  # no arguments are sent in several ways
        return kind, part.get("id"), part.get("name"), part.get("arguments") or {}
    return part
