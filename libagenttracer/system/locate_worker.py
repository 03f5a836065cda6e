"""The long search of one file, in a process of its own: without privileges, within limits of time and memory.

It reads the file from a descriptor and prints the result as JSON (locate_cache.py has its form).
`deep_locate()` starts it. The bytes of the file come from anyone, so what searches them can do no harm, and
what it answers is checked.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import resource
import select
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import BinaryIO

from ..errors import LibraryError
from .images import ImageFile
from .locate_cache import MAX_ENTRY_BYTES, Result, decode_results, encode_results

__all__ = ["TIME_LIMIT_S", "deep_locate", "main"]

TIME_LIMIT_S = 60.0
MEMORY_BYTES = 2 << 30  # and twice the file
_NOBODY = 65534
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_SYS_CAPSET = {"x86_64": 126, "aarch64": 91}
_CAPABILITY_VERSION_3 = 0x20080522
_ERROR_TEXT = 400
_BOOT = """
import sys
sys.path[:] = sys.argv[3:]
from libagenttracer.system.locate_worker import main
sys.exit(main())
"""


def deep_locate(
    image: ImageFile,
    *,
    time_limit_s: float = TIME_LIMIT_S,
    started: Callable[[subprocess.Popen[bytes]], object] = lambda process: None,
) -> tuple[str, list[Result]]:
    """Searches a file in a worker, and waits for it.

    Args:
        image: is read whole by the worker: what it tells is about those bytes.
        time_limit_s: then it is ended.
        started: is given the process, so that somebody else can end it before.

    Returns:
        The digest of what was searched, and what was found.

    Raises:
        LibraryError: it failed, or took too long, or its answer makes no sense.
    """
    # isolated: with -m, a folder of our name in the working directory would be run
    command = [sys.executable, "-I", "-c", _BOOT, str(image.fd), image.path, *filter(None, sys.path)]
    try:
        # files in memory: other than pipes they have a limit, and nobody can keep them open
        with _memory_file() as answers, _memory_file() as complaints:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=answers,
                stderr=complaints,
                pass_fds=(image.fd,),
                start_new_session=True,  # Ctrl-C is the tracer's
            )
            try:
                started(process)
                in_time = _has_ended(process.pid, time_limit_s)
            finally:
                process.kill()
                process.wait()
            answers.seek(0)
            complaints.seek(0)
            answer, complaint = answers.read(MAX_ENTRY_BYTES + 1), complaints.read(MAX_ENTRY_BYTES)
    except (OSError, ValueError) as error:
        raise LibraryError(image.path, f"the search could not be made ({error})") from error
    if not in_time:
        raise LibraryError(image.path, f"the search took longer than {time_limit_s:g} s")
    if process.returncode:
        last = complaint.decode(errors="replace").strip().rpartition("\n")[2][:_ERROR_TEXT]
        raise LibraryError(image.path, last or f"the search ended with status {process.returncode}")
    try:
        if len(answer) > MAX_ENTRY_BYTES:
            raise ValueError("too long")
        return decode_results(answer, image)
    except ValueError as error:
        raise LibraryError(image.path, f"the search gave no sensible answer ({error})") from error


def _memory_file() -> BinaryIO:
    return open(os.memfd_create("lat-search"), "w+b")


def _has_ended(pid: int, within_s: float) -> bool:
    """Waits for the end of a child that nobody has waited for; polling for it would take longer."""
    process = os.pidfd_open(pid)
    try:
        ended = select.poll()
        ended.register(process, select.POLLIN)
        return bool(ended.poll(1000 * within_s))
    finally:
        os.close(process)


def main() -> int:
    """What the worker does: arguments are descriptor, path for messages, and where modules are."""
    fd, path = int(sys.argv[1]), sys.argv[2]
    with ImageFile(path, os.dup(fd)) as image:
        _limit(MEMORY_BYTES + 2 * image.size_bytes)
        _import_all()  # afterwards the files of the installation may be out of reach
        _drop_privileges()
        try:
            from ..locators import locate_all
            from ..locators.elf import Image

            # a copy of our own: nobody can change it between the digest and the search
            data = image.read()
            digest = hashlib.sha256(data).hexdigest()
            results = locate_all(Image(data, path=path, machine=os.uname().machine))
        except LibraryError as error:
            print(error.reason, file=sys.stderr)
            return 1
        except MemoryError:
            print("the search needs too much memory", file=sys.stderr)
            return 1
        sys.stdout.buffer.write(encode_results(results, digest))
        return 0


def _limit(memory_bytes: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_ENTRY_BYTES + 1, MAX_ENTRY_BYTES + 1))
    os.nice(5)  # it must not stand in the way of what is traced


def _import_all() -> None:
    import elftools.elf.elffile
    import elftools.elf.enums  # noqa: F401  # locators import these only when needed

    from .. import locators

    with contextlib.suppress(ImportError):
        import capstone.x86  # noqa: F401
    for name in os.listdir(os.path.dirname(locators.__file__)):
        if name.endswith(".py"):
            __import__(f"{locators.__name__}.{name.removesuffix('.py')}")


def _drop_privileges() -> None:
    """Becomes nobody where it is root, gives up all capabilities, starts nothing, ends with the tracer."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(_NOBODY, _NOBODY, _NOBODY)
        os.setresuid(_NOBODY, _NOBODY, _NOBODY)
    number = _SYS_CAPSET.get(os.uname().machine)
    if number is not None:
        # struct __user_cap_header_struct {version, pid}, two struct __user_cap_data_struct of zeros
        libc.syscall(number, (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0), (ctypes.c_uint32 * 6)())
    resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # last: a change of rights takes it back
