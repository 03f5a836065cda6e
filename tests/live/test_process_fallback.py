"""Without tracefs one BTF tracepoint serves all system calls: the same events."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from libagenttracer import Loss, ProcessEvent, trace_process
from libagenttracer.runners import process_source

WORK = """
import os, socket, sys
os.chdir(sys.argv[1])
open("file", "w").close(); os.mkdir("made"); os.rename("made", "moved"); os.rmdir("moved")
os.link("file", "link"); os.chmod("file", 0o600); os.truncate("file", 5); os.unlink("link")
try:
    open("absent")
except FileNotFoundError:
    pass
os.kill(os.getpid(), 0)
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); client.sendto(b"x", ("127.0.0.1", 9))
one = socket.socket()
try:
    one.connect(("127.0.0.1", 1))
except ConnectionRefusedError:
    pass
"""


def traced(folder: Path) -> tuple[Counter[tuple[str, str, int]], list[str]]:
    """What the script did, as (event type, last part of the path, result), and the notes."""
    folder.mkdir()
    seen: Counter[tuple[str, str, int]] = Counter()
    command = ["python3", "-I", "-S", "-c", WORK, str(folder)]
    with trace_process(command=command, window_s=0) as trace:
        for event in trace:
            assert not isinstance(event, Loss)
            if isinstance(event, ProcessEvent) and event.event_type != "net_close":
                path = str(getattr(event, "path", ""))
                if "/" not in path or str(folder) in path:
                    seen[event.event_type, Path(path).name, int(getattr(event, "result", 0))] += 1
        return seen, trace.stats.notes


def test_the_same_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_tracefs, notes = traced(tmp_path / "one")
    assert not any("tracefs" in note for note in notes)
    monkeypatch.setattr(process_source, "has_tracefs", lambda: False)
    without, notes = traced(tmp_path / "two")
    assert any("needs tracefs" in note for note in notes)
    assert without == with_tracefs
    assert with_tracefs["file_rename", "made", 0] == 1
    assert with_tracefs["file_open", "absent", -2] == 1
    assert with_tracefs["net_connect", "", -111] == 1
    assert with_tracefs["signal_send", "", 0] == 1
