"""Which capabilities this process holds, and which the operations of the binding need."""

from __future__ import annotations

__all__ = ["CAPABILITIES", "effective_capabilities", "missing_for_bpf"]

# include/uapi/linux/capability.h
CAPABILITIES = {
    "CAP_DAC_OVERRIDE": 1,
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_KILL": 5,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_RESOURCE": 24,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}


def effective_capabilities() -> frozenset[str]:
    """The names (of those in `CAPABILITIES`) that are effective in the calling thread."""
    with open("/proc/thread-self/status", encoding="ascii") as status:
        bits = next(int(line.split()[1], 16) for line in status if line.startswith("CapEff:"))
    return frozenset(name for name, number in CAPABILITIES.items() if bits >> number & 1)


def missing_for_bpf() -> tuple[str, ...]:
    """What is missing for loading and attaching tracing programs; CAP_SYS_ADMIN stands for both."""
    held = effective_capabilities()
    if "CAP_SYS_ADMIN" in held:
        return ()
    return tuple(name for name in ("CAP_BPF", "CAP_PERFMON") if name not in held)
