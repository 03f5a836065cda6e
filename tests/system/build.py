"""Small programs and libraries that the tests of this folder look at, map and run."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LIBRARY = """
#include <time.h>
#include <unistd.h>
#include <stdlib.h>
#include <stdio.h>
const char salt[] = "%d";
int SSL_read(void *ssl, void *buffer, int size) { return ssl == buffer ? size : size + 1; }
int SSL_write(void *ssl, const void *buffer, int size) { return ssl == buffer ? size : size + 2; }
__attribute__((constructor)) static void begin(void)
{
	struct timespec now;
	const char *path = getenv("LOADED_FILE");
	FILE *file = path ? fopen(path, "a") : NULL;

	clock_gettime(CLOCK_MONOTONIC, &now);
	if (file) {
		fprintf(file, "%%lld\\n", now.tv_sec * 1000000000LL + now.tv_nsec);
		fclose(file);
	}
}
"""
_PROGRAM = "int SSL_read(void *, void *, int); int main(void) { return SSL_read(0, 0, 7) - 7; }\n"
_salts = itertools.count(os.getpid() << 20)


def _compile(source: str, output: Path, *options: str) -> Path:
    command = ["gcc", "-O1", "-w", "-x", "c", "-", "-o", str(output), *options]
    subprocess.run(command, input=source, text=True, check=True, timeout=60)
    return output


def tls_library(folder: Path, name: str = "libssl.so.3") -> Path:
    """A library with SSL_read and SSL_write; each has other bytes. It notes the time when it is loaded."""
    return _compile(_LIBRARY % next(_salts), folder / name, "-shared", "-fPIC", "-Wl,--build-id")


def tls_program(folder: Path, name: str, *, static: bool = False) -> Path:
    """A program that has these functions in it, or is linked to a library of its own.

    The static one takes 0.2 s for each argument it is given.
    """
    output = folder / name
    if static:
        library = _LIBRARY % next(_salts)
        body = (
            library
            + "int main(int n, char **v) { usleep(200000 * (n - 1)); return SSL_read(0, 0, 7) - 7; }\n"
        )
        return _compile(body, output, "-static", "-Wl,--build-id")
    library_folder = folder / f"{name}.libs"
    library_folder.mkdir()
    library_path = tls_library(library_folder)
    return _compile(_PROGRAM, output, "-x", "none", str(library_path), f"-Wl,-rpath,{library_folder}")


_MAPPER = """
import mmap, os, sys
path = sys.argv[1]
if path == "memfd":
    fd = os.memfd_create("code")
    with open(sys.argv[2], "rb") as source:
        os.write(fd, source.read())
else:
    fd = os.open(path, os.O_RDONLY)
area = mmap.mmap(fd, 0, prot=mmap.PROT_READ | mmap.PROT_EXEC, flags=mmap.MAP_PRIVATE)
os.close(fd)
print("ready", flush=True)
sys.stdin.read()
"""


@contextmanager
def mapper(*arguments: str | Path, before: tuple[str, ...] = ()) -> Iterator[int]:
    """A process that maps a file (or a copy of one in a memfd) executable; gives its pid.

    Args:
        before: a command that starts it, and is replaced by it.
    """
    command = [*before, sys.executable, "-I", "-S", "-c", _MAPPER, *map(str, arguments)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            yield process.pid
        finally:
            process.kill()
