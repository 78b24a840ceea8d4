"""The benchmark of compact codes, at a tiny size."""

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import bench_lopq


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
    assert reranked["LOPQ, rerank=100"] > reranked["LOPQ, rerank=0"]
