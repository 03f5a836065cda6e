"""The job of the guests: traces TLS and processes with the installed wheel, in each way to choose processes.

It runs unfiltered too, so never outside a guest.
"""

from __future__ import annotations

import functools
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from in_guest_common import TRACER, Failure, end_tracer, expect, log_of, start_tracer
from in_guest_process import CHECKS

from tests.workloads import clients
from tests.workloads.recording import Conversation, conversations
from tests.workloads.server import Connection, LocalServer

RESULTS = Path(os.environ["RESULTS"])
SSL = ["ssl", "-v", "--format", "json"]
KERNEL = tuple(int(part) for part in platform.release().split(".")[:2])
BODY = json.dumps(
    {"model": "local", "stream": True, "messages": [{"role": "user", "content": "Which kernel — ü?"}]},
    ensure_ascii=False,
).encode()


def expect_client(
    one: Conversation, server: LocalServer, log: Connection, pid: int | None, comm: str
) -> None:
    """The client's side of a connection that the server has logged."""
    expect("where it goes", one.remote[1], server.port)
    expect("bytes sent", one.sent, log.received)
    expect("bytes received", one.received, log.sent)
    expect("comm", one.comm, comm)
    # before 5.15 a probe cannot say in which of several libraries it is
    expect("library", Path(one.library).name, "libssl.so.3" if KERNEL >= (5, 15) else "")
    if pid is not None:
        expect("pid", one.pid, pid)


def read(recording: Path) -> list[Conversation]:
    try:
        return conversations(recording)
    except ValueError as error:
        raise Failure(str(error)) from error


def trace_command(server: LocalServer, recording: Path) -> None:
    """`-- COMMAND`: one that first is a shell and then becomes curl."""
    client = clients.curl(f"{server.url}/v1/chat/completions", server.ca_path, BODY)
    shell = ["sh", "-c", 'echo $$ >pid; exec "$@"', "sh", *client.argv]
    with log_of(recording).open("wb") as log:
        subprocess.run(
            [*TRACER, *SSL, "-o", str(recording), "--", *shell],
            input=client.stdin,
            env={**os.environ, **client.env},
            stdout=log,
            stderr=log,
            timeout=120,
            check=True,
        )
    (one,) = read(recording)
    server.wait_closed()
    expect("answer", b"data: [DONE]" in one.received, True)
    expect_client(one, server, server.log[-1], int(Path("pid").read_text()), "curl")


def trace_pid(server: LocalServer, recording: Path) -> None:
    """`-p PID`: a process that runs already. Python reads with SSL_read_ex."""
    client = clients.http_client(f"{server.url}/v1/chat/completions", server.ca_path, BODY)
    process = subprocess.Popen(
        client.argv, env={**os.environ, **client.env}, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    tracer = start_tracer([*SSL, "-p", str(process.pid)], recording)
    process.communicate(client.stdin, timeout=120)
    end_tracer(tracer)
    server.wait_closed()
    (one,) = read(recording)
    expect_client(one, server, server.log[-1], process.pid, Path(sys.executable).name)


def trace_everything(server: LocalServer, recording: Path) -> None:
    """No filter: both ends of each connection are seen, the server's in this process."""
    url = f"{server.url}/v1/chat/completions"
    before = len(server.log)
    tracer = start_tracer(SSL, recording)
    clients.curl(url, server.ca_path, BODY).run()
    clients.s_client(url, server.ca_path, BODY).run()
    server.wait_closed()
    end_tracer(tracer)
    seen = read(recording)
    logs = server.log[before:]
    expect("connections logged", len(logs), 2)
    for comm, log in zip(("curl", "openssl"), logs, strict=True):
        (one,) = (one for one in seen if one.comm == comm)
        expect_client(one, server, log, None, comm)
        answers = [one for one in seen if one.pid == os.getpid() and one.received == log.received]
        expect(f"what the server sent to {comm}", [one.sent for one in answers], [log.sent])
    expect("connections seen", len(seen), 4)


def main() -> int:
    print(f"kernel {platform.release()}, Python {platform.python_version()}", flush=True)
    failed = 0
    with LocalServer() as server:
        checks: dict[str, Callable[[Path], None]] = {
            check.__name__: functools.partial(check, server)
            for check in (trace_command, trace_pid, trace_everything)
        }
        for name, check in (checks | CHECKS).items():
            recording = RESULTS / f"{name}.jsonl"
            begin = time.monotonic()
            try:
                check(recording)
                verdict = "ok"
            except (Failure, subprocess.SubprocessError, OSError, LookupError, ValueError) as problem:
                failed += 1
                log = log_of(recording)
                text = log.read_text(errors="replace") if log.exists() else ""
                verdict = f"FAILED: {problem!r}\n{text}"
            print(f"{name} {time.monotonic() - begin:.0f} s: {verdict}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
