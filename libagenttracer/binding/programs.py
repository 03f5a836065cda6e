"""BPF programs and the links that keep them attached."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, NamedTuple

from ..errors import AttachError, BindingError, MissingCapability, NotSupported
from ._libbpf import ffi, lib
from .log import start_log, take_log
from .privileges import missing_for_bpf

__all__ = ["Link", "Program", "ProgramStats", "close_links", "enable_program_stats", "supports_uprobe_multi"]


class Link:
    """An attachment. Closing it detaches; leaving its `with` block or closing the object does so too."""

    def __init__(self, pointer: Any, description: str) -> None:
        # a link that nobody holds any more is closed
        self._pointer = ffi.gc(pointer, lib.bpf_link__destroy) if isinstance(pointer, ffi.CData) else pointer
        self.description = description

    def __repr__(self) -> str:
        return f"<Link {self.description}{'' if self._pointer else ', closed'}>"

    def __enter__(self) -> Link:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detaches. Calling it again does nothing."""
        pointer, self._pointer = self._pointer, None
        if pointer:
            ffi.release(pointer)

    def fileno(self) -> int:
        """The link's file descriptor."""
        if not self._pointer:
            raise BindingError("use", self.description, errno.EBADF, hint="the link has been closed")
        return int(lib.bpf_link__fd(self._pointer))


class FdLink(Link):
    """A link that libbpf does not know: closing its file descriptor detaches."""

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Detaches. Calling it again does nothing."""
        fd, self._pointer = self._pointer, None
        if fd is not None:
            os.close(fd)

    def fileno(self) -> int:
        """The link's file descriptor."""
        if self._pointer is None:
            raise BindingError("use", self.description, errno.EBADF, hint="the link has been closed")
        return int(self._pointer)


@functools.cache
def supports_uprobe_multi() -> bool:
    """Whether one link can probe many functions (Linux 6.6): quicker to attach, to detach and to hit."""
    return bool(lib.lat_uprobe_multi_supported() == 1)


def close_links(links: Sequence[Link]) -> None:
    """Closes many at once: each waits for the kernel's readers (some 80 ms), but they can wait together."""
    if len(links) < 2:
        for link in links:
            link.close()
        return
    try:
        with ThreadPoolExecutor(max_workers=32) as pool:
            list(pool.map(lambda link: link.close(), links))
    except RuntimeError:  # no more threads to be had: one after the other
        for link in links:
            link.close()


class ProgramStats(NamedTuple):
    """The kernel's account of a program (times only while statistics are enabled)."""

    run_time_ns: int
    run_count: int
    recursion_misses: int


class Program:
    """A loaded program. The attach methods give a `Link`, which the object keeps as well.

    All raise `AttachError`, or `MissingCapability`, or `NotSupported`.
    """

    def __init__(self, pointer: Any, name: str, section: str, links: list[Link], owner: Any = None) -> None:
        self._pointer = pointer
        self._owner = owner  # kept alive
        self.name = name
        self.section = section
        self._links = links

    def __repr__(self) -> str:
        return f"<Program {self.name}: {self.section}>"

    def fileno(self) -> int:
        """The program's file descriptor; it stays the object's."""
        return int(lib.bpf_program__fd(self._live()))

    def invalidate(self) -> None:
        """Called by the object when it is closed."""
        self._pointer = None

    def attach(self) -> Link:
        """Attaches by what the section's name says (tp_btf/…, fentry/…, raw_tp/…, iter/…)."""
        return self._attach("attach", self.section, lambda: lib.bpf_program__attach(self._live()))

    def attach_uprobe(
        self,
        path: str | os.PathLike[str],
        symbol: str | None = None,
        *,
        offset: int = 0,
        pid: int = -1,
        returns: bool = False,
        cookie: int = 0,
    ) -> Link:
        """Attaches to a function of a file.

        Args:
            path: the executable or library.
            symbol: a function's name; without it, `offset` is an offset in the file.
            offset: bytes from the symbol, or from the file's start.
            pid: one process, or -1 for all that map the file, now or later.
            returns: at the function's return (uretprobe), not at its entry.
            cookie: what `bpf_get_attach_cookie()` gives the program (Linux 5.15; 0 asks for nothing).
        """
        options = ffi.new("struct bpf_uprobe_opts *")
        options.sz = ffi.sizeof("struct bpf_uprobe_opts")
        options.retprobe = returns
        options.bpf_cookie = cookie
        name = ffi.new("char[]", symbol.encode()) if symbol else ffi.NULL
        options.func_name = name
        kind = "uretprobe" if returns else "uprobe"
        return self._attach(
            f"attach {kind}",
            f"{os.fspath(path)}:{symbol or hex(offset)}",
            lambda: lib.bpf_program__attach_uprobe_opts(
                self._live(), pid, os.fsencode(path), offset, options
            ),
            cookie=cookie,
        )

    def attach_uretprobe(
        self, path: str | os.PathLike[str], symbol: str | None = None, **options: Any
    ) -> Link:
        """As `attach_uprobe`, at the function's return."""
        return self.attach_uprobe(path, symbol, returns=True, **options)

    def attach_uprobe_multi(
        self,
        path: str | os.PathLike[str],
        offsets: Sequence[int],
        *,
        pid: int = 0,
        returns: bool = False,
        cookies: Sequence[int] | None = None,
    ) -> Link:
        """Attaches to many functions of a file with one link (Linux 6.6).

        Args:
            path: the executable or library.
            offsets: in the file.
            pid: one process, or 0 for all.
            returns: at the functions' returns.
            cookies: for each offset, what `bpf_get_attach_cookie()` gives.

        The program must have been loaded with `ProgramSpec.use_uprobe_multi()`.
        """
        if cookies is not None and len(cookies) != len(offsets):
            raise ValueError(f"{len(offsets)} offsets, but {len(cookies)} cookies")
        places = ffi.new("unsigned long[]", list(offsets))
        values = ffi.new("uint64_t[]", list(cookies)) if cookies is not None else ffi.NULL
        fd = lib.lat_uprobe_multi_link(
            self.fileno(), os.fsencode(path), places, values, len(offsets), returns, pid
        )
        target = f"{os.fspath(path)}:{','.join(map(hex, offsets))}"
        if fd >= 0:
            link = FdLink(fd, f"{self.name} at {target}")
            self._links.append(link)
            return link
        if -fd in (errno.EPERM, errno.EACCES):
            raise MissingCapability(f"attach uprobe {target}", missing_for_bpf())
        raise AttachError("attach uprobe", f"{self.name} to {target}", fd)

    def attach_kprobe_multi(self, symbols: Sequence[str]) -> Link:
        """Attaches to many functions of the kernel with one link (Linux 5.18; section kprobe.multi)."""
        names = [ffi.new("char[]", symbol.encode()) for symbol in symbols]
        array = ffi.new("const char *[]", names)
        options = ffi.new("struct bpf_kprobe_multi_opts *")
        options.sz = ffi.sizeof("struct bpf_kprobe_multi_opts")
        options.syms = array
        options.cnt = len(names)
        return self._attach(
            "attach kprobes",
            ",".join(symbols),
            lambda: lib.bpf_program__attach_kprobe_multi_opts(self._live(), ffi.NULL, options),
        )

    def attach_tracepoint(self, category: str, name: str) -> Link:
        """Attaches to a tracepoint by category and name (needs a readable tracefs)."""
        return self._attach(
            "attach tracepoint",
            f"{category}/{name}",
            lambda: lib.bpf_program__attach_tracepoint(self._live(), category.encode(), name.encode()),
        )

    def attach_raw_tracepoint(self, name: str) -> Link:
        """Attaches to a raw tracepoint."""
        return self._attach(
            "attach raw tracepoint",
            name,
            lambda: lib.bpf_program__attach_raw_tracepoint(self._live(), name.encode()),
        )

    def run_iterator(self) -> bytes:
        """Runs an iterator program (section iter/…) once over everything; what it printed is returned."""
        with self.attach() as link:
            self._links.remove(link)
            fd = lib.bpf_iter_create(link.fileno())
            if fd < 0:
                raise AttachError("create iterator", self.name, fd)
            try:
                parts = []
                while part := os.read(fd, 65536):
                    parts.append(part)
                return b"".join(parts)
            finally:
                os.close(fd)

    def stats(self) -> ProgramStats:
        """Run time and counts; see `enable_program_stats`."""
        info = ffi.new("struct bpf_prog_info *")
        size = ffi.new("uint32_t *", ffi.sizeof("struct bpf_prog_info"))
        code = lib.bpf_obj_get_info_by_fd(self.fileno(), info, size)
        if code:
            raise BindingError("read statistics of", self.name, code)
        return ProgramStats(info.run_time_ns, info.run_cnt, info.recursion_misses)

    def _live(self) -> Any:
        if self._pointer is None:
            raise BindingError("use", self.name, errno.EBADF, hint="its object has been closed")
        return self._pointer

    def _attach(self, operation: str, target: str, call: Any, *, cookie: int = 0) -> Link:
        start_log()
        pointer = call()
        error = ffi.errno if pointer == ffi.NULL else 0
        log = take_log(failed=bool(error))
        if not error:
            link = Link(pointer, f"{self.name} at {target}")
            self._links.append(link)
            return link
        if error in (errno.EPERM, errno.EACCES):
            raise MissingCapability(f"{operation} {target}", missing_for_bpf(), log)
        if error in (errno.ENOTSUP, errno.EOPNOTSUPP) and cookie:
            raise NotSupported("attach cookies", "5.15", error, log)
        raise AttachError(operation, f"{self.name} to {target}", error, log)


def enable_program_stats() -> int:
    """Makes the kernel time all BPF programs while the returned file descriptor is open (costs ~50 ns a run).

    Source: bpf(2), BPF_ENABLE_STATS, Linux 5.8.
    """
    fd = lib.bpf_enable_stats(0)
    if fd == -errno.EPERM:
        raise MissingCapability("enable BPF statistics", ("CAP_SYS_ADMIN",))
    if fd < 0:
        raise BindingError("enable BPF statistics", errno=fd)
    return int(fd)
