"""Holds what the locators of rustls' ciphers find without symbols against the symbols of the same file.

    python -m tests.locators.aead_corpus FILE...

Give it programs and libraries that have rustls linked in, with or without symbols (few
published ones keep those). Prints a line for each file and stack; the exit status is 1 if any function was
located where it is not, or if a file could not be searched.
"""

from __future__ import annotations

import mmap
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from libagenttracer.errors import LibraryError
from libagenttracer.locators import aws_lc, ring
from libagenttracer.locators.base import Found
from libagenttracer.locators.elf import Image

from .images import wiped

__all__ = ["compare", "main"]

# with the prefix that the crate aws-lc-sys gives them, and as rustc mangles names, both its ways
_AWS_LC = re.compile(r"(?:aws_lc_\w+_)?EVP_AEAD_CTX_(seal|seal_scatter|open|open_gather)")
_RING = re.compile(r"_(?:ZN|R).*4ring4aead.*(?:aes_gcm|chacha20_poly1305)_(seal|open)(?:17h[0-9a-f]{16}E)?")


def symbols(image: Image) -> dict[str, set[int]]:
    """The offsets of the functions of each role, by the names that nm prints."""
    found: dict[str, set[int]] = {}
    output = subprocess.run(["nm", image.path], capture_output=True, text=True, check=False).stdout
    for line in output.splitlines():
        fields = line.split()
        if len(fields) != 3:  # those that are not defined have no address
            continue
        address, _, name = fields
        for prefix, expression in (("aead", _AWS_LC), ("ring", _RING)):
            match = expression.fullmatch(name)
            offset = image.code_offset_of(int(address, 16)) if match else None
            if match and offset is not None:
                found.setdefault(f"{prefix}_{match[1]}", set()).add(offset)
    return found


def compare(image: Image, *, unwinding: bool = True) -> tuple[list[str], list[str]]:
    """What is found in a copy without symbols, and what is wrong about it by the symbols of the image."""
    truth, copy = symbols(image), wiped(image, unwinding=unwinding)
    lines, wrong = [], []
    for module in (aws_lc, ring):
        begin = time.process_time()
        answer = module.locate(copy)
        seconds = time.process_time() - begin
        if answer is None:
            continue
        if not isinstance(answer, Found):
            lines.append(f"{answer.stack}: {answer.reason} ({seconds:.1f} s)")
            continue
        known = sum(point.function in truth for point in answer.points)
        lines.append(
            f"{answer.stack} {answer.version or '?'}, {answer.confidence}, by {answer.method}: "
            f"{len(answer.points)} places, {known} of them with symbols ({seconds:.1f} s)"
        )
        for point in answer.points:
            if point.function in truth and point.offset not in truth[point.function]:
                wrong.append(f"{point.function} is not at {point.offset:#x}")
        if module is ring and truth.keys() & {"ring_seal", "ring_open"}:
            located = {point.offset for point in answer.points}
            missing = (truth.get("ring_seal", set()) | truth.get("ring_open", set())) - located
            wrong += [f"ring: {offset:#x} is not found" for offset in sorted(missing)]
    return lines, wrong


def main(arguments: Sequence[str]) -> int:
    """The command line."""
    if not arguments:
        print(__doc__)
        return 2
    status = 0
    for path in arguments:
        with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                image = Image(data, path=path, machine=os.uname().machine)
                results = [compare(image, unwinding=unwinding) for unwinding in (True, False)]
            except LibraryError as error:
                print(f"{path}: {error}")
                status = 1
                continue
        for (lines, wrong), how in zip(results, ("", " (without unwinding information)"), strict=True):
            for line in [*(lines or ["none"]), *(f"WRONG: {text}" for text in wrong)]:
                print(f"{Path(path).name}{how}: {line}")
            status |= bool(wrong)
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
