"""Which of its arguments a Rust function reads in x86-64 code: rustc promises no calling convention."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..errors import DisassemblerMissing
from .elf import Image

__all__ = ["ArgumentReader", "Arguments"]

_MAX_INSTRUCTIONS = 4000
_MAX_BEGINNING = 32
_MAX_INSTRUCTION_BYTES = 15
_MAX_STACK_WORDS = 8
_EXTENT_BYTES = 1 << 16


class Arguments(NamedTuple):
    """What a function does with its arguments.

    Attributes:
        enumeration: the argument, "rdi" or "rsi", that points to what the function compares first of all, as
            it does with a reference to an enumeration; "" if it begins in another way.
        stack: which words above the return address it reads; 1 is the one next to it.
    """

    enumeration: str
    stack: frozenset[int]


@dataclass
class _Way:
    """A place in the function, and where its stack and frame pointers are, relative to its entry."""

    address: int
    stack: int | None = 0
    frame: int | None = None
    called: bool = False  # just before: what follows a call that does not return is not this function


class ArgumentReader:
    """Looks at how functions begin.

    Args:
        image: where they are.
        starts: addresses at which functions begin, beside those with unwinding information.

    Raises:
        DisassemblerMissing: capstone is not installed.
    """

    def __init__(self, image: Image, starts: Container[int]) -> None:
        try:
            import capstone
            from capstone import x86_const
        except ImportError:
            raise DisassemblerMissing(image.path) from None
        self._image, self._starts = image, starts
        self._capstone: Any = capstone
        self._x86: Any = x86_const
        self._read: int = capstone.CS_AC_READ
        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True

    def arguments(self, start: int) -> Arguments:
        """What the function at an address does with its arguments, on all ways through it."""
        stack: set[int] = set()
        seen: set[int] = set()
        ways = [_Way(start)]
        while ways and len(seen) < _MAX_INSTRUCTIONS:
            way = ways.pop()
            while way.address not in seen and len(seen) < _MAX_INSTRUCTIONS:
                if way.address != start and self._is_start(way.address):
                    break
                seen.add(way.address)
                instruction = self._decode(way.address)
                if instruction is None or (way.called and instruction.id == self._x86.X86_INS_NOP):
                    break
                stack.update(self._stack_reads(instruction, way))
                target = self._follow(instruction, way)
                if target is not None and abs(target - start) < _EXTENT_BYTES:
                    ways.append(_Way(target, way.stack, way.frame))
                if way.address < 0:
                    break
        return Arguments(self._enumeration(start), frozenset(stack))

    def _is_start(self, address: int) -> bool:
        starts = self._image.function_starts()
        at = bisect_left(starts, address)
        return (at < len(starts) and starts[at] == address) or address in self._starts

    def _decode(self, address: int) -> Any:
        raw = self._image.read(address, _MAX_INSTRUCTION_BYTES)
        return next(self._engine.disasm(raw, address, 1), None)

    def _enumeration(self, start: int) -> str:
        """Which argument points to the memory that the first comparison looks at, "" if none does."""
        x86, address = self._x86, start
        # under which names the first two arguments are known, as they are copied and overwritten
        known = {x86.X86_REG_RDI: "rdi", x86.X86_REG_RSI: "rsi"}
        for _ in range(_MAX_BEGINNING):
            instruction = self._decode(address)
            if instruction is None or instruction.group(x86.X86_GRP_CALL):
                return ""
            operands = instruction.operands
            for operand in operands:
                if operand.type == x86.X86_OP_MEM and operand.mem.base in known:
                    plain = not operand.mem.index and not operand.mem.disp
                    compares = instruction.id in (x86.X86_INS_CMP, x86.X86_INS_TEST)
                    return known[operand.mem.base] if plain and compares else ""
            copied = None
            if instruction.id == x86.X86_INS_MOV and operands[1].type == x86.X86_OP_REG:
                copied = known.get(operands[1].reg)
            for register in self._written(instruction):
                known.pop(self._wide(register), None)
            if copied is not None and operands[0].type == x86.X86_OP_REG:
                known[operands[0].reg] = copied
            address += instruction.size
        return ""

    def _written(self, instruction: Any) -> Sequence[int]:
        """The registers that an instruction writes to."""
        try:
            written: Sequence[int] = instruction.regs_access()[1]
        except self._capstone.CsError:  # of some rare instructions it does not know
            return ()
        return written

    def _wide(self, register: int) -> int:
        """The 64-bit register that a 32-bit one is a part of; no smaller ones are written to there."""
        x86 = self._x86
        whole: dict[int, int] = {x86.X86_REG_ESI: x86.X86_REG_RSI, x86.X86_REG_EDI: x86.X86_REG_RDI}
        return whole.get(register, register)

    def _stack_reads(self, instruction: Any, way: _Way) -> set[int]:
        """The words of the caller's frame that an instruction reads."""
        x86 = self._x86
        found: set[int] = set()
        if instruction.id == x86.X86_INS_LEA:
            return found
        bases = {x86.X86_REG_RSP: way.stack, x86.X86_REG_RBP: way.frame}
        for operand in instruction.operands:
            if operand.type != x86.X86_OP_MEM or operand.mem.index or not operand.access & self._read:
                continue
            base = bases.get(operand.mem.base)
            if base is not None:
                word, rest = divmod(base + operand.mem.disp, 8)
                if not rest and 0 < word <= _MAX_STACK_WORDS:
                    found.add(word)
        return found

    def _follow(self, instruction: Any, way: _Way) -> int | None:
        """Goes on to the next instruction, address -1 if there is none; returns where else it may go on."""
        x86, operands = self._x86, instruction.operands
        target = operands[0].imm if operands and operands[0].type == x86.X86_OP_IMM else None
        way.called = bool(instruction.group(x86.X86_GRP_CALL))
        if instruction.group(x86.X86_GRP_JUMP):
            way.address = -1 if instruction.id == x86.X86_INS_JMP else way.address + instruction.size
            return target
        if instruction.group(x86.X86_GRP_RET) or instruction.id in (x86.X86_INS_UD2, x86.X86_INS_INT3):
            way.address = -1
            return None
        way.address += instruction.size
        if not way.called:
            self._apply(instruction, way)
        return None

    def _apply(self, instruction: Any, way: _Way) -> None:
        """What an instruction does to the stack and frame pointers."""
        x86, operands, kind = self._x86, instruction.operands, instruction.id
        written = self._written(instruction)
        if kind == x86.X86_INS_PUSH:
            way.stack = None if way.stack is None else way.stack - 8
        elif kind == x86.X86_INS_POP:
            way.stack = None if way.stack is None else way.stack + 8
            if x86.X86_REG_RBP in written:
                way.frame = None
        elif x86.X86_REG_RSP in written:
            way.stack = self._moved(kind, operands, way)
        elif x86.X86_REG_RBP in written or x86.X86_REG_EBP in written:
            is_copy = kind == x86.X86_INS_MOV and operands[1].reg == x86.X86_REG_RSP
            way.frame = way.stack if is_copy else None

    def _moved(self, kind: int, operands: Any, way: _Way) -> int | None:
        """Where the stack pointer is after an instruction that sets it, None if that is not known."""
        x86 = self._x86
        if len(operands) != 2:
            return None
        source = operands[1]
        if kind in (x86.X86_INS_SUB, x86.X86_INS_ADD) and source.type == x86.X86_OP_IMM:
            change = -source.imm if kind == x86.X86_INS_SUB else source.imm
            return None if way.stack is None else way.stack + int(change)
        base = {x86.X86_REG_RBP: way.frame, x86.X86_REG_RSP: way.stack}
        if kind == x86.X86_INS_MOV and source.type == x86.X86_OP_REG:
            return base.get(source.reg)
        if kind == x86.X86_INS_LEA and not source.mem.index:
            known = base.get(source.mem.base)
            return None if known is None else known + int(source.mem.disp)
        return None
