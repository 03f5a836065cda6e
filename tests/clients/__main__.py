"""Runs the table; see the package."""

from __future__ import annotations

import argparse
import fnmatch
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .check import Verdict, compare
from .install import CACHE, Unavailable
from .run import MODES, Outcome, run_client
from .table import CLIENTS, Client
from .truth import Authority, make_authority

RUNS = CACHE / "runs"
_COLUMNS = "{:<20} {:<14} {:<20} {:<9} {:>5} {:>10} {:>10} {:>9} {:>5}  {}"
# A line of what the tracer says of a library at its end: "  PATH (STACK VERSION; STACK VERSION): …".
_LIBRARY = re.compile(r"^  (/.*) \((.*)\): ", re.MULTILINE)


@dataclass
class Row:
    """A line of the table."""

    client: Client
    mode: str
    version: str
    verdict: Verdict
    seconds: float
    stacks: list[str]  # as the tracer calls them
    result: str  # "ok", "FAILED" or "not installed"

    def text(self) -> str:
        found = self.verdict
        stack = ", ".join(self.stacks) or self.client.stack
        addresses = f"{found.addresses}/{found.connections}"
        numbers = (found.connections, found.sent, found.received, addresses)
        names = (self.client.name, self.version[:14], stack[:20], self.mode)
        lines = [_COLUMNS.format(*names, *numbers, f"{self.seconds:.1f}", self.result)]
        lines += [f"    {problem}" for problem in found.problems[:6]]
        if len(found.problems) > 6:
            lines.append(f"    … and {len(found.problems) - 6} more")
        return "\n".join(lines)


class Table:
    """Runs clients; each untraced first, once."""

    def __init__(self, authority: Authority, *, addresses: bool) -> None:
        self._authority = authority
        self._addresses = addresses
        self._untraced: dict[str, Outcome] = {}
        self._versions: dict[str, str] = {}
        self._locks = {name: threading.Lock() for name in CLIENTS}

    def row(self, mode: str, client: Client) -> Row:
        """One run; what can't be installed is said in the result."""
        try:
            with self._locks[client.name]:
                if client.name not in self._untraced:
                    self._versions[client.name] = _version(client)
                    self._untraced[client.name] = self._run(client, "untraced")
            plain = self._untraced[client.name]
            verdict, traced = self._judge(client, plain, mode)
        except Unavailable as error:
            return Row(client, mode, "", Verdict([str(error)]), 0.0, [], "not installed")
        except Exception as error:  # the others are run all the same
            return Row(client, mode, "", Verdict([f"{type(error).__name__}: {error}"]), 0.0, [], "FAILED")
        version = self._versions[client.name]
        stacks = [
            stack
            for path, found in _LIBRARY.findall(traced.errors if mode != "untraced" else "")
            if path in verdict.libraries
            for stack in found.split("; ")
        ]
        # "openssl 3.0.17", "go1.27.3"
        own = [stack for stack in stacks if stack.split()[0].rstrip("0123456789.") == client.stack]
        if stacks and not own:
            verdict.problems.append(f"it is {client.stack}, not {', '.join(stacks)}")
        result = "FAILED" if verdict.problems else "ok"
        return Row(client, mode, version, verdict, traced.seconds, own, result)

    def _run(self, client: Client, mode: str) -> Outcome:
        return run_client(client, self._authority, RUNS / f"{client.name}-{mode}", mode)

    def _judge(self, client: Client, plain: Outcome, mode: str) -> tuple[Verdict, Outcome]:
        if plain.problem or plain.status or client.says not in plain.output:
            last = plain.errors.strip().rpartition("\n")[2]
            return Verdict([f"untraced: {plain.problem or f'exit status {plain.status}'} {last}"]), plain
        traced = self._run(client, mode)
        if traced.recording is None:
            same = client.compared(traced.output) == client.compared(plain.output)
            return Verdict([] if same else ["its output is another each time"]), traced
        if not traced.recording.exists() or (not traced.recording.stat().st_size and not traced.truth):
            last = traced.errors.strip().rpartition("\n")[2]
            return Verdict([f"there is no recording: {traced.problem} {last}"]), traced
        verdict = compare(traced.recording, [] if client.unreachable else traced.truth)
        found: list[str] = [traced.problem] if traced.problem else []
        if traced.status != plain.status:
            found.append(f"exit status {traced.status}, untraced {plain.status}")
        if client.compared(traced.output) != client.compared(plain.output):
            found.append(f"other output than untraced: see {RUNS / f'{client.name}-{mode}'}")
        if self._addresses and verdict.addresses != verdict.connections:
            found.append(f"addresses of {verdict.connections - verdict.addresses} connections are unknown")
        if client.unreachable not in traced.errors:
            found.append(f"the tracer does not say: {client.unreachable}")
        verdict.problems[:0] = found
        return verdict, traced


def _version(client: Client) -> str:
    program = client.program()
    if not client.version:
        return ""
    with tempfile.TemporaryDirectory() as home:
        done = subprocess.run(
            [program, *client.version], capture_output=True, text=True, check=False, timeout=60,
            env={"HOME": home, "PATH": "/usr/bin:/bin"}, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    lines = [line for line in (done.stdout or done.stderr).splitlines() if line]
    words = (lines[-1 if "codex" in program.name else 0] if lines else "").split()
    numbers = [word for word in words if any(c.isdigit() for c in word)]
    return numbers[0].removeprefix("v") if numbers else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description=__doc__)
    parser.add_argument("names", nargs="*", help="clients, or patterns: node-* (default: all)")
    parser.add_argument(
        "--mode", action="append", choices=[*MODES, "untraced"], help="how they are traced (default: all)"
    )
    parser.add_argument("--all", action="store_true", help="those that take long too")
    parser.add_argument("--list", action="store_true", help="the clients and the modes")
    parser.add_argument("--install", action="store_true", help="install them only")
    parser.add_argument("--jobs", type=int, default=1, help="runs at the same time")
    parser.add_argument("--addresses", action="store_true", help="fail where an address is unknown")
    parser.add_argument("--keep", action="store_true", help="keep recordings of runs that went well")
    options = parser.parse_args()
    if options.list:
        for client in CLIENTS.values():
            print(f"{client.name:<20} {client.stack}{'  (with --all, or by name)' if client.slow else ''}")
        for mode, text in MODES.items():
            print(f"{mode:<20} {text}")
        return 0
    chosen = [client for client in CLIENTS.values() if _wanted(client, options)]
    if not chosen:
        parser.error("there is no such client: --list tells them")
    modes = options.mode or list(MODES)
    if options.install:
        return _install(chosen)
    work = [
        (mode, client) for client in chosen for mode in modes if mode != "chroot" or client.name in CHROOT
    ]
    return _run(work, options)


# Clients that need no more than their program, its libraries and the authority's certificate.
CHROOT = {"curl", "curl-http2", "wget", "wget-post", "gnutls-cli", "go-plain", "go-stripped"}


def _wanted(client: Client, options: argparse.Namespace) -> bool:
    if options.names:
        return any(fnmatch.fnmatchcase(client.name, pattern) for pattern in options.names)
    return options.all or not client.slow


def _install(chosen: list[Client]) -> int:
    problems = 0
    for client in chosen:
        try:
            print(f"{client.name:<20} {_version(client):<14} {client.program()}")
        except Unavailable as error:
            problems += 1
            print(f"{client.name:<20} {error}")
    return int(bool(problems))


def _run(work: list[tuple[str, Client]], options: argparse.Namespace) -> int:
    RUNS.mkdir(parents=True, exist_ok=True)
    rows: list[Row] = []
    header = ("client", "version", "stack", "how", "conn", "sent", "received", "addresses", "s")
    print(_COLUMNS.format(*header, "result"), flush=True)
    with tempfile.TemporaryDirectory(prefix="clients-") as folder, ThreadPoolExecutor(options.jobs) as pool:
        table = Table(make_authority(Path(folder)), addresses=options.addresses)
        for done in [pool.submit(partial(table.row, mode, client)) for mode, client in work]:
            rows.append(row := done.result())
            print(row.text(), flush=True)
            if row.result == "ok" and not options.keep:
                shutil.rmtree(RUNS / f"{row.client.name}-{row.mode}", ignore_errors=True)
    counts = {
        result: sum(row.result == result for row in rows) for result in ("ok", "FAILED", "not installed")
    }
    print(", ".join(f"{count} {result}" for result, count in counts.items()))
    return int(counts["FAILED"] > 0 or counts["ok"] == 0)


if __name__ == "__main__":
    sys.exit(main())
