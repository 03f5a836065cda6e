"""Results are kept, and nothing is believed that somebody else could have put there."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from libagenttracer.locators import Found, NotReachable, ProbePoint
from libagenttracer.system import locate_cache
from libagenttracer.system.images import ImageFile, open_image
from libagenttracer.system.locate_cache import LocateCache, content_digest, decode_results, encode_results

from ..support import file_offsets
from .build import tls_library


@pytest.fixture
def image(tmp_path: Path) -> ImageFile:
    return open_image(str(tls_library(tmp_path)))


@pytest.fixture
def results(image: ImageFile) -> list[Found | NotReachable]:
    points = tuple(
        ProbePoint(name, offset)
        for name, offset in file_offsets(Path(image.path)).items()
        if name.startswith("SSL_")
    )
    assert len(points) == 2
    return [
        Found("openssl", points, "symbols", "3.0.17", "likely", ("a note", "ünïcode")),
        NotReachable("java", "not reachable", "do something"),
    ]


@pytest.fixture
def cache(tmp_path: Path) -> LocateCache:
    return LocateCache(tmp_path / "cache" / "below")


def entry_of(cache: LocateCache, image: ImageFile) -> Path:
    return cache.folder / f"{content_digest(image)}.json"


def test_what_is_kept_comes_back(
    cache: LocateCache, image: ImageFile, results: list[Found | NotReachable]
) -> None:
    digest = content_digest(image)
    assert cache.get(digest, image) is None
    cache.put(digest, results)
    assert cache.get(digest, image) == results
    assert stat.S_IMODE(entry_of(cache, image).stat().st_mode) == 0o600
    assert stat.S_IMODE(cache.folder.stat().st_mode) == 0o700
    cache.put(digest, [])
    assert cache.get(digest, image) == []
    assert [path.name for path in cache.folder.iterdir()] == [f"{digest}.json"]


def test_the_folder_is_where_the_user_wants_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    for value, base in (
        ("/var/x", "/var/x"),
        ("relative", "/home/somebody/.cache"),
        ("", "/home/somebody/.cache"),
    ):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert str(LocateCache().folder).startswith(f"{base}/libagenttracer/")


def change_content(raw: bytes) -> bytes:
    return raw.replace(b'"SSL_read"', b'"SSL_evil"')


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff" * 100,
        b'{"format": 1, "digest": "", "results": [], "more": 1}',
        b'{"format": 1, "digest": "", "results": [{"type": "found"}]}',
        b"[" * 100000,
        b" " * (locate_cache.MAX_ENTRY_BYTES + 1),
    ],
    ids=range(9),
)
def test_nonsense_is_left_aside(cache: LocateCache, image: ImageFile, raw: bytes) -> None:
    digest = content_digest(image)
    cache.put(digest, [])
    entry_of(cache, image).write_bytes(raw)
    assert cache.get(digest, image) is None


def test_points_must_lie_in_code(image: ImageFile, results: list[Found | NotReachable]) -> None:
    raw = encode_results(results, "digest")
    assert decode_results(raw, image) == ("digest", results)
    found = results[0]
    assert isinstance(found, Found)
    for offset in (0, -1, image.size_bytes, 1 << 63, found.points[0].offset + (1 << 20)):
        wrong = msgspec.json.decode(raw)
        wrong["results"][0]["points"][1][1] = offset
        with pytest.raises(ValueError):  # noqa: PT011
            decode_results(msgspec.json.encode(wrong), image)


def test_another_files_result_is_not_taken(
    cache: LocateCache, image: ImageFile, results: list[Found | NotReachable]
) -> None:
    digest = content_digest(image)
    cache.put("0" * 64, results)
    os.rename(cache.folder / f"{'0' * 64}.json", entry_of(cache, image))
    assert cache.get(digest, image) is None


def test_another_format_is_not_taken(
    cache: LocateCache, image: ImageFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate_cache, "FORMAT", locate_cache.FORMAT + 1)
    cache.put(content_digest(image), [])
    monkeypatch.undo()
    assert cache.get(content_digest(image), image) is None


def test_the_key_is_the_whole_content(tmp_path: Path) -> None:
    """A file that agrees in everything but one byte of its code is another one."""
    library = tls_library(tmp_path)
    with open_image(str(library)) as image:
        before = content_digest(image)
    at = file_offsets(library)["SSL_read"]
    raw = bytearray(library.read_bytes())
    raw[at] ^= 1
    library.write_bytes(raw)
    with open_image(str(library)) as image:
        assert content_digest(image) != before


def test_what_others_could_have_written_is_not_read(
    cache: LocateCache, image: ImageFile, results: list[Found | NotReachable], tmp_path: Path
) -> None:
    digest = content_digest(image)
    cache.put(digest, results)
    entry = entry_of(cache, image)
    for path in (entry, cache.folder):
        mode = stat.S_IMODE(path.stat().st_mode)
        for wider in (0o020, 0o002):
            path.chmod(mode | wider)
            assert cache.get(digest, image) is None
        path.chmod(mode)
        if os.geteuid() == 0:
            os.chown(path, 65534, -1)
            assert cache.get(digest, image) is None
            os.chown(path, 0, -1)
    assert cache.get(digest, image) == results
    moved = tmp_path / "moved.json"
    entry.rename(moved)
    entry.symlink_to(moved)
    assert cache.get(digest, image) is None
    entry.unlink()
    os.mkfifo(entry)
    assert cache.get(digest, image) is None
    entry.unlink()
    entry.mkdir()
    assert cache.get(digest, image) is None


def test_a_folder_that_is_a_link_is_not_used(cache: LocateCache, image: ImageFile, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    cache.folder.parent.mkdir()
    cache.folder.symlink_to(elsewhere)
    cache.put(content_digest(image), [])
    assert list(elsewhere.iterdir()) == []


def test_that_nothing_can_be_kept_is_no_failure(image: ImageFile, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = LocateCache(tmp_path / "file" / "below")
    cache.put(content_digest(image), [])
    assert cache.get(content_digest(image), image) is None


def test_the_folder_does_not_grow_for_ever(
    cache: LocateCache, image: ImageFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locate_cache, "MAX_ENTRIES", 5)
    for number in range(9):
        cache.put(f"{number:064}", [])
        os.utime(cache.folder / f"{number:064}.json", (number, number))
    assert sorted(int(path.stem) for path in cache.folder.iterdir()) == [4, 5, 6, 7, 8]
