"""What all events share, and the envelope in which they are written.

In Python an event's fields are flat (`ev.pid`); in JSON those of its own stand in `data`:

    {"id": "…", "timestamp": 1640995200000, "timestamp_ns": …, "source": "ssl", "event_type": "ssl_data",
     "data": {"pid": 1234, "payload": "…", …}}

A field of type `bytes` becomes a string: the text itself where it is valid UTF-8, else base64, and then
`encoding` says so. Strings may hold bytes that are no UTF-8, as `os.fsdecode` gives them; in JSON they
have U+FFFD there, and `raw` has the bytes of these fields in base64. So every byte comes back as it was.
Fields that have a default are left out while they have it. A field can have another name in JSON
(msgspec's `rename`).
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import blake2b
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec

from ..errors import RecordingError

__all__ = [
    "Event",
    "UnknownEvent",
    "derived_id",
    "derived_ids",
    "event_type",
    "event_types",
    "from_json",
    "json_schema",
    "to_json",
]


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


def derived_ids(parent_id: str, kind: str) -> Callable[[int], str]:
    """Ids of many events that are made of another one: the same for the same parent, kind and number.

    Args:
        parent_id: the event that they come of.
        kind: tells apart what different analyzers make of it; by custom the `event_type`.

    Returns:
        A function from a number below 2**32 to an id in UUID form (version 8, RFC 9562, 5.8).
    """
    digest = blake2b(f"{parent_id}/{kind}".encode(), digest_size=10).hexdigest()
    prefix = f"{digest[:8]}-{digest[8:12]}-8{digest[12:15]}-b{digest[15:18]}-{digest[16:20]}"

    def numbered(number: int) -> str:
        return f"{prefix}{number:08x}"

    return numbered


def derived_id(parent_id: str, kind: str, number: int = 0) -> str:
    """The id of an event that is made of another one; as `derived_ids`, for one or few."""
    digest = blake2b(f"{parent_id}/{kind}/{number}".encode(), digest_size=16).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-a{digest[17:20]}-{digest[20:]}"


EventClass = TypeVar("EventClass", bound=type[Event])
_ENVELOPE_FIELDS = frozenset(Event.__struct_fields__)
_encoder = msgspec.json.Encoder()
_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_SURROGATE = re.compile("[\ud800-\udfff]")
_Raw = dict[str, str | list[str]]
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
            else (f.name, _bounded(f.type), *_default(f))
            for f in fields
        ]
        if self.binary:
            wire.append(("encoding", Literal["base64"] | msgspec.UnsetType, msgspec.UNSET))
        # whose bytes can be kept: other types of strings could have rules that the bytes would get round
        self.strings = {f.name for f in fields if f.type in (str, str | None, list[str], list[str] | None)}
        if "raw" in self.names:  # a class of somebody else, which has its own use for that name
            self.strings.clear()
        else:
            wire.append(("raw", _Raw | msgspec.UnsetType, msgspec.UNSET))
        title = "".join(part.title() for part in name.split("_"))
        required = [f.required for f in fields]
        self.by_keyword = required != sorted(required, reverse=True)  # a field without a default after others
        self.cls = cls
        self.data: Any = msgspec.defstruct(
            f"{title}Data",
            wire,
            gc=False,
            omit_defaults=True,
            kw_only=self.by_keyword,
            module=cls.__module__,
            rename={f.name: f.encode_name for f in fields},
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
        binary, names, by_keyword = self.binary, self.names, self.by_keyword
        binary_index = own + self.names.index(binary) if binary else 0

        def to_json(event: Event) -> bytes:
            values = astuple(event)
            if by_keyword:
                data = data_class(**dict(zip(names, values[own:], strict=True)))
            else:
                data = data_class(*values[own:])
            if binary:
                try:
                    setattr(data, binary, values[binary_index].decode())
                except UnicodeDecodeError:  # msgspec writes bytes as base64
                    data.encoding = "base64"
            timestamp_ns = values[1]
            return encode(envelope(values[0], timestamp_ns // 1_000_000, timestamp_ns, values[2], name, data))

        return to_json

    def encode_inexact(self, event: Event) -> bytes:
        """As `encode`, for an event with strings that JSON cannot have."""
        shown: dict[str, Any] = {}
        raw: _Raw = {}
        for name, value in msgspec.structs.asdict(event).items():
            shown[name] = text = _readable(value)
            if text != value and name in self.strings and (exact := _raw(value)):
                raw[name] = exact
        line = self.encode(self.cls(**shown))
        if not raw:
            return line
        envelope = _object_decoder.decode(line)
        data: dict[str, Any] = {**_object_decoder.decode(envelope["data"]), "raw": raw}
        return _encoder.encode({**envelope, "data": data})

    def decode(self, head: _Head) -> Event:
        data: Any = self.decoder.decode(head.data)
        values = {name: getattr(data, name) for name in self.names}
        if self.binary:
            text = values[self.binary]
            encoded = data.encoding == "base64"
            values[self.binary] = b64decode(text, validate=True) if encoded else text.encode()
        if self.strings and data.raw is not msgspec.UNSET:
            for name, exact in data.raw.items():
                if name not in self.strings:
                    raise ValueError(f"`raw` has {name!r}, which is no field with a string")
                values[name] = _restored(name, values[name], exact)
        return self.cls(id=head.id, timestamp_ns=head.timestamp_ns, source=head.source, **values)


def _default(field: msgspec.structs.FieldInfo) -> tuple[Any, ...]:
    """What follows a field's name and type in the definition of a struct."""
    if field.required:
        return ()
    if field.default_factory is not msgspec.NODEFAULT:
        return (msgspec.field(default_factory=field.default_factory),)
    return (field.default,)


def _bounded(type_: Any) -> Any:
    """Numbers from a recording have to fit into 64 bits, as those of the kernel do."""
    if type_ is int:
        return _Int64
    return _Int64 | None if type_ == (int | None) else type_


def _readable(value: Any) -> Any:
    """A field's value as JSON can have it: U+FFFD for what is no UTF-8."""
    if isinstance(value, str):
        if value.isascii():
            return value
        try:
            return value.encode(errors="surrogateescape").decode(errors="replace")
        except UnicodeEncodeError:  # surrogates that stand for no byte
            return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_readable(key): _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_readable(item) for item in value]
    return _readable(msgspec.to_builtins(value)) if isinstance(value, msgspec.Struct) else value


def _raw(value: Any) -> str | list[str] | None:
    """The bytes of a string or of a list of them in base64; nothing if text says it all, or nothing can."""
    strings = value if isinstance(value, list) else [value]
    try:
        exact = [string.encode(errors="surrogateescape") for string in strings]
    except (AttributeError, UnicodeEncodeError):  # no strings, or surrogates that stand for no byte
        return None
    if all(b.decode(errors="replace").encode() == b for b in exact):
        return None
    encoded = [b64encode(b).decode() for b in exact]
    return encoded if isinstance(value, list) else encoded[0]


def _restored(name: str, shown: Any, exact: str | list[str]) -> str | list[str]:
    """The strings whose bytes a recording has."""
    if isinstance(exact, list) and isinstance(shown, list) and len(exact) == len(shown):
        return [_string(item) for item in exact]
    if isinstance(exact, str) and isinstance(shown, str):
        return _string(exact)
    raise ValueError(f"`raw` does not fit `{name}`")


def _string(encoded: str) -> str:
    return b64decode(encoded, validate=True).decode(errors="surrogateescape")


class _Head(msgspec.Struct):
    id: str
    timestamp_ns: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    source: str
    event_type: str
    data: msgspec.Raw


_head_decoder = msgspec.json.Decoder(_Head)
_codecs: dict[str, _Codec] = {}
_encoders: dict[type[Event], Callable[[Event], bytes]] = {}


def event_type(name: str) -> Callable[[EventClass], EventClass]:
    """Class decorator: registers an event class under its `event_type`, so that it can be written and read.

    Raises:
        ValueError: another class has this name.
    """

    def register(cls: EventClass) -> EventClass:
        if name in _codecs:
            raise ValueError(f"event type {name!r} is registered for {_codecs[name].cls.__name__}")
        cls.event_type = name
        codec = _codecs[name] = _Codec(name, cls)
        _encoders[cls] = codec.encode
        return cls

    return register


def event_types() -> dict[str, type[Event]]:
    """The registered classes by name."""
    return {name: codec.cls for name, codec in _codecs.items()}


def to_json(event: Event) -> bytes:
    """The event as one line of JSON, without the newline."""
    encode = _encoders.get(type(event), _unknown_to_json)
    try:
        return encode(event)
    except UnicodeEncodeError:
        return _codecs[event.event_type].encode_inexact(event)


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
