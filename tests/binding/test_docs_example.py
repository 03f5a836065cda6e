"""The example in docs/binding.md does what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ..support import ROOT

pytestmark = pytest.mark.kernel


def blocks(language: str) -> list[str]:
    page = (ROOT / "docs" / "binding.md").read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)


def test_the_example_runs_and_prints_what_it_says(tmp_path: Path) -> None:
    (source,), (compiling,), (program,), (printed,) = map(blocks, ("c", "sh", "python", "text"))
    (tmp_path / "setenv.bpf.c").write_text(source)
    subprocess.run(["sh", "-ec", compiling], cwd=tmp_path, check=True)
    (tmp_path / "example.py").write_text(program)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == printed
