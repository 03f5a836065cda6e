"""What all events share, and the envelope in which they are written.

In Python an event's fields are flat (`ev.pid`); in JSON those of its own stand in `data`:

    {"id": "…", "timestamp": 1640995200000, "timestamp_ns": …, "source": "ssl", "event_type": "ssl_data",
     "data": {"pid": 1234, "payload": "…", …}}

A field of type `bytes` becomes a string: the text itself where it is valid UTF-8, else base64, and then
`encoding` says so. So every byte comes back as it was. Fields that have a default are left out while
they have it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec

from ..errors import RecordingError

__all__ = ["Event", "UnknownEvent", "event_type", "event_types", "from_json", "json_schema", "to_json"]


class Event(msgspec.Struct, frozen=True, gc=False):
    """An event.

    Attributes:
        id: unique, in UUID form; the same for the same event of the same recording.
        timestamp_ns: when it happened, nanoseconds since the epoch.
        source: which source saw it ("ssl").
    """

    event_type: ClassVar[str] = "event"

    id: str
    timestamp_ns: int
    source: str

    @property
    def timestamp(self) -> int:
        """Milliseconds since the epoch."""
        return self.timestamp_ns // 1_000_000


class UnknownEvent(Event, frozen=True, gc=False):
    """An event of a type that this version does not know: kept as it was read.

    Attributes:
        type_name: its `event_type`.
        data: the JSON of its `data`.
    """

    event_type: ClassVar[str] = "unknown"

    type_name: str
    data: msgspec.Raw


EventClass = TypeVar("EventClass", bound=type[Event])
_ENVELOPE_FIELDS = frozenset(Event.__struct_fields__)
_encoder = msgspec.json.Encoder()
_Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class _Codec:
    """Between an event class and the two JSON structs (envelope and data) that are derived from it."""

    def __init__(self, name: str, cls: type[Event]) -> None:
        fields = [f for f in msgspec.structs.fields(cls) if f.name not in _ENVELOPE_FIELDS]
        self.names = [f.name for f in fields]
        self.binary = next((f.name for f in fields if f.type is bytes), "")
        wire: list[Any] = [
            (f.name, str, *(() if f.required else ("",)))
            if f.name == self.binary
            else (f.name, _bounded(f.type), *(() if f.required else (f.default,)))
            for f in fields
        ]
        if self.binary:
            wire.append(("encoding", Literal["base64"] | msgspec.UnsetType, msgspec.UNSET))
        title = "".join(part.title() for part in name.split("_"))
        self.cls = cls
        self.data: Any = msgspec.defstruct(
            f"{title}Data", wire, gc=False, omit_defaults=True, kw_only=False, module=cls.__module__
        )
        self.envelope = msgspec.defstruct(
            title,
            [
                ("id", str),
                ("timestamp", int),
                ("timestamp_ns", int),
                ("source", str),
                ("event_type", Literal[name]),
                ("data", self.data),
            ],
            frozen=True,
            gc=False,
            module=cls.__module__,
        )
        self.decoder = msgspec.json.Decoder(self.data)
        self.encode = self._encoder(name)

    def _encoder(self, name: str) -> Callable[[Event], bytes]:
        """What `to_json` does for this class: with everything at hand, since it runs for each event."""
        data_class, envelope = self.data, self.envelope
        encode, astuple = _encoder.encode, msgspec.structs.astuple
        own = len(_ENVELOPE_FIELDS)  # the base class's fields come first
        binary = self.binary
        binary_index = own + self.names.index(binary) if binary else 0

        def to_json(event: Event) -> bytes:
            values = astuple(event)
            data = data_class(*values[own:])
            if binary:
                try:
                    setattr(data, binary, values[binary_index].decode())
                except UnicodeDecodeError:  # msgspec writes bytes as base64
                    data.encoding = "base64"
            timestamp_ns = values[1]
            return encode(envelope(values[0], timestamp_ns // 1_000_000, timestamp_ns, values[2], name, data))

        return to_json

    def decode(self, head: _Head) -> Event:
        data: Any = self.decoder.decode(head.data)
        values = {name: getattr(data, name) for name in self.names}
        if self.binary:
            text = values[self.binary]
            encoded = data.encoding == "base64"
            values[self.binary] = b64decode(text, validate=True) if encoded else text.encode()
        return self.cls(id=head.id, timestamp_ns=head.timestamp_ns, source=head.source, **values)


def _bounded(type_: Any) -> Any:
    """Numbers from a recording have to fit into 64 bits, as those of the kernel do."""
    if type_ is int:
        return _Int64
    return _Int64 | None if type_ == (int | None) else type_


class _Head(msgspec.Struct):
    id: str
    timestamp_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    source: str
    event_type: str
    data: msgspec.Raw


_head_decoder = msgspec.json.Decoder(_Head)
_codecs: dict[str, _Codec] = {}
_by_class: dict[type[Event], _Codec] = {}


def event_type(name: str) -> Callable[[EventClass], EventClass]:
    """Class decorator: registers an event class under its `event_type`, so that it can be written and read.

    Raises:
        ValueError: another class has this name.
    """

    def register(cls: EventClass) -> EventClass:
        if name in _codecs:
            raise ValueError(f"event type {name!r} is registered for {_codecs[name].cls.__name__}")
        cls.event_type = name
        _codecs[name] = _by_class[cls] = _Codec(name, cls)
        return cls

    return register


def event_types() -> dict[str, type[Event]]:
    """The registered classes by name."""
    return {name: codec.cls for name, codec in _codecs.items()}


def to_json(event: Event) -> bytes:
    """The event as one line of JSON, without the newline."""
    codec = _by_class.get(type(event))
    if codec is None:
        return _unknown_to_json(event)
    try:
        return codec.encode(event)
    except UnicodeEncodeError:  # a path that is no UTF-8: what does not fit becomes U+FFFD
        changes = {name: _clean(value) for name, value in msgspec.structs.asdict(event).items()}
        return to_json(type(event)(**changes))


def _clean(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return value.encode(errors="surrogateescape").decode(errors="replace")


def _unknown_to_json(event: Event) -> bytes:
    if not isinstance(event, UnknownEvent):
        raise TypeError(f"{type(event).__name__} is not registered: decorate it with @event_type(NAME)")
    return _encoder.encode(
        {
            "id": event.id,
            "timestamp": event.timestamp,
            "timestamp_ns": event.timestamp_ns,
            "source": event.source,
            "event_type": event.type_name,
            "data": event.data,
        }
    )


def from_json(line: bytes | str) -> Event:
    """Reads an event back. One of an unknown type becomes an `UnknownEvent`.

    Raises:
        RecordingError: it is no event.
    """
    try:
        head = _head_decoder.decode(line)
        codec = _codecs.get(head.event_type)
        if codec is None:
            data = msgspec.Raw(msgspec.json.format(head.data, indent=-1))  # one line, whatever it was
            return UnknownEvent(head.id, head.timestamp_ns, head.source, head.event_type, data)
        return codec.decode(head)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        raise RecordingError(f"not an event: {error}") from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line of output: one of the registered types."""
    envelopes = [codec.envelope for codec in _codecs.values()]
    refs, components = msgspec.json.schema_components(envelopes, ref_template="#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "libagenttracer event",
        "oneOf": list(refs),
        "$defs": components,
    }
