"""ObjectSpec and Object: reading, configuring, loading and closing objects."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from libagenttracer.binding import Object, ObjectSpec, effective_capabilities, libbpf_version
from libagenttracer.errors import (
    AgentTracerError,
    BindingError,
    LoadError,
    MapError,
    MissingCapability,
    ObjectError,
    VerifierError,
)

from ..conftest import Loader
from ..support import ROOT, Target, become_nobody, in_child, u32, u64

pytestmark = pytest.mark.kernel


def test_a_spec_says_what_is_in_the_object(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="mine")
    assert {"hash", "recent", "array", "by_cpu", "hash_by_cpu"} <= set(spec.maps)
    assert list(spec.programs) == ["on_add"]
    assert spec.programs["on_add"].section == "uprobe"
    assert spec.maps["hash"].max_entries == 16
    assert repr(spec) == f"<ObjectSpec mine: 1 programs, {len(spec.maps)} maps>"


def test_loading(load: Loader) -> None:
    item = load("maps")
    assert isinstance(item, Object)
    assert item.programs["on_add"].fileno() > 2
    assert item.maps["hash"].fileno() > 2
    assert "1 programs" in repr(item)
    assert repr(item.programs["on_add"]) == "<Program on_add: uprobe>"


def test_a_spec_is_used_up_by_loading(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="maps")
    map_spec = spec.maps["hash"]
    with spec.load():
        with pytest.raises(ObjectError, match="loaded already"):
            spec.load()
        assert spec.maps == {}
        assert spec.programs == {}
        with pytest.raises(MapError, match="EBUSY"):
            map_spec.max_entries = 8


def test_what_the_object_lacks_is_a_key_error(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="maps")
    with pytest.raises(KeyError):
        spec.maps["missing"]
    with pytest.raises(KeyError):
        spec.programs["missing"]


@pytest.mark.parametrize("data", [b"", b"no object", b"\x7fELF", b"\x7fELF" + bytes(200)])
def test_bytes_that_are_no_object(data: bytes) -> None:
    with pytest.raises(ObjectError, match="read object bad failed") as raised:
        ObjectSpec(data, name="bad")
    assert raised.value.subject == "bad"


def test_an_elf_file_that_is_no_bpf_object(target: Target) -> None:
    with pytest.raises(ObjectError) as raised:
        ObjectSpec(target.path.read_bytes(), name="library")
    assert "not a valid eBPF object" in raised.value.log
    assert "not a valid eBPF object" in str(raised.value)


def test_an_error_of_libbpfs_own_has_no_unknown_number_in_its_text() -> None:
    """libbpf's numbers above 4000 are no errnos: "Unknown error 4001 (4001)" helps nobody."""
    with pytest.raises(ObjectError) as raised:
        ObjectSpec(b"no object", name="bad")
    assert "Unknown error" not in str(raised.value)


def test_a_cut_off_object_is_refused(bpf_bytes: Callable[[str], bytes]) -> None:
    whole = bpf_bytes("maps")

    def all_lengths() -> int:
        refused = 0
        for length in range(0, len(whole) - 1, 61):
            try:
                ObjectSpec(whole[:length], name="cut")
            except ObjectError:
                refused += 1
        return refused

    assert in_child(all_lengths) == len(range(0, len(whole) - 1, 61))


def test_a_rejected_program_shows_the_verifiers_reason(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("rejected"), name="rejected")
    with pytest.raises(VerifierError) as raised:
        spec.load()
    error = raised.value
    assert str(error).endswith("R0 invalid mem access 'map_value_or_null'")
    assert "\n" not in str(error)
    assert "BEGIN PROG LOAD LOG" in error.log
    assert "processed" in error.log
    assert "unchecked_lookup" in error.log
    assert (error.operation, error.subject) == ("load", "rejected")
    assert isinstance(error, LoadError)
    assert isinstance(error, AgentTracerError)


def test_a_program_that_cannot_be_loaded_can_be_left_out(load: Loader) -> None:
    def leave_out(spec: ObjectSpec) -> None:
        assert spec.programs["unchecked_lookup"].autoload
        spec.programs["unchecked_lookup"].autoload = False
        assert not spec.programs["unchecked_lookup"].autoload

    item = load("rejected", leave_out)
    assert list(item.programs) == ["harmless"]


def test_what_the_kernel_refuses_to_create_is_a_load_error(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("ring"), name="ring")
    spec.maps["ring"].max_entries = 0
    with pytest.raises(LoadError, match="'ring'") as raised:
        spec.load()
    assert not isinstance(raised.value, VerifierError)


def test_after_a_failed_load_the_spec_is_dead(bpf_bytes: Callable[[str], bytes]) -> None:
    def use_it() -> list[str]:
        spec = ObjectSpec(bpf_bytes("rejected"), name="rejected")
        map_spec, program_spec = spec.maps["hash"], spec.programs["harmless"]
        with pytest.raises(VerifierError):
            spec.load()
        filler = [bytes(200) for _ in range(20000)]  # writes over what was freed
        answers = []
        for use in (
            lambda: map_spec.max_entries,
            lambda: program_spec.autoload,
            lambda: spec.globals["anything"],
            spec.load,
        ):
            try:
                answers.append(f"gave {use()}")
            except BindingError as error:
                answers.append("has been closed" if "closed" in str(error) else "refused")
        del filler
        return answers

    answers = in_child(use_it)
    assert not [answer for answer in answers if answer.startswith("gave")], "freed memory was read"


def test_specs_of_maps_keep_their_object_alive(bpf_bytes: Callable[[str], bytes]) -> None:
    def use_it() -> int:
        map_spec = ObjectSpec(bpf_bytes("maps"), name="maps").maps["hash"]
        gc.collect()
        filler = [bytes(200) for _ in range(20000)]  # writes over what was freed
        assert filler
        return map_spec.max_entries

    assert in_child(use_it) == 16


def test_maps_keep_their_object_alive(bpf_bytes: Callable[[str], bytes]) -> None:
    def use_it() -> bytes:
        map_ = ObjectSpec(bpf_bytes("maps"), name="maps").load().maps["hash"]
        gc.collect()
        map_[u32(1)] = u64(2)
        return bytes(map_[u32(1)])

    assert in_child(use_it) == u64(2)


def test_programs_keep_their_object_alive(bpf_bytes: Callable[[str], bytes], target: Target) -> None:
    def use_it() -> str:
        program = ObjectSpec(bpf_bytes("maps"), name="maps").load().programs["on_add"]
        gc.collect()
        filler = [bytes(200) for _ in range(20000)]
        assert filler
        with program.attach_uprobe(target.path, "target_add"):
            return program.name

    assert in_child(use_it) == "on_add"


def test_a_closed_object_refuses_everything(load: Loader, target: Target) -> None:
    item = load("maps")
    map_, program, globals_ = item.maps["hash"], item.programs["on_add"], item.globals
    link = program.attach_uprobe(target.path, "target_add")
    map_[u32(1)] = u64(1)
    item.close()
    item.close()  # does nothing
    for use_map in (lambda: map_[u32(1)], lambda: map_.get(u32(1)), lambda: list(map_), map_.fileno):
        with pytest.raises(MapError, match="its object has been closed"):
            use_map()
    with pytest.raises(MapError, match="its object has been closed"):
        map_[u32(1)] = u64(1)
    with pytest.raises(MapError, match="its object has been closed"):
        del map_[u32(1)]
    for use_program in (
        program.fileno,
        program.attach,
        program.stats,
        program.run_iterator,
        lambda: program.attach_uprobe(target.path, "target_add"),
        lambda: program.attach_uprobe_multi(target.path, [0]),
        lambda: program.attach_tracepoint("sched", "sched_process_fork"),
        lambda: program.attach_raw_tracepoint("sched_process_fork"),
    ):
        with pytest.raises(BindingError, match="its object has been closed"):
            use_program()
    with pytest.raises(ObjectError, match="its object has been closed"):
        globals_["calls"]
    with pytest.raises(ObjectError, match="its object has been closed"):
        globals_["calls"] = 1
    assert repr(link).endswith(", closed>")
    assert item.links == []


def test_leaving_the_block_closes(bpf_bytes: Callable[[str], bytes]) -> None:
    with ObjectSpec(bpf_bytes("maps"), name="maps").load() as item:
        map_ = item.maps["hash"]
        map_[u32(1)] = u64(1)
    with pytest.raises(MapError):
        map_.fileno()


def test_two_objects_share_a_map(load: Loader, target: Target) -> None:
    first = load("maps")
    second = load("maps", lambda spec: spec.maps["hash"].reuse(first.maps["hash"]))
    first.maps["hash"][u32(7)] = u64(70)
    assert second.maps["hash"][u32(7)] == u64(70)
    second.maps["array"][u32(0)] = b"other"
    assert first.maps["array"][u32(0)] == bytes(5), "only what was named is shared"
    second.programs["on_add"].attach_uprobe(target.path, "target_add")
    target.add(8, 80)
    assert first.maps["hash"][u32(8)] == u64(80)
    first.close()
    assert second.maps["hash"][u32(7)] == u64(70), "the second object's map lives on"


def test_a_closed_objects_map_cannot_be_reused(load: Loader, bpf_bytes: Callable[[str], bytes]) -> None:
    first = load("maps")
    map_ = first.maps["hash"]
    first.close()
    spec = ObjectSpec(bpf_bytes("maps"), name="maps")
    with pytest.raises(MapError, match="its object has been closed"):
        spec.maps["hash"].reuse(map_)


def test_a_map_can_be_resized_before_loading(load: Loader) -> None:
    def resize(spec: ObjectSpec) -> None:
        spec.maps["hash"].max_entries = 3
        assert spec.maps["hash"].max_entries == 3

    map_ = load("maps", resize).maps["hash"]
    assert map_.max_entries == 3
    for key in range(3):
        map_[u32(key)] = u64(key)
    with pytest.raises(MapError, match="E2BIG"):
        map_[u32(3)] = u64(3)


def test_a_ring_gets_the_next_size_that_a_ring_may_have(load: Loader) -> None:
    def resize(spec: ObjectSpec) -> None:
        spec.maps["ring"].max_entries = 3 * 65536

    assert load("ring", resize).maps["ring"].max_entries == 4 * 65536


def test_without_privileges_it_says_which_are_missing(bpf_bytes: Callable[[str], bytes]) -> None:
    spec = ObjectSpec(bpf_bytes("maps"), name="maps")
    assert "CAP_BPF" in effective_capabilities() or "CAP_SYS_ADMIN" in effective_capabilities()

    def try_it() -> tuple[bool, tuple[str, ...], str]:
        become_nobody()
        assert effective_capabilities() == frozenset()
        try:
            spec.load()
        except MissingCapability as error:
            return isinstance(error, PermissionError), error.capabilities, str(error)
        raise AssertionError("nobody could load a BPF object")

    is_permission_error, names, text = in_child(try_it)
    assert is_permission_error
    assert names == ("CAP_BPF", "CAP_PERFMON")
    assert "needs CAP_BPF, CAP_PERFMON" in text
    assert "\n" not in text


def test_the_version_of_libbpf() -> None:
    assert (1, 1) <= libbpf_version() < (2, 0)


def test_loading_needs_no_current_directory_and_no_tty(
    bpf_bytes: Callable[[str], bytes], tmp_path: Path
) -> None:
    """A load in a fresh interpreter, its standard streams closed: nothing is taken from this process."""
    path = tmp_path / "maps.bpf.o"
    path.write_bytes(bpf_bytes("maps"))
    program = (
        "import os, sys; from libagenttracer.binding import ObjectSpec\n"
        "os.rmdir(os.getcwd())\n"
        "with ObjectSpec(open(sys.argv[1], 'rb').read(), name='maps').load() as item:\n"
        "    sys.exit(7 if item.maps['hash'].fileno() >= 0 else 1)\n"
    )
    gone = tmp_path / "gone"
    gone.mkdir()
    command = ["sh", "-c", 'exec "$0" -c "$1" "$2" <&- >&- 2>&-', sys.executable, program, os.fspath(path)]
    done = subprocess.run(command, cwd=gone, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 7
