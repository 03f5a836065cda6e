"""What this kernel takes of what the tracer brings: each thing is loaded and attached, and removed again.

Versions tell little: distributions bring features to older kernels and leave others out of newer ones. The
probes are put into an empty file that nobody runs, and no process is wanted, so nothing is recorded.
"""

from __future__ import annotations

import contextlib
import errno
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterator
from functools import partial

from ..binding import Object, supports_uprobe_multi
from ..errors import AgentTracerError, BindingError, MissingCapability, NotSupported
from ..system.doctor import Check
from ..system.kernel import has_btf_name, has_tracefs
from ..system.notices import configure
from .filters import Filter
from .optional_probes import follow_sockets
from .process_decoder import CATEGORIES
from .process_source import ProcessSource
from .ssl_programs import PROGRAMS
from .tracking import MIN_RING_BYTES, Tracking, open_object

__all__ = ["STACK_OBJECTS", "check_kernel", "check_process_tracing", "check_stacks"]

# the compiled objects that TLS stacks need, with what they are for
STACK_OBJECTS = {
    "ssl": "OpenSSL and BoringSSL",
    "gnutls": "GnuTLS",
    "nss": "NSS",
    "go": "Go",
    "aead": "rustls (aws-lc, ring)",
}
_BTF = "/sys/kernel/btf/vmlinux"
_ADVICE_BTF = "use a kernel with CONFIG_DEBUG_INFO_BTF; in a container, mount /sys"
_ADVICE_KERNEL = "use a newer kernel"
_ADVICE_TRACEFS = "mount -t tracefs tracefs /sys/kernel/tracing"
_SOCKET_WAYS = {
    "socket_sent": "tracepoints sock_send_length, sock_recv_length (Linux 6.3)",
    "tcp_sends": "fentry on tcp_sendmsg, tcp_recvmsg",
    "tcp_sends_kprobe": "kprobes on tcp_sendmsg, tcp_recvmsg",
}
_NOT_TRIED = "not tried: what it builds on is missing"
_PROBE_AT = 64  # anywhere in the empty file


def check_kernel() -> list[Check]:
    """What all of TLS tracing builds on. Takes a fraction of a second."""
    base = Check(
        "programs, ring buffer",
        "yes",
        "BTF tracepoints of processes, Linux 5.8",
        "nothing can be traced",
        _ADVICE_KERNEL,
        vital=True,
    )
    checks = [_btf(), base]
    with contextlib.ExitStack() as opened:
        try:
            tracking = Tracking(_nobody(), MIN_RING_BYTES)
            opened.callback(tracking.close)
            for name in ("on_exec", "on_exit"):
                tracking.object.programs[name].attach()
        except AgentTracerError as error:
            _failed(base, error)
            return checks
        checks.append(_iterator(tracking))
        checks += _uprobes(tracking)
        checks.append(_sockets(tracking))
    return checks


def check_stacks(names: Collection[str]) -> list[Check]:
    """Whether the programs of TLS stacks can be loaded and attached. Takes up to two seconds for each.

    Args:
        names: of `STACK_OBJECTS`.
    """
    checks = []
    try:
        tracking = Tracking(_nobody(), MIN_RING_BYTES)
    except AgentTracerError:
        return []  # check_kernel() says so
    try:
        for name, stacks in STACK_OBJECTS.items():
            if name in names:
                check = Check(
                    f"programs for {stacks}",
                    "yes",
                    without="its TLS cannot be traced",
                    advice=_ADVICE_KERNEL,
                    vital=name == "ssl",  # it has the maps of all others
                )
                checks.append(check)
                _try(check, partial(_load_stack, tracking, name))
    finally:
        tracking.close()
    return checks


def check_process_tracing() -> list[Check]:
    """What the `process` command can use: all of it is attached, for nobody. Takes some seconds."""
    programs = Check(
        "process: programs", "yes", without="the process command does not work", advice=_ADVICE_KERNEL
    )
    tracefs = Check(
        "process: tracefs",
        "yes" if has_tracefs() else "no",
        "" if has_tracefs() else "not mounted, or not readable",
        "there are no io events, and of sockets that are closed before their process ends no net_close; "
        "every system call of the machine becomes a little slower, not only those that are traced",
        _ADVICE_TRACEFS,
    )
    try:
        source = ProcessSource(_nobody(), categories=CATEGORIES, life_of_all=False, ring_bytes=MIN_RING_BYTES)
    except AgentTracerError as error:
        _failed(programs, error)
        return [programs, tracefs]
    notes = [note for note in source.notes if "tracefs" not in note]
    source.close()
    return [programs, tracefs, *(Check("process", "no", note) for note in notes)]


def _nobody() -> Filter:
    """A filter that no process passes: a name that none has."""
    return Filter.of(comm=secrets.token_hex(7))


def _btf() -> Check:
    check = Check("type information (BTF)", "yes", _BTF, "nothing can be traced", _ADVICE_BTF, vital=True)
    try:
        with open(_BTF, "rb") as file:
            file.read(1)
    except OSError as error:
        check.state, check.detail = "no", f"{_BTF}: {(error.strerror or str(error)).lower()}"
    return check


def _iterator(tracking: Tracking) -> Check:
    check = Check(
        "task iterator",
        "yes",
        without="processes that run already cannot be chosen by pid or name",
        advice=_ADVICE_KERNEL,
    )
    _try(check, tracking.object.programs["seed"].run_iterator)
    return check


def _uprobes(tracking: Tracking) -> list[Check]:
    """Everything that concerns probes in files, and new programs and libraries."""
    uprobes = Check("uprobes", "yes", without="no TLS can be traced", advice=_ADVICE_KERNEL, vital=True)
    cookies = Check(
        "attach cookies (5.15)",
        "yes",
        without="with more than one library, events do not name the one that they come from",
        advice=_ADVICE_KERNEL,
    )
    multi = Check(
        "uprobe_multi (6.6)",
        "yes" if supports_uprobe_multi() else "no",
        without="attaching and detaching take longer, and each hit costs more",
        advice=_ADVICE_KERNEL,
    )
    loads = Check(
        "bpf_find_vma (5.17)",
        "yes" if has_btf_name("bpf_find_vma") else "no",
        without="libraries that a program loads later are found by looking once a second: their first bytes "
        "are missed",
        advice=_ADVICE_KERNEL,
    )
    execs = Check(
        "watching execs",
        "yes",
        without="new programs are found by looking once a second, and a command is not held while its "
        "program is looked at: first bytes are missed",
        advice=_ADVICE_KERNEL,
    )
    discover: list[Object] = []

    def watch() -> None:
        discover.append(configure(tracking.join(open_object("discover")), hold=True).load())
        for name in ("on_launched_exit", "on_launched_fork", "on_discover_exec"):
            discover[0].programs[name].attach()

    with contextlib.ExitStack() as opened:
        _try(execs, watch)
        for item in discover:
            opened.callback(item.close)
        if discover and "on_loaded" in discover[0].programs:
            prober, program = discover[0], "on_loaded"
        else:  # the smallest of the others
            try:
                prober, program = tracking.join(open_object("nss")).load(), "pr_close"
            except AgentTracerError as error:
                _failed(uprobes, error)
                cookies.state, cookies.detail = "unknown", _NOT_TRIED
                return [uprobes, cookies, multi, execs, loads]
            opened.callback(prober.close)
        with _empty_file() as path:
            _try(uprobes, lambda: prober.programs[program].attach_uprobe(path, offset=_PROBE_AT).close())
            _try(
                cookies,
                lambda: prober.programs[program].attach_uprobe(path, offset=_PROBE_AT + 1, cookie=1).close(),
            )
    return [uprobes, cookies, multi, execs, loads]


def _sockets(tracking: Tracking) -> Check:
    check = Check(
        "following sockets",
        "yes",
        without="where connections go (address, port, host name) is not known: --port and --host have "
        "nothing to choose by, and TLS that no probe sees is not warned of",
        advice="use a kernel with fentry or kprobes (CONFIG_KPROBES), or Linux 6.3 and later",
    )
    try:
        item, note = follow_sockets(tracking)
    except AgentTracerError as error:
        _failed(check, error)
        return check
    if item is None:
        check.state, check.detail = "no", note
        return check
    check.detail = next((way for name, way in _SOCKET_WAYS.items() if name in item.programs), "")
    item.close()
    return check


def _load_stack(tracking: Tracking, name: str) -> None:
    """Loads a stack's programs as a run would, and attaches one of each kind."""
    spec = tracking.join(open_object(name))
    parts = {part.program: part for parts in PROGRAMS.values() for part in parts if part.object == name}
    multi = supports_uprobe_multi()
    if multi:
        for program in parts:
            spec.programs[program].use_uprobe_multi()
    with spec.load() as loaded, _empty_file() as path:
        kinds = {part.returns: part for part in parts.values()}
        for returns, part in kinds.items():
            program_ = loaded.programs[part.program]
            if multi:
                program_.attach_uprobe_multi(path, [_PROBE_AT], returns=returns, cookies=[1])
            else:
                program_.attach_uprobe(path, offset=_PROBE_AT, returns=returns)


@contextlib.contextmanager
def _empty_file() -> Iterator[str]:
    """The path of a file without a name that nobody maps: a probe in it is never hit."""
    with tempfile.TemporaryFile() as file:
        file.write(bytes(4096))
        file.flush()
        yield f"/proc/self/fd/{file.fileno()}"


def _try(check: Check, action: Callable[[], object]) -> None:
    """Does it; if that fails the check says so."""
    try:
        action()
    except (AgentTracerError, OSError) as error:
        _failed(check, error)


def _failed(check: Check, error: Exception) -> None:
    """Says why; for want of a capability or of descriptors, nobody knows what the kernel could do."""
    check.state, check.detail = "no", str(error)
    if not isinstance(error, BindingError) or error.hint:
        check.advice = ""  # what was said says it, and another kernel would not help
    if isinstance(error, (BindingError, OSError)) and error.errno in (errno.EMFILE, errno.ENFILE):
        check.state, check.advice = "unknown", "ulimit -n 1024"
    if isinstance(error, NotSupported):
        check.detail = "the kernel has none"
    elif isinstance(error, MissingCapability) and error.capabilities:
        check.state, check.detail = "unknown", f"could not be tried: {', '.join(error.capabilities)} missing"
        check.advice = "run it as root (sudo)"
