"""Secrets that come in pieces: texts that are spread over many events of a stream.

A language model's answer comes as events with a few letters each. The pieces that belong together are
joined; an event is held back while its text may be the beginning of a secret, and a secret that was found is
cut out of all the events that it is spread over.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from typing import Any

import msgspec

from .names import classify
from .pairs import OPEN_PAIR
from .scan import find
from .scrub import Scrubber
from .shapes import PREFIX_AT_END

__all__ = ["StreamWindow", "is_clean", "redact_documents", "redact_lines"]

HELD_MAX = 2048  # events
HELD_CHARS_MAX = 1 << 20  # of all of them
TEXT_MAX = 8192  # characters of one text that are not settled
LANES_MAX = 256
DEPTH_MAX = 12
_CONTEXT = 200
_TAIL = 700  # characters before the end in which the name stands whose value may still come
# members in which the APIs of language models send a text piece by piece
_TEXTS = {
    *("text", "content", "delta", "arguments", "partial_json", "thinking", "reasoning", "reasoning_content"),
    *("refusal", "response", "completion", "transcript", "tool_plan", "stringValue", "generated_text"),
}
_MAY_HAVE_TEXT = re.compile(rf'"(?:{"|".join(sorted(_TEXTS))})"|\\u')  # names can have escapes in them
_INDEXES = ("index", "output_index", "content_index", "summary_index")
_FINISHED = ("finish_reason", "finishReason", "done_reason")
_LAST_TYPES = ("done", "completed", "stop", "end", "failed", "incomplete")
_PEM = re.compile(
    r"-----BEGIN (?:[A-Z0-9 ]{0,60}-{0,5}|[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?P<body>[\s\S]*))$"
)
_PEM_END = re.compile(r"-----END [A-Z0-9 ]{0,60}-----")
_DELIMITERS = r"\s\"'`,;&(){}<>\[\]"
_WORD = re.compile(f"[^{_DELIMITERS}]*")
_NAME = re.compile(r"[\w.\-]{0,64}")
_VALUE = re.compile(r"(?:[:=]\s*|\s)(?:(?:bearer|basic|token)\s+)?\\*([\"']?)", re.IGNORECASE)
_TO_QUOTE = re.compile(r"[^\"']*")
_TO_PEM_END = re.compile(r"(?:(?!-----END)[\s\S])*")
Lane = tuple[str, tuple[int, ...]]


class _Item:
    """An event of the stream: whose it is (`tag`), its data as it came, and its JSON if there is any.

    `open` counts the pieces in it that may be part of a longer secret.
    """

    __slots__ = ("changed", "data", "document", "open", "size", "tag")

    def __init__(self, tag: Any, data: str, document: Any) -> None:
        self.tag = tag
        self.data = data
        self.size = len(data)
        self.document = document
        self.open = 0
        self.changed = False


class _Piece:
    """A part of a text, and where it belongs: `settled` is what is known to stay, `text` the rest."""

    __slots__ = ("holder", "item", "member", "settled", "text")

    def __init__(self, item: _Item, holder: Any, member: str, text: str) -> None:
        self.item = item
        self.holder = holder
        self.member = member
        self.settled = ""
        self.text = text

    def put(self, text: str) -> None:
        """Changes it in its document."""
        self.item.changed = True
        if self.holder is None:
            self.item.data = text
        else:
            self.holder[self.member] = text


class _Text:
    """A text as far as it is not settled."""

    __slots__ = ("pieces", "swallow")

    def __init__(self) -> None:
        self.pieces: list[_Piece] = []
        # a secret was cut out before its end had come: what still belongs to it
        self.swallow: re.Pattern[str] | None = None


class StreamWindow:
    """The end of one stream that is not settled yet. Bounded: what is held back for too long is released,
    but without what then may be the beginning of a secret.

    Args:
        scrubber: replaces.

    Attributes:
        last_ns: for the caller.
    """

    def __init__(self, scrubber: Scrubber) -> None:
        self.last_ns = 0
        self._scrubber = scrubber
        self._items: deque[_Item] = deque()
        self._held_chars = 0  # in them
        self._texts: dict[Lane, _Text] = {}

    def add(self, tag: Any, data: str, *, whole: bool = False) -> list[tuple[Any, str]]:
        """Takes the next event's data; gives what can be released, in order, as (tag, data).

        Args:
            tag: anything that tells whose the data are.
            data: JSON or text.
            whole: it is no piece of anything.
        """
        document = None if whole else _document(data)
        item = _Item(tag, data, document)
        self._items.append(item)
        self._held_chars += len(data)
        touched: dict[Lane, _Text] = {}
        if document is None:
            if data and not whole and data[0] not in "{[":
                touched["", ()] = self._take(("", ()), _Piece(item, None, "", data))
        elif _is_last(document):
            self._settle_all()
        else:
            for lane, holder, member, text in _pieces(document):
                touched[lane] = self._take(lane, _Piece(item, holder, member, text))
        for begun in touched.values():
            self._settle(begun)
        if document is not None:
            for index in _finished(document):
                for lane, begun in self._texts.items():
                    if lane[1][:1] == (index,):
                        self._settle(begun, final=True)
        if len(self._items) > HELD_MAX or (len(self._items) > 1 and self._held_chars > HELD_CHARS_MAX):
            self._settle_all(forced=True)
        return self._released()

    def end(self, *, forced: bool = False) -> list[tuple[Any, str]]:
        """Gives all that was held back.

        Args:
            forced: the stream is not over.
        """
        self._settle_all(forced=forced)
        return self._released()

    def _take(self, lane: Lane, piece: _Piece) -> _Text:
        text = self._texts.get(lane)
        if text is None:
            if len(self._texts) >= LANES_MAX:
                self._settle_all(forced=True)
                self._texts.clear()
            text = self._texts[lane] = _Text()
        for other, begun in self._texts.items():  # another part of the same answer has begun
            if begun.pieces and other[0] != lane[0] and other[1][:1] == lane[1][:1]:
                self._settle(begun, final=True)
        if text.swallow is not None:
            gone = text.swallow.match(piece.text)
            end = gone.end() if gone else 0
            if end:
                piece.put(piece.text[end:])
                piece.text = piece.text[end:]
            if not piece.text:
                return text
            text.swallow = None
        text.pieces.append(piece)
        piece.item.open += 1
        return text

    def _settle_all(self, *, forced: bool = False) -> None:
        for text in self._texts.values():
            self._settle(text, final=True, forced=forced)

    def _settle(self, text: _Text, *, final: bool = False, forced: bool = False) -> None:
        """Looks for secrets in what can be told by now.

        Args:
            final: nothing that belongs to it will come.
            forced: it may come, but cannot be waited for.
        """
        if not text.pieces:
            return
        joined = "".join([piece.text for piece in text.pieces])
        forced = forced or len(joined) > TEXT_MAX
        cut = len(joined) if final and not forced else _open_at(joined)
        if not cut and not forced:
            return
        spans = [(span.start, span.end, span.kind) for span in find(joined.encode("ascii", "replace"))]
        if forced:
            begun = _begun_secret(joined, cut)
            cut = len(joined)
            if begun is not None:
                start, text.swallow = begun
                spans = [span for span in spans if span[1] <= start]
                spans.append((start, cut, "part"))
        elif not final:
            # a secret that goes on to the end may go on behind it; what shows that it is one stays with it
            cut = min([cut, *(max(start - _CONTEXT, 0) for start, end, _ in spans if end > cut)])
            spans = [span for span in spans if span[1] <= cut]
        if cut:
            self._cut(text, cut, spans, joined)

    def _cut(self, text: _Text, cut: int, spans: list[tuple[int, int, str]], joined: str) -> None:
        """What lies before a place is settled: secrets in it are replaced, in all pieces that have a part."""
        mark = self._scrubber.mark
        marked = [(a, b, mark(kind, joined[a:b].encode("utf-8", "surrogatepass"))) for a, b, kind in spans]
        at = 0
        kept: list[_Piece] = []
        for piece in text.pieces:
            part = piece.text[: max(cut - at, 0)]
            changed = _without(part, at, marked) if marked else part
            at += len(piece.text)
            if changed != part:
                piece.put(piece.settled + changed + piece.text[len(part) :])
            piece.settled += changed
            piece.text = piece.text[len(part) :]
            if piece.text:
                kept.append(piece)
            else:
                piece.item.open -= 1
        text.pieces = kept

    def _released(self) -> list[tuple[Any, str]]:
        given = []
        while self._items and self._items[0].open == 0:
            item = self._items.popleft()
            self._held_chars -= item.size
            data = item.data
            if item.changed and item.document is not None:
                data = msgspec.json.encode(item.document).decode()
            given.append((item.tag, self._scrubber.text(data)))
        return given


def _without(part: str, at: int, marked: list[tuple[int, int, str]]) -> str:
    """A part of a text, which begins at a place in it, with what replaces the secrets."""
    shown: list[str] = []
    position, end = at, at + len(part)
    for start, stop, mark in marked:
        if stop <= position or start >= end:
            continue
        if start >= at:
            shown += (part[position - at : start - at], mark)
        position = min(stop, end)
    shown.append(part[position - at :])
    return "".join(shown)


def _document(data: str) -> Any:
    """The JSON object or array; nothing if it is none, or a whole message (JSON-RPC)."""
    if data[:1] not in ("{", "["):
        return None
    try:
        document = msgspec.json.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeEncodeError):
        return None
    return None if isinstance(document, dict) and "jsonrpc" in document else document


def _is_last(document: Any) -> bool:
    """Whether it says that something is over: then it has texts as a whole, if any."""
    kind = document.get("type") if isinstance(document, dict) else None
    return (
        isinstance(kind, str) and kind.replace("_", ".").replace("-", ".").rpartition(".")[2] in _LAST_TYPES
    )


def _finished(document: Any) -> Iterator[int]:
    """The choices that are over with this event."""
    if not isinstance(document, dict):
        return
    for name in ("choices", "candidates"):
        choices = document.get(name)
        for n, choice in enumerate(choices if isinstance(choices, list) else ()):
            if isinstance(choice, dict) and any(choice.get(word) for word in _FINISHED):
                index = choice.get("index", n)
                yield index if isinstance(index, int) else n


def _pieces(document: Any) -> list[tuple[Lane, Any, str, str]]:
    """The texts of an event: which text it belongs to, the object and member that has it, and it."""
    found: list[tuple[Lane, Any, str, str]] = []
    _collect(document, (), 0, found)
    return found


def _collect(
    value: Any, indexes: tuple[int, ...], depth: int, found: list[tuple[Lane, Any, str, str]]
) -> None:
    if depth > DEPTH_MAX:
        return
    if isinstance(value, list):
        for n, item in enumerate(value):
            if isinstance(item, dict):
                _collect(item, indexes if "index" in item else (*indexes, n), depth + 1, found)
            elif isinstance(item, list):
                _collect(item, (*indexes, n), depth + 1, found)
        return
    for name in _INDEXES:
        if name in value and isinstance(index := value[name], int):
            indexes = (*indexes, index)
    for name, item in value.items():
        if isinstance(item, str):
            if item and name in _TEXTS:
                found.append(((name, indexes), value, name, item))
        elif isinstance(item, (dict, list)):
            _collect(item, indexes, depth + 1, found)


def is_clean(stream: list[str]) -> bool:
    """Whether there is no secret in a whole stream: much faster than to go through it event by event."""
    texts: dict[Lane, list[str]] = {}
    for data in stream:
        if data[:1] == "{" and data[-1:] == "}" and not _MAY_HAVE_TEXT.search(data):
            continue  # to decode each line takes long, and has nothing to join here
        document = _document(data)
        if document is None:
            texts.setdefault(("", ()), []).append(data)
        elif not _is_last(document):
            for lane, _, _, text in _pieces(document):
                texts.setdefault(lane, []).append(text)
    return not any(
        find(text.encode("ascii", "replace"))
        for text in ("\n".join(stream), *("".join(pieces) for pieces in texts.values()))
    )


def _open_at(joined: str) -> int:
    """From where on a text may be part of something that is not complete."""
    word = _WORD.match(joined[::-1])
    position = len(joined) - (word.end() if word else 0)
    pair = OPEN_PAIR.search(joined, max(0, len(joined) - _TAIL))
    if pair:
        start = pair.start()
        name = _NAME.match(joined[max(0, start - 64) : start][::-1])
        position = min(position, start - (name.end() if name else 0))
    begin = joined.rfind("-----BEGIN")
    if begin >= 0 and _PEM.match(joined, begin) and not _PEM_END.search(joined, begin):
        position = min(position, begin)
    return position


def _begun_secret(joined: str, open_at: int) -> tuple[int, re.Pattern[str]] | None:
    """Where a secret surely begins that is not complete, and what belongs to it of what will come."""
    begin = joined.rfind("-----BEGIN")
    pem = _PEM.match(joined, begin) if begin >= 0 else None
    if pem and pem["body"] is not None and "-----END" not in pem["body"]:
        return pem.start("body"), _TO_PEM_END
    prefix = PREFIX_AT_END.search(joined, open_at)
    if prefix:
        return prefix.start(), _WORD
    pair = OPEN_PAIR.search(joined, max(0, len(joined) - _TAIL))
    value = _VALUE.search(joined, pair.start()) if pair else None
    if value is None:
        return None
    meaning = classify(joined[open_at : value.start()].strip("\"'\\` -"))
    if meaning is None or not meaning.certain:
        return None
    return value.end(), _TO_QUOTE if value[1] else _WORD


def redact_lines(scrubber: Scrubber, body: bytes) -> bytes:
    """A whole stream of server-sent events, or of JSON in lines."""
    lines = [_parts(line) for line in body.decode("utf-8", "surrogateescape").split("\n")]
    if is_clean([content for _, content, _ in lines]):
        return body
    window = StreamWindow(scrubber)
    shown: list[bytes] = []
    for field, content, rest in lines:
        whole = not field and content[:1] not in ("{", "[")
        shown += [_line(*some) for some in window.add((field, rest), content, whole=whole)]
    shown += [_line(*some) for some in window.end()]
    return b"\n".join(shown)


def _parts(line: str) -> tuple[str, str, str]:
    content = line.rstrip("\r")
    field = "data: " if content.startswith("data: ") else "data:" if content.startswith("data:") else ""
    return field, content[len(field) :], line[len(content) :]


def _line(tag: tuple[str, str], data: str) -> bytes:
    return f"{tag[0]}{data}{tag[1]}".encode("utf-8", "surrogateescape")


def redact_documents(scrubber: Scrubber, body: bytes) -> bytes:
    """A stream that comes as one JSON array, and is the same otherwise."""
    try:
        documents = msgspec.json.decode(body, type=list[dict[str, Any]])
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return scrubber.data(body)
    before = [msgspec.json.encode(document).decode() for document in documents]
    if is_clean(before):
        return body
    window = StreamWindow(scrubber)
    after = [data for text in before for _, data in window.add(None, text)]
    after += [data for _, data in window.end()]
    return body if after == before else f"[{','.join(after)}]".encode()
