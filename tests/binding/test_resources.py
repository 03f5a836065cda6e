"""Nothing is left behind: descriptors, links, threads, mappings."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from libagenttracer.binding import ObjectSpec, RingBuffer
from libagenttracer.errors import AttachError, RingError, VerifierError

from ..support import Target

pytestmark = pytest.mark.kernel


def held() -> tuple[int, int, int]:
    """How many descriptors, threads and mappings of BPF maps this process has."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        mappings = sum("bpf-map" in line for line in maps)
    return len(os.listdir("/proc/self/fd")), threading.active_count(), mappings


def test_fifty_cycles_leave_nothing_behind(bpf_bytes: Callable[[str], bytes], target: Target) -> None:
    data = bpf_bytes("ring")

    def cycle() -> None:
        with ObjectSpec(data, name="ring").load() as item, RingBuffer(item.maps["ring"]) as ring:
            item.programs["on_emit"].attach_uprobe(target.path, "target_emit", pid=os.getpid())
            target.emit(b"x")
            with ring.lease() as lease:
                assert len(lease) >= 1  # the others' too

    cycle()
    before = held()
    # several at once: each waits for the kernel most of the time
    with ThreadPoolExecutor(10) as pool:
        list(pool.map(lambda _: cycle(), range(50)))
    assert held() == before


def test_failures_leave_nothing_behind(bpf_bytes: Callable[[str], bytes], target: Target) -> None:
    rejected, maps = bpf_bytes("rejected"), bpf_bytes("maps")

    def cycle() -> None:
        with pytest.raises(VerifierError):
            ObjectSpec(rejected, name="rejected").load()
        with ObjectSpec(maps, name="maps").load() as item:
            program = item.programs["on_add"]
            with pytest.raises(AttachError):
                program.attach_uprobe(target.path, "missing")
            with pytest.raises(AttachError):
                program.attach_uprobe("/nonexistent/lib.so", offset=64)
            with pytest.raises(AttachError):
                program.run_iterator()
            with pytest.raises(RingError):
                RingBuffer(item.maps["hash"].fileno(), ring_bytes=4096)

    cycle()
    before = held()
    for _ in range(20):
        cycle()
    assert held() == before


def test_objects_that_nobody_holds_any_more_are_closed(
    bpf_bytes: Callable[[str], bytes], target: Target
) -> None:
    data = bpf_bytes("maps")
    ObjectSpec(data, name="maps").load()
    before = held()
    for _ in range(3):
        item = ObjectSpec(data, name="maps").load()
        item.programs["on_add"].attach_uprobe(target.path, "target_add")
        del item
        gc.collect()
    assert held() == before


def test_specs_that_are_never_loaded_leave_nothing_behind(bpf_bytes: Callable[[str], bytes]) -> None:
    data = bpf_bytes("maps")
    ObjectSpec(data, name="maps")
    before = held()
    for _ in range(50):
        ObjectSpec(data, name="maps").maps["hash"].max_entries = 8
    assert held() == before
