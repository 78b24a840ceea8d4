"""LOPQ and faiss at equal code sizes: recall, speed, training and encoding time.

Reads   --embeddings, any (n, dim) .npy file; left out: random clusters
Writes  lopq_recall_speed.csv and lopq_<dataset>_<rows>.png in --output

    python -m benchmarks.lopq.recall_speed --embeddings X.npy --rows 1000000 --cells 1024
    python -m benchmarks.lopq.recall_speed --embeddings X.npy --dim 128 --bytes 8 16 32 --cells 16 64 --seeds 3 --recall_only

With --rows, the embeddings are enlarged, drawn block by block and never stored. One pass finds the
exact neighbors of the queries and fills all indexes; then each index is searched alone, at rising
numbers of cells.
"""  # noqa: E501

import argparse
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np

from benchmarks import results
from benchmarks.data.enlarged import ROWS_AT_ONCE, Truth
from benchmarks.data.ground_truth import k_recall
from benchmarks.lopq import dataset, plot
from benchmarks.lopq.dataset import Dataset
from benchmarks.lopq.methods import (
    Factory,
    Lopq,
    Method,
    ProductCodes,
    RaBitQ,
    Reranked,
    Search,
    fit,
)
from benchmarks.timing import median, once
from lopq import LOPQModel
from retrieval.threads import computing_with

SINGLE = 200  # queries that are searched one at a time
REPEATS = 3
SHARED_BYTES = 2  # bytes of shared rotations per vector
MOST_ROWS = 1_000_000  # of a graph; more take hours to add on two cores


def methods(
    data: Dataset, model: LOPQModel, seconds: float, M: int, seed: int, args: argparse.Namespace
) -> Iterator[Method]:
    """Yield empty indexes of codes of ``M`` bytes; ``model`` is LOPQ's, fitted in ``seconds``."""
    train, V, dim = data.project(data.train), model.V, model.Cs[0].shape[1]
    yield Lopq("LOPQ", model, seconds)
    few = SHARED_BYTES * data.n_row // (4 * dim**2)
    if 0 < few < V:
        yield Lopq(f"LOPQ, {few} rotations", *fit(train, V, M, seed=seed, rotations=few))
    if data.name != "enlarged":
        yield Lopq("LOPQ, 1 rotation", *fit(train, V, M, seed=seed, rotations=1))
        yield Lopq("LOPQ, 4-bit", *fit(train, V, 2 * M, seed=seed, bits=4))
        whole = fit(data.train, V, M, seed=seed, pca_dim=dim)
        yield Reranked("LOPQ, 100 from float32 outside", *whole, "none")
        yield Reranked("LOPQ, 100 from float16 in the index", *whole, "float16")
        yield Reranked("LOPQ, 100 from int8 in the index", *whole, "int8")
    C, few_rows = model.Cs[0], train[:200_000]
    residuals = few_rows - C[model.quantizer.splits[0].coarse.assign(few_rows)]
    codes = partial(ProductCodes, C=C, residuals=residuals)
    alike = M + model.nbytes / data.n_row  # bytes of a code and its share of the LOPQ model
    larger = [m for m in range(M + 1, dim + 1) if dim % m == 0]
    yield codes("faiss OPQ,IVF,PQ", M=M, bits=8, rounds=args.opq_rounds)
    yield codes("faiss IVF,PQ", M=M, bits=8, rounds=0)
    yield codes("faiss OPQ,IVF,PQ 4-bit FastScan", M=2 * M, bits=4, rounds=args.opq_rounds)
    if larger:
        M = min(larger, key=lambda m: abs(m - alike))
        yield codes("faiss OPQ,IVF,PQ of LOPQ's memory", M=M, bits=8, rounds=args.opq_rounds)
    yield RaBitQ(C)
    graph = ["HNSW16,Flat"] * (data.n_row <= MOST_ROWS and not args.recall_only)
    for description in (*args.factory, *graph):
        yield Factory(description, train)


def fill(
    data: Dataset, model: LOPQModel, indexes: list[Method], truth: Truth
) -> tuple[np.ndarray, float]:
    """Read all blocks once; return the (n_row,) cells of the rows, and the seconds to find them."""
    cells, seconds = np.empty(data.n_row, np.int64), 0.0
    for first in range(0, data.n_row, ROWS_AT_ONCE):
        inputs = data.block(first, min(ROWS_AT_ONCE, data.n_row - first))
        rows = data.project(inputs)
        truth.see(first, inputs)
        started = time.perf_counter()
        found = model.quantizer.splits[0].coarse.assign(rows)
        seconds += time.perf_counter() - started
        cells[first : first + len(rows)] = found
        for index in indexes:
            vectors = inputs if index.takes_inputs else rows
            index.add_seconds += once(partial(index.add, first, vectors, found))
    return cells, seconds


def rates(search: Search, queries: np.ndarray, effort: int) -> dict[str, float]:
    """Return queries per second in batches of 1,000, of 32, and one at a time."""

    def pieces(n: int, size: int) -> float:
        def call() -> None:
            for start in range(0, n, size):
                search(queries[start : start + size], effort)

        call()
        return n / median([once(call) for _ in range(REPEATS)])

    sizes = (len(queries), 1000), (min(len(queries), 512), 32), (min(len(queries), SINGLE), 1)
    return {way: pieces(*size) for way, size in zip(plot.WAYS, sizes, strict=True)}


def curve(
    index: Method,
    data: Dataset,
    cells: np.ndarray,
    seconds: float,
    truth: Truth,
    args: argparse.Namespace,
) -> Iterator[results.Row]:
    """Measure one index at rising efforts, or only at the highest for recall alone."""
    search, model_bytes = index.index(cells)
    queries = data.queries if index.takes_inputs else data.project(data.queries)
    nearest, is_given = truth.ids.numpy(), isinstance(index, Factory)
    about = {
        "dataset": data.name,
        "rows": data.n_row,
        "method": index.name,
        "bytes": index.code_bytes,
        "model bytes per row": model_bytes / data.n_row,
        "fit seconds": index.fit_seconds,
        "encoded/s": data.n_row / (index.add_seconds + (0 if is_given else seconds)),
    }
    efforts = index.efforts(int(cells.max()) + 1)
    for effort in efforts[-1:] if args.recall_only else efforts:
        found = search(queries, effort)
        first = float((found[:, 0] == nearest[:, 0]).mean())
        row = {**about, "cells": effort, "10-recall@10": k_recall(found, nearest)}
        row |= {"1-recall@1": first}
        if not args.recall_only:
            row |= rates(search, queries, effort)
        print(row, flush=True)
        yield row


def measure(
    data: Dataset, V: int, M: int, seed: int, args: argparse.Namespace
) -> Iterator[results.Row]:
    """Fill all indexes of one setting, and measure one after the other."""
    model, seconds = fit(data.project(data.train), V, M, seed=seed)
    truth = Truth(data.queries)
    with tempfile.TemporaryDirectory() as folder:
        indexes = [
            index
            for index in methods(data, model, seconds, M, seed, args)
            if not args.only or any(text in index.name for text in args.only)
        ]
        for number, index in enumerate(indexes):
            index.prepare(data.n_row, Path(folder) / f"{number}.npy")
        cells, finding = fill(data, model, indexes, truth)
        while indexes:
            for row in curve(indexes.pop(0), data, cells, finding, truth, args):
                yield {"seed": seed, "V": V, **row}


def run(args: argparse.Namespace) -> None:
    """Measure all settings, append their rows and draw each."""
    record = results.Run("lopq_recall_speed", args, args.output)
    X = np.load(args.embeddings, mmap_mode="r") if args.embeddings else dataset.clusters()
    settings = ["enlarged"] if args.rows else args.settings
    for setting, V, M, seed in product(settings, args.cells, args.bytes, range(args.seeds)):
        if setting == "enlarged":
            data = dataset.enlarged(X, args.rows, args.n_query, args.dim)
        else:
            data = dataset.split(X, setting, args.n_query, args.dim, seed)
        rows = list(measure(data, V, M, seed, args))
        record.append("lopq_recall_speed", rows)
        if not args.recall_only:
            plot.draw(rows, record.folder / f"lopq_{setting}_{data.n_row}.png")


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--embeddings", type=Path, help="(n, dim) .npy file; left out: random clusters")
    add("--rows", type=int, default=0, help="enlarge the embeddings to N vectors; 0: split them")
    add(
        "--settings",
        nargs="+",
        default=["disjoint", "equal"],
        choices=["disjoint", "equal"],
        help="of a split: training set and database share no vector, or are the same",
    )
    add("--dim", type=int, default=96, help="dimensions that are indexed")
    add("--n_query", type=int, default=1000, help="number of queries")
    add("--cells", type=int, nargs="+", default=[64], help="cells of the indexes")
    add("--bytes", type=int, nargs="+", default=[16], help="bytes per code")
    add("--seeds", type=int, default=1, help="number of random splits and models")
    add("--factory", nargs="*", default=[], help="factory strings of further faiss indexes")
    add("--only", nargs="+", help="methods whose name contains one of these texts")
    add("--opq_rounds", type=int, default=10, help="rounds of faiss's OPQ, whose default is 50")
    add("--recall_only", action="store_true", help="scan all cells, and measure no speed")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    with computing_with(options.threads):
        run(options)
