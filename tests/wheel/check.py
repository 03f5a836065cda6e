"""Installs the wheel of dist/ on each CPython that there is, and traces with it: `make test-wheel`.

Each Python gets a clean virtual environment. The tracer runs in a mount namespace in which the system's
libbpf and libelf, compilers and headers are hidden, so that what it uses can only come from the wheel.
Needs root, and an index for the wheel's dependencies.
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.workloads import clients
from tests.workloads.recording import conversations
from tests.workloads.server import LocalServer

ROOT = Path(__file__).resolve().parents[2]
VERSIONS = ["3.10", "3.11", "3.12", "3.13"]
BUNDLED = ("libbpf", "libelf", "libz-bundled")
BODY = b'{"model": "local", "stream": true, "messages": [{"role": "user", "content": "Who? \xc3\xbc"}]}'
# Prints the libraries that the installed extension has brought into the process.
SHOW_LIBRARIES = """\
import libagenttracer.binding._libbpf
for line in open("/proc/self/maps"):
    path = line.split(None, 5)[-1].strip()
    if "libagenttracer" in path or "libbpf" in path or "libelf" in path:
        print(path)
"""


class Failure(Exception):
    """The wheel does not do what it should."""


def find_python(version: str) -> Path | None:
    """An interpreter of this version: on the PATH, or one of pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    candidates = [shutil.which(f"python{version}"), *sorted(pyenv.glob(f"{version}.*/bin/python{version}"))]
    for candidate in candidates:
        # pyenv's stand-ins on the PATH exist for versions that are not chosen too, and fail.
        if candidate and call([candidate, "-c", ""]).returncode == 0:
            return Path(candidate)
    return None


def call(command: list[str | Path], **options: object) -> subprocess.CompletedProcess[bytes]:
    """Runs a command and keeps its output."""
    return subprocess.run(command, capture_output=True, timeout=300, check=False, **options)  # type: ignore[call-overload,no-any-return]


def hidden() -> list[Path]:
    """What the tracer must do without: compilers, and what a build would link or include."""
    programs = [
        Path(folder) / name for folder in ("/usr/bin", "/usr/local/bin") for name in ("gcc", "cc", "clang")
    ]
    libraries = [
        path for folder in ("/usr/lib", "/usr/lib64", "/usr/local/lib")
        for pattern in ("libbpf*", "libelf*", "*/libbpf*", "*/libelf*")
        for path in Path(folder).glob(pattern)
    ]  # fmt: skip
    headers = [Path("/usr/include/bpf"), Path("/usr/include/libelf.h")]
    return sorted({path.resolve() for path in [*programs, *libraries, *headers] if path.exists()})


def without(paths: list[Path], empty: Path) -> list[str]:
    """A command prefix: runs what follows where these files and folders are empty."""
    lines = [
        f"mount --bind {empty / 'folder' if path.is_dir() else '/dev/null'} {shlex.quote(str(path))}"
        for path in paths
    ]
    return ["unshare", "--mount", "sh", "-ec", "\n".join([*lines, 'exec "$@"']), "sh"]


def expect_own_libraries(python: Path, prefix: list[str], folder: Path) -> None:
    """All of the extension's libraries come from the wheel."""
    done = call([*prefix, python, "-c", SHOW_LIBRARIES], cwd=folder)
    if done.returncode:
        raise Failure(f"it cannot be imported:\n{done.stderr.decode()}")
    loaded = set(done.stdout.decode().split())
    foreign = {path for path in loaded if "/site-packages/" not in path}
    missing = {name for name in BUNDLED if not any(f"libagenttracer.libs/{name}-" in path for path in loaded)}
    if foreign or missing:
        raise Failure(
            f"loaded from elsewhere: {foreign or 'nothing'}; not from the wheel: {missing or 'nothing'}"
        )


def expect_trace(python: Path, prefix: list[str], folder: Path) -> str:
    """Traces curl; returns how much was seen."""
    programs = folder / "bin"
    programs.mkdir()
    (programs / "curl").symlink_to(shutil.which("curl") or "/usr/bin/curl")
    recording = folder / "trace.jsonl"
    with LocalServer() as server:
        client = clients.curl(f"{server.url}/v1/chat/completions", server.ca_path, BODY)
        command: list[str | Path] = [
            *prefix,
            "env",
            f"PATH={programs}",
            python,
            "-m",
            "libagenttracer",
            "ssl",
            "-o",
            recording,
        ]
        done = call(
            [*command, "--", *client.argv], input=client.stdin, env={**os.environ, **client.env}, cwd=folder
        )
        server.wait_closed()
        if done.returncode:
            raise Failure(f"the tracer exited with {done.returncode}:\n{done.stderr.decode()}")
        log = server.log[-1]
    seen = conversations(recording)
    if [(one.comm, one.sent, one.received) for one in seen] != [("curl", log.received, log.sent)]:
        raise Failure(f"captured {seen}, but the server received {log.received!r} and sent {log.sent!r}")
    return f"request {len(log.received)} bytes, answer {len(log.sent)} bytes, both exact"


def check(interpreter: Path, wheel: Path) -> str:
    """Installs and traces; returns what was seen."""
    with tempfile.TemporaryDirectory(prefix="test-wheel-") as name:
        folder = Path(name)
        (folder / "folder").mkdir()
        prefix = without(hidden(), folder)
        python = folder / "venv" / "bin" / "python"
        if call([interpreter, "-m", "venv", folder / "venv"]).returncode:
            raise Failure("it cannot make a virtual environment")
        pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]
        installed = call([*prefix, python, *pip, wheel], cwd=folder)
        if installed.returncode:
            raise Failure(f"it cannot be installed:\n{installed.stderr.decode()}")
        expect_own_libraries(python, prefix, folder)
        return expect_trace(python, prefix, folder)


def main() -> int:
    """All versions, one line each; fails if one does, or if there is none at all."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("versions", nargs="*", default=VERSIONS, help="such as 3.12; default: all")
    options = parser.parse_args()
    (wheel,) = (ROOT / "dist").glob("*.whl")
    counts = {"passed": 0, "failed": 0, "missing": 0}
    print(wheel.name, flush=True)
    for version in options.versions:
        begin = time.monotonic()
        interpreter = find_python(version)
        if interpreter is None:
            verdict, detail = "missing", "no such Python here"
        else:
            try:
                verdict, detail = "passed", check(interpreter, wheel)
            except (Failure, ValueError, subprocess.SubprocessError) as problem:
                verdict, detail = "failed", str(problem)
        counts[verdict] += 1
        print(f"Python {version:<5} {verdict:<8} {time.monotonic() - begin:4.0f} s  {detail}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return 0 if counts["passed"] and not counts["failed"] else 1


if __name__ == "__main__":
    sys.exit(main())
