"""What the running kernel offers."""

from __future__ import annotations

import functools
import os

__all__ = ["has_btf_name", "has_syscall_tracepoint", "has_tracefs", "kernel_functions"]

_TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")  # where libbpf looks


@functools.cache
def _btf() -> bytes:
    try:
        with open("/sys/kernel/btf/vmlinux", "rb") as file:
            return file.read()
    except OSError:
        return b""


def has_btf_name(name: str) -> bool:
    """Whether the kernel's type information has this name; a BTF tracepoint T is there as "btf_trace_T"."""
    return b"\0" + name.encode() + b"\0" in _btf()


def has_tracefs() -> bool:
    """Whether the tracepoints of single system calls can be attached to."""
    return any(os.path.exists(f"{root}/events/syscalls") for root in _TRACEFS)


def has_syscall_tracepoint(name: str) -> bool:
    """Whether there is a tracepoint of this name, for instance "sys_exit_openat2"."""
    return any(os.path.exists(f"{root}/events/syscalls/{name}/id") for root in _TRACEFS)


def kernel_functions(prefix: str) -> frozenset[str]:
    """The kernel's functions whose names begin so."""
    begin = prefix.encode()
    try:
        with open("/proc/kallsyms", "rb") as file:  # address, type, name, perhaps a module
            names = [line.split(None, 3)[2] for line in file if begin in line]
    except OSError:
        return frozenset()
    return frozenset(name.decode() for name in names if name.startswith(begin))
