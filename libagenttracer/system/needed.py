"""The libraries that a file needs, found about where the dynamic loader would look.

Nothing is executed for it. The loader's RUNPATH is not read: the folder of the file that needs something
and the `lib` beside it stand for it, which is what most programs that bring their libraries use.
"""

from __future__ import annotations

import contextlib
import glob
import os
from collections import deque

from ..errors import LibraryError
from ..locators.elf import Image
from ..locators.elf_tables import read_header
from .images import open_image

__all__ = ["needed_files"]

MAX_FILES = 256
_MAX_READ_BYTES = 512 << 20
_CONFIGURATION = "/etc/ld.so.conf"
_FOLDERS = ("/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib")
_ELF_HEADER_BYTES = 64
_VIRTUAL = ("linux-vdso.", "ld-linux", "ld-musl")


def needed_files(path: str) -> tuple[list[str], list[str]]:
    """The file itself, and what it and its libraries need, each once.

    Returns:
        Paths that exist, but for the first, which need not; and names of libraries that were not found.
    """
    files, missing = [path], dict[str, None]()
    known = {path}
    names: set[str] = set()
    folders = _folders()
    queue = deque([path])
    while queue and len(files) < MAX_FILES:
        file = queue.popleft()
        here = os.path.dirname(os.path.realpath(file))
        for name in _needed(file):
            if name in names or name.startswith(_VIRTUAL):
                continue
            names.add(name)
            place = _find(name, [here, os.path.join(here, "..", "lib"), *folders])
            if place is None:
                missing[name] = None
            elif place not in known and len(files) < MAX_FILES:
                known.add(place)
                files.append(place)
                queue.append(place)
    return files, list(missing)


def _needed(path: str) -> tuple[str, ...]:
    """The names that a file asks for; none if it cannot be read, which others report."""
    with contextlib.suppress(LibraryError), open_image(path) as image:
        if image.size_bytes <= _MAX_READ_BYTES:
            return Image(image.read(), path=path, machine=os.uname().machine).needed
    return ()


def _find(name: str, folders: list[str]) -> str | None:
    """A file of this machine's kind that the name stands for."""
    for place in [name] if "/" in name else (os.path.join(folder, name) for folder in folders):
        with contextlib.suppress(LibraryError), open_image(place) as image:
            read_header(image.read(_ELF_HEADER_BYTES), place, os.uname().machine)
            return os.path.realpath(place)
    return None


def _folders() -> list[str]:
    """LD_LIBRARY_PATH, what /etc/ld.so.conf says, and the usual ones."""
    found = [folder for folder in os.environ.get("LD_LIBRARY_PATH", "").split(":") if folder]
    for file in [_CONFIGURATION, *sorted(glob.glob(f"{_CONFIGURATION}.d/*.conf"))]:
        with contextlib.suppress(OSError), open(file, encoding="utf-8", errors="replace") as lines:
            found += [line.strip() for line in lines if line.startswith("/")]
    return [*dict.fromkeys([*found, *_FOLDERS, *sorted(glob.glob("/usr/lib/*-linux-gnu*"))])]
