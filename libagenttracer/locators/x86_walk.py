"""Follows the control flow of one x86-64 function, and the constants in its registers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from .x86_decode import Decoder, Step

__all__ = ["ARGUMENTS", "Call", "Walk", "follow"]

ARGUMENTS = ("rdi", "rsi", "rdx", "rcx", "r8", "r9")  # System V ABI, AMD64: integers and pointers
_KEPT = frozenset(("rbx", "rbp", "r12", "r13", "r14", "r15"))  # by the same, across calls
_STACK = frozenset(("rsp", "rip"))
_MAX_STATES = 16
_EXTENT_BYTES = 1 << 16  # a jump further than this leaves the function

Known = tuple[tuple[str, int], ...]


class Call(NamedTuple):
    """A call, or a jump out of the function, with what is known of its arguments.

    Attributes:
        address: of the instruction.
        target: the function called, None if indirect.
        arguments: those registers of `ARGUMENTS` that hold a known constant.
    """

    address: int
    target: int | None
    arguments: dict[str, int]


@dataclass
class Walk:
    """What was met on the ways through a function.

    Attributes:
        steps: the instructions by address, the function's first one first.
        calls: the calls, once for each set of known arguments.
        complete: every way was followed to its end.
    """

    steps: dict[int, Step] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    complete: bool = True

    @property
    def stores(self) -> int:
        """How many instructions write to memory that is not the function's own stack frame."""
        frame = any("rbp" in step.writes and step.value == "rsp" for step in self.steps.values())
        return sum(
            1
            for step in self.steps.values()
            if step.stores and step.stores not in _STACK and not (frame and step.stores == "rbp")
        )

    @property
    def returns(self) -> list[int]:
        """The addresses of the return instructions."""
        return [address for address, step in self.steps.items() if step.flow == "return"]

    def uses(self, register: str) -> bool:
        """Whether a register matters as it is at the function's begin: it is read before it is written.

        That it is only handed on to a called function is not seen.
        """
        ways, seen = [next(iter(self.steps), 0)], set[int]()
        while ways:
            address = ways.pop()
            step = self.steps.get(address)
            if step is None or address in seen:
                continue
            seen.add(address)
            if register in step.reads:
                return True
            if step.flow in ("branch", "jump") and step.target is not None:
                ways.append(step.target)
            if register not in step.writes and step.flow in ("next", "branch"):
                ways.append(address + step.size)
        return False


@dataclass
class _Way:
    """A way through the function, as far as it was followed: where, and what is known there."""

    address: int
    state: dict[str, int] = field(default_factory=dict)
    stack: list[int | None] = field(default_factory=list)

    def arguments(self) -> Known:
        return tuple((name, self.state[name]) for name in ARGUMENTS if name in self.state)

    def apply(self, step: Step) -> None:
        """What an instruction does to the known constants."""
        state, value = self.state, step.value
        if isinstance(value, str):
            value = state.get(value)
        if step.pushes:
            self.stack.append(value)
            return
        if step.pops:
            value = self.stack.pop() if self.stack else None
        for name in step.writes:
            state.pop(name, None)
        if value is not None:
            state[step.writes[0]] = value


def follow(
    decoder: Decoder, start: int, is_start: Callable[[int], bool], *, constants: bool = True, limit: int
) -> Walk:
    """Follows every way through the function at an address.

    Args:
        decoder: of the image.
        start: the function's first instruction.
        is_start: whether a function begins at an address: a jump there leaves this one.
        constants: whether to track constants: the same instruction is looked at once for each set of argument
            values with which it can be reached, as compilers merge the ends of ways. Without, nothing is
            followed that lies behind a call and padding: that call may not return, and so end the function.
        limit: of the instructions looked at.
    """
    found = Walk()
    seen: dict[int, set[Known]] = {}
    ways = [_Way(start)]
    while ways:
        way = ways.pop()
        is_behind_call = False
        while way.address == start or not is_start(way.address):  # behind a call that does not return
            known = way.arguments()
            states = seen.setdefault(way.address, set())
            if known in states or len(states) >= _MAX_STATES:
                break
            states.add(known)
            limit -= 1
            step = decoder.step(way.address)
            if step is None or limit < 0:
                found.complete = False
                break
            if step.is_padding and is_behind_call and not constants:
                break
            is_behind_call = step.flow == "call"
            found.steps[way.address] = step
            if step.flow == "next" and constants:
                way.apply(step)
            leaves = step.flow == "jump" and (
                step.target is None or abs(step.target - start) > _EXTENT_BYTES or is_start(step.target)
            )
            if (step.flow == "call" or leaves) and constants:
                found.calls.append(Call(way.address, step.target, dict(known)))
                way.state = {name: value for name, value in way.state.items() if name in _KEPT}
            if step.flow == "branch" and step.target is not None:
                ways.append(_Way(step.target, dict(way.state), list(way.stack)))
            if leaves or step.flow in ("return", "end"):
                break
            way.address += step.size
            if step.flow == "jump" and step.target is not None:
                way.address = step.target
        if limit < 0:
            break
    return found
