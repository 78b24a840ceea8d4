"""The benchmark of compact codes, at a tiny size."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks import bench_lopq, bench_lopq_scale, scale_methods
from benchmarks.scale_data import QUERIES_FROM, Source, Truth


def test_each_part_measures_what_it_names(tmp_path: Path) -> None:
    path = tmp_path / "embeddings.npy"
    np.save(path, np.random.default_rng(0).standard_normal((700, 16), dtype=np.float32))
    options = f"--embeddings={path} --output={tmp_path} --n_query=20 --seeds=1 --opq_rounds=2"
    argv = [
        *options.split(),
        "--bytes",
        "4",
        "--cells",
        "2",
        "--settings",
        "disjoint",
        "--parts",
        "accuracy",
        "rerank",
    ]
    bench_lopq.run(bench_lopq.make_parser().parse_args(argv))
    table = pd.read_csv(tmp_path / "lopq_accuracy.csv")
    assert table["recall"].between(0.05, 1).all()
    assert table["method"].nunique() == len(table) == 7
    reranked = pd.read_csv(tmp_path / "lopq_rerank.csv").groupby("method")["recall"].max()
    plain, outside = reranked["LOPQ, no re-ranking"], "LOPQ, 100 from float32 vectors outside"
    for name in ("LOPQ, 100 from float16 in the index", "LOPQ, 100 from int8 in the index"):
        assert plain < reranked[name] == pytest.approx(reranked[outside], abs=0.02)


def source(n: int = 500, dim: int = 32) -> Source:
    rows = np.random.default_rng(0).standard_normal((n, dim), dtype=np.float32)
    return Source.of(rows * np.geomspace(1, 0.1, dim, dtype=np.float32), dim)


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


def test_large_indexes_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name, value in (
        (scale_methods, "ROTATION_ROWS", 1000),
        (scale_methods, "TRAINING_ROWS", 3000),
        (bench_lopq_scale, "OPQ_ROUNDS", 1),
        (bench_lopq_scale, "PROBES", (1, 16)),
        (bench_lopq_scale, "REPEATS", 1),
    ):
        monkeypatch.setattr(module, name, value)
    path = tmp_path / "embeddings.npy"
    np.save(path, source().rows)
    options = (
        f"--embeddings={path} --output={tmp_path} --rows=6000 --cells=16 --dim=32 --n_query=20"
    )
    bench_lopq_scale.run(bench_lopq_scale.make_parser().parse_args(options.split()))
    table = pd.read_csv(tmp_path / "lopq_scale.csv")
    assert table["method"].nunique() == 8
    best = table.groupby("method")["10-recall@10"].max()
    assert (best > 0.3).all(), best  # codes are those of the rows, under their ids
    assert best["LOPQ"] >= best["faiss IVF,PQ"] - 0.05
    changed = pd.read_csv(tmp_path / "lopq_changes.csv").iloc[0]
    assert changed["load seconds"] > 0 < changed["queries/s, 1% allowed"]
    assert (tmp_path / "lopq_scale_6000.png").stat().st_size > 10_000
