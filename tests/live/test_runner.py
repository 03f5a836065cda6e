"""The Python API: ways to iterate, to end, and what is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

import libagenttracer
from libagenttracer import JsonLines, SslData, SslRunner, trace_ssl

from .tracing import open_fds, pair, read

CYCLES = 100


def bpf_maps_and_programs() -> tuple[int, int]:
    """How many this process holds, by its file descriptors."""
    targets = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself
            targets.append(os.readlink(f"/proc/self/fd/{fd}"))
    return sum("bpf-map" in name for name in targets), sum("bpf-prog" in name for name in targets)


def test_many_cycles_leave_nothing_behind() -> None:
    trace_ssl(pid=os.getpid()).close()
    gc.collect()
    fds, held, threads = open_fds(), bpf_maps_and_programs(), threading.active_count()
    for _ in range(CYCLES):
        with trace_ssl(pid=os.getpid()):
            pass
    gc.collect()
    assert open_fds() == fds
    assert bpf_maps_and_programs() == held == (0, 0)
    assert threading.active_count() == threads


def test_failed_start_leaves_nothing_behind(tmp_path: Path) -> None:
    bad = tmp_path / "libssl.so.3"
    bad.write_bytes(b"\x7fELF" + bytes(100))
    fds = open_fds()
    for options in ({"libraries": [str(bad)]}, {"command": ["true"], "libraries": [str(bad)]}):
        with pytest.raises(libagenttracer.AgentTracerError):
            trace_ssl(**options)  # type: ignore[arg-type]
    assert open_fds() == fds
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)  # the command that never ran is gone


def test_attaching_does_not_wait_for_anything() -> None:
    trace_ssl(pid=os.getpid()).close()  # imports are not attaching
    began_s = time.monotonic()
    with trace_ssl(pid=os.getpid()):
        # a second is usual where three kinds of libraries are; what it would wait for are 5 s and 30 s
        assert time.monotonic() - began_s < 5


def test_asynchronous_iteration(tls_pair: Path) -> None:
    async def collect(pid: int, go: threading.Event) -> int:
        count, beats = 0, 0

        async def heart() -> None:
            nonlocal beats
            while True:
                await asyncio.sleep(0.005)
                beats += 1

        beating = asyncio.create_task(heart())
        trace = trace_ssl(pid=pid)
        go.set()
        async for event in trace:
            count += isinstance(event, SslData)
        beating.cancel()
        assert beats > 20, "the loop was blocked"
        return count

    go = threading.Event()
    running = pair(tls_pair, "--count", "300", "--rate", "1000")
    with running as program:

        def drive() -> None:
            go.wait(10)
            program.go()
            program.end()

        thread = threading.Thread(target=drive)
        thread.start()
        assert asyncio.run(asyncio.wait_for(collect(program.pid, go), 30)) == 600
        thread.join()


def test_in_a_thread(tls_pair: Path) -> None:
    seen: list[int] = []
    with pair(tls_pair, "--count", "50") as program:
        runner = trace_ssl(pid=program.pid)
        thread = threading.Thread(
            target=lambda: seen.extend(event.data_len for event in runner if isinstance(event, SslData))
        )
        thread.start()
        program.go()
        runner.stop()
        thread.join(20)
    assert len(seen) == 100


def test_run_with_outputs_and_time(tls_pair: Path, tmp_path: Path) -> None:
    output = tmp_path / "trace.jsonl"
    with pair(tls_pair, "--count", "50", "--rate", "100") as program:
        runner = SslRunner(pid=program.pid).add_output(JsonLines(output)).start()
        program.start()
        stats = runner.run(for_s=1.5)
        program.report()
    assert stats.events == len(read(output)) == 100
    assert stats.lost == {}
    hits = stats.libraries[0].hits  # of all processes that map the library
    assert hits["SSL_read"] >= 50
    assert hits["SSL_write"] >= 50
    assert stats.payload_bytes == sum(event.data_len for event in read(output) if isinstance(event, SslData))


def test_stops_when_the_process_is_killed(tls_pair: Path) -> None:
    with pair(tls_pair, "--count", "1000000", "--rate", "2000") as program:
        trace = trace_ssl(pid=program.pid)
        program.start()
        count = 0
        for _ in trace:
            count += 1
            if count == 200:
                os.kill(program.pid, signal.SIGKILL)
        assert count >= 200
        assert trace.stats.lost == {}


def test_threads_that_die_in_a_call_leave_no_state(tmp_path: Path) -> None:
    """Threads that are blocked in SSL_read when the process ends: the kernel's map of calls is emptied."""
    script = tmp_path / "blocked.py"
    script.write_text(
        "import os, socket, ssl, sys, threading, time\n"
        "context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT); context.check_hostname = False\n"
        "context.verify_mode = ssl.CERT_NONE\n"
        "def wait():\n"
        "    tls = context.wrap_socket(socket.create_connection(('127.0.0.1', int(sys.argv[1]))))\n"
        "    tls.sendall(b'x'); tls.recv(1)\n"
        "threads = [threading.Thread(target=wait, daemon=True) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; time.sleep(1); os._exit(0)\n"
    )
    from ..workloads.server import LocalServer

    with LocalServer() as server:
        runner = SslRunner(command=[sys.executable, str(script), str(server.port)])
        with runner:
            events = []
            for batch in runner.batches():
                events += batch
                source = runner._source
                if runner.exit_status is not None and source is not None:
                    remaining = list(source._object("ssl").maps["threads"])
                    break
            assert sum(isinstance(event, SslData) for event in events) == 8
            assert remaining == []
            assert runner.stats.lost == {}


def test_privileges_can_be_dropped_after_the_start(tls_pair: Path) -> None:
    """What decodes payload needs only the ring: reading goes on without any privilege."""
    script = (
        "import os, subprocess, sys, libagenttracer\n"
        "program = subprocess.Popen([sys.argv[1], '--wait', '--count', '20'], stdin=subprocess.PIPE,"
        " stdout=subprocess.PIPE)\n"
        "program.stdout.readline()\n"
        "from libagenttracer.runners.identity import TracerIdentity\n"
        "from libagenttracer.runners.reader import RingReader\n"
        "from libagenttracer.runners.filters import Filter\n"
        "from libagenttracer.runners.ssl_decoder import SslDecoder\n"
        "from libagenttracer.runners.ssl_source import SslSource\n"
        "options = dict(libraries=None, ring_bytes=65536, handshake=False, closes=False)\n"
        "source = SslSource(Filter.of(pid=program.pid), **options)\n"
        "decoder = SslDecoder(TracerIdentity(), source.libraries, source.ring_bytes)\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)\n"
        "    reader = RingReader(source.ring_fd, source.ring_bytes, source.control_fd)\n"
        "    count = 0\n"
        "    while count < 40:\n"
        "        position = reader.ring.position\n"
        "        with reader.lease() as lease:\n"
        "            count += len(decoder.decode(lease.view, lease.spans(), position))\n"
        "        if count < 40: reader.ring.wait(reader.before_waiting())\n"
        "    os._exit(count)\n"
        "program.communicate(b'\\n')\n"
        "print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(tls_pair)], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.stdout.strip() == "40", done.stderr
