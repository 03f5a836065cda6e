"""Decodes x86-64 instructions with capstone into what following the control flow needs of them."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..errors import DisassemblerMissing, LibraryError
from .elf import Image

__all__ = ["Decoder", "Step"]

_WHOLE = {  # the 64-bit register that one is a part of
    **{form.format(name): f"r{name}x" for name in "abcd" for form in ("r{}x", "e{}x", "{}x", "{}l", "{}h")},
    **{
        form.format(name): f"r{name}"
        for name in ("si", "di", "bp", "sp")
        for form in ("r{}", "e{}", "{}", "{}l")
    },
    **{f"r{number}{part}": f"r{number}" for number in range(8, 16) for part in ("", "d", "w", "b")},
}
_MAX_INSTRUCTION_BYTES = 15
_MAX_DECODED = 1 << 17
_MAX_STEPS = 1 << 21  # the largest programs in use need a hundredth of it
_MASK = (1 << 64) - 1


class Step(NamedTuple):
    """What following the control flow needs of an instruction.

    Attributes:
        size: in bytes.
        flow: "next", "call", "jump", "branch" (a conditional jump), "return", or "end": it traps.
        target: where a direct call or jump goes, None for others.
        writes: the registers whose value changes, by their 64-bit names; not for calls and jumps.
        value: what the only one of these holds then: a constant, the register that it is a copy of, None if
            the instruction alone does not tell.
        pushes: it puts the value on the stack.
        pops: it takes the value from the stack.
        reads: the registers whose value it depends on, likewise. Not those that it puts on the stack, which
            compilers do with any register to move the stack's end.
        stores: the register that tells where it writes to memory, "" if it does not, tells otherwise, or
            copies or fills a stretch of memory.
        is_padding: it does nothing.
    """

    size: int
    flow: str
    target: int | None = None
    writes: tuple[str, ...] = ()
    value: int | str | None = None
    pushes: bool = False
    pops: bool = False
    reads: frozenset[str] = frozenset()
    stores: str = ""
    is_padding: bool = False


class Decoder:
    """Decodes an image's instructions, each once.

    Raises:
        DisassemblerMissing: capstone is not installed.
    """

    def __init__(self, image: Image) -> None:
        try:
            import capstone
            from capstone import x86_const
        except ImportError:
            raise DisassemblerMissing(image.path) from None
        self._image = image
        self._capstone: Any = capstone
        self._x86: Any = x86_const
        self._engine = capstone.Cs(capstone.CS_ARCH_X86, capstone.CS_MODE_64)
        self._engine.detail = True
        self._flows = {
            x86_const.X86_INS_CALL: "call",
            x86_const.X86_INS_JMP: "jump",
            x86_const.X86_INS_RET: "return",
            x86_const.X86_INS_RETF: "return",
            x86_const.X86_INS_RETFQ: "return",
            x86_const.X86_INS_UD2: "end",
            x86_const.X86_INS_INT3: "end",
            x86_const.X86_INS_HLT: "end",
        }
        # they copy and fill: what they write is somebody's buffer
        self._string_moves = (
            *(x86_const.X86_INS_MOVSB, x86_const.X86_INS_MOVSW, x86_const.X86_INS_MOVSQ),
            *(x86_const.X86_INS_STOSB, x86_const.X86_INS_STOSD, x86_const.X86_INS_STOSQ),
        )
        self._steps_left = _MAX_STEPS
        self._names: dict[int, str] = {}
        self._decoded: dict[int, Step | None] = {}

    def step(self, address: int) -> Step | None:
        """The instruction at an address, None if there is none.

        Raises:
            LibraryError: there were too many.
        """
        self._steps_left -= 1
        if self._steps_left < 0:
            raise LibraryError(self._image.path, "its code takes too long to follow")
        try:
            return self._decoded[address]
        except KeyError:
            pass
        if len(self._decoded) >= _MAX_DECODED:
            self._decoded.clear()
        raw = self._image.read(address, _MAX_INSTRUCTION_BYTES)
        instruction = next(self._engine.disasm(raw, address, 1), None)
        step = self._decoded[address] = self._step(instruction) if instruction is not None else None
        return step

    def _register(self, number: int) -> str:
        """The 64-bit name of the register that one is a part of."""
        name = self._names.get(number)
        if name is None:
            text = self._engine.reg_name(number) or ""
            name = self._names[number] = _WHOLE.get(text, text)
        return name

    def _step(self, instruction: Any) -> Step:
        x86, size, operands = self._x86, instruction.size, instruction.operands
        flow = self._flows.get(instruction.id, "branch" if instruction.group(x86.X86_GRP_JUMP) else "next")
        if flow != "next":
            direct = operands and operands[0].type == x86.X86_OP_IMM
            return Step(size, flow, operands[0].imm & _MASK if direct else None)
        if instruction.id == x86.X86_INS_NOP:
            return Step(size, flow, is_padding=True)
        try:
            read, written = instruction.regs_access()
        except self._capstone.CsError:  # of some rare instructions it does not know
            read, written = [], []
        if instruction.id == x86.X86_INS_PUSH:
            return Step(size, flow, value=self._operand(operands[0]), pushes=True)
        if instruction.id == x86.X86_INS_POP and operands[0].type == x86.X86_OP_REG:
            return Step(size, flow, writes=(self._register(operands[0].reg),), pops=True)
        writes = tuple({self._register(number) for number in written} - {"rflags", ""})
        stores = ""
        for operand in () if instruction.id in self._string_moves else operands:
            if operand.type == x86.X86_OP_MEM and operand.access & self._capstone.CS_AC_WRITE:
                stores = self._register(operand.mem.base) if operand.mem.base else ""
        value = self._value(instruction, operands) if len(writes) == 1 else None
        reads = frozenset(self._register(number) for number in read)
        if value == 0:  # a register is set to 0 by xor with itself, whatever it held
            reads = frozenset()
        return Step(size, flow, writes=writes, value=value, reads=reads, stores=stores)

    def _operand(self, operand: Any, mask: int = _MASK) -> int | str | None:
        """The constant or the register that an operand is, None for memory."""
        if operand.type == self._x86.X86_OP_IMM:
            return int(operand.imm & mask)
        return self._register(operand.reg) if operand.type == self._x86.X86_OP_REG else None

    def _value(self, instruction: Any, operands: Any) -> int | str | None:
        """What a register is set to, if the instruction alone tells."""
        x86, kind = self._x86, instruction.id
        if len(operands) != 2 or operands[0].type != x86.X86_OP_REG or operands[0].size < 4:
            return None
        target, source = operands
        if kind in (x86.X86_INS_MOV, x86.X86_INS_MOVABS):
            return self._operand(source, _MASK if target.size == 8 else 0xFFFFFFFF)
        if kind == x86.X86_INS_LEA and source.mem.base == x86.X86_REG_RIP:
            return int(instruction.address + instruction.size + source.mem.disp) & _MASK
        if kind == x86.X86_INS_XOR and source.type == x86.X86_OP_REG and source.reg == target.reg:
            return 0
        return None
