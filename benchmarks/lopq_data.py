"""The data of bench_lopq: training set, database, queries and true neighbors."""

from dataclasses import dataclass

import numpy as np

from benchmarks.harness import neighbors
from lopq.pca import fit_pca

K = 10
DIM = 128
N_TRAIN = 30_000


@dataclass(frozen=True)
class Data:
    """One random split of the rows, with the true neighbors in the input space."""

    setting: str
    seed: int
    train: np.ndarray
    database: np.ndarray
    queries: np.ndarray
    truth: np.ndarray
    vectors: np.ndarray  # the database, in the input space
    inputs: np.ndarray  # the queries, in the input space


def stand_in(n: int = 70_000, dim: int = 256) -> np.ndarray:
    """Draw (n, dim) float32 vectors: heavy-tailed clusters with a decaying spectrum."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(100, size=n)
    centers = rng.standard_t(4, size=(100, dim)).astype(np.float32)
    noise = rng.standard_t(4, size=(n, dim)).astype(np.float32)
    return (centers[cluster] + 2 * noise) * np.geomspace(1, 0.05, dim, dtype=np.float32)


def draw(X: np.ndarray, setting: str, n_query: int, seed: int) -> Data:
    """Split rows into training set, database and queries, and reduce them to DIM dimensions.

    Training set and database are disjoint, or the same with the setting ``equal``.
    """
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
