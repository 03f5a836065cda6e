"""Go's crypto/tls, by the function table that every Go program carries (`go_pclntab`).

Goroutines' stacks move when they grow, so a return probe, which writes its own address onto the stack, would
crash the program: the instructions that return are probed instead. A function whose stack does not suffice
begins anew after growing it, so the probe at its beginning comes after that check.

Registers hold the arguments at that place as Go's internal calling convention has it (amd64 since Go 1.17:
RAX, RBX, RCX, goroutine in R14; arm64 since Go 1.18: R0, R1, R2, goroutine in R28), and the first result,
the number of bytes, at the returning instruction (RAX, R0).
"""

from __future__ import annotations

import re
import struct

from .base import Found, NotReachable, ProbePoint
from .elf import Image
from .go_buildinfo import go_version
from .go_pclntab import Function, FunctionTable, find_tables, has_old_table

__all__ = ["locate"]

_WRITE, _READ, _CLOSE = (f"crypto/tls.(*Conn).{name}" for name in ("Write", "Read", "Close"))
_FIRST_WITH_REGISTERS = {"x86_64": (1, 17), "aarch64": (1, 18)}
_MAX_RETURNS = 64
_REBUILD = "build the program with a current version of Go"

# cmp rsp,[r14+16], or for a larger frame lea r12,[rsp-N]; cmp r12,[r14+16], or for a very large one
# mov r12,rsp; sub r12,N; jb; cmp r12,[r14+16]; then jbe
_STACK_CHECK_X86 = re.compile(
    rb"(?:\x49\x3b\x66\x10"
    rb"|\x4c\x8d(?:\x64\x24.|\xa4\x24.{4})\x4d\x3b\x66\x10"
    rb"|\x49\x89\xe4\x49\x81\xec.{4}(?:\x72.|\x0f\x82.{4})\x4d\x3b\x66\x10)"
    rb"(?:\x76(?P<short>.)|\x0f\x86(?P<long>.{4}))",
    re.DOTALL,
)
_RET_X86 = re.compile(
    rb"(?:\x66*(?:\x90|\x0f\x1f(?:\x00|\x40.|\x44..|\x80.{4}|\x84.{5})))*(\xc3)",  # nops, ret
    re.DOTALL,
)

_LOAD_GUARD_ARM = 0xF9400B90  # ldr x16, [x28, #16]
_COMPARE_ARM = (0xEB3063FF, 0xEB10023F)  # cmp sp, x16; cmp x17, x16
_MAX_CHECK_WORDS = 10
_RET_ARM = re.compile(rb"(\xc0\x03\x5f\xd6)")


def locate(image: Image) -> Found | NotReachable | None:
    """Where to probe a Go program's crypto/tls.

    Raises:
        LibraryError: an image that cannot be believed.
    """
    if not image.find(_WRITE.encode() + b"\0", limit=1):
        return None
    version = go_version(image)
    readable = list(find_tables(image))
    if not readable:
        return _without_table(image, version)
    tables = [table for table in readable if table.find(_WRITE)]
    if not tables:
        return None  # a name in the program's own data, or one that only ends so
    if len(tables) > 1:
        return NotReachable("go", "it has several function tables with crypto/tls in them")
    unsuited = _calling_convention(image, version, tables[0])
    return unsuited or _points(image, version, tables[0])


def _without_table(image: Image, version: str) -> NotReachable | None:
    if has_old_table(image):
        return NotReachable("go", "built with Go before 1.16, which passes arguments on the stack", _REBUILD)
    if version:
        return NotReachable("go", f"the function table that {version} made cannot be read")
    return None  # no Go program: it only has the name of the function in it


def _calling_convention(image: Image, version: str, table: FunctionTable) -> NotReachable | None:
    """Why the arguments are not in registers, None if they are."""
    match = re.match(r"go(\d+)\.(\d+)", version)
    number = (int(match[1]), int(match[2])) if match else table.since
    if number < _FIRST_WITH_REGISTERS[image.machine] or "noregabi" in version:
        name = version or "an old version of Go"
        return NotReachable("go", f"built with {name}, which passes arguments on the stack", _REBUILD)
    return None


def _points(image: Image, version: str, table: FunctionTable) -> Found | NotReachable:
    points = []
    for name, role in ((_WRITE, "go_tls_write"), (_READ, "go_tls_read"), (_CLOSE, "go_tls_close")):
        functions = table.find(name)
        if not functions and name == _CLOSE:
            continue  # the linker leaves out what is not called
        if len(functions) != 1:
            return NotReachable("go", f"{name} is in its function table {len(functions)} times")
        function = functions[0]
        code = image.read(function.begin, function.end - function.begin)
        offset = image.code_offset_of(function.begin)
        after = _after_stack_check(code, image.machine)
        if offset is None or len(code) < function.end - function.begin or after is None:
            return NotReachable("go", f"the beginning of {name} is not as expected")
        points.append(ProbePoint(role, offset + after))
        if name == _READ:
            returns = _returns(function, code, image.machine)
            if not returns:
                return NotReachable("go", f"the end of {name} was not found")
            points += [ProbePoint("go_tls_read_return", offset + at) for at in returns]
    return Found("go", tuple(points), "function table", version)


def _after_stack_check(code: bytes, machine: str) -> int | None:
    """The offset of the first instruction behind a function's check of its stack, None without one."""
    return _after_check_x86(code) if machine == "x86_64" else _after_check_arm(code)


def _after_check_x86(code: bytes) -> int | None:
    match = _STACK_CHECK_X86.match(code)
    if match is None:
        return None
    distance = int.from_bytes(match["short"] or match["long"], "little", signed=True)
    # where it jumps to is at the function's end: it grows the stack and begins anew
    return match.end() if match.end() < match.end() + distance < len(code) else None


def _after_check_arm(code: bytes) -> int | None:
    count = min(len(code) // 4, _MAX_CHECK_WORDS)
    words = struct.unpack_from(f"<{count}I", code)
    if not words or words[0] != _LOAD_GUARD_ARM:
        return None
    for number in range(2, count):
        word = words[number]
        if word & 0xFF00001F == 0x54000009 and words[number - 1] in _COMPARE_ARM:  # b.ls
            distance = (word >> 5 & 0x7FFFF) * 4
            return 4 * number + 4 if 4 < distance < len(code) - 4 * number else None
    return None


def _returns(function: Function, code: bytes, machine: str) -> list[int]:
    """Offsets of the instructions that return, by the compiler's table of stack depths; [] if it is unclear.

    Where nothing is on the stack there is the check at the beginning, then instructions that return (padded
    in front for some processors), and after the last of them, without a step between, what grows the stack.
    """
    ret = _RET_X86 if machine == "x86_64" else _RET_ARM
    empty = [(begin, end) for begin, end, depth in function.depths[1:] if depth == 0]
    found = []
    for begin, end in empty:
        match = ret.match(code, begin - function.begin, end - function.begin)
        if match is not None:
            found.append(match.start(1))
        elif (begin, end) != empty[-1]:
            return []
    return found if len(found) <= _MAX_RETURNS else []
