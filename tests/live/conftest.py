"""Fixtures of the tests that trace real TLS clients."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ..support import with_tracefs
from ..workloads.bundled_openssl import compile_tls_pair
from ..workloads.server import LocalServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.kernel)


@pytest.fixture(scope="session")
def tls_pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A TLS client and server in one process, linked to the system's OpenSSL."""
    return compile_tls_pair(tmp_path_factory.mktemp("tls_pair") / "tls_pair")


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with LocalServer() as running:
        yield running


@pytest.fixture(scope="session", autouse=True)
def tracefs() -> None:
    """Tracepoints of single system calls need it; most systems mount it when they start."""
    with_tracefs()
