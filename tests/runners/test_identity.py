"""Ids of events, and the time of the kernel in nanoseconds since the epoch."""

from __future__ import annotations

import time
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.runners.identity import TracerIdentity

POSITIONS = st.integers(0, 2**48 - 1)


def test_ids_are_uuids_of_version_8() -> None:
    identity = TracerIdentity()
    for text in (identity.record_id(0), identity.record_id(2**48 - 1), identity.next_id()):
        made = uuid.UUID(text)
        assert str(made) == text
        assert made.version == 8
        assert made.variant == uuid.RFC_4122


@given(st.lists(POSITIONS, unique=True, min_size=2))
def test_no_two_positions_have_the_same_id(positions: list[int]) -> None:
    identity = TracerIdentity(boot_id="b", instance="i")
    ids = [identity.record_id(position) for position in positions]
    assert len(set(ids)) == len(positions)
    assert ids == [identity.record_id(position) for position in positions]


def test_ids_without_a_record_are_others() -> None:
    identity = TracerIdentity(boot_id="b", instance="i")
    others = [identity.next_id() for _ in range(1000)]
    records = [identity.record_id(position) for position in range(1000)]
    assert len({*others, *records}) == 2000


def test_ids_depend_on_boot_and_instance_only() -> None:
    first = TracerIdentity(boot_id="boot", instance="instance").record_id(8)
    assert TracerIdentity(boot_id="boot", instance="instance").record_id(8) == first
    assert TracerIdentity(boot_id="other", instance="instance").record_id(8) != first
    assert TracerIdentity(boot_id="boot", instance="other").record_id(8) != first


def test_every_tracer_is_another_instance() -> None:
    assert len({TracerIdentity().record_id(0) for _ in range(100)}) == 100


@pytest.mark.parametrize("_", range(3))
def test_kernel_time_becomes_time_since_the_epoch(_: int) -> None:
    identity = TracerIdentity()
    before_ns = time.time_ns()
    kernel_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    after_ns = time.time_ns()
    assert before_ns - 5_000_000 < kernel_ns + identity.epoch_offset_ns < after_ns + 5_000_000
