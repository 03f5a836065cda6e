"""An image's x86-64 code: who refers to an address, where functions begin, what they do."""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from functools import cached_property
from itertools import chain

from ..errors import LibraryError
from .elf import Image
from .x86_decode import Decoder
from .x86_refs import Reference, data_pointers, immediate_references, relative_references
from .x86_walk import Walk, follow

__all__ = ["Code"]

_BLOCK_BYTES = 1 << 14
_NEAR_BYTES = 1 << 16
_ALIGNED_TRIES, _TRIES = 12, 40
_REACH_LIMIT = 4096
_MAX_SEARCHED_BYTES = 8 << 30  # the largest programs in use need a tenth of it


class Code:
    """The code of an x86-64 image. What it has found it remembers.

    Where a function begins is told by unwinding information where that covers the place, else by what
    calls or points to it: the nearest such address below whose control flow leads to the place.

    Memory: some megabytes for the decoded instructions, and what the image keeps of its unwinding
    information and pointers (16 bytes a function, 8 a pointer). Searching and following are limited for each
    object: code that is made to take long raises LibraryError.
    """

    def __init__(self, image: Image) -> None:
        self.image = image
        self._searched_bytes = 0
        self._blocks: dict[int, list[int]] = {}
        self._ways: dict[int, Walk] = {}

    @cached_property
    def decoder(self) -> Decoder:
        """Raises DisassemblerMissing if capstone is not installed."""
        return Decoder(self.image)

    def references(self, *addresses: int) -> list[int]:
        """The instructions that load one of some addresses: `lea`, or `mov` at a fixed place.

        Addresses that lie together cost no more than one of them.
        """
        wanted = frozenset(addresses)
        return sorted(
            {
                item.address
                for low, high in _runs(wanted)
                for item in chain(self._relative(low, high), immediate_references(self.image, low, high))
                if item.target in wanted and item.kind in ("lea", "mov")
            }
        )

    def callers(self, address: int) -> list[int]:
        """The addresses of the calls of a function, and of the jumps to its first instruction."""
        found = self._relative(address, address + 1)
        return sorted(item.address for item in found if item.kind != "lea")

    def doubtful_starts(self, addresses: Iterable[int]) -> set[int]:
        """Which addresses with unwinding information of their own may be the middle of a function.

        Compilers put what runs rarely elsewhere. Such a part is jumped to but never called, nothing points to
        it, and it is rarely aligned. All addresses that lie together are looked at at once.
        """
        wanted = frozenset(addresses)
        kinds: dict[int, set[str]] = {}
        for low, high in _runs(wanted):
            for item in self._relative(low, high):
                kinds.setdefault(item.target, set()).add(item.kind)
        return {
            address
            for address in wanted & kinds.keys()
            if kinds[address].isdisjoint(("call", "lea"))
            and ("branch" in kinds[address] or address % 16)
            and not self._pointed_to(address, address + 1)
        }

    def function_starts(self, addresses: Iterable[int]) -> dict[int, int]:
        """The begin of the function around each of some addresses; left out where none is found.

        Raises:
            DisassemblerMissing: it is needed and not installed.
        """
        found: dict[int, int] = {}
        left = []
        for address in sorted(set(addresses)):
            covering = self.image.function_at(address)
            if covering is not None:
                found[address] = covering[0]
            else:
                left.append(address)
        self._prepare(left)
        for address in left:
            start = self._nearest(address)
            if start is not None:
                found[address] = start
        return found

    def walk(self, start: int, limit: int = 8192) -> Walk:
        """Follows the ways through the function at an address, with the constants in its registers."""
        return follow(self.decoder, start, self._is_start, limit=limit)

    def _is_start(self, address: int) -> bool:
        starts = self.image.function_starts()
        at = bisect_left(starts, address)
        if at < len(starts) and starts[at] == address:
            return True
        block = self._blocks.get(address // _BLOCK_BYTES, [])
        at = bisect_left(block, address)
        return at < len(block) and block[at] == address

    def _nearest(self, address: int) -> int | None:
        """The nearest candidate below from which the control flow leads to an address.

        Compilers align functions to 16 bytes unless they optimise for size: so these are tried first.
        """
        number = address // _BLOCK_BYTES
        candidates = [*self._blocks.get(number - 1, []), *self._blocks.get(number, [])]
        below = candidates[: bisect_right(candidates, address)][::-1]
        aligned = [start for start in below if not start % 16]
        for start in (*aligned[:_ALIGNED_TRIES], *below[:_TRIES]):
            if address in self._reached(start).steps:
                return start
        return None

    def _reached(self, start: int) -> Walk:
        if start not in self._ways:
            self._ways[start] = follow(
                self.decoder, start, self._is_start, constants=False, limit=_REACH_LIMIT
            )
        return self._ways[start]

    def _prepare(self, addresses: Iterable[int]) -> None:
        """Gathers the candidates of the blocks that addresses lie in, and of those before."""
        blocks = {address // _BLOCK_BYTES for address in addresses}
        missing = (blocks | {block - 1 for block in blocks}) - self._blocks.keys()
        for low, high in _runs({block * _BLOCK_BYTES for block in missing}):
            found = sorted(self._gather(low, high + _BLOCK_BYTES))
            for number in range(low // _BLOCK_BYTES, high // _BLOCK_BYTES + 1):
                begin = bisect_left(found, number * _BLOCK_BYTES)
                end = bisect_left(found, (number + 1) * _BLOCK_BYTES)
                self._blocks[number] = found[begin:end]

    def _relative(self, low: int, high: int) -> Iterator[Reference]:
        """As `relative_references`, for a limited number of times."""
        self._searched_bytes += self.image.code().size_bytes
        if self._searched_bytes > _MAX_SEARCHED_BYTES:
            raise LibraryError(self.image.path, "its code takes too long to search")
        return relative_references(self.image, low, high)

    def _gather(self, low: int, high: int) -> set[int]:
        """What is called or pointed to from `low` to below `high`."""
        found = self._relative(low, high)
        return {item.target for item in found if item.kind in ("call", "lea")} | self._pointed_to(low, high)

    def _pointed_to(self, low: int, high: int) -> set[int]:
        """The addresses from `low` to below `high` that pointers in data hold."""
        if not self.image.position_independent:
            return data_pointers(self.image, low, high)
        targets = self._relocated
        return set(targets[bisect_left(targets, low) : bisect_left(targets, high)])

    @cached_property
    def _relocated(self) -> array[int]:
        """What the pointers that move with the image point to, ascending."""
        return array("Q", sorted(target for _, target in self.image.relative_relocations()))


def _runs(addresses: Iterable[int]) -> Iterator[tuple[int, int]]:
    """Addresses grouped by nearness: begin, and end behind the last, of each group."""
    low = high = None
    for address in sorted(addresses):
        if low is None or high is None:
            low = address
        elif address - high >= _NEAR_BYTES:
            yield low, high
            low = address
        high = address + 1
    if low is not None and high is not None:
        yield low, high
