"""The image store: adding rows, exact search, and two approximate searches.

Writes  store.csv and store_add.csv in --output

    python -m benchmarks.search.store

Real embeddings, enlarged (`benchmarks.data.enlarged`), turned into --dim dimensions and normalized;
without --embeddings, random ones around the centers of classes. An approximate search finds
candidates, whose similarities are then computed exactly. Queries come one at a time; the first
ten are a warm-up. Only one thing runs at a time.
"""

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import psutil

from benchmarks import results
from benchmarks.data.embeddings import fill_clusters
from benchmarks.data.enlarged import QUERIES_FROM, Source
from benchmarks.data.ground_truth import k_recall
from benchmarks.timing import once
from retrieval.search.exact import SPARE
from retrieval.store import rescoring
from retrieval.store.backends import open_store
from retrieval.store.filters import Filter
from retrieval.store.lance import code_index
from retrieval.store.lance.rows import embeddings_of
from retrieval.store.lance.store import LanceStore
from retrieval.store.rows import Collection, ImageRow

PER_CLASS = 40
MAKES = 100  # a filter of one make keeps 1 %
BATCH = 8192
THUMBNAIL_BYTES = 3000  # of a drawn car's JPEG at 128 px
ADDED = 200_000  # rows added with thumbnails
WARM_UP = 10
BYTES = 64  # of a code of Lance, as long as those of the store for 512 dimensions
ALL, ONE_MAKE = Filter(), Filter(makes=frozenset({"make 7"}))

if TYPE_CHECKING:
    import lance

Search = Callable[[np.ndarray, Filter], tuple[np.ndarray, np.ndarray]]


class Enlarged:
    """Real embeddings, enlarged, in more dimensions; distances stay up to the normalization."""

    def __init__(self, path: Path, dim: int) -> None:
        rows = np.load(path, mmap_mode="r")
        self.source = Source.of(rows, min(dim, rows.shape[1]))
        square = np.random.default_rng(11).standard_normal((dim, self.source.rows.shape[1]))
        self.turn = np.linalg.qr(square)[0].T.astype(np.float32)

    def block(self, first: int, n: int) -> np.ndarray:
        """Return (n, dim) float32 unit vectors."""
        turned = self.source.block(first, n) @ self.turn
        return turned / np.linalg.norm(turned, axis=1, keepdims=True)


def drawn(args: argparse.Namespace, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the embeddings of all rows, and those of the queries."""
    n_query = args.queries + WARM_UP
    embeddings = np.empty((len(labels), args.dim), np.float32)
    if args.embeddings is None:
        queries = np.empty((n_query, args.dim), np.float32)
        fill_clusters(embeddings, labels, 8)
        fill_clusters(queries, np.random.default_rng(9).choice(labels, n_query), 10)
        return embeddings, queries
    enlarged = Enlarged(args.embeddings, args.dim)
    for start in range(0, len(labels), BATCH):
        part = embeddings[start : start + BATCH]
        part[:] = enlarged.block(start, len(part))
    return embeddings, enlarged.block(QUERIES_FROM, n_query)


def batches(embeddings: np.ndarray, labels: np.ndarray, jpeg: bytes) -> Iterator[list[ImageRow]]:
    """Yield the rows in batches."""
    for start in range(0, len(labels), BATCH):
        yield [
            ImageRow(
                number,
                embeddings[number],
                f"{number:064x}",
                label,
                f"make {label % MAKES}",
                f"model {label}",
                "2010",
                "front",
                (1.0, 2.0, 3.0, 4.0),
                f"{label}/{number}.jpg",
                jpeg,
            )
            for number, label in enumerate(labels[start : start + BATCH].tolist(), start)
        ]


def fill(store: LanceStore, embeddings: np.ndarray, labels: np.ndarray, jpeg: bytes) -> results.Row:
    """Add all rows; return rows per second, and how the memory grew after the tenth batch."""
    spent, cpu, memory = 0.0, 0.0, [0]
    for rows in batches(embeddings, labels, jpeg):
        started, cpu_started = time.perf_counter(), time.process_time()
        store.add(rows)
        spent += time.perf_counter() - started
        cpu += time.process_time() - cpu_started
        memory.append(psutil.Process().memory_info().rss)
    return {
        "rows": len(labels),
        "dim": embeddings.shape[1],
        "thumbnail_bytes": len(jpeg),
        "rows_per_s": len(labels) / spent,
        "rows_per_cpu_s": len(labels) / cpu,
        "growth_MB": (memory[-1] - memory[min(10, len(memory) - 1)]) / 1e6,
    }


def lance_search(store: LanceStore, k: int, probes: int, refine: int) -> Search:
    """Return a search in Lance's own index."""
    dataset, n = store._dataset(), k + SPARE

    def search(query: np.ndarray, where: Filter) -> tuple[np.ndarray, np.ndarray]:
        nearest = {"column": "embedding", "q": query, "k": n, "metric": "dot"}
        table = dataset.to_table(
            columns=["id", "embedding", "_distance"],
            filter=where.sql(),
            prefilter=True,
            nearest={**nearest, "nprobes": probes, "refine_factor": refine},
        )
        found = rescoring.Candidates(table["id"].to_numpy(), embeddings_of(table))
        return rescoring.ranked(query[None], [found], k)

    return search


def measure(
    method: str,
    parameters: str,
    search: Search,
    queries: np.ndarray,
    truth: dict[Filter, np.ndarray],
) -> list[results.Row]:
    """Return recall and latency of a search, without and with a filter."""
    rows: list[results.Row] = []
    for where, exact in truth.items():
        found, spent = [], []
        for query in queries:
            started = time.perf_counter()
            ids, _ = search(query, where)
            spent.append(1000 * (time.perf_counter() - started))
            found.append(ids[0])
        short = sum(int((ids < 0).any()) for ids in found)
        rows.append(
            {
                "method": method,
                "parameters": parameters,
                "filter_keeps": "1 %" if where else "all",
                "recall": k_recall(np.array(found)[WARM_UP:], exact[WARM_UP:]),
                "short_answers": short,
                "ms_p50": float(np.percentile(spent[WARM_UP:], 50)),
                "ms_p95": float(np.percentile(spent[WARM_UP:], 95)),
            }
        )
        print(rows[-1], flush=True)
    return rows


def compare(
    args: argparse.Namespace, store: LanceStore, labels: np.ndarray, queries: np.ndarray
) -> list[results.Row]:
    """Measure the exact search and both indexes on one store."""
    k = args.k
    truth = {where: store.search(queries, k, where).ids for where in (ALL, ONE_MAKE)}

    def exact(query: np.ndarray, where: Filter) -> tuple[np.ndarray, np.ndarray]:
        answer = store.search(query[None], k, where)
        return answer.ids, answer.similarities

    rows = measure("exact, in memory", "", exact, queries, truth)
    snapshot = store._current()

    def scan(query: np.ndarray, where: Filter) -> tuple[np.ndarray, np.ndarray]:
        answer = snapshot.search_on_disk(query[None], k, where)
        return answer.ids, answer.similarities

    rows += measure("exact, Lance's scan", "", scan, queries[: WARM_UP + 10], _first(truth, 10))
    store.close()
    store.exact_rows = 1  # from here on, the index answers
    seconds = once(store.optimize)
    text = f"made in {seconds:.0f} s, {code_bytes(store.folder) / len(labels):.0f} bytes a row"
    rows += measure("the store's index (LOPQ)", text, exact, queries, truth)
    dataset = store._dataset()
    seconds = once(lambda: make_index(dataset, args.dim))
    print("IVF_PQ made in", seconds, flush=True)
    for probes in args.probes:
        for refine in args.refine:
            text = f"probes {probes}, refine {refine}, made in {seconds:.0f} s"
            search = lance_search(store, k, probes, refine)
            rows += measure("Lance IVF_PQ", text, search, queries, truth)
    return rows


def code_bytes(folder: Path) -> int:
    """Return the size of the store's index."""
    return (folder / code_index.CODES).stat().st_size + (folder / code_index.ROWS).stat().st_size


def _first(truth: dict[Filter, np.ndarray], n: int) -> dict[Filter, np.ndarray]:
    return {where: exact[: WARM_UP + n] for where, exact in truth.items()}


def make_index(dataset: "lance.LanceDataset", dim: int) -> None:
    """Make Lance's index with codes as long as those of LOPQ."""
    n_cell = int(dataset.count_rows() ** 0.5)
    dataset.create_index(
        "embedding",
        "IVF_PQ",
        metric="dot",
        num_partitions=n_cell,
        num_sub_vectors=min(BYTES, dim),
        replace=True,
    )


def new_store(folder: Path, collection: Collection, exact_rows: int) -> LanceStore:
    store = open_store(folder, create=collection, exact_rows=exact_rows)
    assert isinstance(store, LanceStore)
    return store


def run(args: argparse.Namespace) -> None:
    """Measure, and publish both tables."""
    record = results.Run("store", args, args.output)
    labels = np.random.default_rng(1).permutation(np.arange(args.rows) // PER_CLASS)
    embeddings, queries = drawn(args, labels)
    collection = Collection({"dim": args.dim, "checkpoint_sha256": "c" * 64})
    added = []
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for size in (THUMBNAIL_BYTES, 0):
            shutil.rmtree(Path(name) / "store", ignore_errors=True)
            store = new_store(Path(name), collection, args.rows)
            some = min(args.rows, ADDED) if size else args.rows
            added.append(fill(store, embeddings[:some], labels[:some], bytes(size)))
            print(added[-1], flush=True)
        record.publish("store_add", added)
        del embeddings
        store.optimize()
        record.publish("store", compare(args, store, labels, queries))


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    add = parser.add_argument
    add("--rows", type=int, default=1_000_000, help="rows of the store")
    add("--dim", type=int, default=512, help="embedding size")
    add("--queries", type=int, default=100, help="number of queries")
    add("--k", type=int, default=20, help="neighbors of each query")
    add("--embeddings", type=Path, help="(n, dim) .npy file to enlarge")
    add("--probes", type=int, nargs="+", default=[20, 100], help="cells that Lance reads")
    add("--refine", type=int, nargs="+", default=[10, 50], help="rows scored exactly, per result")
    add("--folder", type=Path, help="parent of the temporary data directory")
    results.add_arguments(parser)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
