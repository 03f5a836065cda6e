"""What the locators find in the files of a system, and what looking costs.

    python -m tests.locators.survey [FILE_OR_FOLDER...]

Without arguments: all of /usr/bin and the libraries that those programs load. Prints what was found, then the
largest files and the slowest, with the time and the memory that each look took (in a process of its own).
"""

from __future__ import annotations

import functools
import mmap
import os
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from libagenttracer.errors import LibraryError
from libagenttracer.locators import Found, NotReachable, locate_all
from libagenttracer.locators.elf import Image

from ..support import in_child

__all__ = ["Look", "elf_files", "libraries_of", "look", "look_apart"]


class Look(NamedTuple):
    """What a look at a file gave.

    Attributes:
        answers: what was found.
        refused: why the file was not looked at, "" if it was.
        seconds: of processor time that it took.
        peak_bytes: the memory that was held at once, without the file's pages; 0 if it was not measured.
    """

    path: Path
    file_bytes: int
    answers: list[Found | NotReachable]
    refused: str
    seconds: float
    peak_bytes: int


def look(path: Path) -> Look:
    """Looks at a file with all locators."""
    begin = time.process_time()
    answers: list[Found | NotReachable] = []
    refused = ""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as data:
        size = len(data)
        try:
            answers = locate_all(Image(data, path=str(path), machine=os.uname().machine))
        except LibraryError as error:
            refused = error.reason
    return Look(path, size, answers, refused, time.process_time() - begin, 0)


def look_apart(path: Path) -> Look:
    """The same in a process of its own, with the memory that it takes."""

    def measured() -> Look:
        found = look(path)
        tracemalloc.start()
        look(path)  # again, as being watched makes it slow
        return found._replace(peak_bytes=tracemalloc.get_traced_memory()[1])

    return in_child(measured)


def elf_files(folder: Path) -> list[Path]:
    """The ELF files in a folder, each once however many links lead there."""
    found: dict[tuple[int, int], Path] = {}
    for path in sorted(folder.rglob("*")):
        try:
            status = path.stat()
            if path.is_file() and status.st_size > 64 and path.open("rb").read(4) == b"\x7fELF":
                found.setdefault((status.st_dev, status.st_ino), path.resolve())
        except OSError:
            continue
    return list(found.values())


@functools.cache
def _library_places() -> dict[str, Path]:
    """Where the loader finds libraries, by soname; this machine's own kind comes first in the list."""
    lines = subprocess.run(["/sbin/ldconfig", "-p"], capture_output=True, text=True, check=True).stdout
    places: dict[str, Path] = {}
    for line in lines.splitlines()[1:]:
        name, arrow, place = line.strip().partition(" => ")
        if arrow:
            places.setdefault(name.split()[0], Path(place))
    return places


def libraries_of(paths: Iterable[Path]) -> Iterator[Path]:
    """The libraries that programs name, and those that these name; each once."""
    seen: set[Path] = set()
    left = list(paths)
    while left:
        path = left.pop()
        data = path.read_bytes()
        try:
            needed = Image(data, path=str(path), machine=os.uname().machine).needed
        except LibraryError:
            continue
        for name in needed:
            place = _library_places().get(name)
            if place is not None and place.resolve() not in seen and place.exists():
                seen.add(place.resolve())
                left.append(place.resolve())
                yield place.resolve()


def main(arguments: Sequence[str]) -> None:
    files = []
    for argument in arguments or ["/usr/bin"]:
        path = Path(argument)
        files += elf_files(path) if path.is_dir() else [path]
    if not arguments:
        files += libraries_of(files)
    looks = [look_apart(path) for path in files]
    for found in looks:
        for answer in found.answers:
            if isinstance(answer, Found):
                text = f"{answer.stack} {answer.version}, {len(answer.points)} places, by {answer.method}"
            else:
                text = f"{answer.stack}: {answer.reason}"
            print(f"{found.path}: {text}")
    refused = [found for found in looks if found.refused]
    print(f"\n{len(looks)} files, {len(refused)} refused")
    for found in refused[:10]:
        print(f"  {found.path}: {found.refused}")
    for title, key in (("largest", "file_bytes"), ("slowest", "seconds"), ("most memory", "peak_bytes")):
        print(f"\n{title}:")
        for found in sorted(looks, key=lambda look: getattr(look, key), reverse=True)[:5]:
            cost = f"{found.file_bytes / 1e6:9.1f} MB {found.seconds:7.2f} s"
            print(f"{cost} {found.peak_bytes / 1e6:7.1f} MB of memory  {found.path}")


if __name__ == "__main__":
    main(sys.argv[1:])
