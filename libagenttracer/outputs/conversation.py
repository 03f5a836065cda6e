"""Text for people, of calls of language models: it reads like the conversation that they are."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

from ..events import LlmCall
from .http_text import as_json, byte_size, milliseconds, who_label
from .process_text import one_line, printable
from .wrapping import wrapped

__all__ = ["Conversation"]

_Paint = Callable[[str, str], str]
_LABEL_WIDTH = 10
_INDENT = " " * (_LABEL_WIDTH + 3)
_MIN_WIDTH = 20
# characters that are shown of each text
_MAX_CHARACTERS = {
    "system": 300, "user": 1000, "assistant": 2000, "thinking": 500, "tool": 500, "call": 500, "other": 300,
}  # fmt: skip
_MAX_MESSAGES = 20
_MAX_ERROR = 500
_MAX_NAME = 200
_COLORS = {"user": "write", "assistant": "read", "tool": "signal", "call": "signal", "other": "dim"}
_LABELS = {
    "user": "user", "assistant": "assistant", "model": "assistant", "system": "system", "developer": "system",
    "tool": "tool",
}  # fmt: skip
_QUIET = ("system", "thinking")
_MAX_REMEMBERED = 100_000  # messages of all conversations together


class Conversation:
    """Describes calls; remembers of each conversation what was shown, as numbers, to show only what is new.

    Args:
        extra: everything in full, and ids, parameters and limits too.
        paint: puts text into a colour: "process", "write", "read", "signal", "failure" or "dim".
        width: of a line, in columns; None: lines are not broken.
    """

    def __init__(self, extra: bool, paint: _Paint, width: int | None = None) -> None:
        self._extra = extra
        self._paint = paint
        self._width = None if width is None else max(_MIN_WIDTH, width - len(_INDENT))
        # of each conversation: hash of its system prompt, and of each message; the one used last at the end
        self._seen: OrderedDict[str, tuple[int, list[int]]] = OrderedDict()
        self._remembered = 0

    def text(self, call: LlmCall) -> str:
        """The call without its time, several lines, with a newline at the end."""
        lines = [self._head(call)]
        digests = [_digest(message) for message in call.messages]
        known_system, known = self._seen.get(call.conversation_id or "", (0, []))
        system = _hash(_content(call.system_instructions))
        if call.system_instructions and system != known_system:
            lines += self._part("system", _plain(call.system_instructions))
        earlier = _overlap(known, digests)
        left_out = earlier if self._extra else max(earlier, len(digests) - _MAX_MESSAGES)
        if left_out:
            unseen = f", {left_out - earlier} of them not shown" if left_out > earlier else ""
            plural = "s" if left_out > 1 else ""
            lines.append(self._paint("dim", f"  … {left_out} earlier message{plural}{unseen}"))
        for message in call.messages[left_out:]:
            lines += self._message(message)
        for message in call.output_messages:
            lines += self._message(message)
        if call.tool_calls and not any(_has_call(message) for message in call.output_messages):
            for tool_call in call.tool_calls:
                lines += self._call(tool_call)
        lines += self._result(call)
        if call.conversation_id is not None:
            answers = [_digest(message) for message in call.output_messages[:1]]
            self._remember(call.conversation_id, system, digests + answers)
        return "".join(f"{line}\n" for line in lines)

    def _remember(self, conversation_id: str, system: int, digests: list[int]) -> None:
        before = self._seen.pop(conversation_id, None)
        self._remembered += len(digests) + 1 - (len(before[1]) + 1 if before else 0)
        self._seen[conversation_id] = system, digests
        while self._remembered > _MAX_REMEMBERED:
            self._remembered -= len(self._seen.popitem(last=False)[1][1]) + 1

    def _head(self, call: LlmCall) -> str:
        model = self._short(call.request_model) or "?"
        if call.response_model and call.response_model != call.request_model:
            model += f" → {self._short(call.response_model)}"
        provider = call.api if call.provider_name == "unknown" else call.provider_name
        words = [self._short(provider), model, self._short(call.operation_name)]
        words += ["streamed"] if call.streaming else []
        text = f"{who_label(call.comm, call.pid)} {self._paint('process', '  '.join(words))}"
        if not self._extra:
            return text
        more = [call.api, call.server_address and f"{call.server_address}:{call.server_port or '?'}"]
        more += [f"{name} {value}" for name, value in _parameters(call)]
        more += [f"{len(call.tool_definitions)} tools offered"] if call.tool_definitions else []
        for name, value in (
            ("conversation", call.conversation_id),
            ("response", call.llm_response_id),
            ("exchange", call.http_exchange_id),
        ):
            more.append(value and f"{name} {value}")
        return f"{text}\n  {self._paint('dim', one_line('  '.join(filter(None, more))))}"

    def _message(self, message: Any) -> Iterator[str]:
        role = message.get("role") if isinstance(message, dict) else None
        label = _LABELS.get(as_json(role), "")
        for part in _parts(message):
            kind = part.get("type")
            if kind == "tool_call":
                yield from self._call(part)
            elif kind == "tool_call_response":
                yield from self._part("tool", _response(part.get("response")))
            elif kind == "reasoning":
                yield from self._part("thinking", as_json(part.get("content")))
            elif kind == "text":
                yield from self._part(label or "other", as_json(part.get("content")), label or as_json(role))
            else:
                yield from self._part("other", _other(part), label or as_json(role))

    def _call(self, call: Any) -> Iterator[str]:
        name, arguments = (
            (call.get("name"), call.get("arguments")) if isinstance(call, dict) else (None, call)
        )
        if isinstance(arguments, dict):
            shown = ", ".join(f"{key}={_quoted(value)}" for key, value in arguments.items())
        else:
            shown = "" if arguments is None else as_json(arguments)
        yield from self._part("call", f"{name or '?'}({shown})")

    def _part(self, kind: str, text: str, label: str = "") -> Iterator[str]:
        """A labelled text, cut if it is long."""
        if not text.strip():
            return
        shown = text if self._extra else text[: _MAX_CHARACTERS[kind]]
        rest = len(text[len(shown) :].encode(errors="replace"))
        body = printable(shown).strip("\n")
        if rest:
            body = f"{body.rstrip()} [+{byte_size(rest)}]"
        color = _COLORS.get(kind, "dim")
        yield from self._labelled(one_line(label or kind), body, color, "dim" if kind in _QUIET else "")

    def _labelled(self, label: str, body: str, color: str, body_color: str = "") -> Iterator[str]:
        """A text that is harmless, wrapped, each line behind the column of labels: none looks like a head."""
        label = label[:_LABEL_WIDTH]
        before = f"  {self._paint(color, label)}{' ' * (_LABEL_WIDTH - len(label))} "
        for line in wrapped(body, self._width):
            yield f"{before}{self._paint(body_color, line) if body_color and line else line}".rstrip(" ")
            before = _INDENT

    def _result(self, call: LlmCall) -> Iterator[str]:
        """How it ended, what it took, and what went wrong."""
        times = []
        if call.time_to_first_token_ms is not None:
            times.append(f"first token {milliseconds(call.time_to_first_token_ms)}")
        if call.duration_ms is not None:
            times.append(milliseconds(call.duration_ms))
        if call.tokens_per_second is not None:
            times.append(f"{call.tokens_per_second:,.1f} tok/s")
        reasons = self._short(", ".join(map(str, call.finish_reasons)))
        done = "; ".join(filter(None, (reasons, _tokens(call), ", ".join(times))))
        if done:
            yield from self._labelled("done", done, "dim", "dim")
        failed = call.error_type is not None or call.error_message is not None or (call.status or 0) >= 400
        if failed:
            words = [str(call.status) if call.status else "", call.error_type or "", call.error_message or ""]
            error = " ".join(self._short(word, _MAX_ERROR) for word in words if word)
            yield from self._labelled("error", error, "failure", "failure")
        if call.rate_limit and (failed or self._extra):
            limits = self._short(", ".join(f"{name} {value}" for name, value in call.rate_limit.items()))
            color = "failure" if failed else "dim"
            yield from self._labelled("limits", limits, color, color)
        if call.incomplete:
            reason = one_line(call.reason) or "something is missing"
            yield from self._labelled("incomplete", reason, "failure", "failure")

    def _short(self, text: str | None, length: int = _MAX_NAME) -> str:
        """On one line and harmless; the beginning of it, unless all is asked for."""
        if text is None or len(text) <= length or self._extra:
            return one_line(text)
        return f"{one_line(text[:length])}…"


def _tokens(call: LlmCall) -> str:
    shown = []
    if call.input_tokens is not None:
        cached = [
            f"{count:,} {what}"
            for count, what in (
                (call.cache_read_input_tokens, "cached"),
                (call.cache_creation_input_tokens, "into the cache"),
            )
            if count
        ]
        shown.append(f"{call.input_tokens:,} in" + (f" ({', '.join(cached)})" if cached else ""))
    if call.output_tokens is not None:
        thought = call.reasoning_output_tokens
        shown.append(f"{call.output_tokens:,} out" + (f" ({thought:,} reasoning)" if thought else ""))
    return f"{', '.join(shown)} tokens" if shown else ""


def _parameters(call: LlmCall) -> Iterator[tuple[str, Any]]:
    for name in ("temperature", "top_p", "top_k", "max_tokens", "seed", "choice_count", "output_type"):
        value = getattr(call, name)
        if value is not None:
            yield name, value


def _parts(message: Any) -> list[dict[str, Any]]:
    parts = message.get("parts") if isinstance(message, dict) else None
    if not isinstance(parts, list):
        return []
    return [part if isinstance(part, dict) else {"type": "text", "content": part} for part in parts]


def _has_call(message: Any) -> bool:
    return any(part.get("type") == "tool_call" for part in _parts(message))


def _plain(parts: list[dict[str, Any]]) -> str:
    """The text of some parts."""
    return "\n".join(
        as_json(part.get("content")) if part.get("type") == "text" else _other(part)
        for part in _parts({"parts": parts})
    )


def _response(value: Any) -> str:
    """What a tool gave; many give it as a list of texts."""
    if isinstance(value, list) and value:
        texts = [item.get("text") if isinstance(item, dict) else item for item in value]
        strings = [text for text in texts if isinstance(text, str)]
        if len(strings) == len(texts):
            return "\n".join(strings)
    return as_json(value)


def _other(part: dict[str, Any]) -> str:
    """A part that is no text: what it is, and how much."""
    kind = one_line(as_json(part.get("type")))
    if kind in ("blob", "uri"):
        what = part.get("mime_type") or part.get("modality") or "data"
        content = part.get("content") if kind == "blob" else part.get("uri")
        size = byte_size(len(content)) if kind == "blob" and isinstance(content, str) else as_json(content)
        return f"[{as_json(what)}, {size}]"
    return f"[{kind}] {as_json({key: value for key, value in part.items() if key != 'type'})}"


def _quoted(value: Any) -> str:
    return as_json([value])[1:-1] if isinstance(value, str) else as_json(value)


def _content(parts: Any) -> list[Any]:
    """What a message says, however it is put: an answer and its copy in the next request are the same."""
    said: list[Any] = []
    texts: list[str] = []
    for part in _parts({"parts": parts}):
        kind = part.get("type")
        if kind == "text":
            texts.append(as_json(part.get("content")))
        elif kind == "tool_call":
            said.append((as_json(part.get("name")), _canonical(part.get("arguments"))))
        elif kind == "tool_call_response":
            said.append((as_json(part.get("id")), _canonical(part.get("response"))))
        elif kind != "reasoning":
            said.append(_canonical(part))
    return ["".join(texts).strip(), *said]


def _canonical(value: Any) -> str:
    """The same for the same JSON, whatever the order of its keys."""
    if isinstance(value, dict):
        return as_json({key: value[key] for key in sorted(value, key=str)})
    return as_json(value)


def _hash(content: list[Any]) -> int:
    return hash(tuple(content))


def _digest(message: Any) -> int:
    role = message.get("role") if isinstance(message, dict) else None
    role = "assistant" if role == "model" else role
    parts = message.get("parts") if isinstance(message, dict) else None
    return hash((as_json(role), *_content(parts)))


def _overlap(known: list[int], digests: list[int]) -> int:
    """How many messages at the beginning were there the last time.

    They are a beginning of what is known; or, where old ones were dropped, its end.
    """
    same = 0
    for before, now in zip(known, digests, strict=False):
        if before != now:
            break
        same += 1
    if same or not digests:
        return same
    for start, before in enumerate(known):
        rest = known[start:] if before == digests[0] else []
        if rest and digests[: len(rest)] == rest:
            return len(rest)
    return 0
