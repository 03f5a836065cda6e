"""Looks at one process or file for whoever asks about it: what TLS is in it, and what else explains it.

Finding TLS is the Surveyor's; this asks it, waits for its long searches, and looks for hints where it found
nothing. Nothing is probed, and nothing is loaded into the kernel.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial

from ..errors import LibraryError
from .images import FileKey, ImageFile, Mapping, executable_images, open_image, open_mapping
from .locate_cache import LocateCache
from .needed import needed_files
from .places import interpreter_of, program_files
from .processes import check_pid
from .seen import SeenImage
from .surveyor import Surveyor
from .tls_words import unknown_stack

__all__ = ["CUT_SHORT", "NOT_ELF", "Examined", "examine_file", "examine_process"]

NOT_ELF = "not an ELF file"
CUT_SHORT = "cut short: it says that it goes on where it ends"
_POLL_S = 0.02
_MAX_NOTED = 5
_ELF_HEADER_BYTES = 64
Progress = Callable[[str], object]

# language runtimes, by the names of files that a process maps, and when TLS comes in with them
_RUNTIMES: tuple[tuple[str, str, str], ...] = (
    (r"(lib)?python(\d[\d.]*)?(\.so.*)?", "Python", "it loads its TLS library when ssl is first imported"),
    (r"libcoreclr\.so", ".NET", "it loads the system's OpenSSL for its first TLS connection"),
    (r"(lib)?ruby[\d.-]*(\.so.*)?", "Ruby", "it loads its TLS library when openssl is first required"),
    (r"(lib)?perl[\d.]*(\.so.*)?", "Perl", "it loads its TLS library when a module first needs it"),
    (r"(lib)?php[\w.-]*(\.so.*)?", "PHP", "its openssl extension brings the TLS library"),
    (r"(lib)?lua[\w.-]*", "Lua", "a module brings its TLS library"),
    (r"(lib)?R(\.so)?", "R", "a package brings its TLS library"),
    (r"(ba|da|z|k|fi)?sh", "a shell", "what it starts are processes of their own (ssl -f follows them)"),
    (r"busybox.*", "busybox", "its wget runs ssl_client or openssl for TLS, as a process of its own"),
)


@dataclass
class Examined:
    """What was found.

    Attributes:
        images: the executables and libraries with TLS in them, or that could not be looked into.
        looked_at: how many there were.
        notes: what else is worth knowing about it.
        exe: its program, "" if that cannot be told.
    """

    images: list[SeenImage] = field(default_factory=list)
    looked_at: int = 0
    notes: list[str] = field(default_factory=list)
    exe: str = ""


def examine_process(pid: int, progress: Progress = lambda text: None) -> Examined:
    """What TLS a process has mapped now.

    Args:
        progress: is told, in a line, what takes long.

    Raises:
        TargetError: there is no such process, or it is a thread of one.
    """
    check_pid(pid)
    examined = Examined(exe=_exe(pid))
    try:
        mappings = list(executable_images(pid))
    except PermissionError:
        reason = "what it maps cannot be seen: permission denied"
        examined.images.append(SeenImage(f"process {pid}", reason=reason, pids={pid}))
        return examined
    except ProcessLookupError:
        mappings = []
    if not mappings:
        examined.notes.append("it maps no program: it is a thread of the kernel, or has ended")
        return examined

    def look(surveyor: Surveyor) -> None:
        for mapping in mappings:
            surveyor.look_at_mapping(mapping)

    seen = _survey(look, progress)
    examined.looked_at = len(mappings)
    for mapping in mappings:
        _look_for_words(seen, mapping.path, partial(open_mapping, mapping))
    examined.images = _worth_telling(seen)
    examined.notes = _hints(pid, examined, mappings)
    return examined


def examine_file(path: str, progress: Progress = lambda text: None) -> Examined:
    """What TLS is in a file, or in the libraries that it needs; of a script, in its interpreter.

    Args:
        path: a path; a name without a slash that is no file here is looked up in PATH.
        progress: is told, in a line, what takes long.
    """
    places = [path] if os.path.lexists(path) or "/" in path else program_files(path)
    if not places:
        reason = "no such file here, and no such command in PATH"
        return Examined([SeenImage(path, reason=reason)], 1, exe=path)
    examined = Examined(exe=places[0])
    interpreter = _interpreter_of_script(places[0])
    if interpreter is not None:
        examined.notes.append(f"a script, which {interpreter} runs: that is what was looked at")
        places = [interpreter]
    files, missing = needed_files(places[0])
    if missing:
        examined.notes.append(
            f"libraries that it needs were not found, nor looked at: {', '.join(missing[:_MAX_NOTED])}"
        )

    def look(surveyor: Surveyor) -> None:
        for file in files:
            surveyor.look_at_file(file)

    seen = _survey(look, progress)
    for item in seen:
        if not item.results and not item.reason and _is_cut_short(item.path):
            item.reason = CUT_SHORT
    for file in files:
        _look_for_words(seen, file, partial(open_image, file))
    examined.looked_at = len(files)
    # a file that is asked about has to be one; a script's interpreter too
    examined.images = _worth_telling(seen, always=places[0])
    if not any(item.results or item.reason for item in examined.images):
        examined.notes += _file_hints(places[0])
    return examined


def _survey(look: Callable[[Surveyor], object], progress: Progress) -> list[SeenImage]:
    surveyor = Surveyor(lambda image, found: None, cache=LocateCache())
    told: set[FileKey] = set()
    try:
        look(surveyor)
        while surveyor.searches:
            for seen in surveyor.slow_searches(told):
                progress(f"looking for TLS in {seen.path} ({seen.size_bytes >> 20} MB)…")
            time.sleep(_POLL_S)
        return surveyor.report()
    finally:
        surveyor.close()


def _look_for_words(seen: list[SeenImage], path: str, opened: Callable[[], ImageFile]) -> None:
    """Gives an image in which nothing was found a result if it has TLS of an unknown kind."""
    with contextlib.suppress(LibraryError, OSError), opened() as image:
        for item in seen:
            if item.key == image.key and not item.results and not item.reason:
                result = unknown_stack(image)
                item.results = () if result is None else (result,)


def _worth_telling(seen: Iterable[SeenImage], always: str = "") -> list[SeenImage]:
    """Those with TLS or a problem. What processes map executable without being ELF is data of theirs."""
    return sorted(
        (
            item
            for item in seen
            if item.results or (item.reason and (item.reason != NOT_ELF or item.path == always))
        ),
        key=lambda item: (not item.found, not item.results, item.path),
    )


def _is_cut_short(path: str) -> bool:
    """Whether the section table of an ELF file, which linkers put at the end, is not in it any more."""
    with contextlib.suppress(LibraryError), open_image(path) as image:
        header = image.read(_ELF_HEADER_BYTES)
        if len(header) == _ELF_HEADER_BYTES:
            (table,) = struct.unpack_from("<Q", header, 40)  # e_shoff
            size, count = struct.unpack_from("<HH", header, 58)  # e_shentsize, e_shnum
            return bool(table + size * count > image.size_bytes)
    return False


# what else there is to say


def _hints(pid: int, examined: Examined, mappings: list[Mapping]) -> list[str]:
    if any(item.results for item in examined.images):
        return []
    notes = _runtimes(mapping.path for mapping in mappings)
    static = interpreter_of(f"/proc/{pid}/exe") is None and len(mappings) == 1
    if static and not any(item.reason for item in examined.images):
        notes.append("its program is linked statically: it will load no library later")
    elif not notes:
        notes.append("it may load a TLS library later, for its first connection")
    return notes


def _file_hints(path: str) -> list[str]:
    notes = _runtimes([path])
    if interpreter_of(path) is None and not re.search(r"\.so(\.|$)", path):
        notes.append("it is linked statically: it will load no library at run time")
    elif not notes:
        notes.append(
            "what it loads while it runs cannot be seen in the file: ask about the running process (-p), or "
            "have it run (-- COMMAND)"
        )
    return notes


def _runtimes(paths: Iterable[str]) -> list[str]:
    names = {os.path.basename(path) for path in paths}
    return [
        f"it runs {language}: {when}"
        for pattern, language, when in _RUNTIMES
        if any(re.fullmatch(pattern, name) for name in names)
    ]


def _exe(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe").removesuffix(" (deleted)")
    except OSError:
        return ""


def _interpreter_of_script(path: str) -> str | None:
    """What runs a file that begins with #!; None for any other file."""
    with contextlib.suppress(LibraryError), open_image(path) as image:
        if image.read(2) == b"#!":
            return next((file for file in program_files(os.path.abspath(path))[1:]), None)
    return None
