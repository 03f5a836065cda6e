"""The layouts that the kernel program and Python share, and what a kernel must have."""

from __future__ import annotations

import os
import struct
import subprocess
import time
from pathlib import Path

import pytest

import build_bpf
from libagenttracer.binding.btf import struct_members
from libagenttracer.runners.filters import Filter
from libagenttracer.system import hold, hold_watchdog, notices
from libagenttracer.system.images import file_key
from libagenttracer.system.notices import ImageKey, Notice, key_in_kernel

from .build import tls_program
from .tracing import discovering, until


@pytest.mark.parametrize("architecture", build_bpf.ARCHITECTURES)
def test_layouts(architecture: str) -> None:
    path = build_bpf.OBJECTS / architecture / "discover.bpf.o"
    structs = struct_members(path.read_bytes())
    places = {name: [(m.name, m.offset, m.size) for m in structs[name]] for name in structs}
    assert places["image_key"] == [
        ("inode", 0, 8),
        ("changed_ns", 8, 8),
        ("device", 16, 4),
        ("reserved", 20, 4),
    ]
    assert places["notice"] == [
        ("kind", 0, 4),
        ("tgid", 4, 4),
        ("start_ns", 8, 8),
        ("inode", 16, 8),
        ("changed_ns", 24, 8),
        ("device", 32, 4),
        ("reserved", 36, 4),
        ("held", 40, 4),
        ("reserved", 44, 4),
    ]
    assert places["held_state"] == [("start_ns", 0, 8), ("since_ns", 8, 8)]
    assert notices.NOTICE.size == 48
    assert struct.calcsize("<QQI4x") == notices._KEY.size == 24
    assert hold._STATE.size == hold_watchdog._STATE.size == 16


def test_devices_have_other_numbers_in_the_kernel() -> None:
    key = file_key(os.stat("/"))
    assert key_in_kernel(key._replace(device=os.makedev(259, 300))) == ImageKey(
        key.inode, key.changed_ns, 259 << 20 | 300
    )


@pytest.mark.kernel
def test_the_kernel_names_images_as_we_do(tmp_path: Path) -> None:
    """So that what was found by looking needs no notice; and once it is forgotten there is one again."""
    program = tls_program(tmp_path, "lat-agent", static=True)
    with discovering(filter_=Filter(comms=frozenset({"lat-agent"})), wanted=list) as run:
        told: list[Notice] = []
        reader = run.discovery._notices
        assert reader is not None
        real = reader.read

        def read() -> list[Notice]:
            found = real()
            told.extend(found)
            return found

        reader.read = read  # type: ignore[method-assign]
        run.discovery.look_at_files([str(program)])
        until(lambda: run.attached.calls == [str(program)])
        time.sleep(0.3)
        subprocess.run([program, "slowly"], check=True)
        time.sleep(0.3)
        assert told == []
        key = key_in_kernel(file_key(program.stat()))
        del run.bpf.maps["known_images"][notices._KEY.pack(*key)]
        process = subprocess.Popen([program, "slowly"])
        until(lambda: told)
        assert process.wait() == 0
        assert [(notice.pid, notice.image, notice.is_exec, notice.held) for notice in told] == [
            (process.pid, key, True, False)
        ]
        assert reader.lost == reader.unheld == 0
