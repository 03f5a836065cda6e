"""Runs the command line as a user would."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from ..support import ROOT

__all__ = ["COMMAND", "drop_capabilities", "one_line", "run"]

COMMAND = [sys.executable, "-m", "libagenttracer"]
PR_CAPBSET_DROP = 24


def run(
    *arguments: str | os.PathLike[str],
    stdin: bytes = b"",
    before: Callable[[], None] | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[str]:
    """`python -m libagenttracer ARGUMENTS`; what it prints is decoded."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "100"}
    settings: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    done = subprocess.run(
        [*COMMAND, *arguments],
        input=stdin,
        env=environment,
        preexec_fn=before,
        timeout=60,
        check=False,
        **settings,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, (done.stdout or b"").decode(), (done.stderr or b"").decode()
    )


def one_line(done: subprocess.CompletedProcess[str]) -> str:
    """The only line on stderr."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert done.stdout == ""
    return lines[0]


def drop_capabilities() -> None:
    """For `before`: what is run then has no capability at all, though it is root still."""
    libc = ctypes.CDLL(None)
    number = 0
    while libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0) == 0:
        number += 1
