"""Calls on files: from a record to its event."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from ..errors import LayoutError
from ..events import (
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
from .record_kinds import Call, FileFlag
from .records import path_of

__all__ = ["FILE_EVENTS", "ResolvedPaths", "decode_file", "decode_file_close", "resolved_paths"]

# include/uapi/asm-generic/fcntl.h; the same on x86-64 and arm64
_O_CREAT = 0o100
_O_TMPFILE = 0o20000000
_O_PATH = 0o10000000
_AT_REMOVEDIR = 0x200
_ACCESS = ("read", "write", "read_write", "read_write")
_NOBODY = 0xFFFFFFFF  # (uid_t)-1: leave as it is
_RESOLVED, _ANONYMOUS = int(FileFlag.RESOLVED), int(FileFlag.ANONYMOUS)
_DIR_KNOWN, _NEW_DIR_KNOWN = int(FileFlag.DIR_KNOWN), int(FileFlag.NEW_DIR_KNOWN)
_CUT, _NEW_CUT = int(FileFlag.CUT), int(FileFlag.NEW_CUT)
_AT_SYMLINK_FOLLOW = 0x400
_INCOMPLETE = int(FileFlag.TRUNCATED | FileFlag.UNREADABLE | FileFlag.CUT | FileFlag.NEW_CUT)
_NAMES = {int(call): call.name for call in Call}


class ResolvedPaths(NamedTuple):
    """What the kernel found under the names of a call, at this time; None: it had no such name."""

    time_ns: int
    path: str | None
    new_path: str | None


def resolved_paths(record: Any) -> ResolvedPaths:
    """What a `PathsRecord` has; a path whose beginning is missing is none."""
    text, end = record.text.tobytes(), record.path_bytes
    has_path = record.path_bytes and not record.file_flags & _CUT
    has_new_path = record.new_path_bytes and not record.file_flags & _NEW_CUT
    return ResolvedPaths(
        record.time_ns,
        path_of(text[:end]) if has_path else None,
        path_of(text[end : end + record.new_path_bytes]) if has_new_path else None,
    )


def decode_file(record: Any, common: Any, resolved: ResolvedPaths | None = None) -> Event:
    """The event of a `FileRecord`.

    Args:
        common: the fields of `ProcessEvent`, in order.
        resolved: what the kernel found under the names.
    """
    # by position, as in the layout: it runs for every call
    *_, result, _, call, flags, name_bytes, dir_bytes, _ = record._values
    text = record.text.tobytes()
    if flags & _RESOLVED:
        path = path_of(text, anonymous=bool(flags & _ANONYMOUS))
        unresolved = False
    else:
        path, unresolved = _joined(text, name_bytes, dir_bytes, flags & _DIR_KNOWN)
        unresolved = unresolved or call in _FOLLOWING
    if flags & _CUT:  # its beginning is missing: it must not look absolute
        path, unresolved = path.removeprefix("/"), True
    maker = _MAKERS.get(call)
    if maker is None:
        raise LayoutError(f"a record of a call on a file has the number {call}")
    head = (*common, path, result, _NAMES[call])
    event = maker(record, head, text, unresolved, bool(flags & _INCOMPLETE))
    return event if resolved is None or flags & _RESOLVED else _with_resolved(event, resolved)


def _with_resolved(event: Event, resolved: ResolvedPaths) -> Event:
    changes: dict[str, Any] = {}
    if resolved.path is not None:
        changes["path"] = resolved.path
    if resolved.new_path is not None:
        changes["new_path"] = resolved.new_path
    names = {"path"}
    if isinstance(event, (FileLink, FileRename)):
        # what a symbolic link says is followed by nobody
        names = {"new_path"} if isinstance(event, FileLink) and event.symbolic else {"path", "new_path"}
    if names <= changes.keys():
        changes["unresolved"] = False
    return msgspec.structs.replace(event, **changes)


def decode_file_close(record: Any, common: Any) -> Event:
    """The event of a `FileCloseRecord`."""
    flags = record.file_flags
    path = path_of(record.text.tobytes(), anonymous=bool(flags & _ANONYMOUS))
    known = not flags & _CUT
    if not known:
        path = path.removeprefix("/")
    return FileClose(
        *(*common, path, 0, "close", record.fd, record.bytes_read, record.bytes_written, not known, not known)
    )


@functools.lru_cache(maxsize=8192)  # the same files are used again and again
def _joined(text: bytes, name_bytes: int, dir_bytes: int, known: int, begin: int = 0) -> tuple[str, bool]:
    """A name as it was given, behind its directory; and whether the kernel may have understood another path.

    A single name in a directory that the kernel has resolved leaves nothing to follow.
    """
    name = text[begin : begin + name_bytes].rstrip(b"\0")
    if name.startswith(b"/"):
        return name.decode(errors="surrogateescape"), True
    given = name.decode(errors="surrogateescape")
    if not known:
        return given, True
    at = begin + name_bytes
    directory = path_of(text[at : at + dir_bytes])
    if not given:
        return directory, True
    path = f"{directory if directory != '/' else ''}/{given}"
    return path, b"/" in name or name in (b".", b"..")


def _open(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    flags = record.flags
    access = "path" if flags & _O_PATH else _ACCESS[flags & 3]
    creates = flags & _O_CREAT or flags & _O_TMPFILE == _O_TMPFILE
    return FileOpen(
        *(
            *head,
            access,
            flags,
            record.mode & 0o7777 if creates else None,
            record.fd if record.fd >= 0 else None,
            unresolved,
            truncated,
        )
    )


def _unlink(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    if record.call == Call.rmdir or (record.call == Call.unlinkat and record.flags & _AT_REMOVEDIR):
        return FileRmdir(*(*head, unresolved, truncated))
    return FileDelete(*(*head, unresolved, truncated))


def _new_path(record: Any, text: bytes) -> tuple[str, bool]:
    begin = record.name_bytes + record.dir_bytes
    flags = record.file_flags
    path, unresolved = _joined(
        text, record.new_name_bytes, record.new_dir_bytes, flags & _NEW_DIR_KNOWN, begin
    )
    if flags & _NEW_CUT:
        return path.removeprefix("/"), True
    return path, unresolved


def _rename(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    new_path, also = _new_path(record, text)
    return FileRename(*(*head, new_path, record.flags, unresolved or also, truncated))


def _link(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    new_path, also = _new_path(record, text)
    unresolved = unresolved or also or bool(record.flags & _AT_SYMLINK_FOLLOW)
    return FileLink(*(*head, new_path, False, unresolved, truncated))


def _symlink(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    new_path, unresolved = _new_path(record, text)
    content = text[: record.name_bytes].rstrip(b"\0").decode(errors="surrogateescape")
    common, (_, result, syscall) = head[:-3], head[-3:]
    return FileLink(*(*common, content, result, syscall, new_path, True, unresolved, truncated))


def _mkdir(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    return FileMkdir(*(*head, record.mode & 0o7777, unresolved, truncated))


def _chmod(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    fd = record.fd if record.fd >= 0 else None
    return FileChmod(*(*head, record.mode & 0o7777, fd, unresolved, truncated))


def _chown(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    uid, gid = (None if number == _NOBODY else number for number in (record.mode, record.gid))
    return FileChown(*(*head, uid, gid, record.fd if record.fd >= 0 else None, unresolved, truncated))


def _truncate(record: Any, head: Any, text: bytes, unresolved: bool, truncated: bool) -> Event:
    length = record.flags if record.flags < 1 << 63 else record.flags - (1 << 64)
    return FileTruncate(*(*head, length, record.fd if record.fd >= 0 else None, unresolved, truncated))


# calls that follow a symbolic link at the path's end: even a single name may mean another file
_FOLLOWING = frozenset(
    {Call.open, Call.openat, Call.openat2, Call.creat, Call.chmod, Call.fchmodat, Call.fchmodat2, Call.chown}
    | {Call.fchownat, Call.truncate}
)
# the event type of each call, for what is lost
FILE_EVENTS: dict[int, str] = {
    **dict.fromkeys((Call.open, Call.openat, Call.openat2, Call.creat), "file_open"),
    **dict.fromkeys((Call.unlink, Call.unlinkat), "file_delete"),
    **dict.fromkeys((Call.rename, Call.renameat, Call.renameat2), "file_rename"),
    **dict.fromkeys((Call.link, Call.linkat, Call.symlink, Call.symlinkat), "file_link"),
    **dict.fromkeys((Call.mkdir, Call.mkdirat), "file_mkdir"),
    Call.rmdir: "file_rmdir",
    **dict.fromkeys((Call.chmod, Call.fchmod, Call.fchmodat, Call.fchmodat2), "file_chmod"),
    **dict.fromkeys((Call.chown, Call.fchown, Call.lchown, Call.fchownat), "file_chown"),
    **dict.fromkeys((Call.truncate, Call.ftruncate), "file_truncate"),
}
_MAKERS: dict[int, Callable[[Any, Any, bytes, bool, bool], Event]] = {
    **dict.fromkeys((Call.open, Call.openat, Call.openat2, Call.creat), _open),
    **dict.fromkeys((Call.unlink, Call.unlinkat, Call.rmdir), _unlink),
    **dict.fromkeys((Call.rename, Call.renameat, Call.renameat2), _rename),
    **dict.fromkeys((Call.link, Call.linkat), _link),
    **dict.fromkeys((Call.symlink, Call.symlinkat), _symlink),
    **dict.fromkeys((Call.mkdir, Call.mkdirat), _mkdir),
    **dict.fromkeys((Call.chmod, Call.fchmod, Call.fchmodat, Call.fchmodat2), _chmod),
    **dict.fromkeys((Call.chown, Call.fchown, Call.lchown, Call.fchownat), _chown),
    **dict.fromkeys((Call.truncate, Call.ftruncate), _truncate),
}
