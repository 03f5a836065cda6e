"""Attaching programs: uprobes, tracepoints, iterators; links; statistics."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from libagenttracer.binding import (
    Link,
    Object,
    ObjectSpec,
    enable_program_stats,
    supports_uprobe_multi,
)
from libagenttracer.errors import AttachError, BindingError, MissingCapability

from ..conftest import Loader
from ..support import Target, become_nobody, file_offsets, in_child, with_tracefs

pytestmark = pytest.mark.kernel


@pytest.fixture
def item(load: Loader) -> Object:
    return load("attach", count_only_me)


@pytest.fixture
def multi(load: Loader) -> Object:
    def change(spec: ObjectSpec) -> None:
        count_only_me(spec)
        spec.programs["on_entry"].use_uprobe_multi()
        spec.programs["on_return"].use_uprobe_multi()

    return load("attach", change)


def count_only_me(spec: ObjectSpec) -> None:
    spec.globals["target_tgid"] = os.getpid()


def fork_once() -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def test_uprobe_by_symbol(item: Object, target: Target) -> None:
    link = item.programs["on_entry"].attach_uprobe(target.path, "target_add")
    assert isinstance(link, Link)
    assert link.fileno() >= 0
    assert repr(link) == f"<Link on_entry at {target.path}:target_add>"
    target.multiply(2, 3)
    assert item.globals["entries"] == 0
    target.add(2, 3)
    assert item.globals["entries"] == 1


def test_uprobe_by_offset_in_the_file(item: Object, target: Target) -> None:
    offset = file_offsets(target.path)["target_multiply"]
    item.programs["on_entry"].attach_uprobe(target.path, offset=offset)
    target.add(2, 3)
    assert item.globals["entries"] == 0
    target.multiply(2, 3)
    assert item.globals["entries"] == 1


def test_uprobe_with_a_path_object_and_with_a_string(item: Object, target: Target) -> None:
    item.programs["on_entry"].attach_uprobe(Path(target.path), "target_add")
    item.programs["on_entry"].attach_uprobe(os.fspath(target.path), "target_multiply")
    target.add(1, 1)
    target.multiply(1, 1)
    assert item.globals["entries"] == 2


def test_uretprobe_sees_the_result(item: Object, target: Target) -> None:
    item.programs["on_return"].attach_uretprobe(target.path, "target_add")
    assert target.add(40, 2) == 42
    assert (item.globals["returns"], item.globals["last_return"]) == (1, 42)


def test_cookies_tell_the_attachments_apart(item: Object, target: Target) -> None:
    program = item.programs["on_entry"]
    program.attach_uprobe(target.path, "target_add", cookie=7)
    program.attach_uprobe(target.path, "target_multiply", cookie=2**64 - 1)
    target.add(1, 1)
    assert item.globals["last_cookie"] == 7
    target.multiply(1, 1)
    assert item.globals["last_cookie"] == 2**64 - 1


def test_a_uprobe_for_one_process(item: Object, target: Target) -> None:
    item.programs["on_entry"].attach_uprobe(target.path, "target_add", pid=os.getpid())
    target.add(1, 1)
    in_child(lambda: target.add(1, 1))
    assert item.globals["entries"] == 1


def test_a_uprobe_for_all_processes_covers_later_ones(item: Object, target: Target) -> None:
    item.programs["on_entry"].attach_uprobe(target.path, "target_add")
    in_child(lambda: target.add(1, 1))
    assert item.globals["entries"] == 1


def test_threads_are_counted_each(item: Object, target: Target) -> None:
    item.programs["on_entry"].attach_uprobe(target.path, "target_add")
    threads = [threading.Thread(target=lambda: [target.add(1, 1) for _ in range(200)]) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert item.globals["entries"] == 800


def test_this_kernel_has_uprobe_multi_if_it_is_new_enough() -> None:
    release = tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2])
    assert supports_uprobe_multi() == (release >= (6, 6))


needs_multi = pytest.mark.skipif(
    tuple(int(part) for part in os.uname().release.split("-")[0].split(".")[:2]) < (6, 6),
    reason="uprobe_multi came with Linux 6.6",
)


@needs_multi
def test_one_link_for_many_functions(multi: Object, target: Target) -> None:
    offsets = file_offsets(target.path)
    places = [offsets["target_add"], offsets["target_multiply"]]
    link = multi.programs["on_entry"].attach_uprobe_multi(target.path, places, cookies=[5, 60])
    target.add(1, 1)
    target.multiply(1, 1)
    target.multiply(1, 1)
    assert (multi.globals["entries"], multi.globals["cookie_sum"]) == (3, 125)
    assert multi.links == [link]
    link.close()
    link.close()
    target.add(1, 1)
    assert multi.globals["entries"] == 3
    with pytest.raises(BindingError, match="the link has been closed"):
        link.fileno()


@needs_multi
def test_one_link_for_returns_and_one_process(multi: Object, target: Target) -> None:
    places = [file_offsets(target.path)["target_add"]]
    program = multi.programs["on_return"]
    program.attach_uprobe_multi(target.path, places, returns=True, pid=os.getpid())
    target.add(20, 3)
    in_child(lambda: target.add(1, 1))
    assert (multi.globals["returns"], multi.globals["last_return"]) == (1, 23)


@needs_multi
def test_uprobe_multi_errors(multi: Object, item: Object, target: Target, tmp_path: Path) -> None:
    program = multi.programs["on_entry"]
    place = file_offsets(target.path)["target_add"]
    with pytest.raises(AttachError, match="ENOENT"):
        program.attach_uprobe_multi(tmp_path / "missing.so", [place])
    with pytest.raises(AttachError, match="EINVAL"):
        program.attach_uprobe_multi(target.path, [1 << 40])
    with pytest.raises(AttachError):
        program.attach_uprobe_multi(target.path, [])
    with pytest.raises(AttachError):  # not loaded for it
        item.programs["on_entry"].attach_uprobe_multi(target.path, [place])
    assert multi.links == []


@needs_multi
def test_too_few_cookies_are_refused(multi: Object, target: Target) -> None:
    """The kernel would read the missing ones from wherever the array ends."""
    offsets = file_offsets(target.path)
    places = [offsets["target_add"], offsets["target_multiply"]]
    with pytest.raises((ValueError, AttachError)):
        multi.programs["on_entry"].attach_uprobe_multi(target.path, places, cookies=[1])


def test_a_closed_link_is_detached(item: Object, target: Target) -> None:
    with item.programs["on_entry"].attach_uprobe(target.path, "target_add") as link:
        target.add(1, 1)
    target.add(1, 1)
    assert item.globals["entries"] == 1
    assert repr(link).endswith(", closed>")
    link.close()  # does nothing
    with pytest.raises(BindingError, match="the link has been closed"):
        link.fileno()


def test_closing_the_object_detaches(load: Loader, target: Target, bpf_bytes: Callable[[str], bytes]) -> None:
    observer = load("maps")
    item = load("maps", lambda spec: spec.maps["hash"].reuse(observer.maps["hash"]))
    item.programs["on_add"].attach_uprobe(target.path, "target_add")
    target.add(1, 1)
    item.close()
    target.add(2, 2)
    assert len(list(observer.maps["hash"])) == 1


@pytest.mark.parametrize("symbol", ["target_missing", "target_ad", "target_add2"])
def test_a_missing_symbol(item: Object, target: Target, symbol: str) -> None:
    with pytest.raises(AttachError, match=symbol) as raised:
        item.programs["on_entry"].attach_uprobe(target.path, symbol)
    assert raised.value.errno == 2
    assert f"failed to find symbol '{symbol}'" in raised.value.log
    assert item.links == []


def test_a_missing_file(item: Object, tmp_path: Path) -> None:
    with pytest.raises(AttachError, match=r"missing\.so") as raised:
        item.programs["on_entry"].attach_uprobe(tmp_path / "missing.so", "target_add")
    assert raised.value.errno == 2
    with pytest.raises(AttachError, match=r"missing\.so"):
        item.programs["on_entry"].attach_uprobe(tmp_path / "missing.so", offset=4096)


def test_a_file_that_is_no_library(item: Object, tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no library")
    with pytest.raises(AttachError, match=r"notes\.txt") as raised:
        item.programs["on_entry"].attach_uprobe(text, "target_add")
    assert "elf" in str(raised.value)
    with pytest.raises(AttachError):
        item.programs["on_entry"].attach_uprobe(tmp_path, "target_add")


def test_an_offset_behind_the_file(item: Object, target: Target) -> None:
    with pytest.raises(AttachError, match="0x10000000000"):
        item.programs["on_entry"].attach_uprobe(target.path, offset=1 << 40)


def test_a_program_whose_section_names_no_place(item: Object) -> None:
    with pytest.raises(AttachError, match="attach on_entry to uprobe failed"):
        item.programs["on_entry"].attach()


def test_raw_tracepoint(item: Object) -> None:
    with item.programs["on_fork_raw"].attach_raw_tracepoint("sched_process_fork"):
        fork_once()
        fork_once()
    fork_once()
    assert item.globals["raw_forks"] == 2


def test_a_missing_raw_tracepoint(item: Object) -> None:
    with pytest.raises(AttachError, match="attach raw tracepoint on_fork_raw to no_such_event failed"):
        item.programs["on_fork_raw"].attach_raw_tracepoint("no_such_event")


def test_tp_btf(item: Object) -> None:
    with item.programs["on_fork_btf"].attach() as link:
        assert "tp_btf/sched_process_fork" in repr(link)
        fork_once()
    fork_once()
    assert item.globals["btf_forks"] == 1


def test_tracepoint_by_category_and_name(bpf_bytes: Callable[[str], bytes]) -> None:
    def count_forks() -> tuple[int, str]:
        with_tracefs()
        spec = ObjectSpec(bpf_bytes("attach"), name="attach")
        count_only_me(spec)
        with spec.load() as item:
            program = item.programs["on_fork_tracepoint"]
            with program.attach_tracepoint("sched", "sched_process_fork"):
                fork_once()
            fork_once()
            try:
                program.attach_tracepoint("sched", "no_such_event")
            except AttachError as error:
                return item.globals["tracepoint_forks"], str(error)
            raise AssertionError("attached to a tracepoint that does not exist")

    forks, error = in_child(count_forks)
    assert forks == 1
    assert error.startswith(
        "attach tracepoint on_fork_tracepoint to sched/no_such_event failed: No such file"
    )


def test_an_iterator_gives_what_it_printed(item: Object) -> None:
    stop = threading.Event()
    threads = [threading.Thread(target=stop.wait) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        raw = item.programs["list_threads"].run_iterator()
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    seen = set(struct.unpack(f"<{len(raw) // 4}I", raw))
    assert {os.getpid(), *(thread.native_id for thread in threads)} <= seen
    assert item.links == []


def test_a_program_that_is_no_iterator(item: Object) -> None:
    with pytest.raises(AttachError):
        item.programs["on_entry"].run_iterator()
    with pytest.raises(AttachError, match="create iterator"):
        item.programs["on_fork_btf"].run_iterator()
    assert item.links == []


def test_statistics(item: Object, target: Target) -> None:
    program = item.programs["on_entry"]
    program.attach_uprobe(target.path, "target_add")
    fd = enable_program_stats()
    try:
        before = program.stats()
        for _ in range(10):
            target.add(1, 1)
        after = program.stats()
    finally:
        os.close(fd)
    assert after.run_count - before.run_count == 10
    assert after.run_time_ns > before.run_time_ns
    assert after.recursion_misses == 0


@pytest.fixture
def public_library(target: Target) -> Iterator[Path]:
    """A copy of the library where everybody can read it."""
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(shutil.copy(target.path, directory))


def test_without_privileges_nothing_can_be_attached(item: Object, public_library: Path) -> None:
    def try_it() -> list[tuple[str, ...]]:
        become_nobody()
        refused = []
        for attach in (
            lambda: item.programs["on_entry"].attach_uprobe(public_library, "target_add"),
            enable_program_stats,
        ):
            try:
                attach()
            except MissingCapability as error:
                refused.append(error.capabilities)
        return refused

    answers = in_child(try_it)
    assert answers == [("CAP_BPF", "CAP_PERFMON"), ("CAP_SYS_ADMIN",)]
