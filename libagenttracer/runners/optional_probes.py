"""Probes that not every kernel takes: what they would tell is missing, and said to be, where it does not."""

from __future__ import annotations

import logging
import platform
from collections.abc import Collection

from ..binding import Object
from ..errors import AgentTracerError
from ..system.kernel import has_btf_name, kernel_functions
from .tracking import Tracking, open_object

__all__ = ["follow_sockets", "probe_compat_calls", "probe_paths"]

logger = logging.getLogger("libagenttracer.process")

# 32-bit calls that have other functions than 64-bit ones of their name; socketcall is all calls on sockets
_COMPAT_FILE = ("chown16", "fchown16", "lchown16", "ia32_truncate64", "ia32_ftruncate64")
_COMPAT_NET = ("socketcall",)
# one of these after the other: the tracepoints of Linux 6.3, fentry, kprobes
_SOCKET_PROGRAMS = (
    ("socket_sent", "socket_received"),
    ("tcp_sends", "tcp_receives"),
    ("tcp_sends_kprobe", "tcp_receives_kprobe"),
)
_UNRESOLVED = "names with symbolic links in them stay unresolved in"


def probe_paths(tracking: Tracking) -> tuple[Object | None, str]:
    """Follows the names of files in calls that open nothing (fentry on the security hooks).

    Returns:
        The attached object, to be closed by the caller, or None; and a note that says what is missing.
    """
    # chown's hook has structures for arguments, which older kernels do not take (5.10)
    for left_out, note in (("", ""), ("on_chown", f"{_UNRESOLVED} chown: its hook takes no fentry")):
        spec = tracking.join(open_object("resolve"))
        for program in spec.programs.values():
            hook = program.section.removeprefix("fentry/")
            program.autoload = has_btf_name(hook) and program.name != left_out
        item: Object | None = None
        try:
            item = spec.load()
            for loaded in item.programs.values():
                loaded.attach()
            return item, note
        except AgentTracerError as error:
            logger.debug("paths are not resolved: %s", error)
            if item is not None:
                item.close()
    return None, f"{_UNRESOLVED} calls that open nothing: no fentry"


def probe_compat_calls(
    tracking: Tracking, file_calls: Collection[str], net_calls: Collection[str], signal_calls: Collection[str]
) -> tuple[Object | None, str]:
    """Counts 32-bit calls of 64-bit programs (int 0x80), where there are such calls.

    Args:
        file_calls, net_calls, signal_calls: the calls that are wanted.

    Returns:
        As `probe_paths`.
    """
    if platform.machine() != "x86_64":
        return None, ""
    names = {*file_calls, *net_calls, *signal_calls}
    names.update(_COMPAT_FILE if file_calls else (), _COMPAT_NET if net_calls else ())
    there = kernel_functions("__ia32_")
    symbols = [
        f"__ia32_{kind}{name}"
        for name in sorted(names)
        for kind in ("sys_", "compat_sys_")
        if f"__ia32_{kind}{name}" in there
    ]
    if not symbols:
        return None, ""  # a kernel without 32-bit calls
    item: Object | None = None
    try:
        item = tracking.join(open_object("compat")).load()
        item.programs["compat_call"].attach_kprobe_multi(symbols)
    except AgentTracerError as error:
        logger.debug("32-bit calls are not counted: %s", error)
        if item is not None:
            item.close()
        return (
            None,
            "32-bit calls of 64-bit programs (int 0x80) are neither seen nor counted: no kprobe.multi",
        )
    return item, ""


def follow_sockets(tracking: Tracking) -> tuple[Object | None, str]:
    """Follows what wanted processes send and receive, for the addresses of TLS connections.

    Returns:
        As `probe_paths`.
    """
    for calls in _SOCKET_PROGRAMS:
        spec = tracking.join(open_object("tls_socket"))
        spec.globals["sockets_followed"] = 1
        for program in spec.programs.values():
            program.autoload = program.name in (*calls, "socket_state")
        item: Object | None = None
        try:
            item = spec.load()
            for loaded in item.programs.values():
                loaded.attach()
            return item, ""
        except AgentTracerError as error:
            logger.debug("sockets are not followed by %s: %s", calls[0], error)
            if item is not None:
                item.close()
    return None, "where connections go is not known: sockets can be followed in no way that this kernel has"
