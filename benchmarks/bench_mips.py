"""Exact search compared with faiss, torch and numpy: time, memory, agreement by database size.

Writes  mips.csv in --output

    python -m benchmarks.bench_mips
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import processes, results
from benchmarks.harness import by_turns, k_recall, median, spread
from retrieval.threads import computing_with

BLOCK = 65_536  # database rows written, or scored in double precision, at once
SCORES = 1 << 28  # scores per block of queries in the simple searches
N_CHECKED = 100  # queries that are also searched in double precision

# Maps queries and k to (n_query, k) ids; None if it returns no ids.
Search = Callable[[np.ndarray, int], np.ndarray | None]


def write_vectors(path: Path, n_row: int, dim: int, seed: int) -> Path:
    """Write (n_row, dim) float32 vectors of unit length in 1,000 clusters, block by block."""
    centers = np.random.default_rng(0).standard_normal((1000, dim), dtype=np.float32)
    file = np.lib.format.open_memmap(path, "w+", np.float32, (n_row, dim))
    for start in range(0, n_row, BLOCK):
        rng = np.random.default_rng((seed, start))
        count = min(BLOCK, n_row - start)
        rows = centers[rng.integers(1000, size=count)]
        rows += rng.standard_normal((count, dim), dtype=np.float32)
        file[start : start + count] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    file.flush()
    return path


def ours(rows: np.ndarray) -> Search:
    """Search as the product does."""
    from retrieval.search.nearest import nearest_neighbors

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        with computing_with(None):  # as the command does
            return nearest_neighbors(queries, rows, k)[0]

    return search


def faiss_flat(rows: np.ndarray) -> Search:
    """Search an IndexFlatIP; copying the rows into it is not timed."""
    import faiss

    index = faiss.IndexFlatIP(rows.shape[1])
    for start in range(0, len(rows), BLOCK):
        index.add(np.ascontiguousarray(rows[start : start + BLOCK]))
    return lambda queries, k: index.search(queries, k)[1]


def products(rows: np.ndarray) -> Search:
    """Compute the scores block by block and discard them."""
    import torch

    def search(queries: np.ndarray, k: int) -> None:
        scores = torch.empty(len(queries), 16_384)
        for start in range(0, len(rows), 16_384):
            block = torch.from_numpy(np.array(rows[start : start + 16_384]))
            torch.matmul(torch.from_numpy(queries), block.T, out=scores[:, : len(block)])

    return search


def torch_topk(rows: np.ndarray) -> Search:
    """Score blocks of queries against all rows, and take the top k."""
    import torch

    database = torch.from_numpy(np.array(rows))
    step = max(1, SCORES // len(rows))

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        blocks = torch.from_numpy(queries).split(step)
        return torch.cat([(block @ database.T).topk(k).indices for block in blocks]).numpy()

    return search


def numpy_partition(rows: np.ndarray) -> Search:
    """Score blocks of queries against all rows, partition the scores, and sort the top k."""
    step = max(1, SCORES // len(rows))

    def search(queries: np.ndarray, k: int) -> np.ndarray:
        found = []
        for start in range(0, len(queries), step):
            scores = -(queries[start : start + step] @ rows.T)
            ids = np.argpartition(scores, k - 1, axis=1)[:, :k]
            order = np.argsort(np.take_along_axis(scores, ids, 1), axis=1)
            found.append(np.take_along_axis(ids, order, 1))
        return np.concatenate(found)

    return search


FLOOR = "torch, products alone"
METHODS: dict[str, Callable[[np.ndarray], Search]] = {
    FLOOR: products,
    "mips": ours,
    "faiss IndexFlatIP": faiss_flat,
    "torch, products and topk": torch_topk,
    "numpy, products and argpartition": numpy_partition,
}


def timed(method: str, folder: str, k: int) -> dict[str, float | None]:
    """Return the seconds of a search after a warm-up, and the share of correct ids."""
    rows = np.load(Path(folder) / "database.npy", mmap_mode="r")
    queries = np.load(Path(folder) / "queries.npy")
    search = METHODS[method](rows)
    search(queries[: max(1, len(queries) // 20)], k)
    start = time.perf_counter()
    ids = search(queries, k)
    elapsed = time.perf_counter() - start
    if ids is None:
        return {"seconds": elapsed, "right": None}
    truth = np.load(Path(folder) / "truth.npy")
    return {"seconds": elapsed, "right": k_recall(ids[: len(truth)], truth)}


def exact_ids(queries: np.ndarray, rows: np.ndarray, k: int) -> np.ndarray:
    """Return (n_query, k) ids by double-precision scores, computed block by block."""
    best = np.empty((len(queries), 0))
    ids = np.empty((len(queries), 0), np.int64)
    for start in range(0, len(rows), BLOCK):
        scores = queries.astype(np.float64) @ rows[start : start + BLOCK].astype(np.float64).T
        best = np.concatenate([best, scores], axis=1)
        new = np.broadcast_to(np.arange(start, start + scores.shape[1]), scores.shape)
        ids = np.concatenate([ids, new], axis=1)
        order = np.argsort(-best, axis=1, kind="stable")[:, :k]
        best, ids = np.take_along_axis(best, order, 1), np.take_along_axis(ids, order, 1)
    return ids


def measure(folder: Path, n_row: int, args: argparse.Namespace) -> list[results.Row]:
    """Measure all searches of one database in turns, each in its own process."""
    database = write_vectors(folder / "database.npy", n_row, args.dim, seed=1)
    asked = np.load(write_vectors(folder / "queries.npy", args.n_query, args.dim, seed=2))
    rows = np.load(database, mmap_mode="r")
    np.save(folder / "truth.npy", exact_ids(asked[:N_CHECKED], rows, args.k))
    peaks: dict[str, int] = {}
    right: dict[str, float | None] = {}

    def once(method: str) -> float:
        options = {"method": method, "folder": str(folder), "k": args.k}
        answer, usage = processes.call(timed, args.threads, **options)
        peaks[method] = max(peaks.get(method, 0), usage.peak_bytes)
        right[method] = answer["right"]
        return answer["seconds"]

    # ``timed`` warms up each search.
    seconds = by_turns({m: partial(once, m) for m in METHODS}, args.repeats, warm_up=0)
    return [
        {
            "rows": n_row,
            "queries": args.n_query,
            "method": method,
            "cores": args.threads,
            "seconds": median(times),
            "spread_%": spread(times),
            "times_the_products": median(times) / median(seconds[FLOOR]),
            "queries_per_s": args.n_query / median(times),
            "ids_as_in_float64": right[method],
            "peak_MB": peaks[method] / 1e6,
        }
        for method, times in seconds.items()
    ]


def run(args: argparse.Namespace) -> None:
    """Measure all database sizes and publish the table."""
    record = results.Run("mips", args, args.output)
    rows: list[results.Row] = []
    for n_row in args.rows:
        with tempfile.TemporaryDirectory(dir=args.folder) as folder:
            rows += measure(Path(folder), n_row, args)
    record.publish("mips", rows)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument(
        "--rows",
        type=int,
        nargs="+",
        default=[10_000, 60_000, 100_000, 1_000_000],
        help="database rows",
    )
    parser.add_argument("--n_query", type=int, default=2000, help="number of queries")
    parser.add_argument("--dim", type=int, default=512, help="vector size")
    parser.add_argument("--k", type=int, default=20, help="neighbors per query")
    parser.add_argument("--repeats", type=int, default=5, help="measurements per search")
    parser.add_argument("--folder", type=Path, help="parent of the temporary database folder")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
