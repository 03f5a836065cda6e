"""`doctor` where it loads and traces: this machine, a command, a process for a time."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

from libagenttracer import doctor

from ..workloads.server import LocalServer
from .tracing import TRACER, open_fds, pair, run_tracer


def report_of(*arguments: str, status: int = 0) -> dict[str, Any]:
    done = run_tracer(["doctor", "--json", "-q", *arguments])
    assert done.returncode == status, done.stdout + done.stderr
    return dict(json.loads(done.stdout))


def test_this_machine() -> None:
    done = run_tracer(["doctor"])
    assert done.returncode == 0
    assert "TLS can be traced on this machine." in done.stdout
    for name in (
        "type information (BTF)",
        "uprobes",
        "programs for OpenSSL",
        "CAP_BPF: held",
        "cache folder",
    ):
        assert f"  yes  {name}" in done.stdout, done.stdout
    assert "  yes  process: programs" in done.stdout
    assert "following sockets" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_without_type_information() -> None:
    """What is missing is named once, with what to do; the rest is not tried in vain."""
    script = 'mount -t tmpfs none /sys/kernel/btf; exec "$@"'
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", *TRACER, "doctor", "--json", "-q"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert not report["ready"]
    features = {check["name"]: check for check in report["machine"]["features"]}
    assert features["type information (BTF)"]["state"] == "no"
    assert "CONFIG_DEBUG_INFO_BTF" in features["type information (BTF)"]["advice"]
    assert not [name for name in features if name.startswith("programs for")]


def test_in_a_container() -> None:
    done = run_tracer(["doctor", "--", "true"], timeout=60)
    assert "pid namespace" not in done.stdout
    inside = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", *TRACER, "doctor", "--", "true"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert inside.returncode == 1
    assert "NO   pids are the kernel's: a pid namespace of its own" in inside.stdout
    assert "docker run --pid=host" in inside.stdout


def test_a_command_is_run_and_its_calls_are_counted(server: LocalServer) -> None:
    command = ["curl", "-s", "--cacert", str(server.ca_path), f"{server.url}/bytes/20"]
    done = subprocess.run(
        [*TRACER, "doctor", "--json", "-q", "--", *command], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0
    assert server.wait_closed()
    (item,) = json.loads(done.stdout)["subjects"]
    assert item["exit_status"] == 0
    assert item["traced"]
    assert item["endpoints"] == [f"127.0.0.1:{server.port}"]
    assert item["payload_bytes"] == len(server.log[0].sent) + len(server.log[0].received)
    library = next(library for library in item["libraries"] if library["hits"])
    assert library["hits"]["SSL_write"] >= 1
    assert len(done.stderr) == 20, "what the command prints goes to standard error"


def test_a_command_without_tls() -> None:
    done = run_tracer(["doctor", "--", "sh", "-c", "echo said; exit 7"])
    assert done.returncode == 1
    assert done.stderr == "said\n"
    assert "it ended with status 7" in done.stdout
    assert "NO   no TLS in what it ran" in done.stdout
    missing = run_tracer(["doctor", "--", "/no/such/program"])
    assert missing.returncode == 127
    assert missing.stdout == ""


def test_a_process_watched_for_a_time(tls_pair: Path) -> None:
    with pair(tls_pair, "--count", "10") as running:
        found = report_of("-p", str(running.pid))["subjects"][0]
        assert found["traceable"]
        assert not found["traced"]
        process = subprocess.Popen(
            [*TRACER, "doctor", "--json", "-q", "-p", str(running.pid), "--for", "4"],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        time.sleep(2.5)
        running.go()
        output = process.communicate(timeout=60)[0]
    assert process.returncode == 0
    (item,) = json.loads(output)["subjects"]
    assert item["payload_bytes"] > 0
    assert any(library["hits"].get("SSL_write", 0) >= 10 for library in item["libraries"])


def test_signals_reach_the_command() -> None:
    script = "trap 'exit 3' TERM; echo ready >&2; while :; do sleep 0.1; done"
    process = subprocess.Popen(
        [*TRACER, "doctor", "-q", "--", "sh", "-c", script],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    assert process.stderr.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    output = process.communicate(timeout=30)[0]
    assert "it ended with status 3" in output


def test_as_a_function(system_libssl: Path) -> None:
    doctor(paths=[system_libssl])  # what is imported then may keep descriptors
    before = open_fds()
    with subprocess.Popen(["sleep", "60"]) as process:
        report = doctor(pid=process.pid, paths=[system_libssl], command=["true"])
        process.kill()
    assert [item.kind for item in report.subjects] == ["process", "file", "command"]
    assert [item.traceable for item in report.subjects] == [False, True, False]
    assert report.machine.ready
    assert not report.ok
    assert open_fds() == before
