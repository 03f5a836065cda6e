"""Describes the extension module `libagenttracer.binding._libbpf` (API mode, out of line, abi3)."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent

ffibuilder = FFI()
ffibuilder.cdef((HERE / "libbpf.cdef.h").read_text())
ffibuilder.set_source(
    "libagenttracer.binding._libbpf",
    '#include "shim.h"\n',
    sources=["_cffi_build/shim.c"],
    depends=["_cffi_build/shim.h", "_cffi_build/libbpf.cdef.h"],
    include_dirs=["_cffi_build"],
    libraries=["bpf"],
    define_macros=[("Py_LIMITED_API", "0x030A0000")],
    extra_compile_args=["-O2", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-unused-function"],
    py_limited_api=True,
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
