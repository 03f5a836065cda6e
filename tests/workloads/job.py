"""``job.py FOLDER FILES``: writes a project of small C files with a Makefile.

Then ``make -j1`` is a job of many short processes and files, as a compilation or a test run is.
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["COMMAND", "clean", "generate"]

COMMAND = ["make", "-j1", "--no-print-directory", "-s"]
SOURCE = """#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "job.h"

int part_{index}(int value)
{{
\tchar text[32];

\tsnprintf(text, sizeof(text), "%d", value + {index});
\treturn (int)strlen(text) + atoi(text);
}}
"""
MAKEFILE = """PARTS := $(patsubst %.c,%.o,$(sort $(wildcard part_*.c)))
job: main.o $(PARTS)
\t$(CC) -o $@ $^
%.o: %.c job.h
\t$(CC) -O1 -c -o $@ $<
"""


def generate(folder: Path, files: int) -> None:
    """Writes `files` sources, their header, a main program and the Makefile."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(files):
        (folder / f"part_{index}.c").write_text(SOURCE.format(index=index))
    calls = " + ".join(f"part_{index}(argc)" for index in range(files))
    (folder / "job.h").write_text("".join(f"int part_{index}(int value);\n" for index in range(files)))
    body = f"{{\n\t(void)argv;\n\treturn ({calls}) < 0;\n}}\n"
    (folder / "main.c").write_text(f'#include "job.h"\n\nint main(int argc, char **argv)\n{body}')
    (folder / "Makefile").write_text(MAKEFILE)


def clean(folder: Path) -> None:
    """Removes what make has made."""
    for path in (*folder.glob("*.o"), folder / "job"):
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    generate(Path(sys.argv[1]), int(sys.argv[2]))
