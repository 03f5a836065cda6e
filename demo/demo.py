"""Shows the main job on real traffic: unmodified clients talk TLS, and the tracer shows what they said.

A local HTTPS server answers like an LLM API; curl and Python's http.client ask it something while
libagenttracer watches from outside. Only loopback traffic. Exits with 1 if a byte is missing.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from tests.workloads import clients
from tests.workloads.recording import conversations
from tests.workloads.server import Connection, LocalServer

WIDTH = 96
TIME_LIMIT_S = 60
BODY = '{"model": "demo", "stream": %s, "messages": [{"role": "user", "content": "What can you see?"}]}'


def say(text: str) -> None:
    """One paragraph of explanation."""
    print(textwrap.fill(text, WIDTH), end="\n\n")


def show_command(command: list[str]) -> None:
    """A command as a user would type it, within the width."""
    line = "$"
    for word in command:
        quoted = shlex.quote(word)
        if len(line) + len(quoted) > WIDTH - 3:
            print(line, "\\")
            line = "   "
        line += f" {quoted}"
    print(line)


def show_output(text: str) -> None:
    """What the tracer printed: set off from our text, and within the width."""
    for line in re.sub("\n{3,}", "\n\n", text).splitlines():
        for part in textwrap.wrap(line, WIDTH - 2, subsequent_indent="    ", break_on_hyphens=False) or [""]:
            print(f"| {part}".rstrip())
    print()


def tracer(*arguments: str, client: clients.Client | None = None) -> str:
    """Runs the command line as a user would, and returns what it printed."""
    command = [sys.executable, "-m", "libagenttracer", *arguments]
    done = subprocess.run(
        command,
        input=client.stdin if client else b"",
        env={**os.environ, **(client.env if client else {})},
        capture_output=True,
        timeout=TIME_LIMIT_S,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{shlex.join(command)} failed:\n{done.stderr.decode(errors='replace')}")
    return done.stdout.decode()


def watch(client: clients.Client, recording: Path) -> None:
    """Runs a client under the tracer, and shows the recording as text."""
    show_command(["libagenttracer", "ssl", "-o", recording.name, "--", *client.argv])
    tracer("ssl", "-o", str(recording), "--", *client.argv, client=client)
    show_command(["libagenttracer", "replay", "--format", "text", recording.name])
    show_output(tracer("replay", "--format", "text", str(recording)))


def is_complete(recording: Path, log: Connection) -> bool:
    """Whether the recording has what the server received and sent, to the byte; says so."""
    try:
        (one,) = conversations(recording)
    except ValueError as error:
        print(f"the recording is not what it should be: {error}")
        return False
    same = one.sent == log.received and one.received == log.sent
    print(
        f"{one.comm}[{one.pid}]: captured {len(one.sent)} bytes of request, {len(one.received)} of answer:",
        "the same bytes that the server saw." if same else "but the server saw OTHER bytes!",
        end="\n\n",
    )
    return same


def main() -> int:
    """Two clients, one after the other."""
    complete = True
    with LocalServer(delay=0.05) as server, tempfile.TemporaryDirectory() as folder:
        url, ca = f"{server.url}/v1/chat/completions", server.ca_path
        scenes = [
            (
                "1. curl asks a (local) LLM API over TLS and gets a stream of events. Each block below is "
                "one call of OpenSSL in curl's process: time, command[pid], -> sent or <- received, "
                "[connection], and the plaintext. On the wire all of it was encrypted.",
                clients.curl(url, ca, (BODY % "true").encode()),
            ),
            (
                "2. The same from Python's http.client, asking for the answer in one piece. Neither program "
                "was changed or told anything: the probes sit in the shared library.",
                clients.http_client(url, ca, (BODY % "false").encode()),
            ),
        ]
        for number, (explanation, client) in enumerate(scenes, 1):
            say(explanation)
            recording = Path(folder) / f"demo{number}.jsonl"
            watch(client, recording)
            server.wait_closed()
            complete &= is_complete(recording, server.log[-1])
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
