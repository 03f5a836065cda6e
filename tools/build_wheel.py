"""Builds the sdist and a self-contained abi3 wheel into dist/, and checks the wheel.

The wheel is built from the sdist, which so is known to be complete. libbpf, libelf and zlib come from this
system; its glibc, and what these three ask of it, decide how old a system the wheel can be installed on.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = ROOT / "dist"
WORK = ROOT / "build" / "wheel"
ARCHITECTURES = ("x86_64", "arm64")
BUNDLED = re.compile(r"lib(bpf|elf|z|zstd)\.so\.")  # zstd: newer libelfs need it


def run(*command: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a command and returns its output; ends the program with what it said if it fails."""
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\nexited with {done.returncode}:\n{done.stdout}")
    return done.stdout


def module(name: str, *arguments: str | Path, env: Mapping[str, str] | None = None) -> str:
    """Runs a module of this Python's."""
    return run(sys.executable, "-m", name, *arguments, env=env)


def only(folder: Path, pattern: str) -> Path:
    """The one path that matches."""
    (path,) = folder.glob(pattern)
    return path


def libraries_of(wheel: Path) -> list[Path]:
    """The system's libraries that go into the wheel."""
    with zipfile.ZipFile(wheel) as archive:
        (extension,) = (name for name in archive.namelist() if name.endswith(".abi3.so"))
        path = Path(archive.extract(extension, WORK / "extension"))
    found = re.findall(r"(\S+) => (\S+)", run("ldd", path))
    return [Path(where) for name, where in found if BUNDLED.match(name)]


def stage(libraries: list[Path], folder: Path) -> None:
    """Copies libraries for auditwheel to take, zlib under another name.

    auditwheel leaves libz.so.1 out, since manylinux promises it on every system: minimal containers, for
    which the wheel is meant too, do not keep that promise.
    """
    folder.mkdir()
    for library in libraries:
        target = folder / library.name
        shutil.copyfile(library, target)
        if library.name == "libz.so.1":
            target = target.rename(folder / "libz-bundled.so.1")
            run("patchelf", "--set-soname", target.name, target)
        run("patchelf", "--replace-needed", "libz.so.1", "libz-bundled.so.1", target)


def add_notices(wheel: Path, libraries: list[Path]) -> None:
    """Puts the licence notices of what was bundled into the wheel, named by package and version."""
    module("wheel", "unpack", "--dest", WORK / "unpacked", wheel)
    tree = only(WORK / "unpacked", "*")
    notices = only(tree, "*.dist-info") / "licenses" / "bundled"
    notices.mkdir(parents=True)
    for library in libraries:
        # Where /lib is a link to /usr/lib, dpkg may know the file by either path.
        package = run("dpkg-query", "--search", f"*/{library.resolve().name}").split(": ")[0]
        source = run("dpkg-query", "--show", "--showformat=${source:Package}_${source:Version}", package)
        notice = Path("/usr/share/doc", package.split(":")[0], "copyright")
        shutil.copyfile(notice, notices / f"{re.sub('_[0-9]+:', '_', source)}.txt")  # without the epoch
    module("wheel", "pack", "--dest-dir", wheel.parent, tree)


def check(wheel: Path) -> None:
    """Fails if the wheel is not what it is meant to be."""
    module("abi3audit", "--strict", wheel)
    objects = [path.name.replace(".c", ".o") for path in sorted((ROOT / "bpf").glob("*.bpf.c"))]
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        for wanted in (
            "libbpf-",
            "libelf-",
            "libz-",
            *(f"{arch}/{name}" for arch in ARCHITECTURES for name in objects),
            "licenses/bundled/",
        ):
            if not any(wanted in name for name in names):
                sys.exit(f"{wheel.name} has no {wanted}")
        for name in names:
            for path in (str(ROOT), sys.base_prefix + "/lib"):
                if ".so" in Path(name).name and path.encode() in archive.read(name):
                    sys.exit(f"{wheel.name}: {name} has {path} in it, a path of this machine")


def main() -> None:
    """Builds, repairs, checks."""
    os.environ["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"  # patchelf may be there only
    for folder in (DIST, WORK):
        shutil.rmtree(folder, ignore_errors=True)
    WORK.mkdir(parents=True)
    module("build", "--outdir", WORK / "raw", ".")
    raw = only(WORK / "raw", "*.whl")
    libraries = libraries_of(raw)
    stage(libraries, WORK / "libraries")
    search = {"LD_LIBRARY_PATH": str(WORK / "libraries")}
    module("auditwheel", "repair", "--strip", "--wheel-dir", DIST, raw, env=search)
    wheel = only(DIST, "*.whl")
    add_notices(wheel, libraries)
    check(wheel)
    shutil.copy(only(WORK / "raw", "*.tar.gz"), DIST)


if __name__ == "__main__":
    main()
