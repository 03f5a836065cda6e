"""The table of processes: bounded, and who is forgotten when."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.runners import process_table
from libagenttracer.runners.process_table import ProcessTable, process_id
from libagenttracer.runners.records import ForkRecord, ProcessRecord

from . import records

BOOT = "b007"


def known(table: ProcessTable, pid: int, start_ns: int = 5, **changes: int) -> None:
    raw = records.process(b"python", "/usr/bin/python3", tgid=pid, start_ns=start_ns, **changes)
    table.on_process(ProcessRecord.unpack_from(memoryview(raw)))


def living(table: ProcessTable) -> set[tuple[int, int]]:
    return {(process.pid, process.start_ns) for process in table}


def is_known(table: ProcessTable, pid: int, start_ns: int = 5) -> bool:
    """By what only its record has told; asking makes an entry."""
    return bool(table.get(pid, start_ns).comm)


def test_what_a_record_tells() -> None:
    table = ProcessTable(BOOT)
    known(table, 77, 0xABC, ppid=42, parent_start_ns=0x11, exec_count=3)
    process = table.get(77, 0xABC)
    assert (process.pid, process.ppid, process.uid, process.comm) == (77, 42, 1000, "python")
    assert process.exe == "/usr/bin/python3"
    assert process.process_id == process_id(BOOT, 77, 0xABC) == "b007-77-abc"
    assert process.exec_id == "b007-77-abc-3"
    assert process.parent_process_id == "b007-42-11"


def test_a_process_whose_record_was_lost_has_its_id() -> None:
    process = ProcessTable(BOOT).get(77, 0xABC)
    assert process.process_id == process.exec_id == "b007-77-abc"
    assert (process.comm, process.exe, process.ppid, process.parent_process_id) == ("", "", 0, "")


def test_a_reused_pid_is_another_process() -> None:
    table = ProcessTable(BOOT)
    known(table, 77, 1, exec_count=1)
    known(table, 77, 2, exec_count=2)
    assert table.get(77, 1).exec_id == "b007-77-1-1"
    assert table.get(77, 2).exec_id == "b007-77-2-2"
    assert living(table) == {(77, 1), (77, 2)}


def test_a_child_is_as_its_parent_is() -> None:
    table = ProcessTable(BOOT)
    known(table, 77, 1, exec_count=6)
    raw = records.fork(88, 0x20, tgid=77, start_ns=1)
    child = table.on_fork(table.get(77, 1), ForkRecord.unpack_from(memoryview(raw)))
    assert child is table.get(88, 0x20)
    assert (child.comm, child.exe, child.ppid) == ("python", "/usr/bin/python3", 77)
    assert (child.exec_id, child.parent_process_id) == ("b007-88-20-6", "b007-77-1")


def test_a_child_of_an_unknown_parent() -> None:
    table = ProcessTable(BOOT)
    raw = records.fork(88, 0x20, tgid=77, start_ns=1)
    child = table.on_fork(table.get(77, 1), ForkRecord.unpack_from(memoryview(raw)))
    assert (child.comm, child.exec_id) == ("", "b007-88-20")
    assert (child.ppid, child.parent_process_id) == (77, "b007-77-1")


@pytest.mark.parametrize("most", [1, 2, 7, 8, 100])
def test_it_stays_bounded(most: int) -> None:
    table = ProcessTable(BOOT, most)
    for pid in range(1, 10 * most):
        known(table, pid)
        assert 1 <= len(table) <= most
        assert len(living(table)) == len(table)
        assert (pid, 5) in living(table)


def test_what_was_not_used_for_longest_is_forgotten() -> None:
    table = ProcessTable(BOOT, 16)  # forgets an eighth at a time
    for pid in range(1, 17):
        known(table, pid)
    table.get(1, 5)
    known(table, 100)
    assert living(table) == {(pid, 5) for pid in (1, *range(4, 17), 100)}
    assert is_known(table, 1)


def test_an_ended_process_is_remembered_somewhat_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_table, "_ENDED_KEPT", 3)
    table = ProcessTable(BOOT)
    for pid in range(1, 6):
        known(table, pid)
    for pid in range(1, 4):
        table.on_exit(table.get(pid, 5))
    assert living(table) == {(4, 5), (5, 5)}
    assert len(table) == 2
    assert [is_known(table, pid) for pid in (1, 2, 3)] == [True, True, True]
    table.on_exit(table.get(4, 5))
    assert living(table) == {(5, 5)}
    assert [is_known(table, pid) for pid in (2, 3, 4)] == [True, True, True]
    assert not is_known(table, 1)


def test_an_end_that_is_told_twice_counts_once() -> None:
    table = ProcessTable(BOOT)
    known(table, 1)
    known(table, 2)
    for _ in range(3):
        table.on_exit(table.get(1, 5))
    assert len(table) == 1
    assert living(table) == {(2, 5)}


def test_keep_only_those_that_live() -> None:
    table = ProcessTable(BOOT)
    for pid in range(1, 6):
        known(table, pid)
    known(table, 2, 6)  # the pid was reused
    table.on_exit(table.get(5, 5))
    table.keep_only({(1, 5), (2, 6), (99, 5)})
    assert living(table) == {(1, 5), (2, 6)}
    assert len(table) == 2
    assert not is_known(table, 5)


@dataclass
class Step:
    what: str
    pid: int


STEPS = st.lists(
    st.builds(Step, st.sampled_from(["known", "get", "exit", "keep"]), st.integers(1, 12)), max_size=60
)


@given(STEPS, st.integers(1, 8))
def test_whatever_happens_the_counts_agree(steps: list[Step], most: int) -> None:
    table = ProcessTable(BOOT, most)
    for step in steps:
        if step.what == "known":
            known(table, step.pid)
        elif step.what == "get":
            assert table.get(step.pid, 5).pid == step.pid
        elif step.what == "exit":
            table.on_exit(table.get(step.pid, 5))
            assert (step.pid, 5) not in living(table)
        else:
            table.keep_only({(pid, 5) for pid in range(1, step.pid)})
            assert living(table) <= {(pid, 5) for pid in range(1, step.pid)}
        assert len(table) == len(living(table)) <= most
