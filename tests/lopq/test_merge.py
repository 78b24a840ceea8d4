"""Merged parts are the file of the whole, and take little memory."""

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from lopq import LOPQError, LOPQModel, LOPQSearcher, merge_parts, read_part, save_part
from lopq.index import merge
from lopq.index.inverted_lists import InvertedLists

ORIGIN = "model and database"


@pytest.fixture(scope="module")
def data() -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.standard_normal((8, 6))[rng.integers(8, size=900)] * 3).astype(
        np.float32
    ) + rng.standard_normal((900, 6), dtype=np.float32)


@pytest.fixture(scope="module", params=["single", "multi"])
def model(request: pytest.FixtureRequest, data: np.ndarray) -> LOPQModel:
    model = LOPQModel(V=8, M=2, subquantizer_clusters=16, split=request.param)
    return model.fit(data)


def parts_of(
    folder: Path, model: LOPQModel, data: np.ndarray, edges: list[int]
) -> list[InvertedLists]:
    parts = []
    for first, last in pairwise(edges):
        path = folder / f"{first}.codes"
        save_part(path, model, data[first:last], first, ORIGIN)
        parts.append(read_part(path, model, range(first, last), ORIGIN))
    return parts


@pytest.mark.parametrize("edges", [[0, 900], [0, 1, 450, 900], [0, 0, 300, 300, 600, 900, 900]])
@pytest.mark.parametrize("window", [1, 7, 100, 1 << 20])
def test_merged_parts_are_the_bytes_of_the_whole(
    model: LOPQModel,
    data: np.ndarray,
    edges: list[int],
    window: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(merge, "WINDOW", window)
    whole = LOPQSearcher(model)
    whole.add_data(data)
    whole.save(tmp_path / "whole")
    merge_parts(tmp_path / "merged", model, parts_of(tmp_path, model, data, edges))
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_parts_of_other_things_are_refused(
    model: LOPQModel, data: np.ndarray, tmp_path: Path
) -> None:
    parts_of(tmp_path, model, data, [0, 450])
    path = tmp_path / "0.codes"
    for rows, origin in ((range(450), "x"), (range(1, 451), ORIGIN), (range(449), ORIGIN)):
        with pytest.raises(LOPQError, match="was made from another model or other rows"):
            read_part(path, model, rows, origin)
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(LOPQError, match="its ids changed since it was saved"):
        read_part(path, model, range(450), ORIGIN)
    path.unlink()
    with pytest.raises(LOPQError, match="cannot read"):
        read_part(path, model, range(450), ORIGIN)
    model.save(path)
    with pytest.raises(LOPQError, match="holds a model, not a part"):
        read_part(path, model, range(450), ORIGIN)


LIMITED = """
import resource, sys
import numpy as np
from lopq import LOPQModel, LOPQSearcher, merge_parts
from lopq.index import merge
from lopq.index.inverted_lists import InvertedLists

folder, n, code_bytes = sys.argv[1], 2_500_000, 32
queries = np.random.default_rng(0).standard_normal((64, 64), dtype=np.float32)
train = np.random.default_rng(1).standard_normal((2000, 64), dtype=np.float32)
model = LOPQModel(V=64, M=code_bytes).fit(train)
small = LOPQSearcher(model)  # loads the libraries, whose memory does not count
small.add_data(queries)
small.search(queries, 10)

def part(first, last):
    rng = np.random.default_rng(first)
    shape, path = (last - first, code_bytes), f"{folder}/{first}.npy"
    np.save(path, rng.integers(256, size=shape, dtype=np.uint8))
    np.save(path + ".ids", np.arange(first, last))
    cells, counts = np.unique(rng.integers(64, size=last - first), return_counts=True)
    offsets = np.append(0, np.cumsum(counts))
    codes, ids = (np.load(name, mmap_mode="r") for name in (path, path + ".ids.npy"))
    return InvertedLists(cells, offsets, codes, ids, np.zeros((len(ids), 0), np.uint8))

parts = [part(first, first + n // 5) for first in range(0, n, n // 5)]
used = int(next(l for l in open("/proc/self/status") if l.startswith("VmData")).split()[1]) << 10
limit = used + n * code_bytes // 2
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.ones(n * code_bytes, np.uint8)
    raise SystemExit("the limit does not work")
except MemoryError:
    pass
merge.WINDOW = 1 << 17
merge_parts(f"{folder}/index", model, parts)
searcher = LOPQSearcher.load(f"{folder}/index")
assert len(searcher) == n
scores, ids = searcher.search(queries, 10, quota=1000)
one, its = searcher.search(queries[:1], 10, quota=1000)
assert (its[0] == ids[0]).all() and (np.diff(scores) <= 0).all() and (ids >= 0).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_merge_and_search_in_less_memory_than_the_codes(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
