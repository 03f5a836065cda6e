"""Images are reached whatever has become of their files, and nothing but a file is ever opened."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from libagenttracer.errors import LibraryError
from libagenttracer.system import images
from libagenttracer.system.images import (
    ImageFile,
    Mapping,
    executable_images,
    open_image,
    open_mapping,
)

from ..support import become_nobody, in_child, time_limit
from .build import mapper, tls_library


@pytest.fixture
def library(tmp_path: Path) -> Path:
    return tls_library(tmp_path)


def mapping_of(pid: int, name: str) -> Mapping:
    found = [item for item in executable_images(pid) if os.path.basename(item.path).startswith(name)]
    assert len(found) == 1, found
    return found[0]


def opened(pid: int, name: str) -> ImageFile:
    return open_mapping(mapping_of(pid, name))


def test_a_mapped_file(library: Path) -> None:
    with mapper(library) as pid, opened(pid, "libssl") as image:
        status = library.stat()
        assert image.path == str(library)
        assert image.key == (status.st_dev, status.st_ino, status.st_ctime_ns)
        assert image.size_bytes == status.st_size
        assert image.read() == library.read_bytes() == Path(image.reach).read_bytes()
        assert image.read(4) == b"\x7fELF"
        assert image.read(4, 1) == library.read_bytes()[1:5]
        assert image.read(100, image.size_bytes - 1) == library.read_bytes()[-1:]
        assert not os.get_inheritable(image.fd)
    image.close()
    assert image.fd == -1


def test_a_name_with_ends_of_lines_in_it(library: Path) -> None:
    odd = library.rename(library.parent / "libodd\r\x0b\n7f00-7f01 r-xp 0 08:01 1 \x85x.so")
    with mapper(odd) as pid, opened(pid, "libodd") as image:
        assert image.path == str(odd)


def test_the_file_outlives_its_process(library: Path) -> None:
    with mapper(library) as pid:
        image = opened(pid, "libssl")
    library.unlink()
    with image:
        assert Path(image.reach).read_bytes()[:4] == b"\x7fELF"


def test_a_deleted_file(library: Path) -> None:
    content = library.read_bytes()
    with mapper(library) as pid:
        library.unlink()
        assert mapping_of(pid, "libssl").deleted
        with opened(pid, "libssl") as image:
            assert image.read() == content
            assert image.path == str(library)


def test_a_replaced_file(library: Path, tmp_path: Path) -> None:
    content = library.read_bytes()
    with mapper(library) as pid:
        os.replace(tls_library(tmp_path, "other.so"), library)
        with opened(pid, "libssl") as image:
            assert image.read() == content != library.read_bytes()


def test_a_memfd(library: Path) -> None:
    with mapper("memfd", library) as pid, opened(pid, "memfd:code") as image:
        assert image.read() == library.read_bytes()
        assert image.path == "/memfd:code"


def test_a_file_in_another_mount_namespace(library: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    script = f'mount -t tmpfs none {elsewhere} && cp {library} {elsewhere}/libssl.so.3 && exec "$@"'
    started = ("unshare", "-m", "sh", "-c", script, "sh")
    with mapper(elsewhere / "libssl.so.3", before=started) as pid, opened(pid, "libssl") as image:
        assert not (elsewhere / "libssl.so.3").exists()
        assert image.read() == library.read_bytes()


def test_a_file_on_an_overlay(library: Path, tmp_path: Path) -> None:
    """Its number in the mappings and by stat() may differ; it is one image all the same."""
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    shutil.copy(library, tmp_path / "lower")
    options = ",".join(f"{name}dir={tmp_path / name}" for name in ("lower", "upper", "work"))
    script = f'mount -t overlay none -o {options} {tmp_path / "merged"} && exec "$@"'
    started = ("unshare", "-m", "sh", "-c", script, "sh")
    with mapper(tmp_path / "merged" / "libssl.so.3", before=started) as pid:
        with opened(pid, "libssl") as image, opened(pid, "libssl") as again:
            assert image.read() == library.read_bytes()
            assert image.key == again.key


def test_without_map_files_the_way_is_checked(
    library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a tracer without CAP_SYS_ADMIN: by path, if that is still the same file."""
    real = images._open

    def refuse(path: str, name: str) -> ImageFile:
        if "/map_files/" in path:
            raise PermissionError(1, "Operation not permitted")
        return real(path, name)

    monkeypatch.setattr(images, "_open", refuse)
    with mapper(library) as pid:
        with opened(pid, "libssl") as image:
            assert image.read() == library.read_bytes()
        mapping = mapping_of(pid, "libssl")
        os.replace(tls_library(tmp_path, "other.so"), library)
        with pytest.raises(LibraryError, match="another file has taken its place"):
            open_mapping(mapping)
        with pytest.raises(LibraryError, match="deleted"):
            open_mapping(mapping._replace(deleted=True))


def test_names_that_look_odd(tmp_path: Path) -> None:
    folder = tmp_path / "a b\n(deleted)"
    folder.mkdir()
    library = tls_library(folder, "lib ssl (deleted)")
    with mapper(library) as pid:
        (found,) = [item for item in executable_images(pid) if "ssl" in item.path]
        assert found.path in (str(library), str(library).removesuffix(" (deleted)"))
        with open_mapping(found) as image:
            assert image.read() == library.read_bytes()


def test_what_is_no_file(tmp_path: Path) -> None:
    fifo, empty, huge = tmp_path / "fifo", tmp_path / "empty", tmp_path / "huge"
    os.mkfifo(fifo)
    empty.touch()
    huge.touch()
    os.truncate(huge, 1 << 40)
    reasons = {
        fifo: "not an ELF file",
        empty: "not an ELF file",
        tmp_path: "is a directory",
        Path("/dev/zero"): "not an ELF file",
        huge: r"too large to look into \(1048576 MB\)",
        tmp_path / "nothing": "no such file or directory",
    }
    with time_limit(5):
        for path, reason in reasons.items():
            with pytest.raises(LibraryError, match=reason):
                open_image(str(path))


def test_processes_that_may_not_be_looked_into() -> None:
    def look() -> str:
        become_nobody()
        try:
            list(executable_images(parent))
        except PermissionError:
            return "refused"
        return "allowed"

    parent = os.getpid()
    assert in_child(look) == "refused"


def test_a_process_that_has_gone() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(ProcessLookupError):
        list(executable_images(process.pid))


def test_a_file_that_is_written_over_is_seen_to_have_changed(library: Path) -> None:
    with open_image(str(library)) as image:
        os.chmod(library, 0o700)
        os.link(library, library.with_name("link"))
        assert not image.changed()
        time.sleep(0.02)  # the clock of file times is coarse
        library.write_bytes(b"something else")
        assert image.changed()
        assert image.read() == b"something else"  # cut short: fewer bytes, and no crash
