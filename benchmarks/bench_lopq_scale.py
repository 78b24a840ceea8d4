"""LOPQ and faiss at 1, 10 and 100 million vectors: recall, speed, memory, adding and removing.

Reads   --embeddings, any (n, dim) .npy file, to enlarge (`benchmarks.scale_data`)
Writes  lopq_scale.csv, lopq_scale_<rows>.png, and their tables in the README, in --output

    python -m benchmarks.bench_lopq_scale --embeddings X.npy --rows 1000000 --cells 1024

The vectors are drawn block by block and never stored. One pass finds the exact neighbors of the
queries and fills all indexes; then each index is searched alone, at rising numbers of cells.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import results, scale_graph
from benchmarks.harness import k_recall, median, once
from benchmarks.scale_data import ROWS_AT_ONCE, K, Source, Truth
from benchmarks.scale_methods import PROBES, Encoder, Filling, Lopq, ProductCodes, RaBitQ, Search
from lopq import LOPQCode, LOPQModel, LOPQSearcher
from retrieval.threads import computing_with

SINGLE = 200  # queries that are searched one at a time
REPEATS = 3
SHARED_BYTES = 2  # bytes of shared rotations per vector
OPQ_ROUNDS = 10  # of faiss's OPQ: about as long as LOPQ's training


def fitted(
    source: Source, n_row: int, cells: int, rotations: int | None = None
) -> tuple[LOPQModel, float]:
    """Return a LOPQ model and its seconds of training. The cells are always the same."""
    sample = source.block(0, min(n_row, 2**20))
    model = LOPQModel(cells, 16, pca_dim=None, rotations=rotations)
    started = time.perf_counter()
    model.fit(sample, verbose=False)
    return model, time.perf_counter() - started


def methods(
    source: Source, model: LOPQModel, n_row: int, seconds: float, folder: Path
) -> list[Filling]:
    """Return empty indexes; all but LOPQ are trained now. Codes are files in ``folder``."""
    C = model.Cs[0]
    sample = source.block(0, min(n_row, 200_000))
    residuals = sample - C[model.quantizer.splits[0].nearest_cell(sample)]
    fillings: list[Filling] = []

    def add(method: Encoder, taken: float) -> None:
        path, shape = folder / f"{len(fillings)}.npy", (n_row, method.code_bytes)
        codes = np.lib.format.open_memmap(path, "w+", np.uint8, shape)
        fillings.append(Filling(method, codes, taken))

    add(Lopq(model), seconds)
    few = SHARED_BYTES * n_row // (4 * C.shape[1] ** 2)
    if 0 < few < model.V:
        shared, taken = fitted(source, n_row, model.V, few)
        add(Lopq(shared, f"LOPQ, {few} rotations"), taken)
    alike = 16 + model.nbytes / n_row  # bytes of a code and its share of the LOPQ model
    dim = C.shape[1]
    sizes = [M for M in range(17, dim + 1) if dim % M == 0]
    larger = min(sizes, key=lambda M: abs(M - alike))
    for name, M, bits, rounds in (
        ("faiss OPQ,IVF,PQ", 16, 8, OPQ_ROUNDS),
        ("faiss IVF,PQ", 16, 8, 0),
        ("faiss OPQ,IVF,PQ 4-bit FastScan", 32, 4, OPQ_ROUNDS),
        ("faiss OPQ,IVF,PQ of LOPQ's memory", larger, 8, OPQ_ROUNDS),
    ):
        started = time.perf_counter()
        method = ProductCodes.train(name, C, residuals, M, bits, rounds)
        add(method, time.perf_counter() - started)
    add(RaBitQ(C), 0.0)
    return fillings


def fill(
    source: Source, n_row: int, truth: Truth, model: LOPQModel, fillings: list[Filling]
) -> tuple[np.ndarray, float]:
    """Draw all blocks once; return the (n_row,) cells of the rows, and the seconds to find them."""
    cells, seconds = np.empty(n_row, np.int64), 0.0
    for first in range(0, n_row, ROWS_AT_ONCE):
        rows = source.block(first, min(ROWS_AT_ONCE, n_row - first))
        truth.see(first, rows)
        started = time.perf_counter()
        found = model.quantizer.splits[0].nearest_cell(rows)
        seconds += time.perf_counter() - started
        cells[first : first + len(rows)] = found
        for filling in fillings:
            filling.see(first, rows, found)
        if first // ROWS_AT_ONCE % 20 == 0:
            print(f"{first + len(rows):,} rows", flush=True)
    return cells, seconds


def rates(search: Search, queries: np.ndarray, probes: int) -> dict[str, float]:
    """Return queries per second in batches of 1,000, of 32, and one at a time."""

    def pieces(n: int, size: int) -> float:
        def call() -> None:
            for start in range(0, n, size):
                search(queries[start : start + size], probes)

        call()
        return n / median([once(call) for _ in range(REPEATS)])

    return {
        "queries/s, 1000 at once": pieces(len(queries), 1000),
        "32 at once": pieces(min(len(queries), 512), 32),
        "one at a time": pieces(min(len(queries), SINGLE), 1),
    }


def curve(filling: Filling, cells: np.ndarray, seconds: float, truth: Truth) -> list[results.Row]:
    """Measure one index at rising numbers of cells, and forget its codes."""
    method = filling.method
    search, model_bytes = method.index(cells, filling.codes)
    filling.codes = np.empty((0, 0), np.uint8)
    n_row = len(cells)
    about = {
        "rows": n_row,
        "method": method.name,
        "bytes": method.code_bytes,
        "model bytes per row": model_bytes / n_row,
        "fit seconds": filling.fit_seconds,
        "encoded/s": n_row / (seconds + filling.encode_seconds),
    }
    return measured(about, search, [n for n in PROBES if n <= int(cells.max()) + 1], truth)


def measured(
    about: results.Row, search: Search, efforts: Sequence[int], truth: Truth
) -> list[results.Row]:
    """Measure recall and speed at rising efforts: cells, or a graph's candidates."""
    queries, nearest = truth.queries.numpy(), truth.ids.numpy()
    rows: list[results.Row] = []
    for effort in efforts:
        recall = k_recall(search(queries, effort), nearest)
        found = {"cells": effort, "10-recall@10": recall, **rates(search, queries, effort)}
        rows.append({**about, **found})
        print(rows[-1], flush=True)
    return rows


def graph_curve(source: Source, n_row: int, truth: Truth) -> list[results.Row]:
    """Measure a graph of the same rows."""
    graph, seconds = scale_graph.built(source, n_row)
    about = {
        "rows": n_row,
        "method": scale_graph.NAME,
        "bytes": scale_graph.bytes_per_row(graph),
        "model bytes per row": 0.0,
        "fit seconds": 0.0,
        "encoded/s": n_row / seconds,
    }
    return measured(about, scale_graph.search_of(graph), scale_graph.EFFORTS, truth)


def changes(searcher: LOPQSearcher, source: Source, queries: np.ndarray) -> results.Row:
    """Measure loading, adding, removing, filtering and optimizing; the index is changed."""
    n_row = len(searcher)
    new = source.block(n_row, 11_000)
    codes = searcher.model.encode(new)
    row: dict[str, object] = {"rows": n_row}
    searcher.search_batch(queries[:1], K, quota=K)  # compiles, if this is the first time
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.lopq"
        searcher.save(path)
        row["index GB"] = path.stat().st_size / 1e9
        row["load seconds"] = once(lambda: LOPQSearcher.load(path, verify=False))
        mapped = LOPQSearcher.load(path, verify=False)
        row["first search ms"] = 1e3 * once(
            lambda: mapped.search_batch(queries[:1], K, quota=n_row // 1000)
        )
    row["remove the first row, s"] = once(lambda: searcher.remove([0]))  # sorts the ids, once
    one = [LOPQCode(codes.coarse[i : i + 1], codes.fine[i : i + 1]) for i in range(1000)]
    ids = range(n_row, n_row + 11_000)

    def add_each() -> None:
        for number, code in zip(ids, one, strict=False):
            searcher.add_codes(code, [number])

    def remove_each() -> None:
        for number in ids[:100]:
            searcher.remove([number])

    row["add 1 row, us"] = 1e6 * once(add_each) / len(one)
    many = LOPQCode(codes.coarse[1000:], codes.fine[1000:])
    row["add 10,000 rows, us a row"] = (
        1e6 * once(lambda: searcher.add_codes(many, ids[1000:])) / 10_000
    )
    row["remove 1 row, us"] = 1e6 * once(remove_each) / 100
    row["remove 10,000 rows, us a row"] = 1e6 * once(lambda: searcher.remove(ids[1000:])) / 10_000
    for share in (1.0, 0.1, 0.01):
        allowed = np.random.default_rng(0).random(n_row) < share
        quota = max(K, int(share * n_row // 1000))  # about as many cells for each share
        search = partial(searcher.search_batch, queries, K, quota=quota, allowed=allowed)
        row[f"queries/s, {share:.0%} allowed"] = len(queries) / once(search)
    row["optimize seconds"] = once(searcher.optimize)
    return row


def run(args: argparse.Namespace) -> None:
    """Measure one size and publish its tables and its picture."""
    record = results.Run("lopq_scale", args, args.output)
    source = Source.of(np.load(args.embeddings, mmap_mode="r"), args.dim)
    model, seconds = fitted(source, args.rows, args.cells)
    print(f"fitted in {seconds:.0f} s", flush=True)
    truth = Truth(source.queries(args.n_query))
    with tempfile.TemporaryDirectory() as folder:
        fillings = methods(source, model, args.rows, seconds, Path(folder))
        cells, finding = fill(source, args.rows, truth, model, fillings)
        searcher = Lopq(model).searcher(cells, fillings[0].codes)
        changed = changes(searcher, source, truth.queries.numpy())
        print(changed, flush=True)
        record.append("lopq_changes", [changed])
        del searcher
        curves: list[Callable[[], list[results.Row]]] = [
            partial(curve, filling, cells, finding, truth) for filling in fillings
        ]
        if args.rows <= scale_graph.MOST_ROWS:
            curves.append(partial(graph_curve, source, args.rows, truth))
        rows: list[results.Row] = []
        for call in curves:
            found = call()
            record.append("lopq_scale", found)
            rows += found
            plot(rows, args.output / f"lopq_scale_{args.rows}.png")


def plot(rows: list[results.Row], path: Path) -> None:
    """Plot recall against speed, one line per method, one picture per way of asking."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    ways = ("queries/s, 1000 at once", "32 at once", "one at a time")
    figure, axes = plt.subplots(1, len(ways), figsize=(15, 4.5), layout="constrained")
    for axis, way in zip(axes, ways, strict=True):
        for name in dict.fromkeys(row["method"] for row in rows):
            line = [row for row in rows if row["method"] == name]
            label = f"{name}, {line[0]['bytes']} bytes"
            axis.plot(
                [r["10-recall@10"] for r in line], [r[way] for r in line], "o-", ms=3, label=label
            )
        axis.set(title=way, xlabel="10-recall@10", ylabel="queries per second", yscale="log")
        axis.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncol=3)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--embeddings", type=Path, required=True, help="(n, dim) .npy file to enlarge")
    add("--rows", type=int, default=1_000_000, help="database rows")
    add("--cells", type=int, default=1024, help="cells of all indexes")
    add("--n_query", type=int, default=1000, help="number of queries")
    add("--dim", type=int, default=96, help="dimensions to use")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    with computing_with(options.threads):
        run(options)
