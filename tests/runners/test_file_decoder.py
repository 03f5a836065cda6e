"""Records of calls on files."""

from __future__ import annotations

import errno

import pytest

from libagenttracer.events import (
    Event,
    FileChmod,
    FileChown,
    FileClose,
    FileDelete,
    FileLink,
    FileMkdir,
    FileOpen,
    FileRename,
    FileRmdir,
    FileTruncate,
)
from libagenttracer.runners.record_kinds import Call, FileFlag

from . import records
from .process_bench import AT_REMOVEDIR, NOBODY, Bench
from .records import file, paths

O_CREAT, O_TMPFILE, O_PATH = 0o100, 0o20200000, 0o10000000
FOLLOWING = ["open", "openat", "openat2", "creat", "chmod", "fchmodat", "fchmodat2", "chown", "fchownat"]
FOLLOWING += ["truncate"]
NOT_FOLLOWING = ["unlink", "unlinkat", "mkdir", "mkdirat", "rmdir", "lchown"]
RENAMES = ["rename", "renameat", "renameat2", "link", "linkat"]
SYMLINKS = ["symlink", "symlinkat"]
BY_FD = ["fchmod", "fchown", "ftruncate"]
FILE_CALLS = [*FOLLOWING, *NOT_FOLLOWING, *RENAMES, *SYMLINKS, *BY_FD]
CLASSES: dict[str, type[Event]] = {
    **dict.fromkeys(["open", "openat", "openat2", "creat"], FileOpen),
    **dict.fromkeys(["unlink", "unlinkat"], FileDelete),
    **dict.fromkeys(["rename", "renameat", "renameat2"], FileRename),
    **dict.fromkeys(["link", "linkat", "symlink", "symlinkat"], FileLink),
    **dict.fromkeys(["mkdir", "mkdirat"], FileMkdir),
    "rmdir": FileRmdir,
    **dict.fromkeys(["chmod", "fchmod", "fchmodat", "fchmodat2"], FileChmod),
    **dict.fromkeys(["chown", "fchown", "lchown", "fchownat"], FileChown),
    **dict.fromkeys(["truncate", "ftruncate"], FileTruncate),
}


def test_no_call_is_forgotten() -> None:
    assert sorted(FILE_CALLS) == sorted(call.name for call in Call if call < Call.connect)
    assert set(CLASSES) == set(FILE_CALLS)


@pytest.mark.parametrize("call", FILE_CALLS)
def test_each_call_has_its_event(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], b"name", "/folder", b"new", "/folder", result=-errno.EPERM))
    assert (event.syscall, event.result) == (call, -errno.EPERM)
    assert not event.truncated
    assert type(event) is CLASSES[call]


@pytest.mark.parametrize(
    ("name", "directory", "path", "certain"),
    [
        (b"name", "/some/folder", "/some/folder/name", True),
        (b"name", "/", "/name", True),
        (b"a/name", "/some", "/some/a/name", False),
        (b"name/", "/some", "/some/name/", False),
        (b".", "/some", "/some/.", False),
        (b"..", "/some", "/some/..", False),
        (b"...", "/some", "/some/...", True),
        (b"", "/some/file", "/some/file", False),  # AT_EMPTY_PATH, or an error
        (b"/etc/name", None, "/etc/name", False),
        (b"/etc/name", "/some", "/etc/name", False),
        (b"name", None, "name", False),
        (b"h\xff", "/s\xfe", "/s\udcfe/h\udcff", True),
    ],
)
@pytest.mark.parametrize("call", [*FOLLOWING, *NOT_FOLLOWING])
def test_names(bench: Bench, call: str, name: bytes, directory: str | None, path: str, certain: bool) -> None:
    """A name is what the kernel understood, if its directory is known and nothing of it can be a link."""
    directory = directory.replace("\xfe", "\udcfe") if directory else directory
    event = bench.one(file(Call[call], name, directory, result=-1))
    assert event.path == path
    assert event.unresolved == (not certain or call in FOLLOWING)


@pytest.mark.parametrize("call", RENAMES)
@pytest.mark.parametrize(
    ("old", "new", "unresolved"),
    [
        ((b"a", "/x"), (b"b", "/y"), False),
        ((b"a", "/x"), (b"/y/b", None), True),
        ((b"/x/a", None), (b"b", "/y"), True),
        ((b"/x/a", None), (b"/y/b", None), True),
    ],
)
def test_two_names(
    bench: Bench,
    call: str,
    old: tuple[bytes, str | None],
    new: tuple[bytes, str | None],
    unresolved: bool,
) -> None:
    event = bench.one(file(Call[call], *old, *new))
    assert (event.path, event.new_path, event.unresolved) == ("/x/a", "/y/b", unresolved)


def test_a_rename_has_flags(bench: Bench) -> None:
    assert bench.one(file(Call.renameat2, b"a", "/x", b"b", "/x", flags=2)).flags == 2


@pytest.mark.parametrize("call", SYMLINKS)
@pytest.mark.parametrize("content", [b"../some/where", b"/abs", b"x"])
def test_a_symbolic_link_has_any_content(bench: Bench, call: str, content: bytes) -> None:
    """It is no path that the kernel follows now: only the new name counts."""
    event = bench.one(file(Call[call], content, "/elsewhere", b"new", "/folder"))
    assert (event.path, event.new_path) == (content.decode(), "/folder/new")
    assert event.symbolic
    assert not event.unresolved
    assert bench.one(file(Call[call], content, None, b"a/new", "/folder")).unresolved


@pytest.mark.parametrize("call", ["link", "linkat"])
def test_a_hard_link_is_not_symbolic(bench: Bench, call: str) -> None:
    assert not bench.one(file(Call[call], b"a", "/x", b"b", "/x")).symbolic


@pytest.mark.parametrize("call", [*FOLLOWING, *BY_FD])
def test_a_file_that_the_kernel_has_resolved(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], resolved="/a/b c", fd=5))
    assert (event.path, event.unresolved, event.truncated) == ("/a/b c", False, False)
    assert getattr(event, "fd", 5) == 5
    anonymous = file(Call[call], resolved="memfd:x", fd=5, file_flags=FileFlag.ANONYMOUS)
    assert bench.one(anonymous).path == "memfd:x"


@pytest.mark.parametrize("call", ["open", "fchmod"])
def test_a_path_whose_beginning_is_missing_is_not_absolute(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], resolved="/b/c", fd=5, file_flags=FileFlag.CUT))
    assert (event.path, event.unresolved, event.truncated) == ("b/c", True, True)


@pytest.mark.parametrize("call", BY_FD)
def test_a_descriptor_that_is_none(bench: Bench, call: str) -> None:
    event = bench.one(file(Call[call], fd=-1, result=-errno.EBADF))
    assert (event.path, event.unresolved, event.fd, event.result) == ("", True, None, -errno.EBADF)


@pytest.mark.parametrize("flag", [FileFlag.TRUNCATED, FileFlag.UNREADABLE])
@pytest.mark.parametrize("call", FILE_CALLS)
def test_a_name_that_is_not_complete(bench: Bench, call: str, flag: int) -> None:
    assert bench.one(file(Call[call], b"/x", None, b"/y", file_flags=flag)).truncated


@pytest.mark.parametrize(
    ("flags", "access", "mode"),
    [
        (0, "read", None),
        (1, "write", None),
        (2, "read_write", None),
        (3, "read_write", None),
        (1 | O_CREAT, "write", 0o644),
        (2 | O_TMPFILE, "read_write", 0o644),
        (0o200000, "read", None),  # O_DIRECTORY alone, which is a part of O_TMPFILE
        (O_PATH, "path", None),
    ],
)
def test_how_a_file_was_opened(bench: Bench, flags: int, access: str, mode: int | None) -> None:
    event = bench.one(file(Call.openat, resolved="/x", fd=3, flags=flags, mode=0o100644))
    assert (event.access, event.flags, event.mode, event.fd) == (access, flags, mode, 3)
    failed = bench.one(file(Call.openat, b"x", "/", fd=-errno.ENOENT, result=-errno.ENOENT))
    assert failed.fd is None


def test_unlinkat_may_be_rmdir(bench: Bench) -> None:
    assert isinstance(bench.one(file(Call.unlinkat, b"a", "/", flags=AT_REMOVEDIR)), FileRmdir)
    assert isinstance(bench.one(file(Call.unlinkat, b"a", "/")), FileDelete)
    assert isinstance(bench.one(file(Call.unlink, b"a", "/", flags=AT_REMOVEDIR)), FileDelete)


def test_permissions_and_owners(bench: Bench) -> None:
    assert bench.one(file(Call.mkdir, b"a", "/", mode=0o40755)).mode == 0o755
    assert bench.one(file(Call.chmod, b"a", "/", mode=0o107777)).mode == 0o7777
    both = bench.one(file(Call.chown, b"a", "/", mode=5, gid=6))
    assert (both.new_uid, both.new_gid) == (5, 6)
    neither = bench.one(file(Call.fchownat, b"a", "/", mode=NOBODY, gid=NOBODY))
    assert (neither.new_uid, neither.new_gid) == (None, None)


@pytest.mark.parametrize("length", [0, 5, (1 << 63) - 1, -1, -(1 << 63)])
def test_length(bench: Bench, length: int) -> None:
    assert bench.one(file(Call.truncate, b"a", "/", flags=length % (1 << 64))).length == length


def test_what_the_kernel_found_under_the_names(bench: Bench) -> None:
    """It counts for the call that it belongs to, and for no other one."""
    given = file(Call.unlink, b"link/b", "/x", resolved_ns=7)
    (event,) = bench.feed(paths("/real/b", time_ns=7), given)
    assert (event.path, event.unresolved) == ("/real/b", False)  # type: ignore[attr-defined]
    (event,) = bench.feed(paths("/real/b", time_ns=8), given)
    assert (event.path, event.unresolved) == ("/x/link/b", True)  # type: ignore[attr-defined]
    (event,) = bench.feed(given)
    assert (event.path, event.unresolved) == ("/x/link/b", True)  # type: ignore[attr-defined]
    other = file(Call.unlink, b"link/b", "/x")
    (event,) = bench.feed(paths("/real/b", time_ns=7), other)
    assert (event.path, event.unresolved) == ("/x/link/b", True)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("call", "found", "new_found", "expected"),
    [
        (Call.rename, "/r/a", "/r/b", ("/r/a", "/r/b", False)),
        (Call.link, "/r/a", "/r/b", ("/r/a", "/r/b", False)),
        (Call.rename, None, "/r/b", ("/x/l/a", "/r/b", True)),
        (Call.symlink, None, "/r/b", ("l/a", "/r/b", False)),
    ],
)
def test_two_names_that_the_kernel_found(
    bench: Bench, call: Call, found: str | None, new_found: str, expected: tuple[str, str, bool]
) -> None:
    first = (b"l/a", None if call == Call.symlink else "/x")
    raw = file(call, *first, b"l/b", "/x", resolved_ns=7)
    (event,) = bench.feed(paths(found, new_found, time_ns=7), raw)
    assert (event.path, event.new_path, event.unresolved) == expected  # type: ignore[attr-defined]


def test_a_found_path_without_its_beginning_counts_for_nothing(bench: Bench) -> None:
    raw = file(Call.chmod, b"a", "/x", resolved_ns=7)
    (event,) = bench.feed(paths("/r/a", file_flags=FileFlag.CUT, time_ns=7), raw)
    assert (event.path, event.unresolved) == ("/x/a", True)  # type: ignore[attr-defined]


def test_what_went_through_a_file(bench: Bench) -> None:
    event = bench.one(records.close_file("/a/b", 4, bytes_read=7, bytes_written=8))
    assert isinstance(event, FileClose)
    assert (event.path, event.fd, event.bytes_read, event.bytes_written) == ("/a/b", 4, 7, 8)
    assert (event.syscall, event.result, event.unresolved, event.truncated) == ("close", 0, False, False)
    deep = bench.one(records.close_file("/b/c", file_flags=FileFlag.CUT))
    assert (deep.path, deep.unresolved, deep.truncated) == ("b/c", True, True)
