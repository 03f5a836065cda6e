"""Makes ELF files that look like Go programs to whoever reads their function table."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import NamedTuple

__all__ = ["TLS_NAMES", "Function", "GoImage", "arm_function", "x86_function"]

TLS_NAMES = tuple(f"crypto/tls.(*Conn).{name}" for name in ("Write", "Read", "Close"))
_MACHINES = {"x86_64": (62, 1, 8), "aarch64": (183, 4, 1027)}  # e_machine, quantum, R_*_RELATIVE
_MAGICS = {(1, 16): 0xFFFFFFFA, (1, 18): 0xFFFFFFF0, (1, 20): 0xFFFFFFF1}


class Function(NamedTuple):
    """A function: its instructions, and what is on the stack: (bytes of code, depth)."""

    name: str
    code: bytes
    depths: tuple[tuple[int, int], ...]


def x86_function(name: str, check: bytes = b"\x49\x3b\x66\x10", *, far: bool = False) -> Function:
    """Returns at two places: behind 20 bytes of body, and behind 3 more with padding in front."""
    body = b"\x55" + b"\x48\x83\xec\x10" + b"\x90" * 15 + b"\x5d"  # push rbp; sub rsp,16; …; pop rbp
    rest = b"\xc3" + b"\x90" * 3 + b"\x0f\x1f\x00\xc3" + b"\x31\xc0"
    grow = b"\xe8\0\0\0\0" + b"\xeb\0"
    jump = (b"\x0f\x86" + struct.pack("<i", len(body + rest))) if far else bytes([0x76, len(body + rest)])
    start = check + jump
    depths = ((len(start) + 1, 0), (4, 8), (16, 24), (1, 0), (3, 24), (4, 0), (2, 24), (len(grow), 0))
    return Function(name, start + body + rest + grow, depths)


def arm_function(name: str, *, large: bool = False) -> Function:
    """Returns at one place, with a branch over what grows the stack."""
    check = [0xF9400B90, *((0xD10883F1, 0xEB10023F) if large else (0xEB3063FF,))]
    words = [*check, 0x54000009 | 4 << 5, 0xF81E0FFE, 0x910083FF, 0xD65F03C0, 0x97FFFFFF, 0x17FFFFF0]
    depths = ((4 * len(check) + 8, 0), (4, 32), (12, 0))
    return Function(name, struct.pack(f"<{len(words)}I", *words), depths)


class GoImage:
    """What a Go program's file is made of; change the attributes before `build()`.

    Attributes:
        text, base: addresses of the first function and of the file's first byte.
        module: changes the module data before they are written, given their fields by offset.
    """

    def __init__(
        self,
        functions: Sequence[Function] = (),
        *,
        machine: str = "x86_64",
        since: tuple[int, int] = (1, 20),
        version: str = "go1.22.3",
        position_independent: bool = False,
        page_bytes: int = 4096,
    ) -> None:
        make = x86_function if machine == "x86_64" else arm_function
        first = Function("go:buildid", b"\xcc" * 16, ((16, 0),))
        self.functions = [first, *(functions or [make(name) for name in TLS_NAMES])]
        self.machine, self.since, self.version = machine, since, version
        self.position_independent = position_independent
        self.page_bytes = page_bytes
        self.base = 0 if position_independent else 0x400000
        self.count = len(self.functions)
        self.module: Callable[[dict[int, int]], None] = lambda fields: None

    def build(self) -> bytes:
        code, entries = b"", []
        for function in self.functions:
            entries.append(len(code))
            code += function.code + b"\xcc" * (-len(function.code) % 32)
        entries.append(len(code))
        self.entries = entries
        out = bytearray(max(self.page_bytes, 256))
        self.text = self.base + len(out)
        out += code
        out += bytes(-len(out) % 32)
        table_at = len(out)
        table, parts = self._table(entries)
        out += table
        out += bytes(-len(out) % 16)
        out += (
            b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + bytes([len(self.version)]) + self.version.encode()
        )
        out += bytes(-len(out) % self.page_bytes)
        data_at = len(out)
        fields = self._module_fields(self.base + table_at, parts, len(table))
        self.module(fields)
        pointers = {
            at for at in fields if at not in {8 * n for n in (2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18)}
        }
        content = bytearray(256)
        for at, value in fields.items():
            if not (self.position_independent and at in pointers):
                struct.pack_into("<Q", content, at, value)
        out += content
        dynamic_at = len(out)
        if self.position_independent:
            relative = _MACHINES[self.machine][2]
            rela = b"".join(
                struct.pack("<QQq", self.base + data_at + at, relative, fields[at]) for at in sorted(pointers)
            )
            out += struct.pack("<6Q", 7, self.base + dynamic_at + 48, 8, len(rela), 0, 0) + rela
        loads = [(1, 5, 0, data_at), (1, 6, data_at, len(out) - data_at)]
        if self.position_independent:
            loads.append((2, 6, dynamic_at, 48))
        header = struct.pack(
            "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 3 if self.position_independent else 2,
            _MACHINES[self.machine][0], 1, self.text, 64, 0, 0, 64, 56, len(loads), 64, 0, 0,
        )  # fmt: skip
        for kind, flags, at, size in loads:
            header += struct.pack(
                "<IIQQQQQQ", kind, flags, at, self.base + at, self.base + at, size, size, 4096
            )
        out[: len(header)] = header
        return bytes(out)

    def _table(self, entries: Sequence[int]) -> tuple[bytes, dict[str, tuple[int, int]]]:
        """The table, and where its parts are in it."""
        word = 8 if self.since == (1, 16) else 4
        text = self.text if word == 8 else 0
        names, name_at = b"", []
        steps, step_at = b"\0", []
        for function in self.functions:
            name_at.append(len(names))
            names += function.name.encode() + b"\0"
            step_at.append(len(steps))
            steps += self._steps(function)
        records, record_at = b"", []
        begin = (2 * len(self.functions) + 1) * word
        begin += -begin % 8
        for number in range(len(self.functions)):
            record_at.append(begin + len(records))
            records += (text + entries[number]).to_bytes(word, "little")
            records += struct.pack("<8I", name_at[number], 0, 0, step_at[number], 0, 0, 0, 0) + bytes(
                -word % 8
            )
        functions = b"".join(
            (text + entry).to_bytes(word, "little") + at.to_bytes(word, "little")
            for entry, at in zip(entries, record_at, strict=False)
        )
        functions += (text + entries[-1]).to_bytes(word, "little")
        parts, content = {}, b""
        header_bytes = 64 if word == 8 else 72
        for part, value in (
            ("names", names),
            ("steps", steps),
            ("records", functions.ljust(begin, b"\0") + records),
        ):
            content += bytes(-len(content) % 8)
            parts[part] = (header_bytes + len(content), len(value))
            content += value
        quantum = _MACHINES[self.machine][1]
        header = struct.pack("<IHBBQQ", _MAGICS[self.since], 0, quantum, 8, self.count, 1)
        header += b"" if word == 8 else struct.pack("<Q", self.text)
        names_at, steps_at, records_at = (parts[part][0] for part in ("names", "steps", "records"))
        header += struct.pack("<5Q", names_at, steps_at, steps_at, steps_at, records_at)
        return header + content, parts

    def _steps(self, function: Function) -> bytes:
        quantum = _MACHINES[self.machine][1]
        out, before = b"", -1
        for size, depth in function.depths:
            step = depth - before
            out += _variable_number(2 * step if step >= 0 else -2 * step - 1)
            out += _variable_number(size // quantum)
            before = depth
        return out + b"\0"

    def _module_fields(self, address: int, parts: dict[str, tuple[int, int]], size: int) -> dict[int, int]:
        fields = {0: address}
        for at, part in ((8, "names"), (80, "steps"), (104, "records"), (128, "records")):
            begin, length = parts[part]
            fields |= {at: address + begin, at + 8: length, at + 16: length}
        fields |= {136: self.count + 1, 144: self.count + 1}
        return fields | {160: self.text, 168: self.text + self.entries[-1], 176: self.text}


def _variable_number(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])
