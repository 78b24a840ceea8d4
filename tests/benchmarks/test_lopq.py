"""The benchmark of compact codes, at a tiny size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import results
from benchmarks.data.enlarged import QUERIES_FROM, Source, Truth
from benchmarks.lopq import methods, recall_speed, updates


def source(n: int = 500, dim: int = 32) -> Source:
    rows = np.random.default_rng(0).standard_normal((n, dim), dtype=np.float32)
    return Source.of(rows * np.geomspace(1, 0.1, dim, dtype=np.float32), dim)


def measured(output: Path, options: str) -> pd.DataFrame:
    path = output / "embeddings.npy"
    np.save(path, source(700).rows)
    argv = f"--embeddings={path} --output={output} --n_query=20 --opq_rounds=1 --dim=16 {options}"
    recall_speed.run(recall_speed.make_parser().parse_args(argv.split()))
    return results.latest(output, "lopq_recall_speed")


def test_rows_do_not_depend_on_the_block() -> None:
    whole = source().block(0, 10_000)
    np.testing.assert_array_equal(source().block(5000, 70), whole[5000:5070])
    assert len(np.unique(whole, axis=0)) == len(whole)
    queries = source().queries(50)
    np.testing.assert_array_equal(queries, source().block(QUERIES_FROM, 50))
    spread = whole.std(axis=0) / source().rows.std(axis=0)
    assert ((spread > 0.9) & (spread < 2)).all()  # the shape of the real embeddings


def test_the_truth_is_exact_whatever_the_blocks() -> None:
    rows, queries = source().block(0, 5000), source().queries(40)
    truth = Truth(queries)
    for first in range(0, 5000, 700):
        truth.see(first, rows[first : first + 700])
    exact = ((queries[:, None].astype(float) - rows) ** 2).sum(axis=2).argsort(axis=1)[:, :10]
    assert (truth.ids.numpy() == exact).mean() > 0.99  # the rest: ties up to rounding


def test_codes_of_a_split_are_compared(tmp_path: Path) -> None:
    options = "--settings disjoint --bytes 4 --cells 2 --recall_only --factory IVF2,PQ8x4fsr"
    recall = measured(tmp_path, options).set_index("method")["10-recall@10"]
    assert recall.between(0.05, 1).all() and len(recall) == 12
    plain, outside = recall["LOPQ"], recall["LOPQ, 100 from float32 outside"]
    for name in ("LOPQ, 100 from float16 in the index", "LOPQ, 100 from int8 in the index"):
        assert plain < recall[name] == pytest.approx(outside, abs=0.02)


def test_large_indexes_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (methods, "ROTATION_ROWS", 1000),
        (methods, "TRAINING_ROWS", 3000),
        (methods, "PROBES", (1, 16)),
        (recall_speed, "REPEATS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    table = measured(tmp_path, "--rows=6000 --cells=16 --bytes=8")
    best = table.groupby("method")["10-recall@10"].max()
    assert (best > 0.3).all(), best  # codes are those of the rows, under their ids
    assert best["LOPQ"] >= best["faiss IVF,PQ"] - 0.05
    assert (table["one at a time"] > 0).all()
    (picture,) = tmp_path.glob("*/lopq_enlarged_6000.png")
    assert picture.stat().st_size > 10_000


def test_updates_are_timed(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npy"
    np.save(path, source().rows)
    argv = f"--embeddings={path} --output={tmp_path} --rows=6000 --cells=16 --dim=32 --n_query=20"
    updates.run(updates.make_parser().parse_args(argv.split()))
    (row,) = results.latest(tmp_path, "lopq_updates").to_dict("records")
    assert row["load seconds"] > 0 < row["queries/s, 1% allowed"]
