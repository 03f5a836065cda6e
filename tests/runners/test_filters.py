"""Which processes are traced, and the sizes that a ring may have."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.runners.filters import Filter, FilterFlag
from libagenttracer.runners.tracking import MAX_RING_BYTES, MIN_RING_BYTES, open_object, round_ring_bytes


def test_nothing_given_is_everything() -> None:
    filter_ = Filter.of()
    assert filter_ == Filter()
    assert filter_.everything
    assert filter_.flags == 0


@pytest.mark.parametrize(
    ("arguments", "wanted", "flags"),
    [
        ({"pid": 5}, Filter(pids=frozenset({5})), FilterFlag.PIDS),
        ({"pid": [5, 6, 5]}, Filter(pids=frozenset({5, 6})), FilterFlag.PIDS),
        ({"pid": ()}, Filter(), FilterFlag(0)),
        ({"comm": "python"}, Filter(comms=frozenset({"python"})), FilterFlag.COMMS),
        ({"comm": "curl,node"}, Filter(comms=frozenset({"curl", "node"})), FilterFlag.COMMS),
        ({"comm": ["a,b", "c"]}, Filter(comms=frozenset({"a,b", "c"})), FilterFlag.COMMS),
        ({"uid": 0}, Filter(uid=0), FilterFlag.UID),
        ({"uid": 2**32 - 1}, Filter(uid=2**32 - 1), FilterFlag.UID),
        (
            {"pid": 1, "comm": "x", "uid": 3, "follow_forks": True},
            Filter(frozenset({1}), frozenset({"x"}), 3, True),
            FilterFlag.PIDS | FilterFlag.COMMS | FilterFlag.UID | FilterFlag.DESCENDANTS,
        ),
    ],
)
def test_arguments(arguments: dict[str, Any], wanted: Filter, flags: FilterFlag) -> None:
    assert Filter.of(**arguments) == wanted
    assert Filter.of(**arguments).flags == flags


def test_a_user_alone_narrows_everything() -> None:
    assert Filter.of(uid=1000).everything
    assert not Filter.of(pid=1).everything
    assert not Filter.of(comm="x").everything


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"pid": 0}, "a pid is a positive number"),
        ({"pid": -1}, "a pid is a positive number"),
        ({"pid": [3, 0]}, "a pid is a positive number"),
        ({"uid": -1}, "a uid is a number from 0 to 4294967295"),
        ({"uid": 2**32}, "a uid is a number"),
        ({"comm": ""}, "an empty name can match no process"),
        ({"comm": "a,,b"}, "an empty name"),
        ({"comm": ","}, "an empty name"),
        ({"comm": ["a", ""]}, "an empty name"),
        ({"comm": [f"name{n}" for n in range(65)]}, "at most 64 names"),
    ],
)
def test_arguments_that_make_no_sense(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Filter.of(**arguments)


def test_names_are_cut_as_the_kernel_cuts_them() -> None:
    filter_ = Filter.of(comm=["short", "exactly15bytes!", "a name that is too long"])
    assert filter_.comm_keys() == [
        b"a name that is \0",
        b"exactly15bytes!\0",
        b"short".ljust(16, b"\0"),
    ]
    assert filter_.cut_comms() == {"a name that is ", "exactly15bytes!", "short"}


@given(
    st.lists(
        st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1), max_size=9
    )
)
def test_any_name_makes_a_key_of_sixteen_bytes(names: list[str]) -> None:
    for key, name in zip(Filter.of(comm=names).comm_keys(), sorted(set(names)), strict=True):
        assert len(key) == 16
        assert key.endswith(b"\0")
        assert name.encode().startswith(key.rstrip(b"\0"))


def test_a_name_from_the_command_line_that_is_no_utf8() -> None:
    """A process's name may be any bytes; Python hands such arguments over with surrogates."""
    assert Filter.of(comm=os.fsdecode(b"caf\xe9")).comm_keys() == [b"caf\xe9".ljust(16, b"\0")]


@given(st.integers(1, MAX_RING_BYTES))
def test_a_ring_gets_the_next_power_of_two(wanted: int) -> None:
    size = round_ring_bytes(wanted)
    assert size & (size - 1) == 0
    assert max(wanted, MIN_RING_BYTES) <= size <= MAX_RING_BYTES
    assert size == MIN_RING_BYTES or size < 2 * wanted


@pytest.mark.parametrize("wanted", [0, -1, MAX_RING_BYTES + 1, 1 << 40])
def test_a_ring_of_an_impossible_size(wanted: int) -> None:
    with pytest.raises(ValueError, match="between 1 byte and 1 GiB"):
        round_ring_bytes(wanted)


@pytest.mark.parametrize("name", ["track", "ssl"])
def test_the_packages_objects_can_be_opened(name: str) -> None:
    spec = open_object(name)
    assert "records" in spec.maps
    assert "ring_control" in spec.maps


def test_an_object_that_the_package_lacks() -> None:
    with pytest.raises(Exception, match=r"missing\.bpf\.o failed: No such file .* install it again"):
        open_object("missing")
