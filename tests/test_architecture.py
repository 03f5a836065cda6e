"""Imports point one way, and what needs no extension works without it."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import ROOT

PACKAGE = ROOT / "libagenttracer"
# what each part may import of the package, besides itself; docs/architecture.md has the drawing
ALLOWED = {
    "errors": set[str](),
    "_lazy": set[str](),
    "binding": {"errors", "_lazy"},
    "locators": {"errors"},
    "events": {"errors"},
    "system": {"errors", "binding", "locators"},
    "runners": {"errors", "binding", "locators", "events", "analyzers", "system"},
    "analyzers": {"errors", "events", "_lazy"},
    "outputs": {"errors", "events"},
    "__init__": {"_lazy"},
    "__main__": {"cli"},
}
HEAVY = {"_cffi_backend", "cffi", "construct", "elftools", "click", "msgspec"}


def part_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def runtime_imports(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports, those in functions too, but not those that only type checkers see."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        else:
            yield from runtime_imports(node)


def imported_parts(source: str, path: Path) -> Iterator[tuple[int, str]]:
    """Line and part of the package for each import in a file's source."""
    package = ["libagenttracer", *path.relative_to(PACKAGE).parts[:-1]]
    for node in runtime_imports(ast.parse(source)):
        if isinstance(node, ast.Import):
            modules = [alias.name.split(".") for alias in node.names]
        elif node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".") * bool(
                node.module
            )
            modules = [[*base, alias.name] for alias in node.names]
        else:
            modules = [[*(node.module or "").split("."), alias.name] for alias in node.names]
        for module in modules:
            if module[0] == "libagenttracer" and len(module) > 1:
                yield node.lineno, module[1]


FILES = sorted(PACKAGE.rglob("*.py"))


def test_every_part_has_its_rule() -> None:
    assert {part_of(path) for path in FILES} <= {*ALLOWED, "cli"}
    assert len(FILES) > 30


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    part, imports = part_of(path), imported_parts(path.read_text(encoding="utf-8"), path)
    if part == "cli":  # the top: it may use everything but the entry point
        forbidden = [found for found in imports if found[1] == "__main__"]
    else:
        forbidden = [found for found in imports if found[1] not in ALLOWED[part] | {part}]
    assert forbidden == [], f"{path.name} imports (line, part)"


def test_the_rules_are_seen_to_be_broken() -> None:
    """The test above finds each way to write an import."""
    source = """
import libagenttracer.runners.ssl
from libagenttracer.cli import main
from ..outputs import Text
from .. import system
def late():
    from ..analyzers.http1 import Http1
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from ..runners import nothing
"""
    found = [part for _, part in imported_parts(source, PACKAGE / "events" / "imaginary.py")]
    assert found == ["runners", "cli", "outputs", "system", "analyzers"]


def modules_after(program: str) -> set[str]:
    """The modules that an interpreter has loaded after a program."""
    program += "\nimport json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_importing_the_package_imports_little() -> None:
    loaded = modules_after("import libagenttracer")
    assert "libagenttracer" in loaded
    assert HEAVY & loaded == set()
    assert {name for name in loaded if name.startswith("libagenttracer")} == {
        "libagenttracer",
        "libagenttracer._lazy",
    }


def test_errors_need_nothing_but_the_standard_library() -> None:
    assert HEAVY & modules_after("import libagenttracer.errors") == set()


def test_the_public_names_are_there() -> None:
    program = """
import libagenttracer
missing = [name for name in libagenttracer.__all__ if getattr(libagenttracer, name, None) is None]
assert not missing, missing
try:
    libagenttracer.no_such_name
except AttributeError as error:
    assert "no_such_name" in str(error)
else:
    raise SystemExit("an unknown name was found")
"""
    modules_after(program)


BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("cffi", "_cffi_backend") or name.endswith("._libbpf"):
            raise ImportError(f"{name} is blocked")

sys.meta_path.insert(0, Blocker())
"""


@pytest.mark.parametrize(
    "use",
    [
        "from libagenttracer.binding.layout import record_class, Record",
        "from libagenttracer.binding import record_class, Record",
        "from libagenttracer.binding.btf import struct_members",
        "from libagenttracer.locators import locate_all",
        "from libagenttracer.events import from_json, to_json, json_schema; json_schema()",
        "from libagenttracer.outputs import JsonLines, Text; Text(sys.stderr)",
        "from libagenttracer.runners.records import SslDataRecord",
        "from libagenttracer.runners.ssl_decoder import SslDecoder",
        "from libagenttracer import replay, from_json; list(replay('/dev/null'))",
        "import libagenttracer.analyzers" if (PACKAGE / "analyzers").exists() else "import libagenttracer",
    ],
)
def test_what_works_without_the_extension(use: str) -> None:
    loaded = modules_after(BLOCKER + use)
    assert "libagenttracer.binding._libbpf" not in loaded
    assert "_cffi_backend" not in loaded


def test_what_needs_the_extension_says_so() -> None:
    modules_after(
        BLOCKER
        + """
try:
    from libagenttracer import ObjectSpec
except ImportError as error:
    assert "blocked" in str(error)
else:
    raise SystemExit("the blocker blocks nothing")
"""
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_modules_are_short_and_say_what_they_are_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 420, "split it"
    assert ast.get_docstring(ast.parse(text)), "what is it for?"
