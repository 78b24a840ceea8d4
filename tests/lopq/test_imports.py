"""The library's imports: no cycle, nothing of the project around it, nothing slow at once."""

import ast
import subprocess
import sys
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(
        ".__init__"
    ): path.read_text()
    for path in (ROOT / "lopq").rglob("*.py")
    if path.stem != "setup"  # builds the package and is no part of it
}
OUTSIDE = {"retrieval", "process_data", "compcars", "train", "build_image_db", "benchmarks"}


@lru_cache
def imports_of(name: str, source: str) -> set[str]:
    """Return the absolute names of all imports, within functions and conditions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = ["lopq"][: 1 if node.level else 0]
            base = ".".join([*package, *([node.module] if node.module else [])])
            for alias in node.names:
                full = f"{base}.{alias.name}"
                found.add(full if full in MODULES else base)
    return found - {name}


def check(modules: dict[str, str]) -> None:
    graph = {name: imports_of(name, source) for name, source in modules.items()}
    for name, imported in graph.items():
        assert not {i.split(".")[0] for i in imported} & OUTSIDE, name
        assert "TYPE_CHECKING" not in modules[name], name
    TopologicalSorter(graph).prepare()


def test_imports_are_free_of_cycles_and_of_the_project() -> None:
    check(MODULES)


CYCLES = (
    "def late():\n    from lopq.model import LOPQModel",
    "def late():\n    import lopq.model",
    "from lopq import model",
    "from lopq import LOPQModel",
    "from .model import LOPQModel",
    "from . import model",
)
FORBIDDEN = (
    "def late():\n    import train",
    "from retrieval import cli",
    "from process_data.nns import run",
    "from typing import TYPE_CHECKING",
    "import typing\nif typing.TYPE_CHECKING:\n    import json",
)


def test_cycles_and_forbidden_imports_are_found() -> None:
    for lines, error in ((CYCLES, CycleError), (FORBIDDEN, AssertionError)):
        for line in lines:
            with pytest.raises(error):
                check({**MODULES, "lopq.storage": f"{MODULES['lopq.storage']}\n{line}\n"})


def test_importing_the_library_loads_numpy_alone() -> None:
    code = (
        "import sys, lopq\n"
        "print({name.split('.')[0] for name in sys.modules} & {'faiss', 'scipy', 'tqdm', 'numpy'})"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "{'numpy'}"
