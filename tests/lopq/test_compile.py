"""Machine code of the loops: compiled once, kept where a folder can be written, else not."""

import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from lopq.kernels import kernel

ROOT = Path(__file__).resolve().parents[2]
USE = """
import sys
import numpy as np
import lopq.compile
from lopq import LOPQModel, LOPQSearcher

lopq.compile.main()
print("compiled", flush=True)
rows = np.random.default_rng(1).normal(size=(60, 8)).astype(np.float32)
for options in ({}, {"split": "multi"}, {"bits": 4, "rotations": 1}):
    model = LOPQModel(2, 4, 16, **options).fit(rows[:40])
    searcher = LOPQSearcher(model, keep="int8")
    for some in (rows[:50], rows[50:52]):
        searcher.add_data(some)
    searcher.remove([3])
    searcher.search(rows, 5, quota=20, allowed=np.arange(52) % 2 == 0)
    searcher.search(rows[:1], 5, rerank=10)
    model.reconstruct(model.encode(rows[:1]))
"""


def test_what_make_compiles_is_all_that_later_calls_need() -> None:
    environment = {**os.environ, "NUMBA_DEBUG_CACHE": "1"}
    command = [sys.executable, "-c", USE]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    before, after = result.stdout.split("compiled\n")
    assert "[cache]" in before
    assert "[cache]" not in after


def test_without_a_file_there_is_no_cache_and_no_error() -> None:
    """numba finds no folder, as in a container with read-only code and no home."""
    names: dict[str, object] = {}
    exec("def twice(x):\n    return 2 * x", names)
    assert kernel(names["twice"])(2) == 4  # type: ignore[operator,type-var]


def test_a_full_disk_costs_the_cache_alone(
    small_disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(small_disk / "cache"))
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "doubled.py").write_text("def twice(x):\n    return 2 * x\n")
    from doubled import twice

    double = kernel(twice)
    (small_disk / "full").write_bytes(b"")
    with (small_disk / "full").open("wb", buffering=0) as file, pytest.raises(OSError):
        while True:
            file.write(bytes(4096))
    assert double(2) == double(2.0) == 4
