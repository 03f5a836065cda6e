"""Analyzers of other packages: by entry point, and the example of the documentation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from libagenttracer.events import LlmCall, to_json

from ..support import ROOT


def example() -> str:
    """The analyzer in docs/analyzers.md."""
    text = (ROOT / "docs" / "analyzers.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.S)
    (code,) = [block for block in blocks if "class SlowCalls" in block]
    return str(code)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    calls = [
        LlmCall(
            id=f"call-{ms}", timestamp_ns=ms, source="ssl", pid=1, comm="a", exe="", connection_id="c",
            provider_name="openai", operation_name="chat", api="openai.chat", duration_ms=float(ms),
        )
        for ms in (900, 1100)
    ]  # fmt: skip
    path = tmp_path / "trace.jsonl"
    path.write_bytes(b"".join(to_json(call) + b"\n" for call in calls))
    return path


def replay(recording: Path, site: Path, code: str, name: str) -> subprocess.CompletedProcess[str]:
    """Runs `replay --analyzer` where a package with this code is installed."""
    (site / "others.py").write_text(code)
    info = site / "others-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[libagenttracer.analyzers]\nslow-calls = others:SlowCalls\n")
    return subprocess.run(
        [sys.executable, "-m", "libagenttracer", "replay", str(recording), "--analyzer", name],
        env={**os.environ, "PYTHONPATH": f"{site}:{ROOT}"}, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def test_the_example_of_the_documentation(recording: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    done = replay(recording, site, example(), "slow-calls")
    assert (done.returncode, done.stderr) == (0, "")
    assert re.findall(r'"id":"(call-\d+)"', done.stdout) == ["call-1100"]


def test_one_that_is_not_there(recording: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    done = replay(recording, site, example(), "fast-calls")
    assert done.returncode == 2
    assert "there is no analyzer 'fast-calls': slow-calls" in done.stderr


def test_one_that_cannot_be_loaded(recording: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    done = replay(recording, site, "import no_such_module", "slow-calls")
    assert done.returncode == 2
    assert "cannot be loaded: ModuleNotFoundError" in done.stderr


def test_one_that_fails_is_told(recording: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    code = example().replace("yield event", "raise ValueError('what?'); yield event")
    done = replay(recording, site, code, "slow-calls")
    assert done.returncode == 0
    assert "ValueError: what?" in done.stdout
    assert "call-1100" in done.stdout
