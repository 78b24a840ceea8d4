"""Compare lopq with faiss at equal bytes: recall, speed, training time, re-ranking.

Reads   --embeddings, any (n, dim) .npy file; without it, a drawn stand-in
Writes  lopq_<part>.csv, lopq_<part>.md and lopq_speed.png in --output

    python -m benchmarks.bench_lopq --embeddings X.npy --parts accuracy speed fit rerank
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import faiss
import numpy as np

from benchmarks import lopq_methods as methods
from benchmarks.harness import (
    CLOCKS,
    Measurement,
    k_recall,
    machine,
    neighbors,
    seconds,
    summary,
    write_csv,
)
from lopq import LOPQModel, LOPQSearcher
from lopq.pca import fit_pca

K = 10
DIM = 128
N_TRAIN = 30_000
PARTS = ["accuracy", "additive", "speed", "rerank", "fit"]


@dataclass(frozen=True)
class Data:
    """One drawing of the rows, with the truth in the input space."""

    setting: str
    seed: int
    train: np.ndarray
    database: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    vectors: np.ndarray  # of the database, in the input space
    inputs: np.ndarray  # the queries, in the input space


def stand_in(n: int = 70_000, dim: int = 256) -> np.ndarray:
    """Draw heavy-tailed clusters with a decaying spectrum."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(100, size=n)
    centers = rng.standard_t(4, size=(100, dim)).astype(np.float32)
    noise = rng.standard_t(4, size=(n, dim)).astype(np.float32)
    return (centers[cluster] + 2 * noise) * np.geomspace(1, 0.05, dim, dtype=np.float32)


def draw(X: np.ndarray, setting: str, n_query: int, seed: int) -> Data:
    """Split rows into training set, database and queries, reduced to DIM dimensions."""
    order = np.random.default_rng(seed).permutation(len(X))
    size = min(N_TRAIN, (len(X) - n_query) // 2)
    queries = np.float32(X[np.sort(order[:n_query])])
    train = np.float32(X[np.sort(order[n_query : n_query + size])])
    database = np.float32(X[np.sort(order[n_query + size : n_query + 2 * size])])
    if setting == "equal":
        train = database = np.concatenate([train, database])
    pca = fit_pca(train, min(DIM, X.shape[1]))
    return Data(
        setting,
        seed,
        train=pca.apply(train),
        database=pca.apply(database),
        queries=pca.apply(queries),
        truth=neighbors(queries, database, K),
        vectors=database,
        inputs=queries,
    )


def measure(
    part: str,
    data: Data,
    V: int,
    method: methods.Method,
    effort: int = 0,
    clock: str | None = None,
) -> Measurement:
    """Return recall, and speed by a clock, of one method at one effort."""
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


def accuracy(
    data: Data, sizes: Sequence[int], cells: Sequence[int], rounds: int
) -> Iterator[Measurement]:
    """Compare codes of equal size, scanned exhaustively."""
    sets = (data.train, data.database)
    for M in sizes:
        for V in cells:
            for rotation in ("pca", "procrustes", "global"):
                start = time.perf_counter()
                made = methods.ours(*sets, V, M, data.seed, rotation=rotation)
                yield _timed(measure("accuracy", data, V, made), start)
            start = time.perf_counter()
            opq = methods.residual_opq(*sets, V, M, data.seed, rounds=rounds)
            yield _timed(measure("accuracy", data, V, opq), start)
            four = methods.ours(*sets, V, 2 * M, data.seed, bits=4)
            yield measure("accuracy", data, V, four)
            for text in (f"OPQ{M},IVF{V},PQ{M}", f"IVF{V},PQ{2 * M}x4fsr"):
                yield measure("accuracy", data, V, methods.from_factory(text, M, *sets))


def additive(data: Data, sizes: Sequence[int]) -> Iterator[Measurement]:
    """Measure faiss's additive quantizers and RaBitQ, at the sizes they come in."""
    sets = (data.train, data.database)
    dim = data.train.shape[1]
    for M in sizes:
        texts = [(f"IVF64,RQ{M}x8", M + 4), (f"IVF64,LSQ{M}x8", M + 4), (f"PRQ2x{M // 2}x8", M + 4)]
        for text, size in texts:
            start = time.perf_counter()
            yield _timed(
                measure("additive", data, 64, methods.from_factory(text, size, *sets)), start
            )
    for text, size in (("IVF64,RaBitQ", dim / 8 + 8), ("IVF64,RaBitQ2", dim / 4 + 20)):
        yield measure("additive", data, 64, methods.from_factory(text, size, *sets))


def _timed(measured: Measurement, start: float) -> Measurement:
    return replace(measured, seconds=time.perf_counter() - start)


def speed(data: Data, clock: str, rounds: int) -> Iterator[Measurement]:
    """Measure recall against queries per second in a batch, and for queries one by one."""
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
            print("hnswlib is not installed: left out", flush=True)
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
    """Measure exact re-ranking of the first 100 from a memory-mapped database."""
    model = LOPQModel(64, 16, pca_dim=DIM, seed=data.seed)
    model.fit(data.vectors, verbose=False)
    searcher = LOPQSearcher(model)
    searcher.add_data(data.vectors)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        np.save(path, data.vectors)
        vectors = np.load(path, mmap_mode="r")
        inputs = replace(data, queries=data.inputs)
        for count in (0, 100):
            search = partial(_reranked, searcher, vectors, count)
            method = methods.Method(f"LOPQ, rerank={count}", 16, model.nbytes, search)
            for quota in (2500, 5000, 10_000, 0):
                yield measure("rerank", inputs, 64, method, quota, clock)


def _reranked(
    searcher: LOPQSearcher, vectors: np.ndarray, count: int, queries: np.ndarray, quota: int
) -> np.ndarray:
    return searcher.search_batch(queries, K, quota or None, count, vectors)[1]


def fit_times(clock: str) -> Iterator[Measurement]:
    """Measure training and encoding of drawn vectors, on all of them and on the default sample."""
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


def plot(rows: Sequence[Measurement], path: Path) -> None:
    """Draw recall against queries per second, one line for each method."""
    try:
        import matplotlib
    except ImportError:
        print("matplotlib is not installed: no plot", flush=True)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(11, 4.5), sharey=False)
    for axis, part in zip(axes, ("batch", "one by one"), strict=True):
        for name in dict.fromkeys((r.method, r.bytes) for r in rows):
            line = [r for r in rows if r.part == part and (r.method, r.bytes) == name]
            label = f"{name[0]}, {name[1]:g} bytes"
            axis.plot([r.recall for r in line], [r.qps for r in line], "o-", ms=3, label=label)
        axis.set(title=part, xlabel="10-recall@10", ylabel="queries per second", yscale="log")
        axis.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def run(args: argparse.Namespace) -> None:
    """Measure the parts asked for, and write their results."""
    faiss.omp_set_num_threads(args.threads)
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
            write_csv(args.output / f"lopq_{part}.csv", rows)  # each time: parts take minutes
            (args.output / f"lopq_{part}.md").write_text(f"{header}\n\n{summary(rows)}\n")
        if part == "speed":
            plot(rows, args.output / "lopq_speed.png")


def _part(part: str, X: np.ndarray, args: argparse.Namespace) -> Iterator[Measurement]:
    if part == "fit":
        yield from fit_times(args.clock)
    elif part == "accuracy":
        for setting in args.settings:
            for seed in range(args.seeds):
                data = draw(X, setting, args.n_query, seed)
                yield from accuracy(data, args.bytes, args.cells, args.opq_rounds)
    else:
        data = draw(X, "disjoint" if part == "additive" else "equal", args.n_query, 0)
        if part == "additive":
            yield from additive(data, [b for b in args.bytes if b <= 16])
        else:
            yield from (
                speed(data, args.clock, args.opq_rounds)
                if part == "speed"
                else rerank(data, args.clock)
            )


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--embeddings", type=Path, help="(n, dim) .npy; default: drawn stand-in")
    parser.add_argument("--n_query", type=int, default=1000, help="queries, kept out of the rest")
    parser.add_argument("--seeds", type=int, default=3, help="drawings of the rows and models")
    parser.add_argument("--bytes", type=int, nargs="+", default=[8, 16, 32], help="bytes of a code")
    parser.add_argument("--cells", type=int, nargs="+", default=[16, 64], help="cells of the index")
    parser.add_argument("--settings", nargs="+", default=["disjoint", "equal"])
    parser.add_argument("--threads", type=int, default=2, help="threads of faiss")
    parser.add_argument("--opq_rounds", type=int, default=50, help="of faiss's OPQ; 50 is its own")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall", help="what speed is by")
    parser.add_argument("--output", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    return parser


if __name__ == "__main__":
    run(make_parser().parse_args())
