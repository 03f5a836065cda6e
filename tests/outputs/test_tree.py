"""The tree of processes: who started whom, and how each one ended."""

from __future__ import annotations

import io
import re
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libagenttracer.events import Event
from libagenttracer.outputs.tree import ProcessTree, TreeProcess, render_tree

from ..analyzers.build import exec_, exit_, fork, open_, process_id
from ..events.strategies import TEXTS
from .test_text import CONTROLS


def tree(*events: Event, **options: Any) -> list[str]:
    target = io.StringIO()
    output = ProcessTree(target, **options)
    output.write(events)
    assert target.getvalue() == ""  # only at the end
    output.close()
    return target.getvalue().splitlines()


def test_a_tree() -> None:
    assert tree(
        exec_(0, 10, "sh", "-c", "make; true"),
        fork(1, 10, 11),
        exec_(2, 11, "make"),
        fork(3, 11, 12),
        exec_(4, 12, "cc", "a b.c"),
        fork(5, 11, 13),
        exit_(6, 12, 2000, exit_code=1),
        exit_(7, 13, 5.25, exit_code=None, signal=9),
        fork(8, 10, 14),
        exit_(9, 11, 75_000, exit_code=2),
        exit_(10, 14, 3_725_000, exit_code=None, signal=11, core_dumped=True),
    ) == [
        "10 sh -c 'make; true'  [running]",
        "├─ 11 make  [0:01:15, exit 2]",
        "│  ├─ 12 cc 'a b.c'  [2.0 s, exit 1]",
        "│  └─ 13 p11 (fork)  [5.2 ms, killed by SIGKILL]",
        "└─ 14 p10 (fork)  [1:02:05, killed by SIGSEGV, core dumped]",
    ]


def test_the_last_exec_counts() -> None:
    assert tree(fork(0, 1, 10), exec_(1, 10, "sh", "run"), exec_(2, 10, "python", "x.py")) == [
        "1 p1  [running]",
        "└─ 10 python x.py  [running]",
    ]


def test_processes_without_a_known_parent_are_roots() -> None:
    orphan = exec_(1, 11, "b", parent_process_id=process_id(3))
    assert tree(exec_(0, 10, "a"), orphan, exit_(2, 12, 100)) == [
        "10 a  [running]",
        "11 b  [running]",
        "12 p12  [100 ms, exit 0]",
    ]


def test_the_parent_is_known_from_the_exec_too() -> None:
    child = exec_(1, 11, "b", parent_process_id=process_id(10))
    assert tree(exec_(0, 10, "a"), child) == ["10 a  [running]", "└─ 11 b  [running]"]


def test_the_fork_tells_the_parent_better_than_a_later_event() -> None:
    adopted = exec_(3, 12, "late", parent_process_id=process_id(1))
    assert tree(exec_(0, 1, "init"), fork(1, 10, 12), adopted) == [
        "1 init  [running]",
        "10 p10  [running]",
        "└─ 12 late  [running]",
    ]


def test_the_fork_may_come_after_the_exec() -> None:
    assert tree(exec_(1, 11, "b"), fork(0, 10, 11)) == ["10 p10  [running]", "└─ 11 b  [running]"]


def test_a_process_may_start_without_arguments() -> None:
    assert tree(exec_(0, 10, filename="/bin/odd", args=[])) == ["10 /bin/odd  [running]"]


@pytest.mark.parametrize(
    ("exit_fields", "status"),
    [
        ({"exit_code": 0}, "exit 0"),
        ({"exit_code": None, "signal": 15}, "killed by SIGTERM"),
        ({"exit_code": None, "signal": 40}, "killed by signal 40"),
        ({"exit_code": None, "signal": None}, "ended"),
    ],
)
def test_endings(exit_fields: dict[str, Any], status: str) -> None:
    assert tree(exit_(0, 10, 0.25, **exit_fields)) == [f"10 p10  [0.2 ms, {status}]"]


def test_other_events_are_not_in_it() -> None:
    assert tree(open_(0, 5)) == []
    assert tree() == []


def test_long_commands_are_cut() -> None:
    (line,) = tree(exec_(0, 10, "cc", "x" * 1_000_000), width=60)
    assert line == "10 cc " + "x" * 42 + "…  [running]"
    assert len(line) == 60
    (line,) = tree(exec_(0, 10, *["arg"] * 100_000), width=40)
    assert line == "10 arg arg arg arg arg arg a…  [running]"
    (line,) = tree(exec_(0, 10, "cc", "a", args_truncated=True))
    assert line == "10 cc a …  [running]"


def test_bytes_that_are_no_text() -> None:
    raw = io.BytesIO()
    target = io.TextIOWrapper(raw, encoding="ascii")
    output = ProcessTree(target)
    output.write([exec_(0, 10, "caf\udce9"), fork(1, 10, 11)])
    output.close()
    assert raw.getvalue().decode("ascii").splitlines() == [
        "10 'caf\\udce9'  [running]",
        "\\u2514\\u2500 11 p10 (fork)  [running]",
    ]


def test_the_target_stays_open_and_is_written_once() -> None:
    target = io.StringIO()
    output = ProcessTree(target)
    output.write([exec_(0, 10, "a")])
    output.close()
    output.close()
    target.write("end")
    assert target.getvalue() == "10 a  [running]\nend"


def test_standard_error_is_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    output = ProcessTree()
    output.write([exec_(0, 10, "a")])
    output.close()
    assert capsys.readouterr() == ("", "10 a  [running]\n")


def test_who_ended_first_is_left_out_when_there_is_no_room() -> None:
    events = [exec_(n, n, str(n)) for n in range(1, 5)]
    ended = [exit_(5, 3, 100), exit_(6, 1, 100)]
    assert tree(*events, *ended, exec_(7, 5, "5"), exec_(8, 6, "6"), max_processes=4) == [
        *(f"{n} {n}  [running]" for n in (2, 4, 5, 6)),
        "… 2 more processes, no room to remember them",
    ]


def test_the_oldest_is_left_out_if_none_has_ended() -> None:
    assert tree(*(exec_(n, n, str(n)) for n in range(1, 5)), max_processes=2) == [
        "3 3  [running]",
        "4 4  [running]",
        "… 2 more processes, no room to remember them",
    ]


def test_a_fork_may_need_room_for_two() -> None:
    assert tree(exec_(0, 1, "a"), exec_(1, 2, "b"), fork(2, 3, 4), max_processes=2) == [
        "3 p3  [running]",
        "└─ 4 p3 (fork)  [running]",
        "… 2 more processes, no room to remember them",
    ]


def test_an_exit_that_is_told_again_takes_no_room() -> None:
    output = ProcessTree(io.StringIO())
    output.write([exit_(n, 1, 100) for n in range(100)])
    assert len(output._ended) == 1


def test_children_of_who_was_left_out_are_roots() -> None:
    events = [fork(0, 1, 10), exec_(1, 1, "a"), exit_(2, 1, 100), exec_(3, 11, "c")]
    assert tree(*events, max_processes=2)[:2] == ["10 p1 (fork)  [running]", "11 c  [running]"]


@pytest.mark.parametrize("wrong", [{"width": 0}, {"max_processes": 0}])
def test_limits_that_make_no_sense(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        ProcessTree(io.StringIO(), **wrong)


def test_a_deep_tree() -> None:
    """Levels that do not fit in are told by their number; time and text do not grow with the square."""
    depth = 10_000
    lines = tree(exec_(0, 1, "root"), *(fork(n, n, n + 1) for n in range(1, depth)), width=60)
    assert len(lines) == depth
    assert lines[10] == "   " * 9 + "└─ 11 p10 (fork)  [running]"
    assert lines[11] == "   " * 10 + "[+1] └─ 12 p11 (fork)  [running]"
    assert lines[-1] == "   " * 10 + f"[+{depth - 11}] └─ 10000 p9999 (fork)  [running]"


def test_a_wide_tree() -> None:
    lines = tree(*(fork(n, 1, n) for n in range(2, 20_000)))
    assert len(lines) == 19_999
    assert {line[:3] for line in lines[1:-1]} == {"├─ "}
    assert lines[-1].startswith("└─ 19999 ")


def test_a_circle_is_drawn_once() -> None:
    processes = [TreeProcess("a", 1, "b", "one"), TreeProcess("b", 2, "a", "two"), TreeProcess("c", 3, "c")]
    assert render_tree(processes) == ["1 one  [running]", "└─ 2 two  [running]", "3   [running]"]


# ---- whatever comes


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20))), st.integers(1, 200))
def test_each_process_has_a_line(pairs: list[tuple[int, int]], width: int) -> None:
    processes = {pid: TreeProcess(str(pid), pid, str(parent), "label") for pid, parent in pairs}
    lines = render_tree(processes.values(), width)
    pids = [int(re.sub(r"[│├└─ ]|\[\+\d+\]", "", line).partition("label")[0]) for line in lines]
    assert sorted(pids) == sorted(processes)


@given(st.lists(st.integers(0, 30), max_size=30), st.integers(100, 200))
def test_the_parent_stands_above(parents: list[int], width: int) -> None:
    """The line of a child's branch leads up to its parent's line."""
    processes = [TreeProcess("0", 0)]
    processes += [TreeProcess(str(n), n, str(p % n)) for n, p in enumerate(parents, 1)]
    above: list[int] = []
    for line in render_tree(processes, width):
        match = re.fullmatch(r"([│├└─ ]*)(\d+) .*", line)
        if match is None:
            assert "[+" in line  # too deep to be drawn
            continue
        level, pid = len(match[1]) // 3, int(match[2])
        del above[level:]
        assert processes[pid].parent_process_id == (str(above[-1]) if above else "")
        above.append(pid)


@given(st.lists(TEXTS, min_size=1), TEXTS, st.integers(30, 200))
def test_names_are_harmless(args: list[str], comm: str, width: int) -> None:
    lines = tree(exec_(0, 10, *args), fork(1, 10, 11, comm=comm), width=width)
    text = "\n".join(lines)
    assert CONTROLS.search(text) is None
    assert text.count("\n") == 1
    assert "\t" not in text


@given(st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])), min_size=1, max_size=5))
def test_a_command_can_be_pasted_into_a_shell(args: list[str]) -> None:
    (line,) = tree(exec_(0, 10, *args), width=10_000)
    assert shlex.split(line.removeprefix("10 ").removesuffix("  [running]")) == args
