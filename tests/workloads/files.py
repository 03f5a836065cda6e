"""``files.py FOLDER``: every call that changes or opens files by name, in an empty folder (as root).

Successes and failures, by absolute and relative paths, through descriptors of directories and symbolic
links, with names that are hard to print. Its truth is what strace says of it.
"""

import contextlib
import ctypes
import os
import sys
import tempfile
from collections.abc import Callable

NAMES = [
    b"plain",
    b"with space",
    b"two\nlines",
    b"\xff\xfe-no-utf-8",
    "h\u00e4\u20ac\U0001f600".encode(),
    b"-o",
]
NAMES += [b'"quoted"\\', b"a>b<c", b"x" * 255]


def failing(function: Callable[..., object], *arguments: object, **options: int) -> None:
    with contextlib.suppress(OSError):
        function(*arguments, **options)
        raise AssertionError(f"{function}{arguments} did not fail")


def write(path: "bytes | str", data: bytes = b"data\n") -> None:
    with open(path, "wb") as file:
        file.write(data)


def make_and_remove(folder: bytes) -> None:
    for name in NAMES:
        path = os.path.join(folder, name)
        write(path)
        with open(path, "rb+") as file:
            file.read()
            file.truncate(3)
            os.fchmod(file.fileno(), 0o640)
            os.fchown(file.fileno(), 1, -1)
        with open(path, "ab") as file:
            file.write(b"more")
        os.truncate(path, 100)
        os.chmod(path, 0o4755)
        os.chown(path, 2, 3)
        os.chown(path, -1, 0)
        os.link(path, path[:200] + b".link")
        os.rename(path, path[:200] + b".new")
        os.unlink(path[:200] + b".link")
        os.unlink(path[:200] + b".new")


def directories() -> None:
    for name in NAMES:
        os.mkdir(name, 0o711)
        os.mkdir(os.path.join(name, b"below"))
        write(os.path.join(name, b"below", b"file"))
        failing(os.rmdir, name)
        os.rename(os.path.join(name, b"below"), b"moved")
        os.rename(b"moved/file", os.path.join(name, b"file"))
        os.unlink(os.path.join(name, b"file"))
        os.rmdir(b"moved")
        os.rmdir(name)


def relative() -> None:
    os.makedirs("a/b/c")
    os.chdir("a/b")
    write("here")
    write("./c/../there")
    write("../up")
    os.rename("here", "../here")
    os.chmod("../here", 0o600)
    os.chdir("..")
    for name in ("here", "up", "b/there"):
        os.unlink(name)
    handle = os.open("b", os.O_RDONLY | os.O_DIRECTORY)
    os.chdir("/")
    os.fchdir(handle)
    write("after fchdir")
    os.close(os.open("by fd", os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o604, dir_fd=handle))
    os.mkdir("dir by fd", dir_fd=handle)
    os.rename("by fd", "renamed", src_dir_fd=handle, dst_dir_fd=handle)
    os.link("renamed", "linked", src_dir_fd=handle, dst_dir_fd=handle)
    os.symlink("renamed", "symbolic", dir_fd=handle)
    os.chmod("renamed", 0o611, dir_fd=handle)
    os.chown("renamed", 4, 5, dir_fd=handle)
    os.chown("symbolic", 6, 7, dir_fd=handle, follow_symlinks=False)
    for name in ("renamed", "linked", "symbolic"):
        os.unlink(name, dir_fd=handle)
    os.unlink("after fchdir")
    os.rmdir("dir by fd", dir_fd=handle)
    os.close(handle)
    os.chdir("../..")
    os.removedirs("a/b/c")


def links(folder: bytes) -> None:
    os.mkdir("real")
    os.symlink("real", "short")
    os.symlink(folder + b"/short", "long")
    os.symlink("no-such-file", "broken")
    os.symlink("loop", "loop")
    write("long/file")
    write("short/file", b"again")
    os.chmod("long/file", 0o600)
    os.truncate("long/file", 1)
    os.symlink("real/file", "to file")
    with open("to file", "rb"):
        pass
    os.chmod("to file", 0o644)
    os.chown("to file", 1, 1)
    os.chown("to file", 2, 2, follow_symlinks=False)
    os.mkdir("long/below")
    os.rename("short/below", "long/under")
    os.link("long/file", "short/file2")
    os.unlink("long/file2")
    os.rmdir("short/under")
    failing(open, "broken")
    failing(open, "loop")
    write("broken", b"now it is there")
    for name in ("no-such-file", "broken", "loop", "to file", "real/file", "short", "long"):
        os.unlink(name)
    os.rmdir("real")


def failures(folder: bytes) -> None:
    write("file")
    os.mkdir("dir")
    failing(open, "no-such-file")
    failing(open, "no-such-dir/file", "wb")
    failing(open, "file/below")
    failing(os.open, "dir", os.O_WRONLY)
    failing(os.open, "file", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    failing(os.open, "file", os.O_RDONLY | os.O_DIRECTORY)
    failing(os.unlink, "no-such-file")
    failing(os.unlink, "dir")
    failing(os.rmdir, "no-such-dir")
    failing(os.rmdir, "file")
    failing(os.mkdir, "dir")
    failing(os.mkdir, "file/below")
    failing(os.rename, "no-such-file", "x")
    failing(os.rename, "file", "dir")
    failing(os.rename, "dir", "file")
    failing(os.link, "no-such-file", "x")
    failing(os.link, "file", "dir")
    failing(os.link, "dir", "x")
    failing(os.symlink, "x", "file")
    failing(os.chmod, "no-such-file", 0o600)
    failing(os.chown, "no-such-file", 0, 0)
    failing(os.truncate, "no-such-file", 0)
    failing(os.truncate, "dir", 0)
    handle = os.open("file", os.O_RDONLY)
    failing(os.ftruncate, handle, 0)
    failing(os.open, "below", os.O_RDONLY, dir_fd=handle)
    os.close(handle)
    for size in (256, 300):
        failing(open, "y" * size)
    failing(open, b"z/" * 2500)
    failing(os.mkdir, folder + b"/q" * 2500)
    os.unlink("file")
    os.rmdir("dir")


def deep() -> None:
    """Paths that no single call could name: longer than 4,096 bytes."""
    start = os.open(".", os.O_RDONLY)
    name = "d" * 200
    for _ in range(25):
        os.mkdir(name)
        os.chdir(name)
    write("at the bottom")
    os.unlink("at the bottom")
    for _ in range(25):
        os.chdir("..")
        os.rmdir(name)
    os.fchdir(start)
    os.close(start)


def temporary(folder: bytes) -> None:
    directory = os.fsdecode(folder)
    for _ in range(20):
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            file.write(b"x")
    with tempfile.TemporaryDirectory(dir=directory) as below:
        for name in ("one", "two"):
            write(os.path.join(below, name))
        os.mkdir(os.path.join(below, "three"))
        write(os.path.join(below, "three", "four"))
    handle = os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
    os.ftruncate(handle, 10)
    os.close(handle)
    gone, path = tempfile.mkstemp(dir=directory)
    os.unlink(path)
    os.ftruncate(gone, 5)  # it has no name any more
    os.fchmod(gone, 0o644)
    os.close(gone)
    os.close(os.open(folder, os.O_PATH))


def other_calls(folder: bytes) -> None:
    """Those that Python has no function for."""
    libc = ctypes.CDLL(None, use_errno=True)
    write("one")
    write("two")
    assert libc.renameat2(-100, b"one", -100, b"two", 2) == 0  # RENAME_EXCHANGE
    assert libc.renameat2(-100, b"one", -100, b"two", 1) == -1  # RENAME_NOREPLACE
    handle = os.open("one", os.O_RDWR)
    assert libc.fchownat(handle, b"", 8, 9, 0x1000) == 0  # AT_EMPTY_PATH
    how = (ctypes.c_uint64 * 3)(os.O_RDWR, 0, 0)
    opened = libc.syscall(437, -100, b"two", how, 24)  # openat2
    assert opened >= 0, os.strerror(ctypes.get_errno())
    os.close(opened)
    refused = (ctypes.c_uint64 * 3)(os.O_RDONLY, 0, 0x08)  # RESOLVE_BENEATH
    assert libc.syscall(437, -100, b"/etc/passwd", refused, 24) == -1
    created = libc.creat(b"three", 0o600)
    assert created >= 0
    os.close(created)
    os.close(handle)
    for name in ("one", "two", "three"):
        os.unlink(name)


def main() -> None:
    folder = os.fsencode(os.path.realpath(sys.argv[1]))
    os.chdir(folder)
    make_and_remove(folder)
    make_and_remove(b"")
    directories()
    relative()
    links(folder)
    failures(folder)
    deep()
    temporary(folder)
    other_calls(folder)
    assert os.listdir(folder) == []


main()
