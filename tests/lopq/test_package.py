"""The folder as a package of its own: built, unpacked elsewhere, and used from there."""

import re
import shutil
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE = ROOT / "lopq"

# The documents' examples come between these two.
BEFORE = """
import os, sys
sys.path.insert(0, sys.argv[1])
import numpy as np
import lopq
assert os.path.dirname(lopq.__file__) == os.path.join(sys.argv[1], "lopq"), lopq.__file__
X = np.random.default_rng(0).normal(size=(1500, 32)).astype(np.float32)
Q = X[:50]
"""
AFTER = """
assert ids.shape == scores.shape == (50, 10)
assert (ids[:, 0] == np.arange(50)).mean() > 0.9
assert model.encode(Q).fine.shape == (50, 16)
assert len(searcher) == 1500
"""


def files() -> dict[Path, bytes]:
    paths = (path for path in SOURCE.rglob("*") if "__pycache__" not in path.parts)
    return {path: path.read_bytes() for path in paths if path.is_file()}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel that pip builds from the folder; building leaves the folder as it was."""
    folder, before = tmp_path_factory.mktemp("wheel"), files()
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "wheel", *offline, "-w", str(folder), str(SOURCE)]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert files() == before
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_the_library_and_its_license(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        modules = {str(path.relative_to(ROOT)) for path in SOURCE.rglob("*.py")} - {"lopq/setup.py"}
        assert {n for n in names if n.startswith("lopq/")} == modules | {"lopq/py.typed"}
        (info,) = (n for n in names if n.endswith("/METADATA"))
        metadata = Parser().parsestr(archive.read(info).decode())
        (copied,) = (n for n in names if n.endswith("/LICENSE"))
        assert archive.read(copied) == (ROOT / "LICENSE").read_bytes()
    assert metadata["Name"] == "lopq"
    assert metadata["License-Expression"] == "MIT"
    needed = {re.split(r"[<>=]", line)[0] for line in metadata.get_all("Requires-Dist", [])}
    assert needed == {"faiss-cpu", "numba", "numpy", "scipy", "threadpoolctl", "tqdm"}


def test_requirements_are_those_of_the_project() -> None:
    listed = (ROOT / "requirements.txt").read_text()
    dependencies = re.search(
        r"^dependencies = \[(.*)\]$", (SOURCE / "pyproject.toml").read_text(), re.M
    )
    assert dependencies
    for requirement in re.findall(r'"([^"]+)"', dependencies[1]):
        assert re.search(rf"^{re.escape(requirement)}\b", listed, re.M), requirement


def test_the_examples_run_on_the_wheel_alone(wheel: Path, tmp_path: Path) -> None:
    unpacked = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(unpacked)
    (unpacked / "lopq" / "__pycache__").mkdir()
    for compiled in SOURCE.glob("__pycache__/*.nb?"):  # machine code: making it takes seconds
        shutil.copy2(compiled, unpacked / "lopq" / "__pycache__")
    program = BEFORE
    for document in ("docs/lopq.md", "lopq/README.md"):
        (example,) = re.findall(r"```python\n(.*?)```", (ROOT / document).read_text(), re.S)
        program += example + AFTER
    command = [sys.executable, "-I", "-c", program, str(unpacked)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
