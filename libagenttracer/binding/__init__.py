"""libbpf through cffi: load precompiled CO-RE objects, attach their programs, read their maps and rings.

Knows nothing of TLS or agents; it works with anybody's object. docs/binding.md has an example.
Names are imported when they are first used, so that `layout` works where the extension is absent.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._lazy import load_name

if TYPE_CHECKING:
    from .layout import Record, record_class
    from .maps import Map
    from .objects import Globals, MapSpec, Object, ObjectSpec, ProgramSpec, libbpf_version
    from .privileges import effective_capabilities
    from .programs import Link, Program, ProgramStats, enable_program_stats, supports_uprobe_multi
    from .ring import Lease, RingBuffer

__all__ = [
    "Globals",
    "Lease",
    "Link",
    "Map",
    "MapSpec",
    "Object",
    "ObjectSpec",
    "Program",
    "ProgramSpec",
    "ProgramStats",
    "Record",
    "RingBuffer",
    "effective_capabilities",
    "enable_program_stats",
    "libbpf_version",
    "record_class",
    "supports_uprobe_multi",
]

_HOMES = {
    "layout": ("Record", "record_class"),
    "maps": ("Map",),
    "objects": ("Globals", "MapSpec", "Object", "ObjectSpec", "ProgramSpec", "libbpf_version"),
    "privileges": ("effective_capabilities",),
    "programs": ("Link", "Program", "ProgramStats", "enable_program_stats", "supports_uprobe_multi"),
    "ring": ("Lease", "RingBuffer"),
}


def __getattr__(name: str) -> Any:
    return load_name(__name__, _HOMES, name)
