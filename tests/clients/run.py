"""Runs a client against a server of truth: untraced, or traced in one of several ways."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .install import CACHE
from .table import Client, Run
from .truth import Authority, Connection, Truth

__all__ = ["MODES", "Outcome", "run_client"]

TRACER = [sys.executable, "-m", "libagenttracer"]
MODES = {
    "command": "libagenttracer ssl -- CLIENT",
    "pid": "-p PID of a client that waits in its first handshake",
    "comm": "-c NAME, started before the client, which waits in a handshake while it is searched",
    "namespace": "-- CLIENT in a mount namespace where its TLS library is another file, of the same path",
    "chroot": "-- CLIENT in a chroot with libraries of its own",
}
_LIMIT_S, _SLOW_LIMIT_S = 120, 400
_PATIENCE_S = 8.0  # some clients give up a handshake after 10
_ATTEMPTS = 3
_SEARCHES_S, _QUIET_S = 60.0, 2.0
_NAMESPACE = (
    'mount -t tmpfs tmpfs "$0" && cp "$1" "$0/image" && mount --bind "$0/image" "$1" && shift && exec "$@"'
)


@dataclass
class Outcome:
    """What came of a run.

    Attributes:
        status: the client's exit status.
        output: its standard output.
        errors: its standard error, and the tracer's.
        truth: what the server's TLS layer saw.
        recording: the tracer's JSON Lines; None of an untraced run.
        seconds: how long the client took.
        problem: why there is nothing to compare.
    """

    status: int
    output: bytes
    errors: str
    truth: list[Connection]
    recording: Path | None
    seconds: float
    problem: str = ""
    late: bool = False  # it gave up while the tracer started, on a busy machine


def environment(client: Client, run: Run) -> dict[str, str]:
    """A small one, with all the names under which programs look for an authority's certificate."""
    env = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    env |= {"HOME": str(run.home), "LANG": "C.UTF-8", "TERM": "dumb", "XDG_CACHE_HOME": str(CACHE / "cache")}
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS", "DENO_CERT"):
        env[name] = str(run.ca)
    env["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"] = str(run.ca)
    env |= client.env(run)
    return {name: value for name, value in env.items() if value}  # "" takes one away


def run_client(client: Client, authority: Authority, folder: Path, mode: str) -> Outcome:
    """Runs a client in a mode of `MODES`, or "untraced".

    Args:
        folder: for what the run leaves; what is in it goes.
    """
    for _ in range(_ATTEMPTS):
        outcome = _attempt(client, authority, folder, mode)
        if not outcome.late:
            break
    return outcome


def _attempt(client: Client, authority: Authority, folder: Path, mode: str) -> Outcome:
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "home").mkdir(parents=True)
    program = client.program()
    with Truth(authority, folder, gated=mode in {"pid", "comm"}) as truth:
        run = Run(truth.url, authority.ca, folder / "home")
        command = [str(program), *client.arguments(run)]
        work = _Work(client, run, folder, truth, environment(client, run))
        began_s = time.monotonic()
        status = {
            "untraced": work.untraced,
            "command": work.as_command,
            "pid": work.by_pid,
            "comm": work.by_comm,
            "namespace": work.in_namespace,
            "chroot": work.in_chroot,
        }[mode](command)
        took_s = time.monotonic() - began_s
        settled = truth.settle()
        log = [one for one in truth.log if one.received or one.sent]
    problem = work.problem or ("" if settled else "a connection stays open after the client's end")
    output, errors = (folder / "output").read_bytes(), (folder / "errors").read_text(errors="replace")
    return Outcome(
        status, output, errors, log, None if mode == "untraced" else folder / "trace.jsonl", took_s, problem
    )


class _Work:
    """One run."""

    def __init__(self, client: Client, run: Run, folder: Path, truth: Truth, env: dict[str, str]) -> None:
        self.client, self.run, self.folder, self.truth, self.env = client, run, folder, truth, env
        self.recording = folder / "trace.jsonl"
        self.problem = ""
        self.waited_s = 0.0  # how long the client waited for the tracer

    def untraced(self, command: Sequence[str]) -> int:
        with self._started(command) as process:
            return self._wait(process)

    def as_command(self, command: Sequence[str]) -> int:
        return self.untraced([*TRACER, "ssl", "-o", str(self.recording), "--", *command])

    def by_pid(self, command: Sequence[str]) -> int:
        with self._started(command) as process:
            if not self.truth.waiting.wait(60):
                self.problem = "the client did not connect"
                process.kill()
                return process.wait()
            began_s = time.monotonic()
            with self._tracer("-p", str(process.pid)):
                self.truth.open_gate()
                self.waited_s = time.monotonic() - began_s
                return self._wait(process)

    def by_comm(self, command: Sequence[str]) -> int:
        name = f"lat{os.getpid() % 10_000}{self.client.name}"[:15]
        program = Path(command[0])
        # A Python finds its virtual environment by the folder that it is called in.
        link = (program.parent if "python" in program.name else self.folder) / name
        link.unlink(missing_ok=True)
        if program.name == "node":  # it renames its first thread, so the file itself must have the name
            link.hardlink_to(program.resolve())
        else:
            link.symlink_to(program.name if link.parent == program.parent else program)
        try:
            with self._tracer("-c", name) as tracer, self._started([str(link), *command[1:]]) as process:
                began_s = time.monotonic()
                self.truth.waiting.wait(60)
                _wait_for_searches(tracer)
                self.truth.open_gate()
                self.waited_s = time.monotonic() - began_s
                return self._wait(process)
        finally:
            link.unlink()

    def in_namespace(self, command: Sequence[str]) -> int:
        program = Path(command[0])
        image = self.client.image(program) if self.client.image else program
        place = self.folder / "image"
        place.mkdir()
        script = ["unshare", "--mount", "sh", "-c", _NAMESPACE, str(place), str(image.resolve())]
        return self.as_command([*script, *command])

    def in_chroot(self, command: Sequence[str]) -> int:
        """In a folder with copies of the program, its libraries, and what the command line names."""
        root, program = self.folder / "root", Path(command[0]).resolve()
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
        libraries = [word for word in listed.split() if word.startswith("/")]
        named = [str(self.run.ca), *(str(path) for path in self.run.home.rglob("*") if path.is_file())]
        for name in [str(program), "/etc/hosts", *libraries, *named]:
            copy = root / name.lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, copy)
        return self.as_command(["chroot", str(root), str(program), *command[1:]])

    @contextlib.contextmanager
    def _started(self, command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
        """Its standard input stays open until it has its answers, as that of a terminal does."""
        with contextlib.ExitStack() as stack:
            stdin: int | socket.socket = subprocess.DEVNULL
            if self.client.stdin:  # a socket: NSS does not see the end of a pipe
                stdin, ours = (stack.enter_context(end) for end in socket.socketpair())
                threading.Thread(target=self._feed, args=(ours,), daemon=True).start()
            output = stack.enter_context((self.folder / "output").open("wb"))
            errors = stack.enter_context((self.folder / "errors").open("ab"))
            options: dict[str, Any] = {"stdin": stdin, "stdout": output, "stderr": errors}
            process = subprocess.Popen(command, env=self.env, cwd=self.run.home, **options)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()

    def _feed(self, stdin: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has ended
            stdin.sendall(self.client.stdin)
            while not self.truth.log or not self.truth.settle(0.1):
                time.sleep(0.1)
            stdin.shutdown(socket.SHUT_WR)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        limit_s = _SLOW_LIMIT_S if self.client.slow else _LIMIT_S
        try:
            return process.wait(limit_s)
        except subprocess.TimeoutExpired:
            self.problem = f"not done after {limit_s} s"
            # A tracer ends its command with it, and says what it knows.
            process.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(10)
            process.kill()
            return process.wait()

    @contextlib.contextmanager
    def _tracer(self, *arguments: str) -> Iterator[int]:
        """Traces while the context is open, and what it was sent until then."""
        command = [*TRACER, "ssl", *arguments, "-o", str(self.recording)]
        env = {**os.environ, "XDG_CACHE_HOME": str(CACHE / "cache")}
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env)
        assert process.stderr is not None
        said = process.stderr.readline()
        while "looking for TLS" in said:  # a long search; it is not ready before that ends
            said = process.stderr.readline()
        try:
            if not said.startswith("tracing "):
                self.problem = f"the tracer says: {said.strip()}"
            yield process.pid
        finally:
            time.sleep(0.3)  # the last of it, while the client's images are known
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGINT)
            try:
                rest = process.communicate(timeout=60)[1]
            except subprocess.TimeoutExpired:
                process.kill()
                rest = process.communicate()[1]
                self.problem = "the tracer does not end"
            with (self.folder / "errors").open("a") as errors:
                errors.write(said + rest)


def _wait_for_searches(tracer: int) -> None:
    """Waits until the tracer has looked into the files of a new process, which it does not hold.

    Each search that takes long is a process of its own.
    """
    end_s = time.monotonic() + _SEARCHES_S
    quiet_s = time.monotonic()
    while time.monotonic() < min(end_s, quiet_s + _QUIET_S):
        children = [path.read_text() for path in Path(f"/proc/{tracer}/task").glob("*/children")]
        if "".join(children):
            quiet_s = time.monotonic()
        time.sleep(0.1)
