"""Who is traced, and who is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest

from libagenttracer import SslData, SslRunner, trace_ssl
from libagenttracer.errors import NoSuchProcess

from ..workloads.server import LocalServer
from .tracing import pair

NOBODY = 65534


def named(program: str, name: str, folder: Path) -> Path:
    """A copy of a program under another name, so that no other process has it."""
    target = folder / name
    shutil.copy(shutil.which(program) or program, target)
    return target


def ask(curl: str | Path, server: LocalServer, text: str = "") -> list[str]:
    return [
        str(curl),
        "-s",
        "--cacert",
        str(server.ca_path),
        f"{server.url}/bytes/10{text}",
        "-o",
        "/dev/null",
    ]


def comms(runner: SslRunner, commands: Sequence[list[str]], **options: object) -> set[str]:
    """Runs commands while tracing; the comms of the events."""
    with runner:
        for command in commands:
            subprocess.run(command, check=True, timeout=30, **options)  # type: ignore[call-overload]
        runner.stop()
        return {event.comm for event in runner if isinstance(event, SslData)}


def test_by_name(server: LocalServer, tmp_path: Path) -> None:
    ours, other = named("curl", "lat-curl-a", tmp_path), named("curl", "lat-curl-b", tmp_path)
    assert comms(SslRunner(comm="lat-curl-a,lat-none"), [ask(ours, server), ask(other, server)]) == {
        "lat-curl-a"
    }


def test_long_names_are_cut_as_the_kernel_cuts_them(server: LocalServer, tmp_path: Path) -> None:
    ours = named("curl", "lat-curl-with-a-long-name", tmp_path)
    found = comms(SslRunner(comm="lat-curl-with-a-long-name"), [ask(ours, server)])
    assert found == {"lat-curl-with-a"}


def test_children_only_with_follow_forks(server: LocalServer, tmp_path: Path) -> None:
    shell = named("bash", "lat-shell", tmp_path)
    curl = named("curl", "lat-child", tmp_path)
    script = [str(shell), "-c", f"{' '.join(ask(curl, server))}; ( {' '.join(ask(curl, server))} ) ; true"]
    assert comms(SslRunner(comm="lat-shell"), [script]) == set()
    assert comms(SslRunner(comm="lat-shell", follow_forks=True), [script]) == {"lat-child"}


def test_a_process_that_becomes_another_program_stays_matched(server: LocalServer, tmp_path: Path) -> None:
    shell = named("bash", "lat-shell", tmp_path)
    curl = named("curl", "lat-after", tmp_path)
    script = [str(shell), "-c", f"exec {' '.join(ask(curl, server))}"]
    assert comms(SslRunner(comm="lat-shell", follow_forks=True), [script]) == {"lat-after"}


def test_descendants_that_were_there_before(server: LocalServer, tmp_path: Path) -> None:
    """A grandchild that was started before the tracer is found through its ancestors."""
    curl = named("curl", "lat-grandchild", tmp_path)
    inner = f"read line; {' '.join(ask(curl, server))}; true"
    process = subprocess.Popen(["bash", "-c", f"bash -c '{inner}'; true"], stdin=subprocess.PIPE, text=True)
    with trace_ssl(pid=process.pid, follow_forks=True) as trace:
        process.communicate("\n", timeout=30)
        assert {event.comm for event in trace if isinstance(event, SslData)} == {"lat-grandchild"}


def test_by_user(server: LocalServer, tmp_path: Path) -> None:
    curl = named("curl", "lat-curl-u", tmp_path)
    os.chmod(tmp_path, 0o755)
    for folder in (*tmp_path.parents, Path(server.ca_path).parent):
        if folder.stat().st_uid == os.getuid() and str(folder).startswith("/tmp/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    os.chmod(server.ca_path, 0o644)
    found = comms(SslRunner(comm="lat-curl-u", uid=NOBODY), [ask(curl, server)])
    assert found == set()
    with SslRunner(comm="lat-curl-u", uid=NOBODY) as runner:
        subprocess.run(ask(curl, server), check=True, user=NOBODY, timeout=30)
        runner.stop()
        assert {event.uid for event in runner if isinstance(event, SslData)} == {NOBODY}


def test_no_such_process() -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    with pytest.raises(NoSuchProcess) as caught:
        trace_ssl(pid=process.pid)
    assert caught.value.pid == process.pid


def test_two_tracers_at_once_see_only_theirs(tls_pair: Path) -> None:
    with pair(tls_pair, "--count", "20") as first, pair(tls_pair, "--count", "30") as second:
        with trace_ssl(pid=first.pid) as one, trace_ssl(pid=second.pid) as two:
            first.go()
            second.go()
            one.stop()
            two.stop()
            assert [{e.pid for e in run if isinstance(e, SslData)} for run in (one, two)] == [
                {first.pid},
                {second.pid},
            ]
            assert [run.stats.events for run in (one, two)] == [40, 60]


def test_forked_child_is_another_connection(server: LocalServer, tmp_path: Path) -> None:
    """A child that goes on with its parent's SSL object is a process of its own, seen from the middle."""
    script = tmp_path / "fork.py"
    script.write_text(
        textwrap.dedent("""
            import os, socket, ssl, sys
            context = ssl.create_default_context(cafile=sys.argv[2])
            raw = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
            tls = context.wrap_socket(raw, server_hostname="localhost")
            tls.sendall(b"GET /bytes/5 HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n")
            tls.recv(10000)
            if os.fork() == 0:
                tls.sendall(b"GET /bytes/6 HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n")
                os._exit(0)
            os.wait()
        """)
    )
    port = server.port
    runner = SslRunner(command=[sys.executable, str(script), str(port), str(server.ca_path)])
    events = [event for event in runner if isinstance(event, SslData) and event.direction == "write"]
    assert [event.offset for event in events] == [0, 0]
    assert [event.joined_late for event in events] == [False, True]
    assert events[0].connection_id != events[1].connection_id
    assert events[1].ppid == events[0].pid
