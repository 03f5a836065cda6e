"""Options and fixtures of all tests.

Tests marked `kernel` load BPF programs into the running kernel, so they need root. Where that cannot be,
`pytest --no-kernel` leaves them out; without it a kernel that refuses is a failure, never a skip.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest

from libagenttracer.binding import Object, ObjectSpec

from .support import Target, compile_bpf, compile_library

hypothesis.settings.register_profile("project", deadline=None, print_blob=True)
hypothesis.settings.load_profile("project")

Loader = Callable[..., Object]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-kernel", action="store_true", help="leave out the tests that load BPF programs")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--no-kernel"):
        for item in items:
            if item.get_closest_marker("kernel"):
                item.add_marker(pytest.mark.skip(reason="left out with --no-kernel"))


@pytest.fixture(scope="session")
def bpf_bytes(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], bytes]:
    """Compiles one of tests/bpf/*.bpf.c, once, and gives the object's bytes."""
    directory = tmp_path_factory.mktemp("bpf")
    return functools.cache(lambda name: compile_bpf(name, directory))


@pytest.fixture(scope="session")
def target(tmp_path_factory: pytest.TempPathFactory) -> Target:
    """A small library with functions to probe, loaded into this process only."""
    path = compile_library(tmp_path_factory.mktemp("target"))
    return Target(path, ctypes.CDLL(os.fspath(path)))


@pytest.fixture
def load(bpf_bytes: Callable[[str], bytes]) -> Iterator[Loader]:
    """Loads an object of tests/bpf; it is closed when the test ends. `change` gets the spec before."""
    loaded = []

    def load_object(name: str, change: Callable[[ObjectSpec], object] = lambda spec: None) -> Object:
        spec = ObjectSpec(bpf_bytes(name), name=name)
        change(spec)
        loaded.append(spec.load())
        return loaded[-1]

    yield load_object
    for item in loaded:
        item.close()


@pytest.fixture(scope="session")
def system_libssl() -> Path:
    """The system's libssl, symbolic links resolved."""
    found = sorted(Path("/usr/lib").glob("*-linux-gnu*/libssl.so.3")) + sorted(
        Path("/usr/lib64").glob("libssl.so.3")
    )
    assert found, "there is no libssl.so.3: install OpenSSL"
    return found[0].resolve()
