"""Exact re-ranking of candidates from their vectors."""

from collections.abc import Callable

import numpy as np

from lopq.errors import LOPQError, as_array

RERANK_AT_ONCE = 4_000_000  # numbers read from the database at a time


def rows_of(vectors: np.ndarray, ids: np.ndarray, dim: int) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function from ids to vectors: row i of ``vectors`` is the vector with id i.

    Args:
        vectors: (n, dim) array or memory map.
        ids: The ids that will be read.
        dim: Dimensions of the queries.

    Raises:
        LOPQError: ``vectors`` has a wrong shape, or lacks the row of an id.
    """
    if not hasattr(vectors, "shape"):  # a file-backed array must not be read as a whole
        vectors = as_array(vectors, "vectors")
    if len(vectors.shape) != 2 or vectors.shape[1] != dim:
        raise LOPQError(f"vectors must be (n, {dim}); got shape {vectors.shape}")
    if ids.size and ids.max() >= len(vectors):
        raise LOPQError(
            f"rerank reads row i of vectors for id i, but id {ids.max()} is beyond its "
            f"{len(vectors)} rows; number the vectors by row, or search with rerank=0"
        )
    return lambda wanted: vectors[wanted]


def exact_order(
    queries: np.ndarray,
    ids: np.ndarray,
    places: np.ndarray,
    read: Callable[[np.ndarray], np.ndarray],
) -> tuple[np.ndarray, np.ndarray]:
    """Re-rank candidates by exact distances; return distances and ids (n_query, m).

    Args:
        queries: (n_query, dim_in) float32.
        ids: (n_query, m) int64 candidates; -1 marks a missing one.
        places: (n_query, m) int64, what ``read`` takes for each candidate.
        read: Returns the vectors (m, dim_in) at ascending places (m,).

    Raises:
        LOPQError: A vector holds NaN, infinite or too large values.
    """
    distances = np.full(ids.shape, np.inf, np.float32)
    step = max(1, RERANK_AT_ONCE // max(1, ids.shape[1] * queries.shape[1]))
    for start in range(0, len(ids), step):
        block = slice(start, start + step)
        wanted, place = np.unique(places[block], return_inverse=True)  # ascending: fewer seeks
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            rows = np.asarray(read(np.maximum(wanted, 0)), np.float32)
            rows = rows[place.reshape(ids[block].shape)]
            rows -= queries[block, None, :]
            distances[block] = np.einsum("ijk,ijk->ij", rows, rows)
    bad = ids[~np.isfinite(distances) & (ids >= 0)]
    if len(bad):
        raise LOPQError(f"vectors: row {bad[0]} holds NaN, infinite or too large values")
    distances[ids < 0] = np.inf
    order = np.lexsort((ids, distances), axis=1)
    return np.take_along_axis(distances, order, axis=1), np.take_along_axis(ids, order, axis=1)
