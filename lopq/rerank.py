"""Exact scores of the candidates that a search found, from the vectors themselves."""

import numpy as np

from lopq.errors import LOPQError, as_array
from lopq.ranking import first_by_id

RERANK_AT_ONCE = 4_000_000  # numbers of the database read at a time for exact scores


def exact_order(
    queries: np.ndarray, ids: np.ndarray, vectors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return exact distances and ids (n_query, m), ascending by (distance, id).

    Args:
        queries: (n_query, dim_in) float32.
        ids: (n_query, m) int64 candidates, -1 for none.
        vectors: (n, dim_in) array or memory map; row i is the vector of id i.
    """
    if not hasattr(vectors, "shape"):  # one that has is not read as a whole
        vectors = as_array(vectors, "vectors")
    if len(vectors.shape) != 2 or vectors.shape[1] != queries.shape[1]:
        raise LOPQError(f"vectors must be (n, {queries.shape[1]}); got shape {vectors.shape}")
    if ids.size and ids.max() >= len(vectors):
        raise LOPQError(
            f"rerank reads row i of vectors for id i, but id {ids.max()} is beyond its "
            f"{len(vectors)} rows; number the vectors by row, or search with rerank=0"
        )
    distances = np.full(ids.shape, np.inf, np.float32)
    step = max(1, RERANK_AT_ONCE // max(1, ids.shape[1] * queries.shape[1]))
    for start in range(0, len(ids), step):
        block = slice(start, start + step)
        wanted, place = np.unique(ids[block], return_inverse=True)  # ascending: fewer seeks
        with np.errstate(over="ignore", invalid="ignore"):  # reported below
            rows = np.asarray(vectors[np.maximum(wanted, 0)], np.float32)
            rows = rows[place.reshape(ids[block].shape)]
            rows -= queries[block, None, :]
            distances[block] = np.einsum("ijk,ijk->ij", rows, rows)
    bad = ids[~np.isfinite(distances) & (ids >= 0)]
    if len(bad):
        raise LOPQError(f"vectors: row {bad[0]} holds NaN, infinite or too large values")
    distances[ids < 0] = np.inf
    near, near_ids, _ = first_by_id(distances, ids, ids.shape[1])
    return near, near_ids
