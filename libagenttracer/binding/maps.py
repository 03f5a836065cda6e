"""BPF maps."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from ..errors import MapError, MissingCapability
from ._libbpf import ffi, lib
from .privileges import missing_for_bpf

__all__ = ["MAP_TYPES", "Map"]

# include/uapi/linux/bpf.h, enum bpf_map_type: those that are looked into here
MAP_TYPES = {
    1: "hash",
    2: "array",
    5: "percpu_hash",
    6: "percpu_array",
    9: "lru_hash",
    10: "lru_percpu_hash",
    27: "ringbuf",
}
_PER_CPU = frozenset({"percpu_hash", "percpu_array", "lru_percpu_hash"})


def raise_map_error(operation: str, subject: str, code: int) -> None:
    """Raises the fitting error for a failed map operation (`code`: a negative errno)."""
    if -code == errno.EPERM:
        raise MissingCapability(f"{operation} {subject}", missing_for_bpf())
    raise MapError(operation, subject, code)


class Map:
    """A map of a loaded object, or one that came as a file descriptor.

    Keys and values are `bytes` of exactly `key_bytes` and `value_bytes`; a per-CPU value is a list of
    such `bytes`, one for each possible CPU. It lives as long as its object: afterwards every call raises.

    Attributes:
        name: as in the object.
        type: "hash", "array", "percpu_array", "ringbuf", … (the kernel's number as text if unknown here).
        key_bytes, value_bytes, max_entries: as created.
    """

    def __init__(
        self,
        name: str,
        fd: int,
        type_: int,
        key_bytes: int,
        value_bytes: int,
        max_entries: int,
        owner: Any = None,
    ) -> None:
        self.name = name
        self._owner = owner  # kept alive
        self.type = MAP_TYPES.get(type_, str(type_))
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self.max_entries = max_entries
        self._fd = fd
        per_cpu = self.type in _PER_CPU
        self._cpus = lib.libbpf_num_possible_cpus() if per_cpu else 0
        # the kernel pads per-CPU values to eight bytes
        self._stride = (value_bytes + 7) // 8 * 8 if per_cpu else value_bytes
        self._room_bytes = self._stride * max(1, self._cpus)

    def __repr__(self) -> str:
        return f"<Map {self.name}: {self.type}, {self.max_entries} entries>"

    def fileno(self) -> int:
        """The map's file descriptor; it stays the object's."""
        if self._fd < 0:
            raise MapError("use", self.name, errno.EBADF, hint="its object has been closed")
        return self._fd

    def invalidate(self) -> None:
        """Called by the object when it is closed."""
        self._fd = -1

    def get(self, key: bytes) -> Any:
        """The value, or None if there is no such key.

        Returns:
            `bytes`, or a list of `bytes` by CPU for a per-CPU map.
        """
        value = ffi.new("char[]", self._room_bytes)
        code = lib.bpf_map_lookup_elem(self.fileno(), self._checked(key, self.key_bytes, "key"), value)
        if code == -errno.ENOENT:
            return None
        if code:
            raise_map_error("look up in", self.name, code)
        raw = bytes(ffi.buffer(value, self._room_bytes))
        if not self._cpus:
            return raw
        return [raw[i * self._stride : i * self._stride + self.value_bytes] for i in range(self._cpus)]

    def __getitem__(self, key: bytes) -> Any:
        """As `get`, but a missing key raises KeyError."""
        value = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: bytes, value: bytes) -> None:
        """Adds or replaces an entry; for a per-CPU map the value is given to every CPU."""
        raw = self._checked(value, self.value_bytes, "value")
        if self._cpus:
            raw = raw.ljust(self._stride, b"\0") * self._cpus
        code = lib.bpf_map_update_elem(self.fileno(), self._checked(key, self.key_bytes, "key"), raw, 0)
        if code:
            raise_map_error("update", self.name, code)

    def __delitem__(self, key: bytes) -> None:
        code = lib.bpf_map_delete_elem(self.fileno(), self._checked(key, self.key_bytes, "key"))
        if code == -errno.ENOENT:
            raise KeyError(key)
        if code:
            raise_map_error("delete from", self.name, code)

    def __iter__(self) -> Iterator[bytes]:
        """The keys. An entry deleted meanwhile can make a hash map start over: then keys come twice."""
        key: Any = ffi.NULL
        while True:
            following = ffi.new("char[]", self.key_bytes)
            code = lib.bpf_map_get_next_key(self.fileno(), key, following)
            if code == -errno.ENOENT:
                return
            if code:
                raise_map_error("iterate over", self.name, code)
            yield bytes(ffi.buffer(following, self.key_bytes))
            key = following

    def items(self) -> Iterator[tuple[bytes, Any]]:
        """Keys with their values; entries that vanish in between are left out."""
        for key in self:
            value = self.get(key)
            if value is not None:
                yield key, value

    def _checked(self, raw: bytes, wanted: int, what: str) -> bytes:
        if len(raw) != wanted:
            raise ValueError(f"a {what} of map {self.name} has {wanted} bytes, not {len(raw)}")
        return bytes(raw)
