"""What is answered: decided by the prompt alone."""

from __future__ import annotations

import random
import re
import zlib
from dataclasses import dataclass, field
from typing import Any, Literal

__all__ = ["Answer", "Error", "Tokens", "ToolCall", "answer_for"]

_WORDS = ["the", "agent", "reads", "a", "file", "and", "writes", "what", "it", "found"]
_CITIES = ["Zürich", "São Paulo", "東京", "Reykjavík"]
_LONG_DELTAS = 2000


@dataclass(frozen=True)
class ToolCall:
    """A tool that the model wants to be called."""

    id: str
    name: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Tokens:
    """Counts: `input` has those of the cache in it, `output` those of reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_creation: int = 0
    reasoning: int = 0

    @property
    def uncached(self) -> int:
        return self.input - self.cache_read - self.cache_creation


@dataclass(frozen=True)
class Error:
    """A refusal; `kind` is translated by each API."""

    status: int
    kind: Literal["rate_limit", "bad_request", "overloaded"]
    message: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Answer:
    """What the model says; texts are in the pieces in which they are streamed."""

    id: str
    tokens: Tokens
    text: list[str] = field(default_factory=list)
    reasoning: list[str] = field(default_factory=list)
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish: Literal["stop", "tool", "length"] = "stop"
    error: Error | None = None
    breaks: Error | None = None  # sent instead of the rest of a stream
    compressed: bool = False

    @property
    def signature(self) -> str:
        """What comes with reasoning and has to be sent back."""
        return f"signature-{self.id}"


def answer_for(prompt: str, after_tools: bool) -> Answer:
    """What is answered.

    Args:
        prompt: the text of the user's last message.
        after_tools: results of tools follow it.
    """
    rng = random.Random(zlib.crc32(prompt.encode(errors="replace")) * 2 + after_tools)
    names = re.findall(r"\[([a-z0-9-]+)\]", prompt)
    scenario = names[-1] if names and not after_tools else "plain"
    answer = Answer(f"{rng.getrandbits(64):016x}", Tokens(rng.randint(10, 999), rng.randint(10, 999)))
    answer.text = _sentence(rng, 12)
    if fill := _FILL.get(scenario):
        fill(answer, rng)
    return answer


def _sentence(rng: random.Random, count: int) -> list[str]:
    return [rng.choice(_WORDS) + rng.choice([" ", ", ", ".\n"]) for _ in range(count)]


def _weather(rng: random.Random) -> ToolCall:
    arguments = {"city": rng.choice(_CITIES), "days": rng.randint(1, 9), "units": {"temperature": "°C"}}
    return ToolCall(f"call_{rng.getrandbits(48):012x}", "weather", arguments)


def _clock(rng: random.Random) -> ToolCall:
    return ToolCall(f"call_{rng.getrandbits(48):012x}", "clock", {"zone": 'a "quoted" \\ zone'})


def _tool(answer: Answer, rng: random.Random) -> None:
    answer.text, answer.tool_calls, answer.finish = [], [_weather(rng)], "tool"


def _parallel_tools(answer: Answer, rng: random.Random) -> None:
    answer.tool_calls, answer.finish = [_weather(rng), _clock(rng), _weather(rng)], "tool"


def _thinking(answer: Answer, rng: random.Random) -> None:
    answer.reasoning = _sentence(rng, 20)
    answer.tokens = Tokens(rng.randint(10, 999), rng.randint(500, 999), reasoning=rng.randint(100, 499))


def _thinking_tool(answer: Answer, rng: random.Random) -> None:
    _thinking(answer, rng)
    _tool(answer, rng)


def _cached(answer: Answer, rng: random.Random) -> None:
    answer.tokens = Tokens(
        rng.randint(5000, 9999), rng.randint(10, 99), rng.randint(1000, 3000), rng.randint(100, 1900)
    )


def _length(answer: Answer, rng: random.Random) -> None:
    answer.finish = "length"


def _long(answer: Answer, rng: random.Random) -> None:
    answer.text = _sentence(rng, _LONG_DELTAS)
    answer.tokens = Tokens(rng.randint(10, 999), _LONG_DELTAS)


def _unicode(answer: Answer, rng: random.Random) -> None:
    answer.text = [rng.choice("äß€語🙂\u2028\\\"\t'") for _ in range(60)]
    answer.compressed = True


def _rate_limit(answer: Answer, rng: random.Random) -> None:
    headers = {"retry-after": "7", "x-ratelimit-limit-requests": "60", "x-ratelimit-remaining-requests": "0"}
    answer.error = Error(429, "rate_limit", "Rate limit reached — try again in 7 s", headers)


def _bad_request(answer: Answer, rng: random.Random) -> None:
    answer.error = Error(400, "bad_request", "no such thing as “that”")


def _breaks(answer: Answer, rng: random.Random) -> None:
    answer.breaks = Error(529, "overloaded", "Overloaded")


def _embeddings(answer: Answer, rng: random.Random) -> None:
    answer.text = []


_FILL = {
    "embeddings": _embeddings,
    "tool": _tool,
    "parallel-tools": _parallel_tools,
    "thinking": _thinking,
    "thinking-tool": _thinking_tool,
    "cached": _cached,
    "length": _length,
    "long": _long,
    "unicode": _unicode,
    "error-429": _rate_limit,
    "error-400": _bad_request,
    "error-midway": _breaks,
}
