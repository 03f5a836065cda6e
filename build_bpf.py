"""Compiles bpf/*.bpf.c for every architecture into libagenttracer/bpf_objects/ARCH/, and checks layouts.

python build_bpf.py            compile what is out of date
python build_bpf.py --force    compile everything
python build_bpf.py --check    compare the objects' BTF with the record layouts that Python declares

The same sources and compiler give the same bytes: no path, date or debug section gets into an object.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
SOURCES = ROOT / "bpf"
OBJECTS = ROOT / "libagenttracer" / "bpf_objects"
ARCHITECTURES = {"x86_64": "x86", "arm64": "arm64"}  # folder: libbpf's __TARGET_ARCH_ name
FLAGS = ["-O2", "-g", "-Wall", "-Wextra", "-Werror", "-target", "bpf", "-mcpu=v3"]


def tool(names: str, variable: str) -> str:
    """The path of the first of these programs that exists, or of the one an environment variable names."""
    for name in [os.environ.get(variable, ""), *names.split()]:
        if name and (path := shutil.which(name)):
            return path
    sys.exit(f"build_bpf.py: none of {names} found: install clang and llvm (Debian: apt install clang llvm)")


def newest_source() -> float:
    """When the sources, or this program, were last changed."""
    return max(path.stat().st_mtime for path in [*SOURCES.iterdir(), Path(__file__)])


def compile_object(clang: str, strip: str, source: Path, arch: str, target: Path) -> None:
    """Compiles one source; paths in it are relative, so that it does not matter where the project lies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".tmp")
    command = [clang, *FLAGS, f"-D__TARGET_ARCH_{ARCHITECTURES[arch]}", "-fdebug-compilation-dir=."]
    if extra := os.environ.get("BPF_CFLAGS"):
        command += extra.split()
    subprocess.run([*command, "-Ibpf", "-c", f"bpf/{source.name}", "-o", str(scratch)], cwd=ROOT, check=True)
    subprocess.run([strip, "-g", str(scratch)], check=True)  # DWARF goes, BTF stays
    scratch.rename(target)


def build(force: bool) -> int:
    """Compiles what is out of date; returns how many objects that were."""
    changed = newest_source()
    wanted = [
        (source, arch, OBJECTS / arch / source.name.replace(".c", ".o"))
        for arch in ARCHITECTURES
        for source in sorted(SOURCES.glob("*.bpf.c"))
    ]
    stale = [item for item in wanted if force or not item[2].exists() or item[2].stat().st_mtime < changed]
    if not stale:
        return 0
    clang, strip = (
        tool("clang clang-19 clang-16 clang-15 clang-14", "CLANG"),
        tool("llvm-strip llvm-strip-19 llvm-strip-16 llvm-strip-15 llvm-strip-14", "LLVM_STRIP"),
    )
    for source, arch, target in stale:
        print(f"{source.relative_to(ROOT)} -> {target.relative_to(ROOT)}", file=sys.stderr)
        compile_object(clang, strip, source, arch, target)
    return len(stale)


def check() -> int:
    """Holds every declared layout against every object's BTF; prints differences; returns their number."""
    from libagenttracer.binding.btf import struct_members
    from libagenttracer.binding.layout import fields_of
    from libagenttracer.runners.records import LAYOUTS

    problems, seen = [], set()
    for path in sorted(OBJECTS.glob("*/*.bpf.o")):
        structs = struct_members(path.read_bytes())
        for name, layout in LAYOUTS.items():
            if name not in structs:
                continue
            seen.add(name)
            # padding has no name here, and is called so there
            declared = [(field.name or "reserved", field.offset, field.size) for field in fields_of(layout)]
            compiled = [(m.name, m.offset, -1 if m.flexible else m.size) for m in structs[name]]
            if problem := difference(declared, compiled):
                problems.append(f"{path.relative_to(ROOT)}: struct {name}: {problem}")
    problems += [f"struct {name} is in no object" for name in LAYOUTS if name not in seen]
    for problem in problems:
        print(problem, file=sys.stderr)
    if not problems:
        print(f"{len(seen)} layouts agree with the objects")
    return len(problems)


def difference(declared: list[tuple[str, int, int]], compiled: list[tuple[str, int, int]]) -> str:
    """The first place in which two layouts differ, or ""; a fixed tail in C may be a variable one here."""
    for ours, theirs in zip(declared, compiled, strict=False):
        tail = ours[2] < 0 and ours is declared[-1]
        if ours[:2] != theirs[:2] or (ours[2] != theirs[2] and not tail):
            return f"declared (name, offset, size) {ours}, compiled {theirs}"
    if len(declared) != len(compiled):
        return f"{len(declared)} fields declared, {len(compiled)} compiled"
    return ""


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--force", action="store_true", help="compile even what is up to date")
    parser.add_argument("--check", action="store_true", help="compare record layouts with the objects' BTF")
    options = parser.parse_args()
    if options.check:
        return 1 if check() else 0
    build(options.force)
    return 0


if __name__ == "__main__":
    sys.exit(main())
