"""Names of a package that are imported when they are first used (PEP 562)."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping
from typing import Any

__all__ = ["load_name"]


def load_name(package: str, homes: Mapping[str, tuple[str, ...]], name: str) -> Any:
    """For a package's `__getattr__`: finds `name` in one of its modules and keeps it there.

    Args:
        package: the package's `__name__`.
        homes: for each module, relative to the package, the names it gives.
        name: what was asked for.

    Raises:
        AttributeError: none of them gives this name.
    """
    for module, names in homes.items():
        if name in names:
            value = getattr(importlib.import_module(f".{module}", package), name)
            setattr(sys.modules[package], name, value)
            return value
    raise AttributeError(f"module {package!r} has no attribute {name!r}")
