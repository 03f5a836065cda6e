"""Fixtures of the decoders' tests."""

from __future__ import annotations

import pytest

from .process_bench import Bench


@pytest.fixture
def bench() -> Bench:
    return Bench()
