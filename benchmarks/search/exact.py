"""Exact search compared with faiss and torch: time, memory, agreement by database size.

Writes  mips.csv in --output

    python -m benchmarks.search.exact
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import measured_process, results
from benchmarks.data.embeddings import write_clusters
from benchmarks.data.ground_truth import k_recall, most_similar
from benchmarks.timing import by_turns, median, spread
from retrieval.threads import computing_with

BLOCK = 65_536  # rows that are copied into faiss at once
SCORES = 1 << 28  # scores per block of queries in the simple searches
N_CLUSTER = 1000
N_CHECKED = 100  # queries that are also searched in double precision

# Maps queries and k to (n_query, k) ids; None if it returns no ids.
Search = Callable[[np.ndarray, int], np.ndarray | None]


def write_vectors(
    folder: Path, n_row: int, n_query: int, dim: int
) -> tuple[np.ndarray, np.ndarray]:
    """Write database.npy and queries.npy: unit vectors in 1,000 clusters; return both."""
    labels = np.random.default_rng(1).integers(N_CLUSTER, size=n_row + n_query)
    database = write_clusters(folder / "database.npy", labels[:n_row], dim, seed=1)
    queries = write_clusters(folder / "queries.npy", labels[n_row:], dim, seed=2)
    return np.load(database, mmap_mode="r"), np.load(queries)


def ours(rows: np.ndarray) -> Search:
    """Search as the product does."""
    from retrieval.search.exact import nearest_neighbors

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


FLOOR = "torch, products alone"
METHODS: dict[str, Callable[[np.ndarray], Search]] = {
    FLOOR: products,
    "mips": ours,
    "faiss IndexFlatIP": faiss_flat,
    "torch, products and topk": torch_topk,
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


def measure(folder: Path, n_row: int, args: argparse.Namespace) -> list[results.Row]:
    """Measure all searches of one database in turns, each in its own process."""
    rows, queries = write_vectors(folder, n_row, args.n_query, args.dim)
    np.save(folder / "truth.npy", most_similar(queries[:N_CHECKED], rows, args.k))
    peaks: dict[str, int] = {}
    right: dict[str, float | None] = {}

    def once(method: str) -> float:
        options = {"method": method, "folder": str(folder), "k": args.k}
        answer, usage = measured_process.call(timed, args.threads, **options)
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
