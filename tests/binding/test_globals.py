"""Global variables by name: constants before loading, the others at any time."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from libagenttracer.binding import ObjectSpec
from libagenttracer.errors import ObjectError

from ..conftest import Loader
from ..support import Target, in_child, u32, u64

pytestmark = pytest.mark.kernel


def test_a_constant_is_set_before_loading_and_used(load: Loader, target: Target) -> None:
    def set_factor(spec: ObjectSpec) -> None:
        assert spec.globals["factor"] == 1
        spec.globals["factor"] = 5

    item = load("maps", set_factor)
    assert item.globals["factor"] == 5
    item.programs["on_add"].attach_uprobe(target.path, "target_add")
    target.add(1, 20)
    assert item.maps["hash"][u32(1)] == u64(100)


def test_a_constant_cannot_be_set_after_loading(load: Loader) -> None:
    item = load("maps")
    with pytest.raises(ObjectError, match="set it before load"):
        item.globals["factor"] = 2
    with pytest.raises(ObjectError, match="set it before load"):
        item.globals["label"] = b"changed\0"
    with pytest.raises(TypeError, match="read-only"):
        item.globals.view("factor")[0] = 1
    assert item.globals["factor"] == 1


def test_the_specs_globals_are_those_of_the_object(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="maps")
    globals_ = spec.globals
    with spec.load():
        with pytest.raises(ObjectError, match="set it before load"):
            globals_["factor"] = 2
        globals_["calls"] = 3
        assert globals_["calls"] == 3


def test_what_a_program_counts_is_seen_at_once(load: Loader, target: Target) -> None:
    item = load("maps")
    item.programs["on_add"].attach_uprobe(target.path, "target_add")
    view = item.globals.view("calls")
    for calls in range(1, 4):
        target.add(1, 1)
        assert item.globals["calls"] == calls
        assert int.from_bytes(view, "little") == calls
    item.globals["calls"] = 1000
    target.add(1, 1)
    assert item.globals["calls"] == 1001, "the program sees what the reader stored"


def test_a_view_of_a_constant_outlives_its_object(bpf_bytes: Callable[[str], bytes]) -> None:
    def look() -> bytes:
        item = ObjectSpec(bpf_bytes("maps"), name="maps").load()
        view, live = item.globals.view("label"), item.globals.view("calls")
        item.close()
        return bytes(view) + bytes(live)

    assert in_child(look) == b"before\0\0" + bytes(8)


def test_initial_values_of_data(load: Loader) -> None:
    assert load("maps").globals["balance"] == 2**32 - 7
    assert load("maps", lambda spec: setitem(spec, "balance", -9)).globals["balance"] == 2**32 - 9
    assert load("maps", lambda spec: setitem(spec, "calls", 12)).globals["calls"] == 12


def setitem(spec: ObjectSpec, name: str, value: int | bytes) -> None:
    spec.globals[name] = value


def test_variables_that_are_no_numbers(load: Loader) -> None:
    item = load("maps", lambda spec: setitem(spec, "label", b"behind\0\0"))
    assert bytes(item.globals.view("label")) == b"behind\0\0"
    assert bytes(load("maps").globals.view("label")) == b"before\0\0"


def test_each_object_has_its_own(load: Loader) -> None:
    first, second = load("maps"), load("maps")
    first.globals["calls"] = 1
    second.globals["calls"] = 2
    assert (first.globals["calls"], second.globals["calls"]) == (1, 2)


def test_a_variable_that_is_not_there(load: Loader, bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="mine")
    with pytest.raises(ObjectError, match="mine has no such variable"):
        spec.globals["missing"] = 1
    with pytest.raises(ObjectError, match="maps has no such variable"):
        load("maps").globals["hash"]  # a map is no variable
    with pytest.raises(ObjectError):
        load("maps").globals[""]


@pytest.mark.parametrize("value", [b"", b"short", b"much too long"])
def test_bytes_of_another_size_are_refused(load: Loader, value: bytes) -> None:
    with pytest.raises(ObjectError, match=f"it has 8 bytes, not {len(value)}"):
        load("maps", lambda spec: setitem(spec, "label", value))


@pytest.mark.parametrize("value", [1 << 64, -(1 << 63) - 1])
def test_numbers_that_do_not_fit_are_refused(load: Loader, value: int) -> None:
    item = load("maps")
    with pytest.raises((ObjectError, OverflowError)):
        item.globals["calls"] = value
    assert item.globals["calls"] == 0
