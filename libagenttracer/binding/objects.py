"""Compiled BPF objects: `ObjectSpec` (can be changed) → `load()` → `Object` (runs).

Two types, so that nothing can be set too late or used too early.
"""

from __future__ import annotations

import errno
import mmap
import os
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

from ..errors import LoadError, MapError, MissingCapability, ObjectError, VerifierError
from ._libbpf import ffi, lib
from .log import start_log, take_log
from .maps import Map
from .privileges import missing_for_bpf
from .programs import Link, Program, close_links

__all__ = ["Globals", "MapSpec", "Object", "ObjectSpec", "ProgramSpec", "libbpf_version"]

_TRACE_UPROBE_MULTI = 48  # enum bpf_attach_type


def libbpf_version() -> tuple[int, int]:
    """Major and minor version of the libbpf in use."""
    return lib.libbpf_major_version(), lib.libbpf_minor_version()


class Globals:
    """An object's global variables, by name; integers are little-endian, other types are `bytes`.

    `const volatile` ones can be set until the object is loaded; the others, at any time.
    """

    def __init__(self, pointer: Any, subject: str) -> None:
        self._pointer = pointer
        self._subject = subject
        self._loaded = False
        self._areas: dict[int, mmap.mmap] = {}

    def __getitem__(self, name: str) -> int:
        """The variable's value as an unsigned integer."""
        return int.from_bytes(self.view(name), "little")

    def __setitem__(self, name: str, value: int | bytes) -> None:
        view = self.view(name)
        if view.readonly:
            raise ObjectError("set global", name, errno.EROFS, hint="it is const: set it before load()")
        raw = value if isinstance(value, bytes) else value.to_bytes(len(view), "little", signed=value < 0)
        if len(raw) != len(view):
            raise ObjectError("set global", name, hint=f"it has {len(view)} bytes, not {len(raw)}")
        view[:] = raw

    def view(self, name: str) -> memoryview:
        """The variable's memory, shared with the programs once they are loaded."""
        if self._pointer is None:
            raise ObjectError("use global", name, errno.EBADF, hint="its object has been closed")
        found = ffi.new("struct lat_global *")
        code = lib.lat_find_global(self._pointer, name.encode(), found)
        if code:
            raise ObjectError("find global", name, hint=f"{self._subject} has no such variable")
        if not self._loaded or found.read_only:
            view = memoryview(ffi.buffer(found.address, found.size))
            return memoryview(bytes(view)) if self._loaded else view  # const: a copy is as good, and lasts
        # libbpf maps these itself only for generated skeletons, so that its copy is not what programs see
        area = self._areas.get(found.map_fd)
        if area is None:
            area = self._areas[found.map_fd] = mmap.mmap(found.map_fd, found.map_bytes, flags=mmap.MAP_SHARED)
        return memoryview(area)[found.offset : found.offset + found.size]

    def set_loaded(self) -> None:
        """Called by the object when it has been loaded."""
        self._loaded = True

    def invalidate(self) -> None:
        """Called by the object when it is closed."""
        self._pointer = None
        self._areas.clear()  # unmapped when the last view of them goes


class _Owner:
    """The libbpf object that a spec and its parts stand for; None once it has been freed."""

    def __init__(self, pointer: Any, name: str) -> None:
        self.pointer = pointer
        self.name = name

    def check(self) -> None:
        if self.pointer is None:
            raise ObjectError("use", self.name, errno.EBADF, hint="it has been closed")


class MapSpec:
    """A map before loading: its size can be changed, or another object's map put in its place."""

    def __init__(self, owner: _Owner, pointer: Any, name: str) -> None:
        self._owner = owner
        self._map = pointer
        self.name = name

    @property
    def _pointer(self) -> Any:
        self._owner.check()
        return self._map

    @property
    def max_entries(self) -> int:
        """Entries; bytes for a ring buffer (a power of two, a multiple of the page size)."""
        return int(lib.bpf_map__max_entries(self._pointer))

    @max_entries.setter
    def max_entries(self, value: int) -> None:
        code = lib.bpf_map__set_max_entries(self._pointer, value)
        if code:
            raise MapError("resize", self.name, code)

    def reuse(self, other: Map) -> None:
        """Uses a map of an object that is loaded already; both then share it."""
        start_log()
        code = lib.bpf_map__reuse_fd(self._pointer, other.fileno())
        log = take_log(failed=bool(code))
        if code:
            raise MapError("reuse", self.name, code, log)


class ProgramSpec:
    """A program before loading."""

    def __init__(self, owner: _Owner, pointer: Any, name: str, section: str) -> None:
        self._owner = owner
        self._program = pointer
        self.name = name
        self.section = section

    @property
    def _pointer(self) -> Any:
        self._owner.check()
        return self._program

    @property
    def autoload(self) -> bool:
        """Whether `load()` loads it; what the kernel cannot run has to be turned off."""
        return bool(lib.bpf_program__autoload(self._pointer))

    @autoload.setter
    def autoload(self, value: bool) -> None:
        lib.bpf_program__set_autoload(self._pointer, value)

    def use_uprobe_multi(self) -> None:
        """Loads it for `Program.attach_uprobe_multi`, and only for that; see `supports_uprobe_multi`."""
        lib.bpf_program__set_expected_attach_type(self._pointer, _TRACE_UPROBE_MULTI)


class ObjectSpec:
    """A compiled object that has been read but not loaded.

    Args:
        data: the bytes of the ELF file that clang made (target bpf, with BTF).
        name: for messages, and for the names of the maps of its globals.

    Attributes:
        globals: initial values.
        maps, programs: by name.

    Raises:
        ObjectError: the bytes are no such object.
    """

    def __init__(self, data: bytes, *, name: str) -> None:
        self.name = name
        options = ffi.new("struct bpf_object_open_opts *")
        options.sz = ffi.sizeof("struct bpf_object_open_opts")
        c_name = ffi.new("char[]", name.encode())
        options.object_name = c_name
        self._data = data
        start_log()
        pointer = lib.bpf_object__open_mem(data, len(data), options)
        error = ffi.errno if pointer == ffi.NULL else 0
        log = take_log(failed=bool(error))
        if error:
            raise ObjectError("read object", name, error, log)
        self._pointer: Any = ffi.gc(pointer, lib.bpf_object__close)
        self._owner = _Owner(self._pointer, name)
        self.globals = Globals(self._pointer, name)
        self.maps: Mapping[str, MapSpec] = {
            map_name: MapSpec(self._owner, item, map_name) for item, map_name in _maps(self._pointer)
        }
        self.programs: Mapping[str, ProgramSpec] = {
            spec.name: spec
            for spec in (ProgramSpec(self._owner, item, *_names(item)) for item in _programs(self._pointer))
        }

    def __repr__(self) -> str:
        return f"<ObjectSpec {self.name}: {len(self.programs)} programs, {len(self.maps)} maps>"

    def load(self) -> Object:
        """Creates the maps and loads the programs. The spec is used up: a second call raises.

        Raises:
            VerifierError: a program was rejected.
            MissingCapability, NotSupported, LoadError: anything else.
        """
        pointer, self._pointer = self._pointer, None
        if pointer is None:
            raise ObjectError("load", self.name, hint="this spec has been loaded already: make a new one")
        start_log()
        code = lib.bpf_object__load(pointer)
        log = take_log(failed=bool(code))
        if code:
            self._owner.pointer = None
            self.globals.invalidate()
            ffi.release(pointer)
            _raise_load_error(self.name, code, log)
        self.maps, self.programs = {}, {}
        return Object(self.name, pointer, self.globals, self._owner)


class Object:
    """A loaded object: its maps, its programs, and the links made with them.

    Close it, or use it as a context manager: that detaches everything and frees it.
    """

    def __init__(self, name: str, pointer: Any, globals_: Globals, owner: _Owner) -> None:
        self.name = name
        self._owner = owner
        self._pointer = pointer
        self.links: list[Link] = []
        self.globals = globals_
        self.globals.set_loaded()
        self.maps: Mapping[str, Map] = {
            map_name: Map(
                map_name,
                lib.bpf_map__fd(item),
                lib.bpf_map__type(item),
                lib.bpf_map__key_size(item),
                lib.bpf_map__value_size(item),
                lib.bpf_map__max_entries(item),
                pointer,
            )
            for item, map_name in _maps(pointer)
        }
        self.programs: Mapping[str, Program] = {
            program.name: program
            for program in (
                Program(item, *_names(item), self.links, pointer)
                for item in _programs(pointer)
                if lib.bpf_program__autoload(item)
            )
        }

    def __repr__(self) -> str:
        return f"<Object {self.name}: {len(self.programs)} programs, {len(self.maps)} maps>"

    def __enter__(self) -> Object:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detaches all links and frees the object; its maps, programs and globals raise from then on."""
        pointer, self._pointer = self._pointer, None
        if pointer is None:
            return
        close_links(self.links)
        self.links.clear()
        for map_ in self.maps.values():
            map_.invalidate()
        for program in self.programs.values():
            program.invalidate()
        self.globals.invalidate()
        self._owner.pointer = None
        ffi.release(pointer)


def _maps(pointer: Any) -> Iterator[tuple[Any, str]]:
    item = lib.bpf_object__next_map(pointer, ffi.NULL)
    while item != ffi.NULL:
        yield item, ffi.string(lib.bpf_map__name(item)).decode()
        item = lib.bpf_object__next_map(pointer, item)


def _programs(pointer: Any) -> Iterator[Any]:
    item = lib.bpf_object__next_program(pointer, ffi.NULL)
    while item != ffi.NULL:
        yield item
        item = lib.bpf_object__next_program(pointer, item)


def _names(program: Any) -> tuple[str, str]:
    name = ffi.string(lib.bpf_program__name(program)).decode()
    return name, ffi.string(lib.bpf_program__section_name(program)).decode()


def _raise_load_error(name: str, code: int, log: str) -> None:
    if not os.path.exists("/sys/kernel/btf/vmlinux") and "BTF" in log:
        hint = "no /sys/kernel/btf/vmlinux: the kernel has no CONFIG_DEBUG_INFO_BTF, or /sys is not mounted"
        raise LoadError("load", name, code, log, hint)
    if -code in (errno.EMFILE, errno.ENFILE):
        raise LoadError("load", name, code, log, "raise the limit of open files (ulimit -n)")
    missing = missing_for_bpf()
    if -code in (errno.EPERM, errno.EACCES) and missing:
        raise MissingCapability(f"load {name}", missing, log)
    if "BEGIN PROG LOAD LOG" in log:
        raise VerifierError("load", name, code, log)
    if -code == errno.EPERM:
        raise MissingCapability(f"load {name}", missing, log)
    raise LoadError("load", name, code, log)
