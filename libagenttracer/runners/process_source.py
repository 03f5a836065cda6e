"""The privileged half of process tracing: loads, attaches, finds shells. It decodes nothing.

As `ssl_source.py`, it hands out the ring's descriptors and counters, nothing else.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from ..binding import Object, Program, ProgramStats
from ..binding.programs import close_links
from ..errors import AgentTracerError, BindingError
from ..system.kernel import has_btf_name, has_syscall_tracepoint, has_tracefs
from ..system.processes import check_pid, check_pid_namespace, pids
from .filters import Filter
from .optional_probes import probe_compat_calls, probe_paths
from .tracking import Tracking, open_object

__all__ = ["ProcessSource"]

logger = logging.getLogger("libagenttracer.process")

_FILE_CALLS = (
    "open", "openat", "openat2", "creat", "unlink", "unlinkat", "rename", "renameat", "renameat2",
    "mkdir", "mkdirat", "rmdir", "link", "linkat", "symlink", "symlinkat", "chmod", "fchmod",
    "fchmodat", "fchmodat2", "chown", "fchown", "lchown", "fchownat", "truncate", "ftruncate",
)  # fmt: skip
_IO_CALLS = (
    "read", "pread64", "readv", "preadv", "preadv2", "write", "pwrite64", "writev", "pwritev",
    "pwritev2",
)  # fmt: skip
_NET_CALLS = (
    "connect", "accept", "accept4", "bind", "listen", "sendto", "sendmsg", "sendmmsg",
)  # fmt: skip
_DNS_CALLS = (
    "sendto", "sendmsg", "sendmmsg",
)  # fmt: skip
_SIGNAL_CALLS = (
    "kill", "tkill", "tgkill", "pidfd_send_signal", "rt_sigqueueinfo", "rt_tgsigqueueinfo",
)  # fmt: skip
_OPTIONAL = {  # programs on tracepoints that not every kernel has
    "socket_sent": "sock_send_length",
    "socket_received": "sock_recv_length",
    "file_uring": "io_uring_submit_req",
    "net_uring": "io_uring_submit_req",
}
_SHELLS = ("/bin/bash", "/usr/bin/bash", "/usr/local/bin/bash")


class ProcessSource:
    """The programs of processes, files and sockets, as far as they are wanted.

    Args:
        filter_: which processes.
        categories: see `process_decoder.CATEGORIES`.
        life_of_all: fork, exec and exit of processes that do not match too.
        ring_bytes: size of the ring.
        launched: a command that waits to be started.

    Attributes:
        ring_fd, control_fd, ring_bytes: for the reader.
        notes: what is off, and why.

    Raises:
        TargetError, BindingError: see docs/errors.md.
    """

    def __init__(
        self,
        filter_: Filter,
        *,
        categories: Collection[str],
        life_of_all: bool,
        ring_bytes: int,
        launched: int | None = None,
    ) -> None:
        self.filter = filter_
        self._wanted = frozenset(categories)
        self._life_of_all = life_of_all
        self._single_calls = has_tracefs()
        self._shells: set[tuple[int, int]] = set()
        self._seen_pids: set[int] = set()
        self._objects: dict[str, Object] = {}
        self.notes: list[str] = []
        if filter_.pids:
            check_pid_namespace()
            for pid in filter_.pids:
                check_pid(pid)
        self._tracking = Tracking(filter_, ring_bytes, launched=launched, life_of_all=life_of_all)
        try:
            self._load()
            self._attach()
        except BaseException:
            self.close()
            raise
        maps = self._tracking.object.maps
        self.ring_fd = maps["records"].fileno()
        self.control_fd = maps["ring_control"].fileno()
        self.ring_bytes = self._tracking.ring_bytes

    # what is loaded

    def _programs(self) -> dict[str, set[str]]:
        """The programs that are wanted, by object."""
        wanted = self._wanted
        any_or_single = "exit" if self._single_calls else "any_exit"
        programs = {"process": {"process_fork", "process_exec", "process_exit", "tell_running"}}
        if "signal" in wanted:
            programs["process"].add(f"signal_{any_or_single}")
        if "readline" in wanted:
            programs["process"].add("readline_return")
        if "file" in wanted:
            programs["file"] = {f"file_{any_or_single}", "file_uring"}
        if "io" in wanted:
            if self._single_calls:
                programs.setdefault("file", set()).update({"io_exit", "io_close", "io_end"})
            else:
                self.notes.append(
                    "io is off: it needs tracefs (mount -t tracefs tracefs /sys/kernel/tracing)"
                )
        if wanted & {"net", "dns"}:
            programs["net"] = {f"net_{any_or_single}", "net_uring"}
        if "net" in wanted:
            programs["net"] |= {"connect_done", "net_end", "socket_sent", "socket_received"}
            if self._single_calls:
                programs["net"].add("net_close")
            else:
                self.notes.append(
                    "sockets that are closed before their process ends are not told: it needs tracefs"
                )
        missing = {name for name, point in _OPTIONAL.items() if not has_btf_name(f"btf_trace_{point}")}
        if missing & {"socket_sent", "socket_received"} and "net" in programs:
            self.notes.append("bytes of sockets are unknown: the kernel has no sock_send_length (Linux 6.3)")
        if missing & {"file_uring", "net_uring"} and wanted & {"file", "net"}:
            self.notes.append(
                "calls through io_uring are neither seen nor counted: the kernel cannot tell of them"
            )
        return {name: some - missing for name, some in programs.items()}

    def _load(self) -> None:
        if "file" in self._wanted:
            self._keep("resolve", *probe_paths(self._tracking))
        if self._single_calls:
            self._keep("compat", *probe_compat_calls(self._tracking, *self._calls()))
        for name, wanted in self._programs().items():
            spec = self._tracking.join(open_object(name))
            for program in spec.programs:
                spec.programs[program].autoload = program in wanted
            if name == "process":
                spec.globals["show_fork"] = "fork" in self._wanted
                spec.globals["show_exec"] = "exec" in self._wanted
                spec.globals["show_exit"] = "exit" in self._wanted
                spec.globals["life_of_all"] = self._life_of_all
            elif name == "net":
                spec.globals["show_net"] = "net" in self._wanted
                spec.globals["show_dns"] = "dns" in self._wanted
                spec.globals["bytes_known"] = "socket_sent" in wanted
            elif name == "file" and (resolver := self._objects.get("resolve")):
                spec.maps["resolved"].reuse(resolver.maps["resolved"])
                spec.globals["paths_resolved"] = True
            self._objects[name] = spec.load()

    def _keep(self, name: str, item: Object | None, note: str) -> None:
        """An optional object, and a note on what is missing."""
        if item is not None:
            self._objects[name] = item
        if note:
            self.notes.append(note)

    def _calls(self) -> tuple[Sequence[str], Sequence[str], Sequence[str]]:
        """The calls on files, on sockets and for signals that are wanted."""
        net = _NET_CALLS if "net" in self._wanted else _DNS_CALLS if "dns" in self._wanted else ()
        return (
            _FILE_CALLS if "file" in self._wanted else (),
            net,
            _SIGNAL_CALLS if "signal" in self._wanted else (),
        )

    # what is attached, and in which order

    def _attach(self) -> None:
        # at the end of a process: first what goes through its descriptors, then it, then it is forgotten
        for name in ("io_end", "net_end", "process_exit"):
            self._attach_if_loaded(name)
        self._tracking.start()
        for name in ("process_fork", "process_exec", "connect_done", "socket_sent", "socket_received"):
            self._attach_if_loaded(name)
        for name in ("file_uring", "net_uring", "signal_any_exit", "file_any_exit", "net_any_exit"):
            self._attach_if_loaded(name)
        self._attach_single_calls()
        if "readline" in self._wanted:
            for path in _SHELLS:
                self._attach_shell(path)
            self.rescan()
        program = self._find("tell_running")
        assert program is not None
        program.run_iterator()

    def _attach_single_calls(self) -> None:
        files, net, signals = self._calls()
        points: list[tuple[Program, str]] = []
        for name, calls in (
            ("signal_exit", signals),
            ("file_exit", files),
            ("io_exit", _IO_CALLS),
            ("net_exit", net),
        ):
            if program := self._find(name):
                points += [(program, f"sys_exit_{call}") for call in calls]
        for name in ("io_close", "net_close"):
            if program := self._find(name):
                points.append((program, "sys_enter_close"))
        # a call that this kernel does not have cannot be made either
        there = [(program, name) for program, name in points if has_syscall_tracepoint(name)]
        if len(there) > 1:  # each waits for the kernel: together that takes no longer than one
            with ThreadPoolExecutor(len(there)) as pool:
                list(pool.map(lambda point: point[0].attach_tracepoint("syscalls", point[1]), there))

    def _find(self, name: str) -> Program | None:
        for item in self._objects.values():
            if name in item.programs:
                return item.programs[name]
        return None

    def _attach_if_loaded(self, name: str) -> None:
        if program := self._find(name):
            program.attach()

    # shells

    def rescan(self) -> None:
        """Looks for bash executables that wanted processes run and that are not probed yet."""
        if "readline" not in self._wanted:
            return
        current = set(self._wanted_pids())
        for pid in current - self._seen_pids:
            try:
                path = os.readlink(f"/proc/{pid}/exe")
            except OSError:
                continue
            if os.path.basename(path.removesuffix(" (deleted)")) == "bash":
                self._attach_shell(f"/proc/{pid}/exe")
        self._seen_pids = current

    def _wanted_pids(self) -> Iterable[int]:
        return pids() if self.filter.everything else self._tracking.matched_pids()

    def _attach_shell(self, path: str) -> None:
        try:
            status = os.stat(path)
        except OSError:
            return  # there is none, or it has gone
        identity = (status.st_dev, status.st_ino)
        if identity in self._shells:
            return
        self._shells.add(identity)
        program = self._find("readline_return")
        assert program is not None
        try:
            program.attach_uretprobe(os.path.realpath(path), "readline")
        except (AgentTracerError, ValueError) as error:
            self.notes.append(f"lines entered in {path} are not seen: {error}")

    # the rest

    def close(self) -> None:
        """Detaches and frees everything. Calling it again does nothing."""
        self.detach()
        for item in self._objects.values():
            item.close()
        self._tracking.close()

    def detach(self) -> None:
        """Removes the probes: nothing more is written, what is in the ring can still be read."""
        close_links([link for item in self._objects.values() for link in item.links])

    def matched_pids(self) -> frozenset[int]:
        """Processes that match by pid, name or lineage, now."""
        return self._tracking.matched_pids()

    def known_processes(self) -> frozenset[tuple[int, int]]:
        """Pid and start time of all processes that the programs know, now."""
        return self._tracking.known_processes()

    def program_stats(self) -> dict[str, ProgramStats]:
        """The kernel's account of each program."""
        try:
            return {
                name: program.stats()
                for item in self._objects.values()
                for name, program in item.programs.items()
            }
        except BindingError:
            return {}  # closed
