"""build_bpf.py: the same bytes from the same sources, and layouts held against the objects' BTF."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import build_bpf
from libagenttracer.binding.btf import struct_members
from libagenttracer.binding.layout import fields_of
from libagenttracer.runners.records import LAYOUTS

from ..support import ROOT

ARCHITECTURES = ["arm64", "x86_64"]


def copy_project(folder: Path) -> Path:
    """What build_bpf.py needs, without the objects, in another place."""
    folder.mkdir()
    shutil.copy(ROOT / "build_bpf.py", folder)
    shutil.copytree(ROOT / "bpf", folder / "bpf")
    skip = shutil.ignore_patterns("__pycache__", "bpf_objects", "*.so")
    shutil.copytree(ROOT / "libagenttracer", folder / "libagenttracer", ignore=skip)
    return folder


def build(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "BPF_CFLAGS"}
    return subprocess.run(
        [sys.executable, "build_bpf.py", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def objects(folder: Path) -> dict[str, str]:
    found = sorted((folder / "libagenttracer" / "bpf_objects").glob("*/*.bpf.o"))
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project with its objects compiled."""
    folder = copy_project(tmp_path_factory.mktemp("built") / "project")
    done = build(folder, "--force")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def changed(built: Path, tmp_path: Path) -> Path:
    """A copy of that one, to be changed."""
    return Path(shutil.copytree(built, tmp_path / "project"))


def replace_in(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) >= 1, f"{old!r} is not in {path.name} any more: adapt the test"
    path.write_text(text.replace(old, new, 1))


def test_every_source_is_compiled_for_every_architecture(built: Path) -> None:
    wanted = {
        f"libagenttracer/bpf_objects/{arch}/{source.name.removesuffix('.c')}.o"
        for arch in ARCHITECTURES
        for source in (ROOT / "bpf").glob("*.bpf.c")
    }
    assert set(objects(built)) == wanted
    assert len(wanted) >= 4


def test_the_same_sources_give_the_same_bytes(built: Path, tmp_path: Path) -> None:
    before = objects(built)
    elsewhere = copy_project(tmp_path / "a much longer path, to see that none gets into an object")
    assert build(elsewhere, "--force").returncode == 0
    assert objects(elsewhere) == before
    assert build(elsewhere, "--force").returncode == 0
    assert objects(elsewhere) == before


def test_no_debug_section_and_no_path_is_left(built: Path) -> None:
    for path in (built / "libagenttracer" / "bpf_objects").glob("*/*.bpf.o"):
        data = path.read_bytes()
        assert b".BTF" in data
        assert b".debug_info" not in data
        assert os.fsencode(built) not in data


def test_what_is_up_to_date_is_not_compiled_again(built: Path, changed: Path) -> None:
    newest = max(path.stat().st_mtime for path in changed.rglob("*"))
    for path in changed.rglob("*.bpf.o"):
        os.utime(path, (newest + 10, newest + 10))
    assert build(changed).stderr == ""
    os.utime(changed / "bpf" / "records.h", (newest + 20, newest + 20))
    assert build(changed).stderr.count(" -> ") == len(objects(built))


def test_a_source_that_does_not_compile_fails(changed: Path) -> None:
    replace_in(changed / "bpf" / "track.bpf.c", "#include", "this is no C\n#include")
    done = build(changed, "--force")
    assert done.returncode != 0
    assert "track.bpf.c" in done.stderr


def test_the_declared_layouts_agree_with_the_shipped_objects() -> None:
    done = build(ROOT, "--check")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{len(LAYOUTS)} layouts agree with the objects\n"


def test_the_declared_layouts_agree_with_the_sources(built: Path) -> None:
    done = build(built, "--check")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("old", "new", "struct", "said"),
    [
        ('"latency_ns" / Int64ul', '"latency_ns" / Int32ul', "ssl_data_record", "'latency_ns'"),
        ('"calls" / Int32ul', '"tries" / Int32ul', "ssl_handshake_record", "'tries'"),
        (
            '"generation_ns" / Int64ul,\n    "read_bytes" / Int64ul,\n    "written_bytes" / Int64ul',
            '"generation_ns" / Int64ul,\n    "written_bytes" / Int64ul,\n    "read_bytes" / Int64ul',
            "connection",
            "'written_bytes'",
        ),
        ('    "handshake_ns" / Int64ul,\n', "", "ssl_handshake_record", "fields declared"),
        ('"comm" / Bytes(16)', '"comm" / Bytes(15)', "process_record", "'comm'"),
    ],
    ids=["size", "name", "order", "missing", "length"],
)
def test_a_wrong_layout_is_reported(changed: Path, old: str, new: str, struct: str, said: str) -> None:
    replace_in(changed / "libagenttracer" / "runners" / "records.py", old, new)
    done = build(changed, "--check")
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if f"struct {struct}:" in line and said in line]
    assert {line.split("/")[2] for line in lines} == set(ARCHITECTURES), done.stderr
    assert "Traceback" not in done.stderr


def test_a_changed_source_is_reported(changed: Path) -> None:
    replace_in(changed / "bpf" / "records.h", "__u64 start_ns;", "__u64 begin_ns;")
    for source in (changed / "bpf").iterdir():
        source.write_text(source.read_text().replace("header->start_ns", "header->begin_ns"))
    assert build(changed, "--force").returncode == 0
    done = build(changed, "--check")
    assert done.returncode == 1
    assert "'start_ns'" in done.stderr
    assert "'begin_ns'" in done.stderr


def test_a_layout_that_is_in_no_object_is_reported(changed: Path) -> None:
    records = changed / "libagenttracer" / "runners" / "records.py"
    replace_in(records, "LAYOUTS = {", 'LAYOUTS = {\n    "nowhere": record_header,')
    done = build(changed, "--check")
    assert done.returncode == 1
    assert done.stderr == "struct nowhere is in no object\n"


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_offsets_are_compared_one_by_one(built: Path, arch: str) -> None:
    """The check itself, done once more by hand for the record that matters most."""
    path = built / "libagenttracer" / "bpf_objects" / arch / "ssl.bpf.o"
    compiled = {m.name: m.offset for m in struct_members(path.read_bytes())["ssl_data_record"]}
    declared = {field.name: field.offset for field in fields_of(LAYOUTS["ssl_data_record"]) if field.name}
    assert declared.items() <= compiled.items()
    assert {"ssl", "generation_ns", "offset", "index", "data_bytes", "payload"} <= declared.keys()


def test_difference_names_the_first_place() -> None:
    ours = [("a", 0, 4), ("b", 4, 4), ("tail", 8, -1)]
    assert build_bpf.difference(ours, ours) == ""
    assert build_bpf.difference(ours, [*ours[:2], ("tail", 8, 4096)]) == ""
    assert "('b', 4, 4), compiled ('b', 8, 4)" in build_bpf.difference(ours, [ours[0], ("b", 8, 4), ours[2]])
    assert build_bpf.difference(ours, ours[:2]) == "3 fields declared, 2 compiled"
    assert build_bpf.difference([("a", 0, -1), ("b", 4, 4)], [("a", 0, 4), ("b", 4, 4)]) != ""
