"""Maps: get, set, delete, iterate; hash, LRU, array and per-CPU."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.binding import Map, ObjectSpec
from libagenttracer.errors import MapError

from ..conftest import Loader
from ..support import Target, u32, u64

pytestmark = pytest.mark.kernel


def possible_cpus() -> int:
    with open("/sys/devices/system/cpu/possible", encoding="ascii") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


def test_what_a_map_says_of_itself(load: Loader) -> None:
    maps = load("maps").maps
    assert {name: maps[name].type for name in ("hash", "recent", "array", "by_cpu", "hash_by_cpu")} == {
        "hash": "hash",
        "recent": "lru_hash",
        "array": "array",
        "by_cpu": "percpu_array",
        "hash_by_cpu": "percpu_hash",
    }
    assert (maps["array"].key_bytes, maps["array"].value_bytes, maps["array"].max_entries) == (4, 5, 4)
    assert repr(maps["array"]) == "<Map array: array, 4 entries>"
    assert load("ring").maps["ring"].type == "ringbuf"


@pytest.mark.parametrize("name", ["hash", "recent"])
def test_hash(load: Loader, name: str) -> None:
    map_ = load("maps").maps[name]
    assert list(map_) == []
    assert map_.get(u32(1)) is None
    with pytest.raises(KeyError):
        map_[u32(1)]
    with pytest.raises(KeyError):
        del map_[u32(1)]
    for key in range(10):
        map_[u32(key)] = u64(key * 11)
    map_[u32(3)] = u64(333)
    assert map_[u32(3)] == u64(333)
    assert map_.get(u32(9)) == u64(99)
    assert sorted(map_) == [u32(key) for key in range(10)]
    assert dict(map_.items()) == {u32(key): u64(333 if key == 3 else key * 11) for key in range(10)}
    del map_[u32(3)]
    assert map_.get(u32(3)) is None
    assert len(list(map_)) == 9


def test_a_full_hash_says_so(load: Loader) -> None:
    map_ = load("maps").maps["hash"]
    for key in range(16):
        map_[u32(key)] = u64(key)
    with pytest.raises(MapError, match="update hash failed") as raised:
        map_[u32(16)] = u64(16)
    assert raised.value.errno == 7  # E2BIG
    map_[u32(15)] = u64(0)  # replacing needs no room


def test_an_lru_map_is_never_full(load: Loader) -> None:
    map_ = load("maps").maps["recent"]
    for key in range(200):
        map_[u32(key)] = u64(key)
    assert map_[u32(199)] == u64(199)
    assert len(list(map_)) <= 16


def test_deleting_while_iterating_ends(load: Loader) -> None:
    map_ = load("maps").maps["hash"]
    for key in range(16):
        map_[u32(key)] = u64(key)
    for key_seen in map_:
        if map_.get(key_seen) is not None:
            del map_[key_seen]
    assert list(map_) == []


def test_array(load: Loader) -> None:
    map_ = load("maps").maps["array"]
    assert list(map_.items()) == [(u32(index), bytes(5)) for index in range(4)]
    map_[u32(2)] = b"12345"
    assert map_[u32(2)] == b"12345"
    with pytest.raises(KeyError):
        map_[u32(4)]
    with pytest.raises(MapError, match="update array"):
        map_[u32(4)] = b"12345"
    with pytest.raises(MapError, match="delete from array"):
        del map_[u32(2)]


@pytest.mark.parametrize("name", ["by_cpu", "hash_by_cpu"])
def test_a_value_for_each_cpu(load: Loader, name: str) -> None:
    map_ = load("maps").maps[name]
    value = bytes(range(1, map_.value_bytes + 1))
    map_[u32(1)] = value
    assert map_[u32(1)] == [value] * possible_cpus()
    assert dict(map_.items())[u32(1)] == [value] * possible_cpus()


def test_deleting_a_value_for_each_cpu(load: Loader) -> None:
    map_ = load("maps").maps["hash_by_cpu"]
    map_[u32(5)] = u64(5)
    del map_[u32(5)]
    assert map_.get(u32(5)) is None


def test_a_program_writes_what_the_reader_sees(load: Loader, target: Target) -> None:
    item = load("maps")
    item.programs["on_add"].attach_uprobe(target.path, "target_add")
    for a in range(5):
        assert target.add(a, 100) == a + 100
    assert dict(item.maps["hash"].items()) == {u32(a): u64(100) for a in range(5)}
    by_cpu = [int.from_bytes(value, "little") for value in item.maps["by_cpu"][u32(0)]]
    assert sum(by_cpu) == 5
    assert len(by_cpu) == possible_cpus()
    values = [struct.unpack("<Q", value)[0] for value in item.maps["hash_by_cpu"][u32(3)]]
    assert sorted(values)[-1] == 100
    assert sum(values) == 100, "only the CPU on which the program ran has a value"


def test_keys_and_values_of_the_wrong_size_are_refused(load: Loader) -> None:
    map_ = load("maps").maps["hash"]
    with pytest.raises(ValueError, match="key of map hash has 4 bytes, not 3"):
        map_.get(b"abc")
    with pytest.raises(ValueError, match="key of map hash has 4 bytes, not 5"):
        map_[b"abcde"] = u64(1)
    with pytest.raises(ValueError, match="value of map hash has 8 bytes, not 4"):
        map_[u32(1)] = u32(1)
    with pytest.raises(ValueError, match="key of map hash"):
        del map_[b""]
    assert list(map_) == []


def test_a_ring_is_no_table(load: Loader) -> None:
    ring = load("ring").maps["ring"]
    with pytest.raises(MapError, match="look up in ring"):
        ring.get(b"")
    with pytest.raises(MapError, match="update ring"):
        ring[b""] = b""
    with pytest.raises(MapError, match="iterate over ring"):
        list(ring)


def test_a_map_that_came_as_a_descriptor(load: Loader) -> None:
    made = load("maps").maps["hash"]
    made[u32(1)] = u64(10)
    fd = os.dup(made.fileno())
    try:
        same = Map("mine", fd, 1, 4, 8, 16)
        assert same[u32(1)] == u64(10)
        same[u32(2)] = u64(20)
        assert made[u32(2)] == u64(20)
        same.invalidate()
        with pytest.raises(MapError):
            same.fileno()
    finally:
        os.close(fd)


@pytest.fixture(scope="module")
def hash_map(bpf_bytes: Callable[[str], bytes]) -> Iterator[Map]:
    with ObjectSpec(bpf_bytes("maps"), name="maps").load() as item:
        yield item.maps["hash"]


@given(operations=st.lists(st.tuples(st.integers(0, 20), st.none() | st.binary(min_size=8, max_size=8))))
def test_a_hash_map_does_what_a_dict_does(hash_map: Map, operations: list[tuple[int, bytes | None]]) -> None:
    map_ = hash_map
    for key in list(map_):
        del map_[key]
    model: dict[bytes, bytes] = {}
    for number, value in operations:
        key = u32(number)
        if value is None:
            if key in model:
                del model[key], map_[key]
            else:
                with pytest.raises(KeyError):
                    del map_[key]
        elif key in model or len(model) < 16:
            model[key] = map_[key] = value
        else:
            with pytest.raises(MapError):
                map_[key] = value
        assert map_.get(key) == model.get(key)
    assert dict(map_.items()) == model
