"""Adding to and removing from a LOPQ index, loading it, and searching with a filter.

Reads   --embeddings, any (n, dim) .npy file, to enlarge; left out: random clusters
Writes  lopq_updates.csv in --output

    python -m benchmarks.lopq.updates --embeddings X.npy --rows 1000000 --cells 1024
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import results
from benchmarks.data.enlarged import ROWS_AT_ONCE
from benchmarks.lopq import dataset
from benchmarks.lopq.dataset import Dataset
from benchmarks.lopq.methods import K, fit
from benchmarks.timing import once
from lopq import LOPQCode, LOPQSearcher
from retrieval.threads import computing_with

SINGLE, MANY = 1000, 10_000  # rows that are added one by one, and at once


def filled(data: Dataset, cells: int) -> LOPQSearcher:
    """Return an index of all rows."""
    searcher = LOPQSearcher(fit(data.train, cells, 16)[0])
    for first in range(0, data.n_row, ROWS_AT_ONCE):
        searcher.add_data(data.block(first, min(ROWS_AT_ONCE, data.n_row - first)))
    searcher.optimize()
    return searcher


def measure(searcher: LOPQSearcher, data: Dataset) -> results.Row:
    """Measure loading, adding, removing, filtering and optimizing; the index is changed."""
    n_row, queries = len(searcher), data.queries
    codes = searcher.model.encode(data.block(n_row, SINGLE + MANY))
    row: dict[str, object] = {"rows": n_row}
    searcher.search(queries[:1], K, quota=K)  # compiles, if this is the first time
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "index.lopq"
        searcher.save(path)
        row["index GB"] = path.stat().st_size / 1e9
        row["load seconds"] = once(lambda: LOPQSearcher.load(path, verify=False))
        mapped = LOPQSearcher.load(path, verify=False)
        first = partial(mapped.search, queries[:1], K, quota=max(K, n_row // 1000))
        row["first search ms"] = 1e3 * once(first)
    row["remove the first row, s"] = once(lambda: searcher.remove([0]))  # sorts the ids, once
    one = [LOPQCode(codes.coarse[i : i + 1], codes.fine[i : i + 1]) for i in range(SINGLE)]
    many = LOPQCode(codes.coarse[SINGLE:], codes.fine[SINGLE:])
    ids = range(n_row, n_row + SINGLE + MANY)

    def add_each() -> None:
        for number, code in zip(ids, one, strict=False):
            searcher.add_codes(code, [number])

    def remove_each() -> None:
        for number in ids[:100]:
            searcher.remove([number])

    row["add 1 row, us"] = 1e6 * once(add_each) / SINGLE
    added = once(lambda: searcher.add_codes(many, ids[SINGLE:]))
    row["add 10,000 rows, us a row"] = 1e6 * added / MANY
    row["remove 1 row, us"] = 1e6 * once(remove_each) / 100
    removed = once(lambda: searcher.remove(ids[SINGLE:]))
    row["remove 10,000 rows, us a row"] = 1e6 * removed / MANY
    for share in (1.0, 0.1, 0.01):
        allowed = np.random.default_rng(0).random(n_row) < share
        quota = max(K, int(share * n_row // 1000))  # about as many cells for each share
        search = partial(searcher.search, queries, K, quota=quota, allowed=allowed)
        row[f"queries/s, {share:.0%} allowed"] = len(queries) / once(search)
    row["optimize seconds"] = once(searcher.optimize)
    return row


def run(args: argparse.Namespace) -> None:
    record = results.Run("lopq_updates", args, args.output)
    X = np.load(args.embeddings, mmap_mode="r") if args.embeddings else dataset.clusters()
    data = dataset.enlarged(X, args.rows, args.n_query, args.dim)
    record.publish("lopq_updates", [measure(filled(data, args.cells), data)])


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--embeddings", type=Path, help="(n, dim) .npy file; left out: random clusters")
    add("--rows", type=int, default=1_000_000, help="vectors of the index")
    add("--cells", type=int, default=1024, help="cells of the index")
    add("--n_query", type=int, default=1000, help="number of queries")
    add("--dim", type=int, default=96, help="dimensions to use")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    with computing_with(options.threads):
        run(options)
