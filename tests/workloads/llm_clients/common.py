"""What the clients share: the conversations they have, and what they tell of an answer."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

__all__ = [
    "SCENARIOS",
    "TOOLS",
    "Ask",
    "AskAsync",
    "Connection",
    "Talk",
    "View",
    "have",
    "have_async",
    "talks",
    "without_none",
]

Client = TypeVar("Client")
SCENARIOS = [
    "plain",
    "unicode",
    "cached",
    "length",
    "thinking",
    "tool",
    "parallel-tools",
    "thinking-tool",
    "long",
    "error-429",
    "error-400",
]
TOOLS = {
    "weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string"},
            "days": {"type": "integer"},
            "units": {"type": "object", "properties": {"temperature": {"type": "string"}}},
        },
        "required": ["city"],
    },
    "clock": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
}


@dataclass(frozen=True)
class Connection:
    """How to reach the server."""

    url: str
    ca: str
    http2: bool = False

    def client(self, make: Callable[..., Client]) -> Client:
        """Makes a client of httpx, or of the one like it that an SDK uses."""
        context = ssl.create_default_context(cafile=self.ca)
        return make(verify=context, http2=self.http2, trust_env=False, timeout=60)


@dataclass
class View:
    """What an SDK made of an answer; `reply` is what it wants back as the assistant's message."""

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    usage: dict[str, int] = field(default_factory=dict)
    finish_reasons: list[str] = field(default_factory=list)
    model: str | None = None
    response_id: str | None = None
    status: int = 200
    reply: Any = None


@dataclass
class Talk:
    """A conversation: a prompt, and for each call of tools the answer and the tools' results."""

    scenario: str
    streaming: bool
    turns: list[tuple[View, list[str]]] = field(default_factory=list)

    @property
    def marker(self) -> str:
        return f"#{self.scenario}-{'streamed' if self.streaming else 'whole'}#"

    @property
    def system(self) -> str:
        return "Be brief.\nAnswer in “English”."

    @property
    def prompt(self) -> str:
        return f"[{self.scenario}] What about Zürich? {self.marker}"

    @property
    def tools(self) -> dict[str, dict[str, Any]]:
        return TOOLS if "tool" in self.scenario else {}

    def results(self) -> Iterator[tuple[View, list[tuple[dict[str, Any], str]]]]:
        """The answers so far, with their calls of tools and what these gave."""
        for view, results in self.turns:
            yield view, list(zip(view.tool_calls, results, strict=True))


Ask = Callable[[Talk], View]
AskAsync = Callable[[Talk], Awaitable[View]]


def talks(scenarios: list[str]) -> list[Talk]:
    """Those to have, each scenario whole and streamed."""
    return [Talk(name, streaming) for name in scenarios for streaming in (False, True)]


def _told(talk: Talk, view: View) -> bool:
    """Prints what came; whether the talk goes on, with results of the tools that are asked for."""
    shown = {name: value for name, value in asdict(view).items() if name != "reply"}
    shown = {"marker": talk.marker, "turn": len(talk.turns), "streaming": talk.streaming, **shown}
    print(json.dumps(shown), flush=True)
    talk.turns.append((view, [f"Result {at}: 21 °C" for at, _ in enumerate(view.tool_calls)]))
    return bool(view.tool_calls)


def have(talk: Talk, ask: Ask) -> None:
    """Has a conversation to its end."""
    while _told(talk, ask(talk)):
        pass


async def have_async(talk: Talk, ask: AskAsync) -> None:
    """As `have`."""
    while _told(talk, await ask(talk)):
        pass


def without_none(data: Any) -> Any:
    """JSON without members that are null."""
    if isinstance(data, dict):
        return {name: without_none(value) for name, value in data.items() if value is not None}
    return [without_none(item) for item in data] if isinstance(data, list) else data
