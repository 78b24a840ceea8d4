"""Compare lopq with faiss at equal code size: recall, speed, training time, re-ranking.

Reads   --embeddings, any (n, dim) .npy file; default: random clusters
Writes  lopq_<part>.csv (appended), lopq_<part>.md and lopq_speed.png in --output

    python -m benchmarks.bench_lopq --embeddings X.npy --parts accuracy speed fit rerank
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np

from benchmarks import lopq_methods as methods
from benchmarks import results
from benchmarks.harness import CLOCKS, Measurement, k_recall, machine, seconds, summary
from benchmarks.lopq_data import DIM, Data, K, draw, stand_in
from benchmarks.lopq_plot import plot
from lopq import LOPQModel, LOPQSearcher
from lopq.kept import Keep, kept_bytes
from retrieval.threads import computing_with

PARTS = ["accuracy", "additive", "speed", "rerank", "fit"]


def measure(
    part: str,
    data: Data,
    V: int,
    method: methods.Method,
    effort: int = 0,
    clock: str | None = None,
) -> Measurement:
    """Return the recall of one method at one effort, and its speed if a clock is given."""
    found = method.search(data.queries, effort)
    n = len(data.database)
    elapsed = clock and seconds(lambda: method.search(data.queries, effort), clock)
    return Measurement(
        part,
        data.setting,
        method.name,
        V,
        method.bytes,
        method.model_bytes / n,
        str(effort) if effort else "all",
        data.seed,
        recall=k_recall(found, data.truth),
        first=float((found[:, 0] == data.truth[:, 0]).mean()),
        qps=len(data.queries) / elapsed if elapsed else -1,
    )


def accuracy(data: Data, M: int, cells: Sequence[int], rounds: int) -> Iterator[Measurement]:
    """Compare codes of ``M`` bytes in an exhaustive scan."""
    sets = (data.train, data.database)
    makers: list[tuple[int, Callable[[], methods.Method]]] = []
    # The rotation of the factory string does not depend on the cells: one serves all V.
    opq = methods.opq(data.train, M, rounds)
    for V in cells:
        own = partial(methods.ours, *sets, V)
        makers += [
            (V, partial(own, M, data.seed, rotation="pca")),
            (V, partial(own, M, data.seed, rotation="procrustes")),
            (V, partial(own, M, data.seed, rotation="global")),
            (V, partial(own, 2 * M, data.seed, bits=4)),
            (V, partial(methods.residual_opq, *sets, V, M, data.seed, rounds=rounds)),
            (V, partial(methods.opq_factory, *sets, V, M, opq)),
            (V, partial(methods.from_factory, f"IVF{V},PQ{2 * M}x4fsr", *sets)),
        ]
    for V, make in makers:
        yield _timed("accuracy", data, V, make)


def additive(data: Data, sizes: Sequence[int]) -> Iterator[Measurement]:
    """Measure faiss's additive quantizers and RaBitQ, at the code sizes they support."""
    texts = ["IVF64,RaBitQ", "IVF64,RaBitQ2"]
    for M in sizes:
        texts += [f"IVF64,RQ{M}x8", f"IVF64,LSQ{M}x8", f"IVF64,PRQ2x{M // 2}x8"]
    for text in texts:
        make = partial(methods.from_factory, text, data.train, data.database)
        yield _timed("additive", data, 64, make)


def _timed(part: str, data: Data, V: int, make: Callable[[], methods.Method]) -> Measurement:
    """Measure a method, with the processor time of training and adding."""
    start = time.process_time()
    method = make()
    taken = time.process_time() - start
    return replace(measure(part, data, V, method), seconds=taken)


def speed(data: Data, clock: str, rounds: int) -> Iterator[Measurement]:
    """Measure recall against queries per second, in one batch and one query at a time."""
    sets = (data.train, data.database)
    makers: list[Callable[[], methods.Method | None]] = [
        partial(methods.ours, *sets, 64, 16, data.seed),
        partial(methods.residual_opq, *sets, 64, 16, data.seed, rounds=rounds),
        partial(methods.exact, data.database),
        partial(methods.hnsw, data.database),
        partial(methods.ours, *sets, 64, 32, data.seed, bits=4),
        partial(methods.residual_opq, *sets, 64, 32, data.seed, bits=4, rounds=rounds),
    ]
    few = replace(data, setting="one by one", queries=data.queries[:100], truth=data.truth[:100])
    for make in makers:
        method = make()
        if method is None:
            print("skipped: hnswlib is not installed", flush=True)
            continue
        for effort in method.efforts:
            yield measure("batch", data, 64, method, effort, clock)
        single = replace(method, search=_one_by_one(method.search))
        for effort in method.efforts:
            yield measure("one by one", few, 64, single, effort, clock)


def _one_by_one(search: methods.Search) -> methods.Search:
    def each(queries: np.ndarray, effort: int) -> np.ndarray:
        return np.concatenate([search(queries[i : i + 1], effort) for i in range(len(queries))])

    return each


def rerank(data: Data, clock: str) -> Iterator[Measurement]:
    """Measure re-ranking of the top 100 from a memory-mapped database, or from the index."""
    model = LOPQModel(64, 16, pca_dim=DIM, seed=data.seed)
    model.fit(data.vectors, verbose=False)
    inputs, dim = replace(data, queries=data.inputs), data.vectors.shape[1]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, data.vectors)
        mapped = np.load(path, mmap_mode="r")
        cases: list[tuple[str, Keep, int, np.ndarray | None]] = [
            ("no re-ranking", "none", 0, None),
            ("100 from float32 vectors outside", "none", 100, mapped),
            ("100 from float16 in the index", "float16", 100, None),
            ("100 from int8 in the index", "int8", 100, None),
        ]
        for name, keep, count, vectors in cases:
            searcher = LOPQSearcher(model, keep)
            searcher.add_data(data.vectors)
            outside = 0 if vectors is None else 4 * dim
            size = 16 + kept_bytes(keep, dim) + outside
            search = partial(_reranked, searcher, vectors, count)
            method = methods.Method(f"LOPQ, {name}", size, model.nbytes, search)
            for quota in (2500, 5000, 10_000, 0):
                yield measure("rerank", inputs, 64, method, quota, clock)


def _reranked(
    searcher: LOPQSearcher,
    vectors: np.ndarray | None,
    count: int,
    queries: np.ndarray,
    quota: int,
) -> np.ndarray:
    return searcher.search_batch(queries, K, quota or None, count, vectors)[1]


def fit_times(clock: str) -> Iterator[Measurement]:
    """Time encoding of random vectors, and training on all of them or on the default sample."""
    X = stand_in(1_000_000, DIM)
    cases = [(60_000, None), (250_000, None), (1_000_000, None), (1_000_000, -1)]
    for n, size in cases:
        model = LOPQModel(64, 16)
        start = CLOCKS[clock]()
        model.fit(X[:n], verbose=False, train_size=size)
        fitted = CLOCKS[clock]() - start
        rate = 60_000 / seconds(partial(model.encode, X[:60_000]), clock, 3)
        name = "fit on " + ("all" if size is None else "the default sample")
        yield Measurement("fit", f"n={n}", name, 64, 16, 0, "", 0, qps=rate, seconds=fitted)


def run(args: argparse.Namespace) -> None:
    """Measure the chosen parts and write their results."""
    record = results.Run("lopq", args, args.output)
    X = stand_in() if args.embeddings is None else np.load(args.embeddings, mmap_mode="r")
    source = "drawn stand-in" if args.embeddings is None else "embeddings"
    args.output.mkdir(parents=True, exist_ok=True)
    size = f"{X.shape[0]} x {X.shape[1]}, {args.n_query} queries, {args.opq_rounds} OPQ rounds"
    header = f"{machine()}, {args.clock} time; {source} {size}"
    for part in args.parts:
        rows: list[Measurement] = []
        for measured in _part(part, X, args):
            print(measured, flush=True)
            rows.append(measured)
            # Rewritten after each method, since parts take minutes.
            (args.output / f"lopq_{part}.md").write_text(f"{header}\n\n{summary(rows)}\n")
        record.append(f"lopq_{part}", [asdict(row) for row in rows])
        if part == "speed":
            plot(rows, args.output / "lopq_speed.png")


def _part(part: str, X: np.ndarray, args: argparse.Namespace) -> Iterator[Measurement]:
    if part == "fit":
        yield from fit_times(args.clock)
    elif part == "accuracy":
        for M in args.bytes:
            for setting in args.settings:
                for seed in range(args.seeds):
                    data = draw(X, setting, args.n_query, seed)
                    yield from accuracy(data, M, args.cells, args.opq_rounds)
    elif part == "additive":
        for seed in range(args.seeds):
            data = draw(X, "disjoint", args.n_query, seed)
            yield from additive(data, [size for size in args.bytes if size <= 16])
    else:
        data = draw(X, "equal", args.n_query, 0)
        if part == "speed":
            yield from speed(data, args.clock, args.opq_rounds)
        else:
            yield from rerank(data, args.clock)


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--embeddings", type=Path, help="(n, dim) .npy; default: random clusters")
    parser.add_argument("--n_query", type=int, default=1000, help="queries, held out of the rest")
    parser.add_argument("--seeds", type=int, default=3, help="number of random splits and models")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32], help="bytes per code")
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 64], help="index cells (V)")
    parser.add_argument(
        "--settings",
        nargs="+",
        default=["disjoint", "equal"],
        help="disjoint: training set and database share no vector; equal: they are the same",
    )
    parser.add_argument("--threads", type=int, default=2, help="faiss threads")
    parser.add_argument(
        "--opq_rounds", type=int, default=50, help="OPQ rounds; 50: faiss's default"
    )
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="clock for speeds")
    parser.add_argument("--output", type=Path, default=results.FOLDER, help="results folder")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="parts to measure")
    return parser


if __name__ == "__main__":
    options = make_parser().parse_args()
    with computing_with(options.threads):
        run(options)
