"""OpenSSL versions other than the system's, taken from wheels that bundle them.

They come as shared libraries with a hashed name (``libssl-8bd944e8.so.3``), just as a
traced program may have them. ``tls_pair.c`` is compiled against each; programs that need
the system's ``libssl.so.3`` can run on a bundled 3.x through ``library_path()``.
"""

from __future__ import annotations

import platform
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["WHEELS", "Bundled", "Unavailable", "Wheel", "compile_tls_pair", "fetch", "library_path"]

TLS_PAIR = Path(__file__).resolve().parent / "tls_pair.c"


@dataclass(frozen=True)
class Wheel:
    requirement: str
    openssl: str
    write_ex2: bool  # 3.3 and later: SSL_write_ex is a jump to SSL_write_ex2


@dataclass(frozen=True)
class Bundled:
    wheel: Wheel
    libssl: Path
    libcrypto: Path


class Unavailable(Exception):
    """A wheel could not be had: no network, or none for this machine."""


WHEELS = [
    Wheel("psycopg2-binary==2.9.5", "1.1.1r", write_ex2=False),
    Wheel("psycopg2-binary==2.9.13", "3.5.8", write_ex2=True),
    Wheel("pycurl==7.49.0", "3.6.5", write_ex2=True),
]


def fetch(wheel: Wheel, cache: Path) -> Bundled:
    """Download the wheel (once) into ``cache`` and return the libraries in it."""
    directory = cache.resolve() / wheel.requirement.replace("==", "-")
    if not (directory / "complete").exists():
        directory.mkdir(parents=True, exist_ok=True)
        _download(wheel, directory)
        for path in directory.glob("*.whl"):
            with zipfile.ZipFile(path) as archive:
                archive.extractall(directory, [name for name in archive.namelist() if ".libs/" in name])
            path.unlink()
        (directory / "complete").touch()
    try:
        (libssl,) = directory.glob("*.libs/libssl-*")
        (libcrypto,) = directory.glob("*.libs/libcrypto-*")
    except ValueError as error:
        raise Unavailable(f"{wheel.requirement} has no single libssl and libcrypto") from error
    return Bundled(wheel, libssl, libcrypto)


def _download(wheel: Wheel, directory: Path) -> None:
    # One Python version for all, because only the libraries matter: the tests may run on
    # a Python for which the old wheels were never built.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(directory)]
    command += ["--only-binary", ":all:", "--implementation", "cp", "--python-version", "3.11"]
    for policy in ("manylinux2014", "manylinux_2_17", "manylinux_2_28"):
        command += ["--platform", f"{policy}_{platform.machine()}"]
    done = subprocess.run([*command, wheel.requirement], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unavailable(f"{wheel.requirement}: {done.stderr.strip()}")


def compile_tls_pair(output: Path, bundled: Bundled | None = None) -> Path:
    """Compile ``tls_pair.c`` against bundled libraries, or without any the system's."""
    command = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-pthread", "-o", str(output), str(TLS_PAIR)]
    if bundled is None:
        command += ["-lssl", "-lcrypto"]
    else:
        # Both are named: a 1.1 libssl has no path to its own libcrypto, but finds it loaded.
        command += [str(bundled.libssl), str(bundled.libcrypto), f"-Wl,-rpath,{bundled.libssl.parent}"]
    subprocess.run(command, check=True)
    return output


def library_path(bundled: Bundled, directory: Path) -> str:
    """An ``LD_LIBRARY_PATH`` that makes any program for ``libssl.so.3`` use these instead."""
    if bundled.libssl.suffix != ".3":
        raise ValueError(f"{bundled.libssl.name} can't stand in for libssl.so.3")
    directory.mkdir(parents=True, exist_ok=True)
    for name, library in (("libssl.so.3", bundled.libssl), ("libcrypto.so.3", bundled.libcrypto)):
        link = directory / name
        link.unlink(missing_ok=True)
        link.symlink_to(library.resolve())
    return str(directory)
