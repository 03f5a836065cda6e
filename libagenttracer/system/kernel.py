"""What the running kernel offers."""

from __future__ import annotations

import functools
import os

__all__ = ["has_btf_name", "has_syscall_tracepoint", "has_tracefs"]

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
