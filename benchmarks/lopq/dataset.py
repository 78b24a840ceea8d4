"""The vectors to index: real embeddings, split at random or enlarged to any number."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from benchmarks.data.enlarged import Source
from lopq.pca import PCA, fit_pca

MOST_TRAINED = 2**20  # training vectors of an enlarged set
MOST_SPLIT = 30_000  # training vectors, and as many in the database, of a split


@dataclass(frozen=True)
class Dataset:
    """Training vectors, a database and queries.

    Attributes:
        name: ``enlarged``; or how the embeddings were split: ``disjoint`` or ``equal``.
        train: (n_train, dim_in) float32.
        n_row: Vectors of the database.
        block: First row, count -> (count, dim_in) float32 vectors of the database.
        queries: (n_query, dim_in) float32; none is in the database.
        pca: Projection before indexing; true neighbors are those of the unprojected vectors.
    """

    name: str
    train: np.ndarray
    n_row: int
    block: Callable[[int, int], np.ndarray]
    queries: np.ndarray
    pca: PCA | None = None

    def project(self, vectors: np.ndarray) -> np.ndarray:
        """Return the vectors as they are indexed, (n, dim) float32."""
        return vectors if self.pca is None else self.pca.apply(vectors)


def clusters(n: int = 70_000, dim: int = 256) -> np.ndarray:
    """Draw (n, dim) float32 vectors: heavy-tailed clusters with a decaying spectrum."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(100, size=n)
    centers = rng.standard_t(4, size=(100, dim)).astype(np.float32)
    noise = rng.standard_t(4, size=(n, dim)).astype(np.float32)
    return (centers[cluster] + 2 * noise) * np.geomspace(1, 0.05, dim, dtype=np.float32)


def split(X: np.ndarray, setting: str, n_query: int, dim: int, seed: int) -> Dataset:
    """Split embeddings at random into training set, database and queries.

    Args:
        X: (n, dim_in) embeddings.
        setting: ``disjoint``: training set and database share no vector; ``equal``: they are the
            same vectors.
        n_query: Number of queries.
        dim: Dimensions to keep by PCA, if there are more.
        seed: Seed of the split.
    """
    order = np.random.default_rng(seed).permutation(len(X))
    size = min(MOST_SPLIT, (len(X) - n_query) // 2)
    queries = np.float32(X[np.sort(order[:n_query])])
    train = np.float32(X[np.sort(order[n_query : n_query + size])])
    database = np.float32(X[np.sort(order[n_query + size : n_query + 2 * size])])
    if setting == "equal":
        train = database = np.concatenate([train, database])

    def block(first: int, n: int) -> np.ndarray:
        return database[first : first + n]

    pca = fit_pca(train, min(dim, X.shape[1]))
    return Dataset(setting, train, len(database), block, queries, pca)


def enlarged(X: np.ndarray, n_row: int, n_query: int, dim: int) -> Dataset:
    """Enlarge the first ``dim`` dimensions of embeddings to ``n_row`` vectors, drawn when asked."""
    source = Source.of(X, dim)
    train = source.block(0, min(n_row, MOST_TRAINED))
    return Dataset("enlarged", train, n_row, source.block, source.queries(n_query))
