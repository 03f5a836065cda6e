"""What pyproject.toml cannot say: the cffi extension, its abi3 tag, and the check for the BPF objects."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

OBJECTS = Path(__file__).parent / "libagenttracer" / "bpf_objects"


class BuildWithObjects(build_py):  # type: ignore[misc]  # setuptools is untyped
    """Refuses to build a package that could not trace anything."""

    def run(self) -> None:
        """Checks, then builds."""
        if not list(OBJECTS.glob("*/*.bpf.o")):
            raise SystemExit(
                "the compiled BPF objects are missing: run 'python build_bpf.py' first "
                "(it needs clang with the BPF target and libbpf's headers)"
            )
        super().run()


setup(
    cffi_modules=["_cffi_build/builder.py:ffibuilder"],
    cmdclass={"build_py": BuildWithObjects},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
